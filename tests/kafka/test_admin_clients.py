"""Administration through real Kafka clients: what each of them asks, and what the native side sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiokafka.admin
import confluent_kafka
import confluent_kafka.admin
import pytest

import odradek
from tests.support.broker import BrokerProcess

pytestmark = [
    pytest.mark.processes,
    # kafka-python reads its own files in a way that Python will give up one day.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # kafka-python and aiokafka leave sockets to the garbage collector where their broker goes away.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WAIT_S = 40.0
API: Any = confluent_kafka.admin


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(auto_create_topics=False, default_partitions=2) as process:
        yield process


@pytest.fixture
def native(broker: BrokerProcess) -> Iterator[odradek.Admin]:
    with odradek.Admin(broker.bootstrap) as admin:
        yield admin


@pytest.fixture
def confluent(broker: BrokerProcess) -> Any:
    return API.AdminClient({"bootstrap.servers": broker.ready["kafka"]})


def code(future: Any) -> int:
    """0, or the number of the error that the client was told."""
    error = future.exception(WAIT_S)
    return 0 if error is None else int(error.args[0].code())


def only(futures: dict[Any, Any]) -> Any:
    (future,) = futures.values()
    return future


# -- confluent-kafka -----------------------------------------------------------------------------------


def test_the_life_of_a_topic(confluent: Any, native: odradek.Admin) -> None:
    config = {"retention.ms": "60000", "min.insync.replicas": "1"}
    made = confluent.create_topics([API.NewTopic("life", 3, 1, config=config), API.NewTopic("plain")])
    assert {name: code(future) for name, future in made.items()} == {"life": 0, "plain": 0}
    (life, plain) = native.describe_topics(["life", "plain"])
    assert (len(life.partitions), len(plain.partitions)) == (3, 2)
    assert native.describe_configs("life")["retention.ms"].value == 60_000
    assert code(only(confluent.create_topics([API.NewTopic("life", 1, 1)]))) == 36
    assert code(only(confluent.create_topics([API.NewTopic("more", 1, 3)]))) == 38
    assert code(only(confluent.create_topics([API.NewTopic("checked", 1, 1)], validate_only=True))) == 0
    assert code(only(confluent.create_partitions([API.NewPartitions("life", 5)]))) == 0
    assert code(only(confluent.create_partitions([API.NewPartitions("life", 5)]))) == 37
    assert len(native.describe_topics(["life"])[0].partitions) == 5
    gone = confluent.delete_topics(["life", "plain", "checked"])
    assert {name: code(future) for name, future in gone.items()} == {"life": 0, "plain": 0, "checked": 3}
    assert "life" not in native.list_topics()


def test_the_settings_of_a_topic_and_of_the_broker(confluent: Any, native: odradek.Admin) -> None:
    native.create_topic("set")
    resource = API.ConfigResource(API.ResourceType.TOPIC, "set")

    def shown(name: str) -> Any:
        return only(confluent.describe_configs([resource])).result(WAIT_S)[name]

    def change(*entries: Any) -> int:
        changed = API.ConfigResource(API.ResourceType.TOPIC, "set", incremental_configs=list(entries))
        return code(only(confluent.incremental_alter_configs([changed])))

    def entry(name: str, value: str | None, operation: str) -> Any:
        return API.ConfigEntry(name, value, incremental_operation=API.AlterConfigOpType[operation])

    assert (shown("retention.ms").is_default, shown("min.insync.replicas").is_read_only) == (True, True)
    policy = entry("cleanup.policy", "compact", "APPEND")
    assert change(entry("retention.ms", "5000", "SET"), policy) == 0
    assert (shown("retention.ms").value, shown("cleanup.policy").value) == ("5000", "compact,delete")
    assert native.describe_configs("set")["retention.ms"].value == 5_000
    assert change(entry("retention.ms", "soon", "SET"), entry("segment.ms", "1", "SET")) == 40
    assert shown("segment.ms").is_default
    assert change(entry("retention.ms", None, "DELETE")) == 0
    assert shown("retention.ms").is_default
    broker = only(confluent.describe_configs([API.ConfigResource(API.ResourceType.BROKER, "0")])).result(
        WAIT_S
    )
    assert (broker["num.partitions"].value, broker["auto.create.topics.enable"].value) == ("2", "false")
    assert len(broker) > 30


def test_records_are_deleted_and_the_cluster_is_described(
    confluent: Any, native: odradek.Admin, broker: BrokerProcess
) -> None:
    native.create_topic("old", 1)
    with odradek.Producer(broker.bootstrap) as producer:
        for number in range(10):
            producer.send("old", b"%d" % number)
        producer.flush(WAIT_S)
    place = confluent_kafka.TopicPartition("old", 0, 4)
    assert only(confluent.delete_records([place])).result(WAIT_S).low_watermark == 4
    assert native.list_offsets("old", "earliest") == {0: 4}
    beyond = confluent_kafka.TopicPartition("old", 0, 99)
    assert code(only(confluent.delete_records([beyond]))) == 1
    cluster = confluent.describe_cluster(include_authorized_operations=True).result(WAIT_S)
    assert f"{cluster.controller.host}:{cluster.controller.port}" == broker.ready["kafka"]
    assert len(cluster.authorized_operations) == 7
    assert cluster.cluster_id == native.metadata([]).cluster_id


def test_users(confluent: Any, native: odradek.Admin) -> None:
    mechanism = API.ScramMechanism.SCRAM_SHA_512
    upsertion = API.UserScramCredentialUpsertion("ada", API.ScramCredentialInfo(mechanism, 8192), b"secret")
    assert code(only(confluent.alter_user_scram_credentials([upsertion]))) == 0
    (user,) = native.list_users()
    assert (user.name, [each.mechanism for each in user.mechanisms]) == ("ada", ["SCRAM-SHA-512"])
    found = confluent.describe_user_scram_credentials(["ada"])["ada"].result(WAIT_S)
    assert [info.iterations for info in found.scram_credential_infos] == [8192]
    gone = API.UserScramCredentialDeletion("ada", mechanism)
    assert code(only(confluent.alter_user_scram_credentials([gone]))) == 0
    assert code(only(confluent.alter_user_scram_credentials([gone]))) == 91
    assert native.list_users() == []


# -- kafka-python --------------------------------------------------------------------------------------


def test_kafka_python_administers(broker: BrokerProcess, native: odradek.Admin) -> None:
    import kafka  # noqa: PLC0415  # it warns when it is loaded
    import kafka.admin as api  # noqa: PLC0415

    admin = api.KafkaAdminClient(bootstrap_servers=broker.ready["kafka"])
    admin.create_topics([api.NewTopic("python", 2, 1, topic_configs={"segment.ms": "1000"})])
    with pytest.raises(kafka.errors.TopicAlreadyExistsError):
        admin.create_topics([api.NewTopic("python", 2, 1)])
    resource = api.ConfigResource(api.ConfigResourceType.TOPIC, "python", {"segment.ms": "2000"})
    admin.alter_configs([resource])
    assert native.describe_configs("python")["segment.ms"].value == 2_000
    admin.create_partitions({"python": api.NewPartitions(3)})
    (described,) = admin.describe_log_dirs()
    (directory,) = described["log_dirs"]
    assert directory["log_dir"] == str(broker.data)
    sizes = {topic["name"]: len(topic["partitions"]) for topic in directory["topics"]}
    assert sizes["python"] == 3
    admin.delete_topics(["python"])
    assert "python" not in native.list_topics()
    admin.close()


# -- aiokafka ------------------------------------------------------------------------------------------


def test_aiokafka_administers(broker: BrokerProcess, native: odradek.Admin) -> None:
    api = aiokafka.admin

    async def administer() -> tuple[Any, Any]:
        admin = api.AIOKafkaAdminClient(bootstrap_servers=broker.ready["kafka"])
        await admin.start()
        try:
            await admin.create_topics([api.NewTopic("async", 2, 1)])
            resource = api.config_resource.ConfigResource(
                api.config_resource.ConfigResourceType.TOPIC, "async", {"segment.ms": "3000"}
            )
            await admin.alter_configs([resource])
            configs = await admin.describe_configs([resource])
            await admin.create_partitions({"async": api.NewPartitions(4)})
            topics = await admin.list_topics()
            assert "async" in topics
            cluster = await admin.describe_cluster()
        finally:
            await admin.close()
        return configs, cluster

    configs, cluster = asyncio.run(administer())
    assert native.describe_configs("async")["segment.ms"].value == 3_000
    assert len(native.describe_topics(["async"])[0].partitions) == 4
    assert cluster["cluster_id"] == native.metadata([]).cluster_id
    assert "segment.ms" in str(configs)

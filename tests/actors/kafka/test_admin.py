"""Administration: what each request asks of the broker, and what every version of it is told."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from actors.actor import KafkaEnvelope, KafkaPeer
from actors.effects import Forward, Sender
from actors.kafka.handling import GatewayOptions
from actors.kafka.registry import SERVED
from actors.kafka.scram_users import CHANGES_MAX
from actors.kafka.topic_configs import FIXED
from actors.messages import SUPERVISOR, GatewayRoute, MeasureLog, MeasureLogReply
from odradek.protocol.access import Acl, AclFilter
from odradek.protocol.codec import Encoding
from odradek.protocol.errors import (
    InvalidConfig,
    KafkaStorageError,
    LeaderNotAvailable,
    TopicAlreadyExists,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import (
    AlterConfigs,
    AlteredUser,
    AlterUsers,
    AlterUsersReply,
    ConfigsReply,
    CreateAcls,
    CreateAclsReply,
    CreatedAcl,
    CreatedTopic,
    CreatePartitions,
    CreatePartitionsReply,
    CreateTopics,
    CreateTopicsReply,
    DeleteAcls,
    DeleteAclsReply,
    DeletedAcls,
    DeletedTopic,
    DeleteRecords,
    DeleteRecordsReply,
    DeleteTopics,
    DeleteTopicsReply,
    DescribeAcls,
    DescribeAclsReply,
    DescribeUsers,
    DescribeUsersReply,
    UserDescription,
    UserMechanism,
    failure,
)
from odradek.protocol.scram import credential_from_password, salt_password
from partitions.settings import TOPIC_SETTINGS
from tests.support.kafka import GatewayRig

CREATE, DELETE, DELETE_RECORDS, CREATE_PARTITIONS = 19, 20, 21, 37
DESCRIBE_CONFIGS, ALTER, INCREMENTAL = 32, 33, 44
DESCRIBE_ACLS, CREATE_ACLS, DELETE_ACLS = 29, 30, 31
LOG_DIRS, CLUSTER, DESCRIBE_USERS, ALTER_USERS = 35, 60, 50, 51
TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAQ"
DEFAULTS = {name: setting.default for name, setting in TOPIC_SETTINGS.items()}
TOPIC, BROKER = 2, 4


class AdminRig(GatewayRig):
    """Remembers what the supervisor was asked last."""

    last: Forward


def versions(key: int) -> list[int]:
    low, high = SERVED[key]
    return list(range(low, high + 1))


@pytest.fixture
def rig() -> AdminRig:
    options = GatewayOptions(
        index=0, default_partitions=3, broker_config={"num.partitions": "3"}, log_directory="/data"
    )
    made = AdminRig(options)
    made.route({"t": 2, "u": 1}, config=DEFAULTS)
    return made


def only(rig: AdminRig, kind: Any) -> Any:
    """The one request that was asked of the supervisor."""
    (forward,) = rig.take()
    assert forward.address == SUPERVISOR and isinstance(forward.request, kind)
    rig.last = forward
    return forward.request


def reply(rig: AdminRig, message: Any) -> Any:
    """The supervisor answers; what the client is told."""
    rig.answer(rig.last, message)
    return rig.response()


def code(part: Any) -> int:
    return int(part.error_code.value)


# -- CreateTopics --------------------------------------------------------------------------------------


def new(name: str = "new", partitions: int = 4, replicas: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": replicas,
        "assignments": [],
        "configs": [],
        **more,
    }


def create(rig: AdminRig, *topics: Mapping[str, Any], version: int = 7, **more: Any) -> None:
    rig.ask(CREATE, version, {"topics": topics, "timeout": 5_000, "validate_only": False, **more})


@pytest.mark.parametrize("version", versions(CREATE))
def test_create_topics(rig: AdminRig, version: int) -> None:
    configs = [{"name": "retention.ms", "value": "1000"}, {"name": "min.insync.replicas", "value": "1"}]
    create(rig, new(configs=configs), version=version)
    asked = only(rig, CreateTopics)
    assert (asked.validate_only, asked.timeout_ms) == (False, 5_000)
    (topic,) = asked.topics
    assert (topic.name, topic.partitions, topic.config) == ("new", 4, {"retention.ms": 1000})
    (told,) = reply(rig, CreateTopicsReply(topics=[CreatedTopic(name="new", topic_id=TOPIC_ID)])).topics
    assert (told.name, code(told), told.error_message) == ("new", 0, None)
    if version >= 5:
        assert (told.num_partitions, told.replication_factor) == (4, 1)
        shown = {config.name: config.value for config in told.configs}
        assert shown["retention.ms"] == "1000" and shown["cleanup.policy"] == "delete"
    if version >= 7:
        assert told.topic_id == uuid.UUID(int=1)


def test_the_brokers_number_of_partitions(rig: AdminRig) -> None:
    create(rig, new(partitions=-1, replicas=-1))
    (topic,) = only(rig, CreateTopics).topics
    assert topic.partitions is None
    (told,) = reply(rig, CreateTopicsReply(topics=[CreatedTopic(name="new", topic_id=TOPIC_ID)])).topics
    assert told.num_partitions == 3


def test_replicas_placed_by_hand_say_how_many_partitions(rig: AdminRig) -> None:
    placed = [{"partition_index": number, "broker_ids": [0]} for number in range(2)]
    create(rig, new(partitions=-1, replicas=-1, assignments=placed))
    assert only(rig, CreateTopics).topics[0].partitions == 2


@pytest.mark.parametrize(
    ("topic", "expected", "why"),
    [
        (new(replicas=3), 38, "every partition has one replica"),
        (new(replicas=0), 38, "say 1, or -1"),
        (new(partitions=0), 37, "must be 1 or more"),
        (new(partitions=-2), 37, "must be 1 or more"),
        (new(assignments=[{"partition_index": 0, "broker_ids": [0]}]), 42, "both numbers must be -1"),
        (
            new(partitions=-1, replicas=-1, assignments=[{"partition_index": 1, "broker_ids": [0]}]),
            39,
            "numbered from 0",
        ),
        (
            new(partitions=-1, replicas=-1, assignments=[{"partition_index": 0, "broker_ids": [0, 1]}]),
            39,
            "one replica",
        ),
        (new(configs=[{"name": "no.such", "value": "1"}]), 40, "there is no topic setting 'no.such'"),
        (new(configs=[{"name": "segment.bytes", "value": "many"}]), 40, "a whole number"),
        (new(configs=[{"name": "min.insync.replicas", "value": "2"}]), 40, "can only be '1' here"),
        (
            new(configs=[{"name": "segment.ms", "value": "1"}, {"name": "segment.ms", "value": "2"}]),
            42,
            "there twice",
        ),
    ],
)
def test_topics_that_cannot_be(rig: AdminRig, topic: Mapping[str, Any], expected: int, why: str) -> None:
    create(rig, topic)
    assert not rig.take()
    (told,) = rig.response().topics
    assert code(told) == expected and why in told.error_message


def test_one_bad_topic_keeps_no_other_from_being_made(rig: AdminRig) -> None:
    create(rig, new("bad", replicas=2), new("good"), new("there"), new("twice"), new("twice"))
    assert [topic.name for topic in only(rig, CreateTopics).topics] == ["good", "there"]
    exists = TopicAlreadyExists("it exists").wire()
    created = [CreatedTopic(name="good", topic_id=TOPIC_ID), CreatedTopic(name="there", error=exists)]
    told = reply(rig, CreateTopicsReply(topics=created)).topics
    assert [(topic.name, code(topic)) for topic in told] == [
        ("bad", 38),
        ("good", 0),
        ("there", 36),
        ("twice", 42),
    ]


def test_a_supervisor_that_cannot_is_an_error_of_every_topic(rig: AdminRig) -> None:
    create(rig, new("a"), new("b"))
    only(rig, CreateTopics)
    told = reply(rig, failure(KafkaStorageError("the disk failed"))).topics
    assert [(code(topic), topic.error_message) for topic in told] == [(56, "the disk failed")] * 2


def test_a_check_makes_nothing(rig: AdminRig) -> None:
    create(rig, new(), validate_only=True)
    assert only(rig, CreateTopics).validate_only
    (told,) = reply(rig, CreateTopicsReply(topics=[CreatedTopic(name="new")])).topics
    assert code(told) == 0


# -- DeleteTopics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(DELETE))
def test_delete_topics(rig: AdminRig, version: int) -> None:
    names = ["t", "gone"]
    topics = [{"name": name, "topic_id": None} for name in names]
    rig.ask(DELETE, version, {"topic_names": names, "topics": topics, "timeout": 1_000})
    assert only(rig, DeleteTopics).names == names
    unknown = UnknownTopicOrPartition("there is no topic 'gone'").wire()
    deleted = [DeletedTopic(name="t"), DeletedTopic(name="gone", error=unknown)]
    told = reply(rig, DeleteTopicsReply(topics=deleted)).responses
    assert [(topic.name, code(topic)) for topic in told] == [("t", 0), ("gone", 3)]
    if version >= 5:
        assert told[1].error_message == "there is no topic 'gone'"


def test_topics_are_deleted_by_their_ids(rig: AdminRig) -> None:
    known = uuid.UUID(int=0xA)
    rig.actor._table.topics["t"].topic_id = "AAAAAAAAAAAAAAAAAAAACg"
    by_id = [{"name": None, "topic_id": each.bytes} for each in (known, uuid.UUID(int=9))]
    rig.ask(DELETE, 6, {"topics": by_id, "timeout": 1_000})
    assert only(rig, DeleteTopics).names == ["t"]
    first, second = reply(rig, DeleteTopicsReply(topics=[DeletedTopic(name="t")])).responses
    assert (first.name, first.topic_id, code(first)) == ("t", known, 0)
    assert (second.name, code(second)) == (None, 100)


# -- CreatePartitions, DeleteRecords -------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(CREATE_PARTITIONS))
def test_create_partitions(rig: AdminRig, version: int) -> None:
    topics = [
        {"name": "t", "count": 5, "assignments": None},
        {"name": "u", "count": 1, "assignments": None},
        {"name": "gone", "count": 5, "assignments": None},
    ]
    rig.ask(CREATE_PARTITIONS, version, {"topics": topics, "timeout": 1_000, "validate_only": False})
    asked = only(rig, CreatePartitions)
    assert (asked.topic, asked.partitions) == ("t", 5)
    told = reply(rig, CreatePartitionsReply()).results
    assert [(topic.name, code(topic)) for topic in told] == [("t", 0), ("u", 37), ("gone", 3)]
    assert "must be more" in told[1].error_message


def test_partitions_that_are_only_checked(rig: AdminRig) -> None:
    topics = [{"name": "t", "count": 5, "assignments": [{"broker_ids": [0]}] * 3}]
    rig.ask(CREATE_PARTITIONS, 1, {"topics": topics, "timeout": 1_000, "validate_only": True})
    assert not rig.take()
    assert [code(topic) for topic in rig.response().results] == [0]
    topics[0]["assignments"] = [{"broker_ids": [0]}]
    rig.ask(CREATE_PARTITIONS, 1, {"topics": topics, "timeout": 1_000, "validate_only": True})
    assert [code(topic) for topic in rig.response().results] == [39]


@pytest.mark.parametrize("version", versions(DELETE_RECORDS))
def test_delete_records(rig: AdminRig, version: int) -> None:
    places = [(0, 7), (1, -1), (9, 0), (2, -2)]
    partitions = [{"partition_index": number, "offset": offset} for number, offset in places]
    topics = [{"name": "t", "partitions": partitions}, {"name": "gone", "partitions": partitions[:1]}]
    rig.ask(DELETE_RECORDS, version, {"topics": topics, "timeout": 1_000})
    first, second = rig.take()
    assert [each.address for each in (first, second)] == ["partition:t-0", "partition:t-1"]
    for forward, before in ((first, 7), (second, -1)):
        assert isinstance(forward.request, DeleteRecords) and forward.request.before_offset == before
    rig.answer(first, DeleteRecordsReply(log_start_offset=7))
    rig.answer(second, failure(LeaderNotAvailable("it is starting")))
    told = [part for topic in rig.response().topics for part in topic.partitions]
    assert [(part.low_watermark, code(part)) for part in told] == [(7, 0), (-1, 5), (-1, 3), (-1, 1), (-1, 3)]


def test_records_of_a_partition_that_is_named_twice_stay(rig: AdminRig) -> None:
    partitions = [{"partition_index": 0, "offset": offset} for offset in (3, 7)]
    rig.ask(DELETE_RECORDS, 2, {"topics": [{"name": "t", "partitions": partitions}], "timeout": 1_000})
    assert not rig.take()
    assert [code(part) for part in rig.response().topics[0].partitions] == [42, 42]


# -- configs -------------------------------------------------------------------------------------------


def describe(rig: AdminRig, kind: int, name: str, *keys: str, version: int = 4) -> Any:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys or None}
    rig.ask(
        DESCRIBE_CONFIGS,
        version,
        {"resources": [resource], "include_synonyms": True, "include_documentation": True},
    )
    (result,) = rig.response().results
    return result


@pytest.mark.parametrize("version", versions(DESCRIBE_CONFIGS))
def test_the_settings_of_a_topic(rig: AdminRig, version: int) -> None:
    rig.route({"t": 1}, config=DEFAULTS | {"retention.ms": 5, "preallocate": False})
    result = describe(rig, TOPIC, "t", version=version)
    assert (code(result), result.resource_type, result.resource_name) == (0, TOPIC, "t")
    entries = {entry.name: entry for entry in result.configs}
    assert entries.keys() == TOPIC_SETTINGS.keys() | FIXED.keys()
    own, default, fixed = entries["retention.ms"], entries["segment.bytes"], entries["min.insync.replicas"]
    assert (own.value, own.config_source, own.read_only) == ("5", 1, False)
    assert (default.value, default.config_source) == (str(1 << 30), 5)
    assert (fixed.value, fixed.read_only) == ("1", True)
    assert entries["preallocate"].value == "false"
    assert [(each.name, each.source) for each in own.synonyms] == [
        ("retention.ms", 1),
        ("log.retention.ms", 5),
    ]
    if version >= 3:
        assert own.documentation and own.config_type == 5 and entries["cleanup.policy"].config_type == 7


def test_only_the_settings_that_are_asked_for(rig: AdminRig) -> None:
    result = describe(rig, TOPIC, "t", "segment.ms", "no.such")
    assert [entry.name for entry in result.configs] == ["segment.ms"]


def test_the_settings_of_the_broker(rig: AdminRig) -> None:
    entries = {entry.name: entry for entry in describe(rig, BROKER, "0").configs}
    assert entries["num.partitions"].value == "3" and entries["num.partitions"].read_only
    assert entries["broker.id"].value == "0"
    assert entries["log.retention.ms"].value == str(TOPIC_SETTINGS["retention.ms"].default)
    assert describe(rig, BROKER, "").configs == ()


@pytest.mark.parametrize(
    ("kind", "name", "expected"), [(TOPIC, "gone", 3), (TOPIC, "../x", 17), (BROKER, "7", 42), (16, "x", 42)]
)
def test_what_has_no_settings(rig: AdminRig, kind: int, name: str, expected: int) -> None:
    result = describe(rig, kind, name)
    assert code(result) == expected and result.error_message


def alter(rig: AdminRig, key: int, *configs: Mapping[str, Any], kind: int = TOPIC, **more: Any) -> None:
    resource = {"resource_type": kind, "resource_name": "t" if kind == TOPIC else "0", "configs": configs}
    body = {"resources": [resource], "validate_only": False, **more}
    rig.ask(key, SERVED[key][1], body)


def replaced(name: str, value: str | None) -> dict[str, Any]:
    return {"name": name, "value": value}


def changed(name: str, value: str | None, operation: int = 0) -> dict[str, Any]:
    return {"name": name, "value": value, "config_operation": operation}


@pytest.mark.parametrize("version", versions(ALTER))
def test_alter_configs_replaces_all(rig: AdminRig, version: int) -> None:
    resource = {"resource_type": TOPIC, "resource_name": "t", "configs": [replaced("segment.ms", "7")]}
    rig.ask(ALTER, version, {"resources": [resource], "validate_only": False})
    asked = only(rig, AlterConfigs)
    expected = dict.fromkeys(TOPIC_SETTINGS) | {"segment.ms": 7} | {"max.message.bytes": None}
    assert (asked.topic, asked.config) == ("t", expected)
    (told,) = reply(rig, ConfigsReply(config={})).responses
    assert (code(told), told.error_message, told.resource_name) == (0, None, "t")


@pytest.mark.parametrize("version", versions(INCREMENTAL))
def test_incremental_alter_configs_changes_what_it_names(rig: AdminRig, version: int) -> None:
    configs = [
        changed("segment.ms", "7"),
        changed("retention.ms", None, 1),
        changed("cleanup.policy", "compact", 2),
    ]
    resource = {"resource_type": TOPIC, "resource_name": "t", "configs": configs}
    rig.ask(INCREMENTAL, version, {"resources": [resource], "validate_only": False})
    asked = only(rig, AlterConfigs).config
    assert asked == {"segment.ms": 7, "retention.ms": None, "cleanup.policy": "compact,delete"}
    (told,) = reply(rig, failure(InvalidConfig("not so"))).responses
    assert (code(told), told.error_message) == (40, "not so")


def test_words_are_taken_out_of_a_list(rig: AdminRig) -> None:
    rig.route({"t": 1}, config=DEFAULTS | {"cleanup.policy": "compact,delete"})
    alter(rig, INCREMENTAL, changed("cleanup.policy", "delete", 3))
    assert only(rig, AlterConfigs).config == {"cleanup.policy": "compact"}


@pytest.mark.parametrize(
    ("configs", "expected", "why"),
    [
        ([changed("no.such", "1")], 40, "there is no topic setting"),
        ([changed("segment.ms", "soon")], 40, "a whole number"),
        ([changed("segment.ms", None)], 40, "a value is needed"),
        ([changed("segment.ms", "1", 2)], 40, "not a list"),
        ([changed("no.such", "1", 3)], 40, "no topic setting"),
        ([changed("cleanup.policy", "delete", 3)], 40, "cleanup.policy"),
        ([changed("segment.ms", "1", 9)], 42, "no operation 9"),
        ([changed("segment.ms", "1"), changed("segment.ms", "2")], 42, "there twice"),
        ([changed("min.insync.replicas", "2")], 40, "can only be '1'"),
    ],
)
def test_changes_that_cannot_be(
    rig: AdminRig, configs: list[dict[str, Any]], expected: int, why: str
) -> None:
    alter(rig, INCREMENTAL, *configs)
    assert not rig.take()
    (told,) = rig.response().responses
    assert code(told) == expected and why in told.error_message


def test_a_check_of_settings_asks_nobody(rig: AdminRig) -> None:
    alter(rig, ALTER, replaced("segment.ms", "7"), validate_only=True)
    assert not rig.take()
    assert [code(told) for told in rig.response().responses] == [0]


def test_the_brokers_settings_may_be_written_back_as_they_are_and_not_changed(rig: AdminRig) -> None:
    everything = [replaced(entry.name, entry.value) for entry in describe(rig, BROKER, "0").configs]
    alter(rig, ALTER, *everything, kind=BROKER)
    assert [code(told) for told in rig.response().responses] == [0]
    alter(rig, ALTER, *everything[1:], replaced(everything[0]["name"], "other"), kind=BROKER)
    (told,) = rig.response().responses
    assert code(told) == 40 and "cannot be changed while it runs" in told.error_message
    alter(rig, INCREMENTAL, changed("num.partitions", None, 1), kind=BROKER)
    assert [code(told) for told in rig.response().responses] == [40]
    assert not rig.take()


# -- cluster, log directories --------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions(CLUSTER))
def test_describe_cluster(rig: AdminRig, version: int) -> None:
    rig.route({"t": 1}, gateways=2)
    rig.ask(CLUSTER, version, {"include_cluster_authorized_operations": False, "endpoint_type": 1})
    told = rig.response()
    assert (code(told), told.cluster_id, told.controller_id) == (0, "cluster", 0)
    assert [(each.broker_id, each.host, each.port) for each in told.brokers] == [
        (0, "127.0.0.1", 9092),
        (1, "127.0.0.1", 9093),
    ]
    assert told.cluster_authorized_operations == -(2**31)


def test_clients_are_told_where_they_can_reach_a_gateway() -> None:
    def told(options: GatewayOptions, listens: str, reached: str = "10.0.0.5") -> list[str]:
        rig = AdminRig(options)
        rig.actor._table.gateways = [GatewayRoute(index=0, endpoints={"PLAINTEXT": f"{listens}:9092"})]
        request: Any = SimpleNamespace(include_cluster_authorized_operations=False, endpoint_type=1)
        sender = Sender("kafka", b"one", False, Encoding.MSGPACK, 1)
        peer = KafkaPeer("10.0.0.9", "PLAINTEXT", reached=reached)
        rig.tell(KafkaEnvelope(sender, peer, CLUSTER, 1, "", request, 10))
        return [broker.host for broker in rig.response().brokers]

    assert told(GatewayOptions(index=0), "127.0.0.1") == ["127.0.0.1"]
    assert told(GatewayOptions(index=0), "0.0.0.0") == ["10.0.0.5"]
    assert told(GatewayOptions(index=0), "[::]", reached="fd00::5") == ["fd00::5"]
    assert told(GatewayOptions(index=0, advertised_host="log.example"), "0.0.0.0") == ["log.example"]


def test_there_are_no_controllers_to_be_asked_for(rig: AdminRig) -> None:
    rig.ask(CLUSTER, 1, {"include_cluster_authorized_operations": True, "endpoint_type": 2})
    told = rig.response()
    assert code(told) == 115 and told.cluster_authorized_operations > 0


@pytest.mark.parametrize("version", versions(LOG_DIRS))
def test_describe_log_dirs(rig: AdminRig, version: int) -> None:
    wanted = [{"topic": "t", "partitions": [1, 7]}, {"topic": "gone", "partitions": [0]}]
    rig.ask(LOG_DIRS, version, {"topics": wanted})
    (forward,) = rig.take()
    assert forward.address == "partition:t-1" and isinstance(forward.request, MeasureLog)
    rig.answer(forward, MeasureLogReply(size_bytes=4_711, free_bytes=1_000))
    (directory,) = rig.response().results
    assert (code(directory), directory.log_dir) == (0, "/data")
    ((topic),) = directory.topics
    assert (topic.name, [(part.partition_index, part.partition_size) for part in topic.partitions]) == (
        "t",
        [(1, 4_711)],
    )
    if version >= 4:
        assert (directory.total_bytes, directory.usable_bytes) == (-1, 1_000)


def test_a_partition_that_does_not_answer_is_left_out(rig: AdminRig) -> None:
    rig.ask(LOG_DIRS, 4, {"topics": None})
    first, second, third = rig.take()
    rig.answer(first, MeasureLogReply(size_bytes=1, free_bytes=2))
    rig.fail(second, LeaderNotAvailable("it is starting"))
    rig.answer(third, MeasureLogReply(size_bytes=3, free_bytes=2))
    (directory,) = rig.response().results
    sizes = {topic.name: [part.partition_size for part in topic.partitions] for topic in directory.topics}
    assert sizes == {"t": [1], "u": [3]}


# -- access rules --------------------------------------------------------------------------------------

RULE = Acl(principal="User:till", operation="write", resource_type="topic", resource_name="t")
DENIAL = Acl(
    principal="User:*",
    operation="all",
    resource_type="group",
    resource_name="g",
    pattern_type="prefixed",
    permission="deny",
    host="10.0.0.1",
)
KAFKA_DENIAL = {
    "resource_type": 3,
    "resource_name": "g",
    "resource_pattern_type": 4,
    "principal": "User:*",
    "host": "10.0.0.1",
    "operation": 2,
    "permission_type": 2,
}
EVERY = {
    "resource_type_filter": 1,
    "resource_name_filter": None,
    "pattern_type_filter": 1,
    "principal_filter": None,
    "host_filter": None,
    "operation": 1,
    "permission_type": 1,
}


def enforced(rig: AdminRig) -> None:
    """The supervisor says that rules are enforced, to the request that comes before each change."""
    only(rig, DescribeAcls)
    rig.answer(rig.last, DescribeAclsReply(acls=[], enforced=True))


@pytest.mark.parametrize("version", versions(DESCRIBE_ACLS))
def test_describe_acls(rig: AdminRig, version: int) -> None:
    rig.ask(DESCRIBE_ACLS, version, EVERY)
    assert only(rig, DescribeAcls).filter == AclFilter(pattern_type=None)
    told = reply(rig, DescribeAclsReply(acls=[RULE, DENIAL], enforced=True))
    assert code(told) == 0
    topic, group = told.resources
    assert (topic.resource_type, topic.resource_name, topic.pattern_type) == (2, "t", 3)
    assert (group.resource_type, group.resource_name, group.pattern_type) == (3, "g", 4)
    (allow,), (deny,) = topic.acls, group.acls
    assert (allow.principal, allow.host, allow.operation, allow.permission_type) == ("User:till", "*", 4, 3)
    assert (deny.principal, deny.host, deny.operation, deny.permission_type) == ("User:*", "10.0.0.1", 2, 2)


def test_a_filter_of_every_field(rig: AdminRig) -> None:
    given = {
        "resource_type_filter": 2,
        "resource_name_filter": "t",
        "pattern_type_filter": 2,
        "principal_filter": "User:till",
        "host_filter": "*",
        "operation": 3,
        "permission_type": 3,
    }
    rig.ask(DESCRIBE_ACLS, 2, given)
    assert only(rig, DescribeAcls).filter == AclFilter(
        principal="User:till",
        operation="read",
        resource_type="topic",
        resource_name="t",
        pattern_type="match",
        permission="allow",
        host="*",
    )


@pytest.mark.parametrize(
    "field", ["resource_type_filter", "pattern_type_filter", "operation", "permission_type"]
)
def test_a_filter_with_a_number_of_no_meaning(rig: AdminRig, field: str) -> None:
    rig.ask(DESCRIBE_ACLS, 2, EVERY | {field: 99})
    assert not rig.take()
    assert code(rig.response()) == 42


def test_where_rules_are_not_enforced_there_is_no_authorizer(rig: AdminRig) -> None:
    rig.ask(DESCRIBE_ACLS, 2, EVERY)
    only(rig, DescribeAcls)
    assert code(reply(rig, DescribeAclsReply(acls=[], enforced=False))) == 54
    rig.ask(CREATE_ACLS, 2, {"creations": [KAFKA_DENIAL]})
    only(rig, DescribeAcls)
    (told,) = reply(rig, DescribeAclsReply(acls=[], enforced=False)).results
    assert code(told) == 54 and "--authorization acls" in told.error_message
    assert not rig.take()


@pytest.mark.parametrize("version", versions(CREATE_ACLS))
def test_create_acls(rig: AdminRig, version: int) -> None:
    strange = KAFKA_DENIAL | {"operation": 13}
    rig.ask(CREATE_ACLS, version, {"creations": [strange, KAFKA_DENIAL, KAFKA_DENIAL]})
    enforced(rig)
    assert only(rig, CreateAcls).acls == [DENIAL, DENIAL]
    refused = CreatedAcl(error=InvalidConfig("why").wire())
    told = reply(rig, CreateAclsReply(results=[CreatedAcl(), refused], enforced=True)).results
    assert [code(each) for each in told] == [42, 0, 40]


@pytest.mark.parametrize("version", versions(DELETE_ACLS))
def test_delete_acls(rig: AdminRig, version: int) -> None:
    rig.ask(
        DELETE_ACLS, version, {"filters": [EVERY | {"operation": 99}, EVERY | {"principal_filter": "User:*"}]}
    )
    enforced(rig)
    assert only(rig, DeleteAcls).filters == [AclFilter(principal="User:*")]
    bad, good = reply(rig, DeleteAclsReply(results=[DeletedAcls(acls=[DENIAL])])).filter_results
    assert (code(bad), bad.matching_acls) == (42, ())
    (gone,) = good.matching_acls
    assert {name: getattr(gone, name) for name in KAFKA_DENIAL if hasattr(gone, name)} == {
        name: value for name, value in KAFKA_DENIAL.items() if hasattr(gone, name)
    }
    assert gone.pattern_type == 4 and code(gone) == 0


@pytest.mark.parametrize("version", versions(48))
def test_there_are_no_quotas(rig: AdminRig, version: int) -> None:
    component = {"entity_type": "user", "match_type": 0, "match": "till"}
    rig.ask(48, version, {"components": [component], "strict": True})
    told = rig.response()
    assert (code(told), told.error_message, told.entries) == (0, None, ())


# -- users ---------------------------------------------------------------------------------------------


def test_describe_users(rig: AdminRig) -> None:
    rig.ask(DESCRIBE_USERS, 0, {"users": [{"name": "till"}, {"name": "gone"}]})
    assert only(rig, DescribeUsers).names == ["till", "gone"]
    mechanisms = [UserMechanism(mechanism="SCRAM-SHA-512", iterations=8192)]
    unknown = UserDescription(name="gone", error=UnknownTopicOrPartition("x").wire())
    told = reply(
        rig, DescribeUsersReply(users=[UserDescription(name="till", mechanisms=mechanisms), unknown])
    )
    till, gone = told.results
    assert [(each.mechanism, each.iterations) for each in till.credential_infos] == [(2, 8192)]
    assert (gone.user, code(gone), gone.credential_infos) == ("gone", 3, ())
    rig.ask(DESCRIBE_USERS, 0, {"users": None})
    assert only(rig, DescribeUsers).names is None


def test_alter_users_keeps_of_the_salted_password_what_the_broker_needs(rig: AdminRig) -> None:
    salt = bytes(range(24))
    upsertion = {
        "name": "till",
        "mechanism": 1,
        "iterations": 4096,
        "salt": salt,
        "salted_password": salt_password("SCRAM-SHA-256", b"secret", salt, 4096),
    }
    short, few, unknown = (
        upsertion | {"name": "short", "salted_password": b"x"},
        upsertion | {"name": "few", "iterations": 1},
        upsertion | {"name": "unknown", "mechanism": 9},
    )
    body = {
        "deletions": [{"name": "old", "mechanism": 2}],
        "upsertions": [upsertion, short, few, unknown],
    }
    rig.ask(ALTER_USERS, 0, body)
    asked = only(rig, AlterUsers)
    assert [(each.name, each.mechanism) for each in asked.removals] == [("old", "SCRAM-SHA-512")]
    (made,) = asked.credentials
    assert made.credential == credential_from_password("SCRAM-SHA-256", "secret", salt, 4096)
    told = reply(rig, AlterUsersReply(users=[AlteredUser(name="old"), AlteredUser(name="till")])).results
    assert {each.user: code(each) for each in told} == {
        "old": 0,
        "till": 0,
        "short": 93,
        "few": 93,
        "unknown": 33,
    }


def test_so_many_changes_of_users_are_not_looked_at(rig: AdminRig) -> None:
    """Each user's changes are sought among all: a hundred thousand of them would take the gateway's time."""
    deletions = [{"name": f"u{number % 10}", "mechanism": 1} for number in range(CHANGES_MAX + 1)]
    rig.ask(ALTER_USERS, 0, {"deletions": deletions, "upsertions": []})
    assert not rig.take()
    (told,) = rig.replies
    assert told.body is None
    assert told.closes

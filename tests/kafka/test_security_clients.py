"""Real clients that must say who they are: SASL, TLS, certificates, and rules about what each may do."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiokafka
import confluent_kafka
import confluent_kafka.admin
import pytest

import odradek
from odradek.protocol.access import Acl
from supervisor.exits import Exit
from tests.support.broker import BrokerProcess
from tests.support.certificates import AVAILABLE, WHY_NOT, Authority
from tests.support.kafka import KafkaSocket, framed

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # kafka-python and aiokafka leave sockets to the garbage collector where their broker goes away.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT),
]
WAIT_S = 40.0
API: Any = confluent_kafka.admin
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
CLIENTS = ["confluent", "kafka-python", "aiokafka"]
PASSWORD = "größer, = besser"
EVERYBODYS_GROUP = Acl(principal="User:*", operation="read", resource_type="group", resource_name="everybody")
"""librdkafka looks for the coordinator of its group, also where it reads without one."""
METADATA = {
    "topics": None,
    "allow_auto_topic_creation": False,
    "include_cluster_authorized_operations": False,
    "include_topic_authorized_operations": False,
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def add_users(broker: BrokerProcess, *names: str) -> None:
    with odradek.Admin(broker.bootstrap) as admin:
        for name in names:
            admin.set_password(name, PASSWORD)


@pytest.fixture(scope="module")
def sasl() -> Iterator[BrokerProcess]:
    """Native clients of this machine administer; Kafka's must log in."""
    with BrokerProcess(
        kafka_security="sasl_plaintext", authorization="acls", super_users="User:ANONYMOUS;User:admin"
    ) as broker:
        add_users(broker, "admin", "till")
        allow(broker, EVERYBODYS_GROUP)
        yield broker


@pytest.fixture(scope="module")
def encrypted(authority: Authority) -> Iterator[BrokerProcess]:
    """TLS and SASL."""
    certificate, key = authority.issue_server()
    with BrokerProcess(
        kafka_security="sasl_ssl", kafka_tls_certificate=certificate, kafka_tls_key=key
    ) as broker:
        add_users(broker, "till")
        yield broker


@pytest.fixture(scope="module")
def certified(authority: Authority) -> Iterator[BrokerProcess]:
    """TLS where the client's certificate says who it is."""
    certificate, key = authority.issue_server()
    with BrokerProcess(
        kafka_security="ssl",
        kafka_tls_certificate=certificate,
        kafka_tls_key=key,
        kafka_tls_client_certificates=authority.certificate,
        authorization="acls",
        super_users="User:ANONYMOUS",
    ) as broker:
        allow(broker, EVERYBODYS_GROUP)
        yield broker


# -- one round trip by each client -----------------------------------------------------------------------


class Way:
    """How to reach a broker: what is said in the words of each client."""

    def __init__(
        self,
        broker: BrokerProcess,
        *,
        user: str | None = None,
        password: str = PASSWORD,
        mechanism: str = "SCRAM-SHA-256",
        authority: str | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        self.bootstrap = broker.ready["kafka"]
        self.user, self.password, self.mechanism = user, password, mechanism
        self.authority, self.certificate = authority, certificate
        self.protocol = ("SASL_" if user else "") + ("SSL" if authority else "PLAINTEXT")

    @property
    def librdkafka(self) -> dict[str, Any]:
        options: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "security.protocol": self.protocol}
        if self.user:
            options |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.user,
                "sasl.password": self.password,
            }
        if self.authority:
            options["ssl.ca.location"] = self.authority
        if self.certificate:
            options |= {
                "ssl.certificate.location": self.certificate[0],
                "ssl.key.location": self.certificate[1],
            }
        return options

    @property
    def python(self) -> dict[str, Any]:
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.protocol}
        if self.user:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        return options

    @property
    def kafka_python(self) -> dict[str, Any]:
        options = self.python
        if self.authority:
            options["ssl_cafile"] = self.authority
        if self.certificate:
            options |= {"ssl_certfile": self.certificate[0], "ssl_keyfile": self.certificate[1]}
        return options

    @property
    def aiokafka(self) -> dict[str, Any]:
        options = self.python
        if self.authority:
            context = ssl.create_default_context(cafile=self.authority)
            if self.certificate:
                context.load_cert_chain(*self.certificate)
            options["ssl_context"] = context
        return options


def round_trip(client: str, way: Way, topic: str, value: bytes) -> bytes | None:
    """Writes a record and reads the first of the topic's partition 0."""
    match client:
        case "confluent":
            return _confluent(way, topic, value)
        case "kafka-python":
            return _kafka_python(way, topic, value)
        case _:
            return asyncio.run(_aiokafka(way, topic, value))


def _confluent(way: Way, topic: str, value: bytes) -> bytes | None:
    outcomes: list[str] = []
    producer = confluent_kafka.Producer(way.librdkafka)
    producer.produce(
        topic,
        value,
        partition=0,
        on_delivery=lambda error, _: outcomes.append("done" if error is None else error.name()),
    )
    assert producer.flush(WAIT_S) == 0
    assert outcomes == ["done"]
    consumer = confluent_kafka.Consumer(
        way.librdkafka | {"group.id": "everybody", "auto.offset.reset": "earliest"}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    message = consumer.poll(WAIT_S)
    consumer.close()
    assert message is not None and message.error() is None
    found = message.value()
    return found if isinstance(found, bytes) else None


def _kafka_python(way: Way, topic: str, value: bytes) -> bytes | None:
    import kafka  # noqa: PLC0415  # it warns when it is loaded

    producer = kafka.KafkaProducer(**way.kafka_python)
    producer.send(topic, value, partition=0).get(WAIT_S)
    producer.close()
    consumer = kafka.KafkaConsumer(**way.kafka_python, consumer_timeout_ms=WAIT_S * 1000)
    consumer.assign([kafka.TopicPartition(topic, 0)])
    consumer.seek_to_beginning()
    found = next(consumer).value
    consumer.close()
    return bytes(found)


async def _aiokafka(way: Way, topic: str, value: bytes) -> bytes | None:
    async with aiokafka.AIOKafkaProducer(**way.aiokafka) as producer:
        await producer.send_and_wait(topic, value, partition=0)
    consumer = aiokafka.AIOKafkaConsumer(**way.aiokafka)
    async with consumer:
        place = aiokafka.TopicPartition(topic, 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        record = await asyncio.wait_for(consumer.getone(), WAIT_S)
    return bytes(record.value)


# -- SASL ------------------------------------------------------------------------------------------------


def allow(broker: BrokerProcess, *acls: Acl) -> None:
    with odradek.Admin(broker.bootstrap) as admin:
        admin.create_acls(acls)


def topic_rule(principal: str, operation: Any, topic: str, **more: Any) -> Acl:
    return Acl(principal=principal, operation=operation, resource_type="topic", resource_name=topic, **more)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_logs_in_by_every_mechanism(sasl: BrokerProcess, client: str, mechanism: str) -> None:
    topic = f"{client}-{mechanism}"
    way = Way(sasl, user="admin", mechanism=mechanism)
    value = f"by {mechanism}".encode()
    with odradek.Admin(sasl.bootstrap) as admin:
        admin.create_topic(topic)
    assert round_trip(client, way, topic, value) == value


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("user", "password"), [("admin", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_password_is_said_to_the_client(
    sasl: BrokerProcess, mechanism: str, user: str, password: str
) -> None:
    errors: list[Any] = []
    options = Way(sasl, user=user, password=password, mechanism=mechanism).librdkafka
    client = confluent_kafka.Producer(options | {"error_cb": errors.append})
    for _ in range(int(WAIT_S * 10)):
        client.poll(0.1)
        if any(error.code() == confluent_kafka.KafkaError._AUTHENTICATION for error in errors):
            break
    said = [error.str() for error in errors]
    assert any("the user or the password is wrong" in text for text in said), said
    assert "could not log in" in sasl.log()


def test_nothing_is_answered_to_who_does_not_log_in(sasl: BrokerProcess) -> None:
    with KafkaSocket(sasl.ready["kafka"]) as client:
        assert client.call(18, 3, {"client_software_name": "x", "client_software_version": "1"}).api_keys
        client.send(3, 9, METADATA)
        assert client.is_closed()


def test_a_list_that_claims_to_be_endless_ends_a_connection_and_no_process(sasl: BrokerProcess) -> None:
    """A reader that made room for what is claimed would end with its process, for anybody who connects."""

    def gateway() -> tuple[int | None, int]:
        with odradek.Admin(sasl.bootstrap) as admin:
            (row,) = (row for row in admin.status() if row.name == "gateway:0")
            return row.pid, row.restarts

    before = gateway()
    header = struct.pack(">hhih", 3, 9, 1, -1) + b"\0"
    for claim in (b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x08"):
        with KafkaSocket(sasl.ready["kafka"]) as client:
            client.socket.sendall(framed(header + claim + bytes(40)))
            assert client.is_closed()
    with KafkaSocket(sasl.ready["kafka"]) as client:
        client.socket.sendall(framed(struct.pack(">hhih", 3, 8, 1, -1) + b"\x7f\xff\xff\xff" + bytes(40)))
        assert client.is_closed()
    assert gateway() == before


def test_the_oldest_way_of_logging_in(sasl: BrokerProcess) -> None:
    """Bare tokens, shorter than any request, behind version 0 of the handshake."""
    with KafkaSocket(sasl.ready["kafka"]) as client:
        assert client.call(17, 0, {"mechanism": "PLAIN"}).error_code.value == 0
        token = b"\0admin\0" + PASSWORD.encode()
        client.socket.sendall(len(token).to_bytes(4, "big") + token)
        assert client.receive_frame() == b""
        assert client.call(3, 9, METADATA).brokers
    with KafkaSocket(sasl.ready["kafka"]) as client:
        client.call(17, 0, {"mechanism": "PLAIN"})
        client.socket.sendall((5).to_bytes(4, "big") + b"\0a\0b\0")
        assert client.is_closed()


def test_a_user_is_let_in_at_once_and_kept_out_at_once(sasl: BrokerProcess) -> None:
    def logs_in() -> bool:
        with KafkaSocket(sasl.ready["kafka"]) as client:
            client.call(17, 1, {"mechanism": "PLAIN"})
            token = b"\0guest\0" + PASSWORD.encode()
            return bool(client.call(36, 2, {"auth_bytes": token}).error_code.value == 0)

    assert not logs_in()
    add_users(sasl, "guest")
    assert logs_in()
    with odradek.Admin(sasl.bootstrap) as admin:
        admin.delete_users(["guest"])
    assert not logs_in()


# -- rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_a_user_does_what_rules_allow_and_nothing_else(sasl: BrokerProcess, client: str) -> None:
    with odradek.Admin(sasl.bootstrap) as admin:
        for name in (f"open-{client}", f"shut-{client}"):
            admin.create_topic(name)
    allow(
        sasl,
        topic_rule("User:till", "read", f"open-{client}"),
        topic_rule("User:till", "write", "open-", pattern_type="prefixed"),
    )
    way = Way(sasl, user="till")
    assert round_trip(client, way, f"open-{client}", b"hello") == b"hello"
    import kafka  # noqa: PLC0415  # it warns when it is loaded

    refused: Any = {
        "confluent": AssertionError,
        "kafka-python": kafka.errors.TopicAuthorizationFailedError,
        "aiokafka": aiokafka.errors.TopicAuthorizationFailedError,
    }[client]
    with pytest.raises(refused, match=r"TOPIC_AUTHORIZATION_FAILED|TopicAuthorizationFailed|29"):
        round_trip(client, way, f"shut-{client}", b"hello")
    with odradek.Admin(sasl.bootstrap) as admin:
        assert admin.list_offsets(f"shut-{client}") == {0: 0}


def test_a_group_needs_a_rule_of_its_own(sasl: BrokerProcess) -> None:
    with odradek.Admin(sasl.bootstrap) as admin:
        admin.create_topic("grouped")
    allow(sasl, topic_rule("User:till", "read", "grouped"))
    options = Way(sasl, user="till").librdkafka | {"auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer(options | {"group.id": "secret"})
    consumer.subscribe(["grouped"])
    codes: set[int] = set()
    for _ in range(int(WAIT_S * 5)):
        message = consumer.poll(0.2)
        error = message.error() if message is not None else None
        if error is not None:
            codes.add(error.code())
            break
    consumer.close()
    assert codes == {confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED}


def test_an_administrator_makes_rules_through_kafkas_own_api(sasl: BrokerProcess) -> None:
    admin = API.AdminClient(Way(sasl, user="admin").librdkafka)
    binding = API.AclBinding(
        API.ResourceType.TOPIC, "by-kafka-", API.ResourcePatternType.PREFIXED, "User:till", "*",
        API.AclOperation.CREATE, API.AclPermissionType.ALLOW,
    )  # fmt: skip
    every = API.AclBindingFilter(
        API.ResourceType.TOPIC, "by-kafka-1", API.ResourcePatternType.MATCH, None, None,
        API.AclOperation.ANY, API.AclPermissionType.ANY,
    )  # fmt: skip
    till = API.AdminClient(Way(sasl, user="till").librdkafka)

    def create(name: str) -> int:
        (made,) = till.create_topics([API.NewTopic(name, 1, 1)]).values()
        error = made.exception(WAIT_S)
        return 0 if error is None else int(error.args[0].code())

    assert create("by-kafka-1") == confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED
    admin.create_acls([binding])[binding].result(WAIT_S)
    assert admin.describe_acls(every).result(WAIT_S) == [binding]
    assert create("by-kafka-1") == 0
    with odradek.Admin(sasl.bootstrap) as native:
        assert "by-kafka-1" in native.list_topics()
    assert admin.delete_acls([every])[every].result(WAIT_S) == [binding]
    assert create("by-kafka-2") == confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED
    with pytest.raises(confluent_kafka.KafkaException, match="CLUSTER_AUTHORIZATION_FAILED"):
        till.create_acls([binding])[binding].result(WAIT_S)


def test_rules_and_users_outlive_the_gateway_and_the_broker(authority: Authority, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "kafka_security": "sasl_plaintext", "authorization": "acls", "super_users": "User:ANONYMOUS",
    }  # fmt: skip
    with BrokerProcess(tmp_path / "data", **settings) as broker:
        add_users(broker, "till")
        with odradek.Admin(broker.bootstrap) as admin:
            admin.create_topic("kept")
        allow(broker, topic_rule("User:till", "all", "kept"), EVERYBODYS_GROUP)
        way = Way(broker, user="till", mechanism="SCRAM-SHA-512")
        assert round_trip("confluent", way, "kept", b"one") == b"one"
    assert oct((tmp_path / "data" / "access.json").stat().st_mode)[-3:] == "600"
    assert PASSWORD not in (tmp_path / "data" / "access.json").read_text()
    with BrokerProcess(tmp_path / "data", **settings) as broker:
        way = Way(broker, user="till", mechanism="SCRAM-SHA-512")
        assert round_trip("confluent", way, "kept", b"two") == b"one"


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--kafka-security", "ssl", "--kafka-tls-key", "key.pem"], "needs kafka_tls_certificate"),
        (
            ["--kafka-security", "ssl", "--kafka-tls-certificate", "none.pem", "--kafka-tls-key", "none.key"],
            "none.pem with the key none.key cannot be used: No such file",
        ),
    ],
)
def test_a_listener_that_could_serve_nobody_stops_the_start(
    tmp_path: Path, flags: list[str], why: str
) -> None:
    command = [sys.executable, "-m", "supervisor", "--data", str(tmp_path / "data"), "--port", "0"]
    done = subprocess.run(
        [*command, "--kafka-port", "0", *flags], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == Exit.SETTINGS
    assert why in done.stderr


# -- TLS -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_comes_by_tls_and_sasl(
    encrypted: BrokerProcess, authority: Authority, client: str
) -> None:
    with odradek.Admin(encrypted.bootstrap) as admin:
        admin.create_topic(f"tls-{client}")
    way = Way(encrypted, user="till", authority=authority.certificate)
    value = bytes(range(256)) * 3_000  # more than one TLS record, and than one read
    assert round_trip(client, way, f"tls-{client}", value) == value


def test_many_large_records_come_back_whole_by_tls(encrypted: BrokerProcess, authority: Authority) -> None:
    with odradek.Admin(encrypted.bootstrap) as admin:
        admin.create_topic("tls-large")
    options = Way(encrypted, user="till", authority=authority.certificate).librdkafka
    producer = confluent_kafka.Producer(options | {"linger.ms": 5})
    values = [bytes([number]) * 100_000 for number in range(100)]
    for value in values:
        producer.produce("tls-large", value, partition=0)
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0
    consumer = confluent_kafka.Consumer(options | {"group.id": "everybody"})
    consumer.assign([confluent_kafka.TopicPartition("tls-large", 0, 0)])
    found = [message.value() for message in consumer.consume(len(values), WAIT_S)]
    consumer.close()
    assert found == values


def test_who_speaks_no_tls_hears_nothing_and_harms_nobody(encrypted: BrokerProcess) -> None:
    with KafkaSocket(encrypted.ready["kafka"]) as client:
        client.send(18, 3, {"client_software_name": "x", "client_software_version": "1"})
        assert client.is_closed()


def test_old_tls_is_refused(encrypted: BrokerProcess, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=authority.certificate)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, _, port = encrypted.ready["kafka"].rpartition(":")
    with (
        socket.create_connection((host, int(port)), WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connected,
    ):
        assert connected.version() == "TLSv1.2"
    context.set_ciphers("AES128-SHA")  # no forward secrecy
    with socket.create_connection((host, int(port)), WAIT_S) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost").close()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_certificate_says_who_the_client_is(
    certified: BrokerProcess, authority: Authority, client: str
) -> None:
    subject = f"/O=odradek/CN={client}"
    topic = f"certified-{client}"
    with odradek.Admin(certified.bootstrap) as admin:
        admin.create_topic(topic)
    allow(certified, topic_rule(f"User:CN={client},O=odradek", "all", topic))
    way = Way(certified, authority=authority.certificate, certificate=authority.issue(client, subject))
    assert round_trip(client, way, topic, b"it is me") == b"it is me"


def test_no_certificate_and_one_of_somebody_else_are_no_way_in(
    certified: BrokerProcess, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger").issue("client", "/O=odradek/CN=confluent")
    for certificate in (None, stranger):
        errors: list[Any] = []
        options = Way(certified, authority=authority.certificate, certificate=certificate).librdkafka
        client = confluent_kafka.Producer(options | {"error_cb": errors.append})
        for _ in range(int(WAIT_S * 10)):
            client.poll(0.1)
            if errors:
                break
        codes = {error.code() for error in errors}
        assert codes & {confluent_kafka.KafkaError._SSL, confluent_kafka.KafkaError._TRANSPORT}, errors
        with pytest.raises(confluent_kafka.KafkaException):
            client.list_topics(timeout=1)

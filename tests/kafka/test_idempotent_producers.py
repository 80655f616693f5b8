"""Idempotent producers over a topic that is deleted and made again: its partitions do not know them."""

from __future__ import annotations

import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition

import odradek
from tests.support.broker import BrokerProcess
from tests.support.kafka_dump import NoKafka, kafka_classpath
from tests.support.kafkamembers import need

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

WAIT_S = 60.0
"""Far less than the two minutes for which a producer sends a batch before it gives it up."""
MEMBERS = Path(__file__).parent / "members"

Send = Callable[[bytes], None]
"""Sends one record and waits until it is acknowledged. Raises where it is not."""
Client = Callable[[str, str], AbstractContextManager[Send]]
"""An idempotent producer for a topic of the broker at an address."""


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(default_partitions=1) as process:
        yield process


@contextmanager
def kafka_python(address: str, topic: str) -> Iterator[Send]:
    import kafka  # noqa: PLC0415  # it warns when it is loaded

    producer = kafka.KafkaProducer(bootstrap_servers=address, enable_idempotence=True, acks="all")

    def send(value: bytes) -> None:
        try:
            producer.send(topic, value).get(timeout=WAIT_S)
        except kafka.errors.UnknownProducerIdError:
            # It tells its application at once, and goes on with a new epoch.
            producer.send(topic, value).get(timeout=WAIT_S)

    yield send
    producer.close()


@contextmanager
def librdkafka(address: str, topic: str) -> Iterator[Send]:
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "enable.idempotence": True})

    def send(value: bytes) -> None:
        failed: list[object] = []

        def delivered(error: object, _message: object) -> None:
            if error is not None:
                failed.append(error)

        producer.produce(topic, value, on_delivery=delivered)
        assert producer.flush(WAIT_S) == 0
        assert failed == []

    yield send


@contextmanager
def java(address: str, topic: str) -> Iterator[Send]:
    try:
        need("java")
        classpath = kafka_classpath()
    except NoKafka as why:
        pytest.skip(str(why))
    command = ["java", "-Xmx128m", "-cp", classpath, str(MEMBERS / "LineProducer.java"), address, topic]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    assert process.stdout is not None
    selector = selectors.DefaultSelector()
    selector.register(process.stdout, selectors.EVENT_READ)

    def send(value: bytes) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(value + b"\n")
        assert selector.select(WAIT_S), "it says nothing of the record"
        assert process.stdout.readline() == b"written\n"

    try:
        yield send
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        selector.close()


@pytest.mark.parametrize("client", [java, kafka_python, librdkafka])
def test_an_idempotent_producer_begins_anew(broker: BrokerProcess, client: Client) -> None:
    topic = f"anew-{client.__name__}"
    with odradek.Admin(broker.ready["router"]) as admin:
        admin.create_topic(topic, 1)
        with client(str(broker.ready["kafka"]), topic) as send:
            for number in range(3):
                send(b"%d" % number)
            admin.delete_topics([topic])
            admin.create_topic(topic, 1)
            send(b"after")
    assert read_all(str(broker.ready["kafka"]), topic) == [b"after"]


def read_all(address: str, topic: str) -> list[bytes]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": "reads", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        message = consumer.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is not None:
            assert error.code() == confluent_kafka.KafkaError._PARTITION_EOF, error
            break
        values.append(message.value() or b"")
    consumer.close()
    return values

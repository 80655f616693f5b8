"""Real Kafka clients, unchanged, over the whole broker: records in, the same records out."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiokafka
import confluent_kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

import odradek
from tests.support.broker import BrokerProcess
from tests.support.kafka import KafkaSocket, fetch_body

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # kafka-python and aiokafka leave sockets to the garbage collector where their broker goes away.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

WAIT_S = 30.0
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PARTITIONS = 3


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(default_partitions=PARTITIONS, gateways=2) as process:
        yield process


@pytest.fixture
def address(broker: BrokerProcess) -> str:
    return str(broker.ready["kafka"])


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name of its own for each test; the first who asks for it makes it."""
    return "".join(each if each.isalnum() else "-" for each in request.node.name)[:200]


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"


# -- confluent-kafka -----------------------------------------------------------------------------------


class Deliveries:
    """What a confluent producer said of each record."""

    def __init__(self) -> None:
        self.failed: list[Any] = []
        self.messages: list[Any] = []

    def __call__(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(error)
        else:
            self.messages.append(message)


def send_all(address: str, topic: str, values: list[bytes], **config: Any) -> Deliveries:
    deliveries = Deliveries()
    producer = confluent_kafka.Producer({"bootstrap.servers": address, **config})
    for value in values:
        producer.produce(topic, value, key=value[:4], headers=[("h", b"x")], on_delivery=deliveries)
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0
    return deliveries


def read_all(address: str, topic: str, count: int, partitions: int = PARTITIONS, **config: Any) -> list[Any]:
    """So many records from the start, whichever partition they are in."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": "reads", "enable.auto.commit": False, **config}
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    read: list[Any] = []
    deadline_s = time.monotonic() + WAIT_S
    while len(read) < count and time.monotonic() < deadline_s:
        for message in consumer.consume(count - len(read), timeout=1):
            assert message.error() is None, message.error()
            read.append(message)
    consumer.close()
    return read


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("idempotent", [True, False])
def test_librdkafka_with_each_codec(address: str, topic: str, codec: str, idempotent: bool) -> None:
    values = [b"%04d %s" % (number, b"x" * 300) for number in range(2_000)]
    config = {"compression.type": codec, "enable.idempotence": idempotent, "linger.ms": 20}
    deliveries = send_all(address, topic, values, **config)
    assert deliveries.failed == []
    read = read_all(address, topic, len(values))
    assert sorted(message.value() for message in read) == values
    assert all(message.key() == message.value()[:4] for message in read)
    assert read[0].headers() == [("h", b"x")]


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_librdkafka_with_each_kind_of_acknowledgement(address: str, topic: str, acks: str) -> None:
    values = [b"%04d" % number for number in range(500)]
    send_all(address, topic, values, acks=acks)
    assert sorted(message.value() for message in read_all(address, topic, len(values))) == values


def test_offsets_are_dense_in_each_partition_and_told_to_the_producer(address: str, topic: str) -> None:
    deliveries = send_all(address, topic, [b"%04d" % number for number in range(900)], acks="all")
    for partition in range(PARTITIONS):
        offsets = [each.offset() for each in deliveries.messages if each.partition() == partition]
        assert offsets == list(range(len(offsets)))
        assert len(offsets) > 100


def test_a_record_larger_than_the_topic_takes_is_refused_by_name(address: str, topic: str) -> None:
    config = {"message.max.bytes": 3_000_000, "compression.type": "none"}
    deliveries = send_all(address, topic, [b"fits", bytes(2_000_000)], **config)
    assert [error.code() for error in deliveries.failed] == [confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE]
    assert len(deliveries.messages) == 1


def test_offsets_by_time_and_place(address: str, topic: str) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    for number in range(10):
        late = 50 if number == 4 else number
        producer.produce(topic, b"v", partition=0, timestamp=1_000_000 + 100 * late)
    assert producer.flush(WAIT_S) == 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "g"})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0)) == (0, 10)
    (found,) = consumer.offsets_for_times([TopicPartition(topic, 0, 1_000_250)])
    assert found.offset == 3
    (behind,) = consumer.offsets_for_times([TopicPartition(topic, 0, 9_000_000)])
    assert behind.offset == confluent_kafka.OFFSET_END
    consumer.close()
    admin = AdminClient({"bootstrap.servers": address})
    place = TopicPartition(topic, 0)
    latest = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
    listed = admin.list_offsets({place: latest})
    assert listed[place].result(WAIT_S).offset == 4


def test_a_fetch_from_the_middle_of_a_batch_skips_what_came_before(address: str, topic: str) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 500})
    for number in range(100):
        producer.produce(topic, b"%d" % number, partition=0)
    assert producer.flush(WAIT_S) == 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "g"})
    consumer.assign([TopicPartition(topic, 0, 37)])
    message = consumer.poll(WAIT_S)
    assert message is not None
    assert (message.offset(), message.value()) == (37, b"37")
    consumer.close()


def test_an_offset_outside_the_log_is_reset(address: str, topic: str) -> None:
    send_all(address, topic, [b"%04d" % number for number in range(30)])
    assert len(read_all(address, topic, 1)) == 1
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": "g", "auto.offset.reset": "earliest"}
    )
    consumer.assign([TopicPartition(topic, 0, 1_000_000)])
    message = consumer.poll(WAIT_S)
    assert message is not None
    assert (message.error(), message.offset()) == (None, 0)
    consumer.close()


def test_a_small_fetch_gets_one_batch_at_least(address: str, topic: str) -> None:
    values = [b"%04d %s" % (number, bytes(5_000)) for number in range(40)]
    send_all(address, topic, values, **{"linger.ms": 0, "compression.type": "none"})
    limits: dict[str, Any] = {
        "fetch.max.bytes": 1_000,
        "message.max.bytes": 1_000,
        "max.partition.fetch.bytes": 1_000,
    }
    assert len(read_all(address, topic, len(values), **limits)) == len(values)


def test_a_waiting_fetch_gets_a_record_as_soon_as_it_is_there(address: str, topic: str) -> None:
    """One partition of several gets a record; the answer may not wait for the end of the fetch."""
    send_all(address, topic, [b"first"])
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "g",
            "fetch.wait.max.ms": 50_000,
        }
    )
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    for place in places:  # by number: on a busy machine the end could be asked for behind the second record
        _, place.offset = consumer.get_watermark_offsets(place, timeout=WAIT_S)
    consumer.assign(places)
    assert consumer.poll(0.5) is None
    began_s = time.monotonic()
    send_all(address, topic, [b"second"])
    message = consumer.poll(WAIT_S)
    assert message is not None
    assert message.value() == b"second"
    assert time.monotonic() - began_s < 25
    consumer.close()


# -- other clients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_kafka_python(address: str, topic: str, codec: str | None) -> None:
    # It warns while it is imported, which only a test may forgive.
    import kafka  # noqa: PLC0415

    producer = kafka.KafkaProducer(
        bootstrap_servers=address, acks="all", compression_type=codec, linger_ms=10
    )
    sent = [producer.send(topic, b"%04d" % number, headers=[("h", b"x")]) for number in range(300)]
    assert {future.get(WAIT_S).topic for future in sent} == {topic}
    producer.close()
    consumer = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        group_id=None,
        consumer_timeout_ms=int(WAIT_S * 1000),
    )
    read = [next(consumer).value for _ in range(300)]
    assert sorted(read) == [b"%04d" % number for number in range(300)]
    consumer.close()


def test_aiokafka(address: str, topic: str) -> None:
    async def run() -> list[bytes]:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True)
        await producer.start()
        for number in range(300):
            await producer.send(topic, b"%04d" % number)
        await producer.stop()
        consumer = aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=address, auto_offset_reset="earliest", group_id=None
        )
        await consumer.start()
        read = [(await asyncio.wait_for(consumer.getone(), WAIT_S)).value for _ in range(300)]
        await consumer.stop()
        return sorted(read)

    assert asyncio.run(run()) == [b"%04d" % number for number in range(300)]


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed (apt-get install kcat)")
@pytest.mark.parametrize("codec", CODECS)
def test_kcat(address: str, topic: str, codec: str) -> None:
    lines = "".join(f"key{number}:value {number}\n" for number in range(200))
    kcat = ["kcat", "-b", address, "-t", topic]
    subprocess.run([*kcat, "-P", "-K:", "-z", codec], input=lines, text=True, check=True, timeout=60)
    read = subprocess.run(
        [*kcat, "-C", "-e", "-o", "beginning", "-f", "%k:%s\n"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert sorted(read.stdout.splitlines()) == sorted(lines.splitlines())


# -- both protocols ------------------------------------------------------------------------------------


def test_one_topic_by_both_protocols(broker: BrokerProcess, address: str, topic: str) -> None:
    send_all(address, topic, [b"kafka-%04d" % number for number in range(200)])
    with odradek.Producer(broker.ready["router"]) as producer:
        for number in range(200):
            producer.send(topic, b"native-%04d" % number, key=b"k%d" % number)
        producer.flush()
    both = {message.value() for message in read_all(address, topic, 400)}
    assert both == {b"%s-%04d" % (kind, number) for kind in (b"kafka", b"native") for number in range(200)}


# -- what ends and comes back --------------------------------------------------------------------------


def kill(broker: BrokerProcess, name: str) -> None:
    """kill -9 of the process of that name, as soon as there is one that serves."""
    with odradek.Admin(broker.ready["router"]) as admin:

        def is_killed() -> bool:
            (found,) = (actor for actor in admin.status() if actor.name == name)
            if found.state != "serving" or found.pid is None:
                return False  # it comes back from the time before
            try:
                os.kill(found.pid, signal.SIGKILL)
            except ProcessLookupError:
                return False  # dead, and nobody knows it yet
            return True

        eventually(is_killed)


@pytest.mark.parametrize("victim", ["partition", "gateway"])
def test_an_idempotent_producer_survives_what_it_talks_to(
    broker: BrokerProcess, address: str, topic: str, victim: str
) -> None:
    """Each record once and in order, though the partition or both gateways are killed in the middle."""
    AdminClient({"bootstrap.servers": address})
    deliveries = Deliveries()
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 1, "retry.backoff.ms": 50}
    )
    for number in range(6_000):
        producer.produce(topic, b"%06d" % number, partition=0, on_delivery=deliveries)
        producer.poll(0)
        if number in (2_000, 4_000):
            # Some since the start, or since those that were killed have come back.
            wanted = number - 1_900
            eventually(lambda: producer.poll(0.01) >= 0 and len(deliveries.messages) > wanted)  # noqa: B023
            names = [f"partition:{topic}-0"] if victim == "partition" else ["gateway:0", "gateway:1"]
            for name in names:
                kill(broker, name)
    assert producer.flush(2 * WAIT_S) == 0
    assert deliveries.failed == []
    values = [message.value() for message in read_all(address, topic, 6_000, partitions=1)]
    assert values == [b"%06d" % number for number in range(6_000)]


def test_a_consumer_survives_the_end_of_its_gateway(broker: BrokerProcess, address: str, topic: str) -> None:
    send_all(address, topic, [b"%04d" % number for number in range(100)])
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "g"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    read: list[Any] = []

    def has_read(count: int) -> bool:
        read.extend(message.value() for message in consumer.consume(50, 1) if message.error() is None)
        return len(read) >= count

    eventually(lambda: has_read(100))
    kill(broker, "gateway:0")
    kill(broker, "gateway:1")
    send_all(address, topic, [b"%04d" % number for number in range(100, 200)])
    eventually(lambda: has_read(200))
    assert sorted(read) == [b"%04d" % number for number in range(200)]
    consumer.close()


def test_both_gateways_are_brokers_and_share_the_partitions(broker: BrokerProcess, topic: str) -> None:
    addresses = broker.ready["gateways"]
    send_all(addresses[0], topic, [b"x"])
    metadata = AdminClient({"bootstrap.servers": addresses[1]}).list_topics(topic, timeout=WAIT_S)
    assert sorted(f"{each.host}:{each.port}" for each in metadata.brokers.values()) == sorted(addresses)
    assert {each.leader for each in metadata.topics[topic].partitions.values()} == {0, 1}


def test_any_gateway_serves_any_partition(broker: BrokerProcess, topic: str) -> None:
    send_all(broker.ready["kafka"], topic, [b"%04d" % number for number in range(300)])
    for address in broker.ready["gateways"]:
        with KafkaSocket(address) as client:
            places = [(topic, number, 0) for number in range(PARTITIONS)]
            response = client.call(1, 12, fetch_body(places))
            parts = response.responses[0].partitions
            assert [part.error_code.value for part in parts] == [0] * PARTITIONS
            assert sum(part.high_watermark for part in parts) == 300

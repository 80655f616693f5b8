"""A compacted topic on a real broker: what stays, who reads it, kill -9 in the middle, Kafka's own tool."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from inspection.dump import DumpOptions, RecordItem, dump_partition
from inspection.files import ReadOnlyFiles
from inspection.places import PartitionPlace
from inspection.verify import verify
from odradek.admin import Admin
from odradek.consumer import Consumer
from odradek.fetcher import TopicPartition
from odradek.producer import Producer
from odradek.protocol.errors import OdradekError
from tests.support.broker import BrokerProcess
from tests.support.kafka_dump import KafkaDumpLog, NoKafka
from tests.support.rawclient import serve

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

WAIT_S = 60.0
INVALID_RECORD = 87
TOPIC = "settings"
KEYS = 9
CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": 8192,
    "index.interval.bytes": 256,
    "min.cleanable.dirty.ratio": 0,
    "file.delete.delay.ms": 0,
}
CHECK_INTERVAL_S = 0.1


def send(broker: BrokerProcess, first: int, count: int, **options: object) -> None:
    """Keyed records, acknowledged in batches; every 50th key is deleted for a while."""
    with Producer(broker.bootstrap, **options) as producer:  # type: ignore[arg-type]
        for number in range(first, first + count):
            value = None if number % 50 == 7 else f"value-{number}" + "." * 60
            producer.send(TOPIC, value, key=f"key-{number % KEYS}")
            if number % 10 == 9:
                producer.flush()


def latest(count: int) -> dict[bytes, bytes]:
    """What whoever has read all of it knows."""
    known: dict[bytes, bytes] = {}
    for number in range(count):
        key = f"key-{number % KEYS}".encode()
        if number % 50 == 7:
            known.pop(key, None)
        else:
            known[key] = f"value-{number}".encode() + b"." * 60
    return known


def read_all(broker: BrokerProcess) -> list[tuple[int, bytes | None, bytes | None]]:
    """Every record that is left, as the SDK's consumer hands them out, up to the end."""
    with Admin(broker.bootstrap) as admin:
        end = admin.list_offsets(TOPIC, "latest", partitions=[0])[0]
    found: list[tuple[int, bytes | None, bytes | None]] = []
    with Consumer(broker.bootstrap) as consumer:
        consumer.assign([TopicPartition(TOPIC, 0)])
        deadline_s = time.monotonic() + WAIT_S
        while not found or found[-1][0] < end - 1:
            assert time.monotonic() < deadline_s, found[-3:]
            found += [(item.offset, item.key, item.value) for item in consumer.poll(0.2)]
    return found


def known_in_the_end(records: list[tuple[int, bytes | None, bytes | None]]) -> dict[bytes, bytes]:
    known: dict[bytes, bytes] = {}
    for _, key, value in records:
        assert key is not None
        if value is None:
            known.pop(key, None)
        else:
            known[key] = value
    return known


def wait_until_compacted(broker: BrokerProcess, records_max: int) -> None:
    """Until no more than so many records are left."""
    deadline_s = time.monotonic() + WAIT_S
    while len(read_all(broker)) > records_max:
        assert time.monotonic() < deadline_s, broker.log()


def verdict_of(data: Path) -> list[str]:
    """What is damaged."""
    found = verify(ReadOnlyFiles(), PartitionPlace(data / f"{TOPIC}-0")).findings
    return [item.message for item in found if item.severity == "damage"]


def test_the_latest_of_each_key_stays_through_compaction_kill_and_restart() -> None:
    with BrokerProcess(retention_check_interval_s=CHECK_INTERVAL_S) as broker:
        with Admin(broker.bootstrap) as admin:
            admin.create_topic(TOPIC, partitions=1, config=CONFIG)
        sent = 0
        for _ in range(4):
            send(broker, sent, 300)
            sent += 300
            broker.kill()  # somewhere in a pass, or between two
            broker.start()
            assert known_in_the_end(read_all(broker)) == latest(sent)
        wait_until_compacted(broker, 250)
        records = read_all(broker)
        assert known_in_the_end(records) == latest(sent)
        assert records[0][0] > 0, "the first records are gone"
        with Admin(broker.bootstrap) as admin:
            assert admin.list_offsets(TOPIC, "earliest", partitions=[0]) == {0: 0}, "the start stays"
        broker.stop()
        assert verdict_of(broker.data) == []
        broker.start()
        after = read_all(broker)  # a pass may have ended since, so it may be less, but nothing else
        assert set(after) <= set(records)
        assert known_in_the_end(after) == latest(sent)


def test_a_record_without_a_key_is_refused_and_its_neighbours_are_not() -> None:
    with BrokerProcess(retention_check_interval_s=CHECK_INTERVAL_S) as broker:
        with Admin(broker.bootstrap) as admin:
            admin.create_topic(TOPIC, partitions=1, config={"cleanup.policy": "compact,delete"})
            described = admin.describe_configs(TOPIC)["cleanup.policy"]
            assert described.value == "compact,delete"
        with Producer(broker.bootstrap) as producer, pytest.raises(OdradekError) as caught:
            producer.send(TOPIC, "no key").result()
        assert caught.value.code == INVALID_RECORD
    with serve() as served, served.client() as client:
        client.create(TOPIC, cleanup_policy="compact")
        many = client.call(
            "produce", b"1", b"2", b"3", topic=TOPIC, records=[{"key": "a"}, {}, {"key": "b"}]
        ).ok()
        assert [offset for _, offset in many["offsets"]] == [0, None, 1]
        assert many["errors"]["1"]["code"] == INVALID_RECORD


def test_single_records_are_read_over_what_is_gone() -> None:
    with serve(retention_check_interval_s=CHECK_INTERVAL_S) as served, served.client() as client:
        config: dict[str, Any] = {name.replace(".", "_"): value for name, value in CONFIG.items()}
        name = client.create(TOPIC, **config)
        for number in range(300):
            client.produce(name, b"v" * 90, key=f"key-{number % KEYS}")
        deadline_s = time.monotonic() + WAIT_S
        while len(found := client.records(name)) > 150:
            assert time.monotonic() < deadline_s, "compaction did not come"
        pages = [client.fetch(name, offset, max_bytes=1).ok() for offset in range(300)]
        before = [record.offset for record in found]
        after = [record.offset for record in client.records(name)]  # compaction may have gone on
        for offset, page in enumerate(pages):
            first = page["records"][0]["offset"]
            assert next(each for each in before if each >= offset) <= first
            assert first <= next(each for each in after if each >= offset)


@pytest.fixture(scope="module")
def kafka() -> KafkaDumpLog:
    try:
        return KafkaDumpLog()
    except NoKafka as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_kafkas_own_tool_reads_a_cleaned_log(kafka: KafkaDumpLog, compression: str) -> None:
    with BrokerProcess(retention_check_interval_s=CHECK_INTERVAL_S) as broker:
        with Admin(broker.bootstrap) as admin:
            config = CONFIG | {"segment.bytes": 2048 if compression != "none" else 8192}
            admin.create_topic(TOPIC, partitions=1, config=config)
        send(broker, 0, 600, compression=compression)
        wait_until_compacted(broker, 300)
        broker.stop()
        place = PartitionPlace(broker.data / f"{TOPIC}-0")
        items = dump_partition(ReadOnlyFiles(), place, DumpOptions(records=True))
        records = [item for item in items if isinstance(item, RecordItem)]
        files = sorted((broker.data / f"{TOPIC}-0").glob("*.log"))
        batches, printed = kafka.batches(files)
        assert {batch.words["isvalid"] for batch in batches} == {"true"}
        found = [record for batch in batches for record in batch.records]
        assert [(each.offset, each.key, each.value, each.timestamp) for each in found] == [
            (each.offset, each.key, each.value, each.timestamp) for each in records
        ]
        read = [(each.offset, (each.key or "").encode(), each.value) for each in found]
        known = known_in_the_end(
            [(at, key, None if value is None else value.encode()) for at, key, value in read]
        )
        assert known == latest(600)
        assert any(batch.words["count"] == "0" for batch in batches), "batches without records are there"
        for complaint in ("invalid bytes", "Exception"):
            assert complaint not in printed
        for suffix in ("index", "timeindex"):
            indexes = [
                path for path in sorted(broker.data.glob(f"{TOPIC}-0/*.{suffix}")) if path.stat().st_size
            ]
            assert kafka.insane_indexes(indexes) == set()
            assert kafka.index_complaints(indexes) == []

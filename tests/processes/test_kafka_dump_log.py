"""Kafka's own kafka-dump-log reads the files of a real broker and finds in them what was written.

Needs Java, Maven and, for the first run, Maven Central; where they are missing the tests are skipped
with the reason.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inspection.files import ReadOnlyFiles
from inspection.walk import FoundBatch, open_segment
from odradek.admin import Admin
from odradek.options import Compression
from odradek.producer import Producer
from partitions.index import OFFSET_ENTRY, TIME_ENTRY
from tests.support.broker import BrokerProcess
from tests.support.kafka_dump import KafkaBatch, KafkaDumpLog, KafkaRecord, NoKafka

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

CONFIG = {"segment.bytes": 16_384, "index.interval.bytes": 512}
RECORDS_PER_BATCH = 20
BASE_TIMESTAMP = 1_700_000_000_000
CODECS: tuple[Compression, ...] = ("none", "gzip", "snappy", "lz4", "zstd")
PLAIN = "plain"
"""The topic of a producer that is not idempotent."""


@dataclass(frozen=True)
class Sent:
    """A record as it was given to the producer."""

    timestamp: int
    key: str | None
    value: str | None
    headers: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """A copy of the data directory of a stopped broker, and what had been written to each topic.

    The space that the broker had reserved behind the last batch is cut off the copies: Kafka's tool stops
    at such zeros with an error, also where a Kafka broker reserved them. ``untrimmed`` names those files.
    """

    data: Path
    sent: dict[str, list[Sent]]
    batches: dict[str, list[KafkaBatch]]
    printed: str
    untrimmed: list[str]

    def files(self, suffix: str) -> list[Path]:
        return sorted(self.data.glob(f"*-0/*{suffix}"))


@pytest.fixture(scope="module")
def kafka() -> KafkaDumpLog:
    try:
        return KafkaDumpLog()
    except NoKafka as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def snapshots(kafka: KafkaDumpLog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Snapshot]]:
    """The files after a clean stop, and after kill -9, recovery, more records and another clean stop."""
    folder = tmp_path_factory.mktemp("kafka-dump-log")
    data, dice = folder / "data", random.Random(20131101)
    sent: dict[str, list[Sent]] = {topic: [] for topic in (*CODECS, PLAIN)}
    found = {}
    with BrokerProcess(data) as broker:
        with Admin(broker.bootstrap) as admin:
            for topic in sent:
                admin.create_topic(topic, partitions=1, config=CONFIG)
        _produce(broker, sent, dice, 300)
        broker.stop()
        found["stopped"] = _snapshot(kafka, data, folder / "stopped", sent)
        broker.start()
        _produce(broker, sent, dice, 200)
        broker.kill()
        broker.start()
        _produce(broker, sent, dice, 100)
        broker.stop()
        found["recovered"] = _snapshot(kafka, data, folder / "recovered", sent)
    yield found
    shutil.rmtree(folder)


def _produce(broker: BrokerProcess, sent: dict[str, list[Sent]], dice: random.Random, count: int) -> None:
    for topic, records in sent.items():
        compression: Compression = "none" if topic == PLAIN else topic  # type: ignore[assignment]
        with Producer(broker.bootstrap, compression=compression, idempotent=topic != PLAIN) as producer:
            for number in range(count):
                record = _record(len(records), dice)
                records.append(record)
                producer.send(
                    topic,
                    record.value,
                    key=record.key,
                    timestamp=record.timestamp,
                    headers=[(name, b"1") for name in record.headers],
                )
                if (number + 1) % RECORDS_PER_BATCH == 0:
                    producer.flush()


def _record(number: int, dice: random.Random) -> Sent:
    """Values that no codec makes very small; some keys, values and headers are not there at all."""
    key = None if number % 7 == 3 else f"key-{number}"
    value = None if number % 11 == 5 else f"value {number} é {dice.randbytes(100).hex()}"
    return Sent(BASE_TIMESTAMP + number, key, value, ("source", "trace") if number % 5 == 0 else ())


def _snapshot(kafka: KafkaDumpLog, data: Path, target: Path, sent: dict[str, list[Sent]]) -> Snapshot:
    shutil.copytree(data, target)
    untrimmed = [path.name for path in sorted(target.glob("*-0/*.log")) if _cut_reserved_space(path)]
    batches, everything = {}, ""
    for topic in sent:
        batches[topic], printed = kafka.batches(sorted((target / f"{topic}-0").glob("*.log")))
        everything += printed
    return Snapshot(
        target, {topic: list(records) for topic, records in sent.items()}, batches, everything, untrimmed
    )


def _cut_reserved_space(path: Path) -> bool:
    """Ends the file where its last batch ends; whether only zeros were there and now are not."""
    with open_segment(ReadOnlyFiles(), path, int(path.stem)) as segment:
        batches = [found for found in segment.walk() if isinstance(found, FoundBatch)]
        end = batches[-1].position + batches[-1].header.size_bytes if batches else 0
        reserved = segment.read(end, segment.file_size)
    assert not reserved.strip(b"\0"), f"{path} does not end with a batch"
    os.truncate(path, end)
    return bool(reserved)


STATES = ("stopped", "recovered")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("topic", [*CODECS, PLAIN])
def test_kafka_reads_every_record_that_was_written(
    snapshots: dict[str, Snapshot], state: str, topic: str
) -> None:
    snapshot = snapshots[state]
    found = [record for batch in snapshot.batches[topic] for record in batch.records]
    assert [record.offset for record in found] == list(range(len(snapshot.sent[topic])))
    assert [_as_sent(record) for record in found] == snapshot.sent[topic]


def _as_sent(record: KafkaRecord) -> Sent:
    return Sent(record.timestamp, record.key, record.value, record.headers)


@pytest.mark.parametrize("state", STATES)
def test_kafka_finds_every_batch_valid_and_nothing_behind_them(
    snapshots: dict[str, Snapshot], state: str
) -> None:
    snapshot = snapshots[state]
    for topic, batches in snapshot.batches.items():
        assert {batch.words["isvalid"] for batch in batches} == {"true"}
        assert {batch.words["compresscodec"] for batch in batches} == {"none" if topic == PLAIN else topic}
        assert len({batch.file for batch in batches}) >= 3, f"{topic} has too few segments to prove much"
    for complaint in ("invalid bytes", "Exception", "Non-consecutive"):
        assert complaint not in snapshot.printed


@pytest.mark.parametrize("state", STATES)
def test_a_stopped_broker_leaves_files_that_end_with_a_batch(
    snapshots: dict[str, Snapshot], state: str
) -> None:
    assert snapshots[state].untrimmed == []


@pytest.mark.parametrize("topic", CODECS)
def test_kafka_sees_the_sequences_of_idempotent_producers(snapshots: dict[str, Snapshot], topic: str) -> None:
    sequences: dict[str, list[int | None]] = {}
    for batch in snapshots["recovered"].batches[topic]:
        assert int(batch.words["producerId"]) >= 0
        sequences.setdefault(batch.words["producerId"], []).extend(
            record.sequence for record in batch.records
        )
    assert [numbers == list(range(len(numbers))) for numbers in sequences.values()] == [True, True, True]


def test_kafka_sees_that_the_other_producer_has_no_id(snapshots: dict[str, Snapshot]) -> None:
    assert {batch.words["producerId"] for batch in snapshots["recovered"].batches[PLAIN]} == {"-1"}


def test_kafka_sees_a_leader_epoch_for_each_start(snapshots: dict[str, Snapshot]) -> None:
    for batches in snapshots["recovered"].batches.values():
        epochs = [int(batch.words["partitionLeaderEpoch"]) for batch in batches]
        assert epochs == sorted(epochs)
        assert len(set(epochs)) == 3


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_kafka_finds_the_indexes_sane_and_true(
    kafka: KafkaDumpLog, snapshots: dict[str, Snapshot], state: str, suffix: str
) -> None:
    files = [path for path in snapshots[state].files(suffix) if path.stat().st_size]
    assert len(files) > len(CODECS)
    assert kafka.insane_indexes(files) == set()
    assert kafka.index_complaints(files) == []


@pytest.mark.parametrize(("suffix", "entry"), [(".index", OFFSET_ENTRY), (".timeindex", TIME_ENTRY)])
def test_kafka_would_have_noticed_a_wrong_index(
    kafka: KafkaDumpLog, snapshots: dict[str, Snapshot], tmp_path: Path, suffix: str, entry: Any
) -> None:
    index = next(path for path in snapshots["stopped"].files(suffix) if path.stat().st_size > entry.size)
    for path in index.parent.glob(f"{index.stem}.*"):
        shutil.copy(path, tmp_path)
    copy = tmp_path / index.name
    first, second = entry.unpack_from(copy.read_bytes())
    wrong = (first + 1, second) if suffix == ".index" else (first - 1, second)
    copy.write_bytes(entry.pack(*wrong) + copy.read_bytes()[entry.size :])
    assert kafka.index_complaints([copy])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("topic", [*CODECS, PLAIN])
def test_odradek_log_dump_says_the_same_as_kafka(
    snapshots: dict[str, Snapshot], state: str, topic: str
) -> None:
    snapshot = snapshots[state]
    done = subprocess.run(
        [sys.executable, "-m", "inspection", "dump", snapshot.data / f"{topic}-0", "--records", "--json"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    items = [json.loads(line) for line in done.stdout.splitlines()]
    batches = [item for item in items if item["type"] == "batch"]
    records = [item for item in items if item["type"] == "record"]
    assert [_words(batch) for batch in batches] == [
        {name: batch.words[name] for name in _words(batches[0])} for batch in snapshot.batches[topic]
    ]
    assert [
        Sent(item["timestamp"], item["key"], item["value"], tuple(name for name, _ in item["headers"]))
        for item in records
    ] == snapshot.sent[topic]


def _words(batch: dict[str, Any]) -> dict[str, str]:
    """Our batch in Kafka's words."""
    return {
        "baseOffset": str(batch["base_offset"]),
        "lastOffset": str(batch["last_offset"]),
        "count": str(batch["record_count"]),
        "baseSequence": str(batch["base_sequence"]),
        "lastSequence": str(batch["last_sequence"]),
        "producerId": str(batch["producer_id"]),
        "producerEpoch": str(batch["producer_epoch"]),
        "partitionLeaderEpoch": str(batch["leader_epoch"]),
        "isTransactional": str(batch["transactional"]).lower(),
        "isControl": str(batch["control"]).lower(),
        "position": str(batch["position"]),
        "CreateTime": str(batch["max_timestamp"]),
        "size": str(batch["size"]),
        "compresscodec": batch["compression"],
        "crc": str(batch["crc"]),
        "isvalid": str(batch["crc_ok"]).lower(),
    }


@pytest.mark.parametrize("state", STATES)
def test_odradek_log_verify_finds_the_same_files_sound(snapshots: dict[str, Snapshot], state: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inspection", "verify", snapshots[state].data, "--json"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    verdicts = {each["partition"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    for topic, records in snapshots[state].sent.items():
        assert verdicts[f"{topic}-0"]["records"] == len(records)
        assert verdicts[f"{topic}-0"]["end_offset"] == len(records)

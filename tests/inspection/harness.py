"""A partition's real files in a directory of its own, and the ways in which a test breaks them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inspection.command import log as run_log
from odradek.protocol.batch import check_batch
from odradek.protocol.records import RecordToWrite, new_builder
from partitions.files import OsFiles
from partitions.log import Log
from partitions.settings import LogSettings

TOPIC_ID = "Zr5Vq0gSQjWbHn1aT7b3Yg"
NOW_MS = 1_700_000_000_000
SETTINGS = LogSettings(segment_bytes=2048, index_interval_bytes=128, preallocate=False)
RECORDS_PER_BATCH = 3
VALUE_BYTES = 60


def open_log(directory: Path, settings: LogSettings = SETTINGS) -> Log:
    return Log.open(directory, settings, files=OsFiles(), wall_ms=NOW_MS, topic_id=TOPIC_ID)


def batch_of(first: int, sequence: int = -1, producer_id: int = -1, compression: str = "none") -> bytes:
    builder = new_builder(
        compression=compression,
        producer_id=producer_id,
        producer_epoch=0 if producer_id >= 0 else -1,
        base_sequence=sequence,
    )
    for index in range(RECORDS_PER_BATCH):
        number = first + index
        record = RecordToWrite(NOW_MS + number, f"k{number}".encode(), b"v" * VALUE_BYTES, [("h", b"1")])
        builder.append(index, *record)
    return bytes(builder.build())


def append(log: Log, *batches: bytes) -> None:
    """Appends and makes durable."""
    for batch in batches:
        log.append(batch, check_batch(batch), NOW_MS)
    log.write()
    ticket = log.sync_begin()
    assert ticket is not None
    ticket.run()
    log.sync_done(ticket, None)


def fill(log: Log, count: int = 30) -> None:
    """``count`` batches of three records."""
    for number in range(count):
        append(log, batch_of(log.end_offset, number * RECORDS_PER_BATCH, producer_id=7))


def kill(log: Log, source: Path, target: Path) -> None:
    """``target`` becomes the directory as a killed process would leave it."""
    shutil.copytree(source, target)
    log.close()
    shutil.rmtree(source)
    target.rename(source)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.log"))


def flip(path: Path, position: int) -> None:
    """One bit of the file is wrong."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below the directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def write_catalog(partition: Path, config: dict[str, Any]) -> None:
    """A catalogue beside the partition ``events-0`` that knows its topic."""
    topic = {"name": "events", "topic_id": TOPIC_ID, "partitions": 1, "config": config}
    catalog = {"cluster_id": "c", "offsets_topic_id": "o", "topics": [topic]}
    document = {"format": 1, "crc32c": 0, "catalog": catalog}
    (partition.parent / "catalog.json").write_text(json.dumps(document))


@dataclass(frozen=True)
class Ran:
    """What `odradek log` did."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """Runs `odradek log` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> Ran:
        try:
            code = run_log([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)

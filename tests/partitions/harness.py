"""A log on a simulated disk, together with what a client was told about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from odradek.protocol.batch import check_batch, iterate_headers
from odradek.protocol.errors import CorruptMessage
from partitions.log import Log
from partitions.settings import LogSettings
from partitions.writing import Appended
from tests.support.simdisk import SimDisk

DIRECTORY = Path("/data/events-0")
TOPIC_ID = "Zr5Vq0gSQjWbHn1aT7b3Yg"
NOW_MS = 1_700_000_000_000
SMALL = LogSettings(segment_bytes=2048, index_interval_bytes=128, checkpoint_bytes=12_000)
PLACED = 16


def open_log(disk: SimDisk, settings: LogSettings = SMALL, *, wall_ms: int = NOW_MS) -> Log:
    return Log.open(DIRECTORY, settings, files=disk, wall_ms=wall_ms, topic_id=TOPIC_ID)


def sync(log: Log) -> None:
    log.write()
    ticket = log.sync_begin()
    if ticket is None:
        return
    try:
        ticket.run()
    except OSError as error:
        log.sync_done(ticket, error)
    else:
        log.sync_done(ticket, None)


def append(log: Log, *batches: bytes, wall_ms: int = NOW_MS) -> list[Appended]:
    return [log.append(batch, check_batch(batch), wall_ms) for batch in batches]


def append_synced(log: Log, *batches: bytes) -> list[Appended]:
    appended = append(log, *batches)
    sync(log)
    return appended


@dataclass
class Reading:
    """All that can be read: what the producer signed of each batch, by base offset, and what cannot."""

    batches: dict[int, bytes] = field(default_factory=dict)
    damaged: list[tuple[int, int]] = field(default_factory=list)


def read_all(log: Log, max_bytes: int = 1 << 20) -> Reading:
    """Reads as a consumer does: by checksum, and on behind each quarantined range or broken batch."""
    reading = Reading()
    offset = log.start_offset
    while offset < log.durable_offset:
        try:
            content = bytes(log.read(offset, max_bytes))
        except CorruptMessage as error:
            words = error.message.split()
            first, last = int(words[1]), int(words[3])
            assert first <= offset <= last < log.durable_offset
            reading.damaged.append((first, last))
            offset = last + 1
            continue
        assert content, f"nothing at {offset} below {log.durable_offset}"
        before = offset
        for position, header in iterate_headers(content):
            try:
                check_batch(content[position : position + header.size_bytes])
            except CorruptMessage:
                reading.damaged.append((header.base_offset, header.last_offset))
            else:
                reading.batches[header.base_offset] = content[
                    position + PLACED : position + header.size_bytes
                ]
            offset = header.next_offset
        assert offset > before
    return reading


def signed(batch: bytes) -> bytes:
    return batch[PLACED:]

"""Keyed records in compacted logs on a simulated disk, and what a reader makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from odradek.protocol.batch import NO_PRODUCER_ID, check_batch, checksum, iterate_headers
from odradek.protocol.records import decode_batches, new_builder
from partitions.log import Log
from tests.partitions.harness import NOW_MS, SMALL, sync

COMPACT = replace(
    SMALL,
    compacts=True,
    deletes=False,
    min_cleanable_dirty_ratio=0.0,
    segment_bytes=2000,
    index_interval_bytes=200,
)


class Kept(NamedTuple):
    """A record as a reader finds it."""

    offset: int
    key: bytes | None
    value: bytes | None


def batch_of(
    records: Sequence[tuple[bytes | None, bytes | None]],
    *,
    sequence: int | None = None,
    producer_id: int = 7,
    compression: str = "none",
    timestamp: int = NOW_MS,
) -> bytes:
    """One batch of (key, value) records, of an idempotent producer where it has a ``sequence``."""
    builder = new_builder(
        compression=compression,
        producer_id=NO_PRODUCER_ID if sequence is None else producer_id,
        producer_epoch=-1 if sequence is None else 0,
        base_sequence=-1 if sequence is None else sequence,
    )
    for number, (key, value) in enumerate(records):
        builder.append(number, timestamp + number, key, value, [])
    return bytes(builder.build())


def produce(log: Log, *batches: bytes) -> None:
    """Appends, writes and syncs."""
    for batch in batches:
        log.append(batch, check_batch(batch), NOW_MS)
    sync(log)


def clean(log: Log, wall_ms: int = NOW_MS) -> int:
    """Passes of compaction until there is nothing to do; how many."""
    passes = 0
    while (cleaning := log.plan_cleaning(wall_ms)) is not None:
        passes += 1
        assert passes < 500
        while True:
            list(cleaning.run())
            log.cleaning_done(cleaning, None)
            if not log.cleaning_may_go_on:
                break
    return passes


def records_of(log: Log, max_bytes: int = 1 << 20) -> list[Kept]:
    """Every record, read as a consumer reads; batches have to follow one another, their checksums to fit."""
    found: list[Kept] = []
    offset = log.start_offset
    while offset < log.durable_offset:
        content = bytes(log.read(offset, max_bytes))
        assert content, f"nothing at {offset} below {log.durable_offset}"
        before = offset
        for position, header in iterate_headers(content):
            batch = content[position : position + header.size_bytes]
            assert checksum(batch) == header.crc
            assert header.base_offset <= offset <= header.last_offset
            assert 0 <= header.record_count <= header.last_offset_delta + 1
            found += [Kept(item.offset, item.key, item.value) for item in decode_batches(batch, offset)]
            offset = header.next_offset
        assert offset > before
    return found


def state_of(records: Sequence[Kept]) -> dict[bytes | None, bytes]:
    """What somebody who reads all of it knows in the end: the values of the keys that were not deleted."""
    state: dict[bytes | None, bytes] = {}
    for record in records:
        if record.value is None:
            state.pop(record.key, None)
        else:
            state[record.key] = record.value
    return state

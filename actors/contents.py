"""Contents: the few questions for which a partition looks into its batches, which are opaque to it else.

The record codec is loaded with the first of them: a partition that is asked none of them has no need of it.
"""

from __future__ import annotations

from typing import NamedTuple

from odradek.protocol.batch import (
    BatchHeader,
    Buffer,
    check_batch,
    iterate_headers,
)
from odradek.protocol.errors import OdradekError
from partitions.log import Log

READS_MAX = 1000
"""A fetch passes over so many stretches without a record before it answers with the last of them."""


SEARCH_BYTES = 1 << 20
"""A time that is not in the batch where it should be is looked for so much at once."""


class Found(NamedTuple):
    """Whole batches for a reader, and whether they have a record for it: compaction may have taken all."""

    batches: Buffer
    has_records: bool

    @property
    def useful_bytes(self) -> int:
        return len(self.batches) if self.has_records else 0


def read_records(log: Log, offset: int, max_bytes: int) -> Found:
    """Batches from the one with ``offset`` on, or from the first behind it in which a record is left.

    Where none is left up to the end, the last batches without one: a reader goes on behind them. Raises what
    ``Log.read`` raises.
    """
    batches = log.read(offset, max_bytes)
    for _ in range(READS_MAX):
        if not batches or _has_record(batches, offset):
            return Found(batches, bool(batches))
        *_, (_, last) = iterate_headers(batches)
        further = log.read(last.next_offset, max_bytes)
        if not further:
            break
        batches, offset = further, last.next_offset
    return Found(batches, has_records=False)


def _has_record(batches: Buffer, offset: int) -> bool:
    """Whether a record at ``offset`` or behind it is left in the batches, as far as that can be read."""
    for position, header in iterate_headers(batches):
        if header.record_count == 0:
            continue
        if header.record_count > header.last_offset_delta or header.base_offset >= offset:
            return True
        from odradek.protocol.records import decode_batch  # noqa: PLC0415

        try:
            records = decode_batch(memoryview(batches)[position : position + header.size_bytes])
            if any(record.offset >= offset for record in records):
                return True
        except OdradekError:
            return True  # the reader shall see for itself
    return False


def first_record(log: Log, offset: int, at_ms: int) -> tuple[int, int]:
    """(offset, timestamp) of the first record as late as ``at_ms``, from the batch with ``offset`` on.

    Mostly that batch has it; not where its record was deleted from the start of the log. (-1, -1) for none.
    """
    from odradek.protocol.records import decode_batches  # noqa: PLC0415

    offset, read_bytes = max(offset, log.start_offset), 1
    while batches := log.read(offset, read_bytes):
        view, next_offset = memoryview(batches), offset
        for position, header in iterate_headers(view):
            next_offset = header.next_offset
            if header.max_timestamp < at_ms:
                continue  # one before it may have claimed a later time than its records bear
            for record in decode_batches(view[position : position + header.size_bytes], offset):
                if record.timestamp >= at_ms:
                    return record.offset, record.timestamp
        offset, read_bytes = next_offset, SEARCH_BYTES
    return -1, -1


def recompressed(batch: Buffer, codec: str) -> tuple[bytes, BatchHeader]:
    """The batch in the topic's codec, and its header."""
    from odradek.protocol.records import recompress  # noqa: PLC0415

    changed = recompress(batch, codec)
    return changed, check_batch(changed)

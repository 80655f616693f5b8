"""Sparse batches: what is left of a batch when records were taken out of it, as compaction does.

Offsets never change, so a batch keeps its first and its last offset however few of its records are left::

    before   | 10 11 12 13 | 14 15 16 | 17 18 19 |
    after    | 10 ..    13 |   empty  | 17 ..    |     11, 12, 18 and 19 are gone, 14 to 16 as well

A batch without records says which offsets are gone; so batches always follow one another without a gap, and
a gap is damage. Batches of this kind are Kafka's own: ``record count`` is below ``last offset delta`` + 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

from aiokafka.record.default_records import DefaultRecordBatch

from odradek.protocol.batch import (
    COMPRESSION_MASK,
    COMPRESSIONS,
    DELETE_HORIZON_MASK,
    HEADER_BYTES,
    MAGIC,
    NO_PRODUCER_ID,
    TIMESTAMP_TYPE_MASK,
    BatchHeader,
    Buffer,
    seal,
)
from odradek.protocol.deflate import deflate
from odradek.protocol.inflate import inflate_batch
from odradek.protocol.records import new_builder

NO_TIMESTAMP = -1
NO_EPOCH = NO_SEQUENCE = -1

_PLACEHOLDER_BYTES = 7
"""The encoded size of a record without key, value and headers, at the base timestamp."""


class StoredRecord(Protocol):
    """A record as the compiled codec reads it; times in ms."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def is_dense(header: BatchHeader) -> bool:
    """Whether every offset of the batch has its record."""
    return header.record_count == header.last_offset_delta + 1


def stored_records(batch: Buffer) -> Iterator[StoredRecord]:
    """The records of one whole batch, as the codec makes them: they may raise anything while they are read.

    Raises CorruptMessage, MessageTooLarge or UnsupportedCompressionType as ``inflate_batch`` does.
    """
    # The codec's batch gives its iterator once, and who takes some records at a time asks for it again.
    return islice(DefaultRecordBatch(inflate_batch(batch)), None)


def gone(first_offset: int, last_offset: int, leader_epoch: int) -> bytes:
    """A batch without records, of no producer: the offsets from first to last are no more."""
    return _sealed(
        BatchHeader(
            base_offset=first_offset,
            batch_length=0,
            leader_epoch=leader_epoch,
            magic=MAGIC,
            crc=0,
            attributes=0,
            last_offset_delta=last_offset - first_offset,
            base_timestamp=NO_TIMESTAMP,
            max_timestamp=NO_TIMESTAMP,
            producer_id=NO_PRODUCER_ID,
            producer_epoch=NO_EPOCH,
            base_sequence=NO_SEQUENCE,
            record_count=0,
        ),
        b"",
    )


def emptied(header: BatchHeader) -> bytes:
    """The batch without its records: its offsets, its producer and its sequences stay."""
    return _sealed(
        header._replace(
            attributes=header.attributes & TIMESTAMP_TYPE_MASK,
            base_timestamp=NO_TIMESTAMP,
            max_timestamp=NO_TIMESTAMP,
            record_count=0,
        ),
        b"",
    )


def thinned(header: BatchHeader, kept: Sequence[StoredRecord], delete_horizon_ms: int | None = None) -> bytes:
    """The batch with only the ``kept`` ones of its records, at least one, in the codec that it had.

    A ``delete_horizon_ms`` is written into the batch; without one it keeps what it has.
    """
    attributes, base_timestamp = header.attributes, header.base_timestamp
    if delete_horizon_ms is not None:
        attributes, base_timestamp = attributes | DELETE_HORIZON_MASK, delete_horizon_ms
    builder = new_builder()
    # Deltas of time count from the first record, and that has to stay the base timestamp: cut off below.
    builder.append(0, base_timestamp, None, b"", [])
    for record in kept:
        delta = record.offset - header.base_offset
        builder.append(delta, record.timestamp, record.key, record.value, record.headers)
    records = bytes(builder.build())[HEADER_BYTES + _PLACEHOLDER_BYTES :]
    max_timestamp = header.max_timestamp
    if not attributes & TIMESTAMP_TYPE_MASK:
        max_timestamp = max(record.timestamp for record in kept)
    return _sealed(
        header._replace(
            attributes=attributes,
            base_timestamp=base_timestamp,
            max_timestamp=max_timestamp,
            record_count=len(kept),
        ),
        deflate(records, COMPRESSIONS[attributes & COMPRESSION_MASK]),
    )


def _sealed(header: BatchHeader, records: bytes) -> bytes:
    """The batch of these records, with its length and its checksum made anew."""
    batch = bytearray(HEADER_BYTES) + records
    seal(batch, header)
    return bytes(batch)

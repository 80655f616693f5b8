"""Records to batches and back, by aiokafka's compiled codec of Kafka's RecordBatch v2.

The broker imports this only where records must be touched: in the router, for clients that send and
read single records, and in the coordinator, for its own log. Partition actors never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from odradek.protocol.batch import (
    COMPRESSIONS,
    CONTROL_MASK,
    NO_PRODUCER_ID,
    TRANSACTIONAL_MASK,
    Buffer,
    iterate_headers,
    read_header,
)
from odradek.protocol.errors import CorruptMessage, UnsupportedCompressionType
from odradek.protocol.inflate import inflate_batch

BATCH_BYTES_UNLIMITED = 2**31 - 1


class DecodedRecord(NamedTuple):
    """One record as it stands in a log; the timestamp in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class RecordToWrite(NamedTuple):
    """One record before it has an offset; the timestamp in milliseconds."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = []


def new_builder(
    batch_bytes_max: int = BATCH_BYTES_UNLIMITED,
    *,
    compression: str = "none",
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> DefaultRecordBatchBuilder:
    """The compiled builder: ``append(index, timestamp, key, value, headers)`` gives None when full."""
    try:
        codec = COMPRESSIONS.index(compression)
    except ValueError:
        raise UnsupportedCompressionType(
            f"compression {compression!r} is unknown; known: {', '.join(COMPRESSIONS)}"
        ) from None
    return DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        batch_size=batch_bytes_max,
    )


def encode_batch(records: Iterable[RecordToWrite], *, compression: str = "none") -> bytes:
    """One batch of all the records, in order, with base offset 0."""
    builder = new_builder(compression=compression)
    for index, record in enumerate(records):
        builder.append(index, *record)
    return bytes(builder.build())


def decode_batch(batch: Buffer) -> Iterator[DecodedRecord]:
    """The records of one whole batch. A control batch has none for readers.

    Raises CorruptMessage where the records do not fit their batch, MessageTooLarge where they inflate
    beyond INFLATED_BYTES_MAX, UnsupportedCompressionType where the codec is unknown.
    """
    if read_header(batch).attributes & CONTROL_MASK:
        return
    decoded = DefaultRecordBatch(inflate_batch(batch))
    try:
        for record in decoded:
            yield DecodedRecord(record.offset, record.timestamp, record.key, record.value, record.headers)
    except Exception as error:
        # What a producer signed may be anything, and the codec has no exception of its own for it.
        raise CorruptMessage(f"the records of a batch cannot be read: {error}") from error


def recompress(batch: Buffer, compression: str) -> bytes:
    """The one whole batch with its records in another codec: same records, times, producer and sequence.

    Raises CorruptMessage, MessageTooLarge or UnsupportedCompressionType as ``decode_batch`` does.
    """
    header = read_header(batch)
    if header.attributes & (CONTROL_MASK | TRANSACTIONAL_MASK):
        return bytes(batch)
    builder = new_builder(
        compression=compression,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
    )
    count = 0
    for record in decode_batch(batch):
        builder.append(count, record.timestamp, record.key, record.value, record.headers)
        count += 1
    if count != header.record_count:
        raise CorruptMessage(f"a batch of {header.record_count} records holds {count}")
    return bytes(builder.build())


def decode_batches(batches: Buffer, from_offset: int = 0) -> Iterator[DecodedRecord]:
    """The records of whole batches laid end to end, from an offset on."""
    view = memoryview(batches)
    for position, header in iterate_headers(view):
        if header.last_offset < from_offset:
            continue
        for record in decode_batch(view[position : position + header.size_bytes]):
            if record.offset >= from_offset:
                yield record


def lone_batch_bytes(record: RecordToWrite, enough_bytes: int) -> int:
    """The size of a batch of this record alone; exact where it could be more than ``enough_bytes``."""
    at_most = int(DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, record.headers))
    return at_most if at_most <= enough_bytes else len(encode_batch([record]))

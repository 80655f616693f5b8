"""The header of Kafka's RecordBatch v2: what the broker reads of a batch, and all that it writes.

A batch, big-endian (Kafka, ``org.apache.kafka.common.record.DefaultRecordBatch``)::

    byte   0        8        12      16    17      21     23       27         35        43
           | base   | batch  | leader| ma- | crc   | attr.| last   | base     | max     |
           | offset | length | epoch | gic | 32C   |      | offset | time-    | time-   |
           | i64    | i32    | i32   | i8  | u32   | i16  | delta  | stamp    | stamp   |
                                                          | i32    | i64      | i64     |
    byte   43         51       53         57       61
           | producer | prod.  | base     | record | records ...
           | id i64   | epoch  | sequence | count  |
                      | i16    | i32      | i32    |

``batch length`` counts from byte 12. The checksum covers byte 21 to the end, so base offset and
leader epoch can be placed by the broker without touching what the producer signed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import crc32c

from odradek.protocol.errors import CorruptMessage

HEADER_BYTES = 61
"""From the base offset up to the first record."""
LENGTH_END = 12
"""The batch length field counts the bytes behind this position."""
PLACED_BYTES = 16
"""What the broker rewrites on append: base offset, length, leader epoch."""
CHECKSUM_START = 21
STAMPED_END = 43
"""What the broker rewrites where it stamps records with its own time ends here: the largest timestamp."""
MAGIC = 2

COMPRESSION_MASK = 0x07
TIMESTAMP_TYPE_MASK = 0x08
TRANSACTIONAL_MASK = 0x10
CONTROL_MASK = 0x20
DELETE_HORIZON_MASK = 0x40
"""Kafka's bit (KIP-534): base timestamp is the time (ms) from which on the batch's tombstones may go."""
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
"""The names of the codecs, by the number that stands in a batch's attributes."""

NO_PRODUCER_ID = -1
SEQUENCE_MODULUS = 2**31

_HEADER = struct.Struct(">qiibIhiqqqhii")
_CHECKSUM = struct.Struct(">I")
_CHECKSUM_POSITION = 17
_PLACED = struct.Struct(">qii")
_MAGIC_AND_CHECKSUM = struct.Struct(">bI")
_STAMPED = struct.Struct(">hiqq")

Buffer = bytes | bytearray | memoryview
Headers = list[tuple[str, bytes | None]]
"""The headers of one record: names and values."""


class BatchHeader(NamedTuple):
    """A decoded batch header; offsets in records, timestamps in milliseconds, sizes in bytes."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """The whole batch, its header included."""
        return LENGTH_END + self.batch_length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """Sequences wrap from 2**31 - 1 to 0, as Kafka's do."""
        return (self.base_sequence + self.last_offset_delta) % SEQUENCE_MODULUS

    @property
    def compression(self) -> int:
        return self.attributes & COMPRESSION_MASK


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header that stands at ``position``; only its presence is checked.

    Raises CorruptMessage where fewer than HEADER_BYTES are left.
    """
    try:
        return BatchHeader._make(_HEADER.unpack_from(buffer, position))
    except struct.error:
        left = len(buffer) - position
        raise CorruptMessage(f"a batch header has {HEADER_BYTES} bytes, only {left} are left") from None


def seal(batch: bytearray, header: BatchHeader) -> None:
    """Write a header before the records of a batch, with the length and the checksum that they have."""
    _HEADER.pack_into(batch, 0, *header._replace(batch_length=len(batch) - LENGTH_END))
    _CHECKSUM.pack_into(batch, _CHECKSUM_POSITION, checksum(batch))


def checksum(batch: Buffer) -> int:
    """CRC-32C over all that the producer signed. ``batch`` is one whole batch."""
    return crc32c.crc32c(memoryview(batch)[CHECKSUM_START:])


def check_batch(batch: Buffer) -> BatchHeader:
    """The header of the one whole batch that ``batch`` is, after every check that needs no decoding.

    Raises CorruptMessage, naming the field, for a wrong length, magic, checksum, count or codec.
    """
    header = read_header(batch)
    if header.size_bytes != len(batch):
        raise CorruptMessage(f"batch length says {header.size_bytes} bytes, the frame has {len(batch)}")
    if header.magic != MAGIC:
        raise CorruptMessage(f"magic is {header.magic}, only RecordBatch v{MAGIC} is understood")
    actual = checksum(batch)
    if actual != header.crc:
        raise CorruptMessage(f"checksum is {actual:#010x}, the header says {header.crc:#010x}")
    _check_counts(header)
    return header


def _check_counts(header: BatchHeader) -> None:
    if header.record_count < 1:
        raise CorruptMessage(f"record count is {header.record_count}, a batch has at least one record")
    if header.last_offset_delta != header.record_count - 1:
        raise CorruptMessage(
            f"last offset delta is {header.last_offset_delta} with {header.record_count} records; "
            "a producer's batch is dense"
        )
    if header.compression >= len(COMPRESSIONS):
        raise CorruptMessage(f"compression {header.compression} is unknown; known: {', '.join(COMPRESSIONS)}")
    if header.producer_id != NO_PRODUCER_ID and (header.producer_epoch < 0 or header.base_sequence < 0):
        raise CorruptMessage(
            f"producer id {header.producer_id} comes with epoch {header.producer_epoch} "
            f"and sequence {header.base_sequence}; both must be 0 or more"
        )


def placed_prefix(header: BatchHeader, base_offset: int, leader_epoch: int) -> bytes:
    """The first PLACED_BYTES of the batch at its place in the log; the rest stays as it came."""
    return _PLACED.pack(base_offset, header.batch_length, leader_epoch)


def append_stamped(batch: Buffer, header: BatchHeader, timestamp: int | None) -> tuple[BatchHeader, bytes]:
    """The header with the type of its timestamps put right, and its bytes from PLACED_BYTES to STAMPED_END.

    With a ``timestamp`` (ms) the batch says that the broker stamped all its records with it; with None that
    each bears its producer's. The checksum is made anew over the bytes of ``batch`` behind STAMPED_END, which
    stay as they are.
    """
    attributes = header.attributes & ~TIMESTAMP_TYPE_MASK
    max_timestamp = header.max_timestamp
    if timestamp is not None:
        attributes, max_timestamp = attributes | TIMESTAMP_TYPE_MASK, timestamp
    changed = _STAMPED.pack(attributes, header.last_offset_delta, header.base_timestamp, max_timestamp)
    crc = crc32c.crc32c(memoryview(batch)[STAMPED_END:], crc32c.crc32c(changed))
    stamped = header._replace(attributes=attributes, max_timestamp=max_timestamp, crc=crc)
    return stamped, _MAGIC_AND_CHECKSUM.pack(MAGIC, crc) + changed


def iterate_headers(batches: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each whole batch in ``batches``; a partial one at the end is left out.

    Raises CorruptMessage for a length that no batch can have.
    """
    position, end = 0, len(batches)
    while end - position >= HEADER_BYTES:
        header = read_header(batches, position)
        if header.batch_length < HEADER_BYTES - LENGTH_END:
            raise CorruptMessage(f"batch length {header.batch_length} at byte {position} is too small")
        if position + header.size_bytes > end:
            return
        yield position, header
        position += header.size_bytes

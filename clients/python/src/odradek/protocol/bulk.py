"""BulkBuilder: a batch that is written many records at a time.

The compiled codec takes one record a call, and its checksum goes by a table: a fifth of what a producer of
1 KiB values did. Here neighbours are put together by few calls for hundreds of them, and the checksum is the
processor's instruction. The bytes are the same.

A record (Kafka, ``org.apache.kafka.common.record.DefaultRecord``), its numbers zigzag varints::

    | length | 0 | timestamp delta | offset delta | key length | key | value length | value | header count |

Where all values of a block have one length and no keys, the records differ in nothing but offset delta and
value: the values are joined by what stands between two of them, and the deltas put in column by column.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from odradek.protocol.batch import (
    COMPRESSIONS,
    HEADER_BYTES,
    MAGIC,
    NO_PRODUCER_ID,
    BatchHeader,
    Headers,
    seal,
)
from odradek.protocol.deflate import deflate

BLOCK_RECORDS_MAX: Final = 512
BLOCK_BYTES: Final = 96 << 10
"""So many records, or of this size by the first one, are put together at a time: more would leave the
processor's cache before they are used, and blocks of 128 KiB come from the system, page by page."""
BLOCK_RECORDS_MIN: Final = 16
"""Of large values: what a block costs by itself is little beside so many of them."""
RECORD_OVERHEAD_BYTES_MAX: Final = 32
"""What a record without key and headers takes beside its value, at most."""
BULK_RECORDS_MAX: Final = 1 << 17
"""A batch with so many records is full, however small they are."""
LENGTHS_MAX: Final = 4_096
"""Lengths of values for which it is remembered what stands around them, for each width and time."""
_BANDS: Final = (0, 1 << 6, 1 << 13, 1 << 20)
"""Where the varint of an offset delta becomes a byte longer."""
_NULL: Final = b"\x01"
"""The varint of -1, which stands for the length of None."""
_BYTES_ALONE: Final = {bytes}


class BulkPlace(NamedTuple):
    """Where a record stands in its batch: its offset from the first one, its timestamp in ms."""

    offset: int
    timestamp: int


class _Block(NamedTuple):
    """Some records, in pieces to be laid end to end, and what the batch has come to with them."""

    pieces: Sequence[bytes | bytearray]
    record_count: int
    size_bytes: int
    max_timestamp: int


def varint(number: int) -> bytes:
    """A signed number, as Kafka's records have it: zigzag, seven bits a byte, the lowest first."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


class _Heads(dict[int, bytes]):
    """What stands before a record's offset delta, by the length of its value, which has no key.

    The end of the record before is in front: it has no headers. It holds for records with one timestamp whose
    offset deltas are varints of one width, and puts such records together.
    """

    def __init__(self, delta_bytes: int, timestamp_delta: int) -> None:
        super().__init__()
        self._delta_bytes = delta_bytes
        self._time = b"\0" + varint(timestamp_delta)

    def __missing__(self, length: int) -> bytes:
        if len(self) >= LENGTHS_MAX:
            self.clear()
        value_bytes = len(_LENGTHS[length]) + length
        body_bytes = len(self._time) + self._delta_bytes + value_bytes + 1
        head = self[length] = b"\0" + varint(body_bytes) + self._time
        return head

    def _record_bytes(self, length: int) -> int:
        return len(self[length]) + self._delta_bytes + len(_LENGTHS[length]) + length

    def count_alike(self, room_bytes: int, values: Sequence[bytes]) -> int:
        """How many fit of values that have one length; what fits leaves a byte."""
        return max(0, (room_bytes - 1) // self._record_bytes(len(values[0])))

    def count_any(self, room_bytes: int, values: Sequence[bytes]) -> int:
        """How many fit of values that have any length."""
        if sum(map(len, values)) + len(values) * RECORD_OVERHEAD_BYTES_MAX < room_bytes:
            return len(values)
        return bisect_left(list(accumulate(map(self._record_bytes, map(len, values)))), room_bytes)

    def join_alike(self, place: int, values: Sequence[bytes]) -> Sequence[bytes | bytearray]:
        """Records with such values, whose offset deltas begin at ``place`` of those that are as wide."""
        length, count = len(values[0]), len(values)
        head, tail = self[length], _LENGTHS[length]
        between = bytearray(self._delta_bytes).join((head, tail))
        data = between.join(values)
        columns = _columns(self._delta_bytes)
        for column_at, column in enumerate(columns, length + len(head)):
            data[column_at :: len(between) + length] = column[place + 1 : place + count]
        return head[1:], bytes(column[place] for column in columns), tail, data, b"\0"

    def join_any(self, place: int, values: Sequence[bytes]) -> Sequence[bytes]:
        """Records with values of any length; ``place`` is as above."""
        count = len(values)
        pieces = [b"\0"] * (4 * count + 1)
        pieces[0:-1:4] = map(self.__getitem__, map(len, values))
        pieces[1:-1:4] = _varints(self._delta_bytes)[place : place + count]
        pieces[2:-1:4] = map(_LENGTHS.__getitem__, map(len, values))
        pieces[3:-1:4] = values
        pieces[0] = pieces[0][1:]
        return (b"".join(pieces),)


class _Lengths(dict[int, bytes]):
    """What stands between a record's offset delta and its value: no key, and the length of the value."""

    def __missing__(self, length: int) -> bytes:
        if len(self) >= LENGTHS_MAX:
            self.clear()
        found = self[length] = _NULL + varint(length)
        return found


_heads = functools.lru_cache(maxsize=64)(_Heads)
_LENGTHS: Final = _Lengths()


@functools.cache
def _varints(delta_bytes: int) -> list[bytes]:
    """The offset deltas that take so many bytes, as varints; from BULK_RECORDS_MAX on there are none."""
    return [
        varint(delta) for delta in range(_BANDS[delta_bytes - 1], min(_BANDS[delta_bytes], BULK_RECORDS_MAX))
    ]


@functools.cache
def _columns(delta_bytes: int) -> list[bytes]:
    """The same, byte by byte: all first bytes, all second ones, ..."""
    return [bytes(column) for column in zip(*_varints(delta_bytes), strict=True)]


class BulkBuilder:
    """Does what the compiled builder does, and ``extend`` takes many records at once.

    Every change is one ``append`` to a list, so an interrupt finds a record in the batch or not.
    """

    __slots__ = ("_base_sequence", "_base_timestamp", "_blocks", "_bytes_max", "_compression", "_producer")

    def __init__(self, batch_bytes_max: int, *, compression: str = "none") -> None:
        self._bytes_max = batch_bytes_max
        self._compression = compression
        self._blocks: list[_Block] = []
        self._base_timestamp = 0
        self._producer = (NO_PRODUCER_ID, -1)
        self._base_sequence = -1

    def size(self) -> int:
        """The bytes of the batch before it is compressed."""
        return self._blocks[-1].size_bytes if self._blocks else HEADER_BYTES

    def set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Whose batch it is, and the sequence of its first record."""
        self._producer = (producer_id, producer_epoch)
        self._base_sequence = base_sequence

    def append(
        self, index: int, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers
    ) -> BulkPlace | None:
        """Take the record with this index, which must be the next; None where the batch is full.

        Raises TypeError where key or value is no buffer.
        """
        payload = _field(key) + _field(value) + _header_bytes(headers)
        rest = b"\0" + varint(timestamp - self._base_from(timestamp)) + varint(index) + payload
        data = varint(len(rest)) + rest
        if index and not self._fits(len(data), index):
            return None
        self._add([data], len(data), index + 1, timestamp)
        return BulkPlace(index, timestamp)

    def extend(self, index: int, timestamp: int, values: Sequence[Any], position: int) -> int:
        """Take values from ``position`` on, without keys and headers; how many: 0 where the batch is full.

        Ends before a value that is no buffer.
        """
        first, end = index, index + len(values) - position
        while index < end and index < BULK_RECORDS_MAX:
            delta_bytes = 1 if index < _BANDS[1] else 2 if index < _BANDS[2] else 3
            here = position + index - first
            stop = min(end, index + _block_records(values[here]), _BANDS[delta_bytes])
            block = values[here : here + stop - index]
            taken = self._take(index, delta_bytes, timestamp, block)
            index += taken
            if taken < len(block):
                break
        return index - first

    def build(self) -> bytearray:
        """The whole batch, with base offset 0; to be called once."""
        blocks = self._blocks
        pieces = [piece for block in blocks for piece in block.pieces]
        if self._compression == "none":
            batch = bytearray().join([bytes(HEADER_BYTES), *pieces])
        else:
            batch = bytearray(HEADER_BYTES) + deflate(b"".join(pieces), self._compression)
        producer_id, producer_epoch = self._producer
        last = blocks[-1]
        header = BatchHeader(
            base_offset=0,
            batch_length=0,
            leader_epoch=-1,
            magic=MAGIC,
            crc=0,
            attributes=COMPRESSIONS.index(self._compression),
            last_offset_delta=last.record_count - 1,
            base_timestamp=self._base_timestamp,
            max_timestamp=last.max_timestamp,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=self._base_sequence,
            record_count=last.record_count,
        )
        seal(batch, header)
        return batch

    # -- some records ----------------------------------------------------------------------------

    def _base_from(self, timestamp: int) -> int:
        """The timestamp that all others count from: the first record's."""
        if not self._blocks:
            self._base_timestamp = timestamp
        return self._base_timestamp

    def _fits(self, size_bytes: int, index: int) -> bool:
        return index < BULK_RECORDS_MAX and self.size() + size_bytes < self._bytes_max

    def _add(
        self, pieces: Sequence[bytes | bytearray], size_bytes: int, record_count: int, timestamp: int
    ) -> None:
        max_timestamp = max(timestamp, self._blocks[-1].max_timestamp) if self._blocks else timestamp
        self._blocks.append(_Block(pieces, record_count, self.size() + size_bytes, max_timestamp))

    def _take(self, index: int, delta_bytes: int, timestamp: int, values: Sequence[Any]) -> int:
        """As many of a block as fit, whose offset deltas take so many bytes each."""
        if set(map(type, values)) != _BYTES_ALONE:
            return self._take_each(index, timestamp, values)
        heads = _heads(delta_bytes, timestamp - self._base_from(timestamp))
        alike = len(set(map(len, values))) == 1
        room_bytes = self._bytes_max - self.size()
        count = heads.count_alike(room_bytes, values) if alike else heads.count_any(room_bytes, values)
        # The first record of a batch always fits.
        values = values[: max(count, 0 if index else 1)]
        if not values:
            return 0
        place = index - _BANDS[delta_bytes - 1]
        pieces = heads.join_alike(place, values) if alike else heads.join_any(place, values)
        self._add(pieces, sum(map(len, pieces)), index + len(values), timestamp)
        return len(values)

    def _take_each(self, index: int, timestamp: int, values: Sequence[Any]) -> int:
        for taken, value in enumerate(values):
            try:
                if self.append(index + taken, timestamp, None, value, []) is None:
                    return taken
            except (TypeError, BufferError):
                return taken
        return len(values)


def _block_records(value: Any) -> int:
    """How many records are put together at a time where the first has this value."""
    if type(value) is not bytes or len(value) * BLOCK_RECORDS_MAX <= BLOCK_BYTES:
        return BLOCK_RECORDS_MAX
    return max(BLOCK_BYTES // len(value), BLOCK_RECORDS_MIN)


def _field(data: bytes | None) -> bytes:
    """A key or a value with its length before it."""
    if data is None:
        return _NULL
    if type(data) is not bytes:
        data = bytes(memoryview(data))
    return varint(len(data)) + data


def _header_bytes(headers: Headers) -> bytes:
    fields = [varint(len(headers))]
    for name, value in headers:
        fields += (_field(name.encode()), _field(value))
    return b"".join(fields)

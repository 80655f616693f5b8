"""What consumers of the classic protocol tell their leader, and what it tells them: Kafka's bytes.

::

    Subscription = version:i16 topics:[string] user_data:bytes ...    (later versions add fields behind)
    Assignment   = version:i16 [topic:string partitions:[i32]] user_data:bytes
    [x] = count:i32 x*    string = length:i16 UTF-8    bytes = length:i32 raw, -1 for null

The coordinator needs none of it to do its work; it reads it to say who reads what. What cannot be read is
taken for nothing: these bytes are the members' own affair.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from actors.assignment import NO_PARTITIONS, PartitionSet

PROTOCOL_TYPE = "consumer"
"""Of groups whose members speak it."""
PARTITIONS_MAX = 100_000
"""Of one assignment; more are taken for none."""

_I16, _I32 = struct.Struct(">h"), struct.Struct(">i")


class _Reader:
    """Raises struct.error or ValueError for what is too short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def i16(self) -> int:
        (value,) = _I16.unpack_from(self._data, self._position)
        self._position += _I16.size
        return int(value)

    def i32(self) -> int:
        (value,) = _I32.unpack_from(self._data, self._position)
        self._position += _I32.size
        return int(value)

    def count(self, item_bytes_min: int) -> int:
        """How many items follow: never more than could."""
        count = self.i32()
        if not 0 <= count <= (len(self._data) - self._position) // item_bytes_min:
            raise ValueError(f"{count} items cannot follow")
        return count

    def string(self) -> str:
        size = self.i16()
        end = self._position + size
        if size < 0 or end > len(self._data):
            raise ValueError(f"a string of {size} bytes cannot follow")
        text, self._position = self._data[self._position : end].decode(), end
        return text


def subscribed_topics(metadata: bytes) -> tuple[str, ...]:
    """The topics that a member names in its subscription, in order."""
    reader = _Reader(metadata)
    try:
        reader.i16()
        return tuple(sorted({reader.string() for _ in range(reader.count(_I16.size))}))
    except (struct.error, ValueError):
        return ()


def reads_the_same(protocol_type: str, before: bytes, after: bytes) -> bool:
    """Whether two subscriptions of one member want the same; of other types than consumers that is not known.

    The bytes need not be equal: what the member held when it joined may stand in them too.
    """
    if before == after or protocol_type != PROTOCOL_TYPE:
        return True
    return subscribed_topics(before) == subscribed_topics(after)


def assigned_partitions(assignment: bytes) -> PartitionSet:
    """The partitions that the leader gave a member."""
    reader = _Reader(assignment)
    found: set[tuple[str, int]] = set()
    try:
        reader.i16()
        for _ in range(reader.count(_I16.size + _I32.size)):
            topic = reader.string()
            found.update((topic, reader.i32()) for _ in range(reader.count(_I32.size)))
            if len(found) > PARTITIONS_MAX:
                return NO_PARTITIONS
    except (struct.error, ValueError):
        return NO_PARTITIONS
    return frozenset(found)


def subscription(topics: Iterable[str]) -> bytes:
    """The bytes that ``subscribed_topics`` reads, in version 0."""
    names = [_string(topic) for topic in topics]
    return b"".join([_I16.pack(0), _I32.pack(len(names)), *names, _I32.pack(-1)])


def assignment(topics: dict[str, list[int]]) -> bytes:
    """The bytes that ``assigned_partitions`` reads, in version 0."""
    parts = [_I16.pack(0), _I32.pack(len(topics))]
    for topic, numbers in topics.items():
        parts += [_string(topic), _I32.pack(len(numbers)), *map(_I32.pack, numbers)]
    return b"".join([*parts, _I32.pack(-1)])


def _string(text: str) -> bytes:
    raw = text.encode()
    return _I16.pack(len(raw)) + raw

"""What carries the load, by hand: the request to produce, and the responses to produce and to fetch.

The batches of a request are views of its frame. A fetch response is a list of buffers, in which the
batches stand as the partition sent them, uncopied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from odradek.protocol.batch import Buffer
from transport.kafka.decoding import ITEMS_MAX, Unreadable, too_many_items
from transport.kafka.encoding import write_unsigned_varint

_HEAD = struct.Struct(">ii")
_ACKS = struct.Struct(">hii")
_COUNT = struct.Struct(">i")
_NAME = struct.Struct(">h")
_NO_THROTTLE = _COUNT.pack(0)
_RESPONSE_HEAD = struct.Struct(">iii")
_PRODUCED_FIELDS = ("index", "error_code", "base_offset", "log_append_time", "log_start_offset")
_PRODUCED_UNSTAMPED = struct.Struct(">ihq").pack, itemgetter(*_PRODUCED_FIELDS[:3])
_PRODUCED_STAMPED = struct.Struct(">ihqq").pack, itemgetter(*_PRODUCED_FIELDS[:4])
_PRODUCED = struct.Struct(">ihqqq").pack, itemgetter(*_PRODUCED_FIELDS)
_OFFSET = struct.Struct(">q")
_FETCHED = struct.Struct(">ihqq")
_SESSION = struct.Struct(">hi")

APPEND_TIME_VERSION = 2
SESSION_VERSION = 7
LOG_START_VERSION = 5
REPLICA_VERSION = 11
FLEXIBLE_VERSION = 12
_NO_REPLICA = -1


def encode_produce_response(version: int, correlation_id: int, body: Mapping[str, Any]) -> bytearray:
    """Versions 0 to 7."""
    topics = body["responses"]
    out = bytearray(_RESPONSE_HEAD.pack(0, correlation_id, len(topics)))
    pack, fields = _produced_form(version)
    for topic in topics:
        name = topic["name"].encode()
        out += _NAME.pack(len(name))
        out += name
        partitions = topic["partition_responses"]
        out += _COUNT.pack(len(partitions))
        for partition in partitions:
            out += pack(*fields(partition))
    if version >= 1:
        out += _NO_THROTTLE
    _COUNT.pack_into(out, 0, len(out) - _COUNT.size)
    return out


def _produced_form(version: int) -> tuple[Callable[..., bytes], Callable[[Mapping[str, Any]], Any]]:
    """What packs the fields of a partition, and what takes them out of its body."""
    if version >= LOG_START_VERSION:
        return _PRODUCED
    return _PRODUCED_STAMPED if version >= APPEND_TIME_VERSION else _PRODUCED_UNSTAMPED


def encode_fetch_response(version: int, correlation_id: int, body: Mapping[str, Any]) -> list[Buffer]:
    """Versions 4 to 12. Each partition's ``records`` is a sequence of buffers."""
    flexible = version >= FLEXIBLE_VERSION
    first = out = bytearray(_HEAD.size)
    buffers: list[Buffer] = [first]
    if flexible:
        out.append(0)
    out += _COUNT.pack(0)
    if version >= SESSION_VERSION:
        out += _SESSION.pack(body.get("error_code", 0), body.get("session_id", 0))
    topics = body["responses"]
    _write_count(out, len(topics), flexible=flexible)
    for topic in topics:
        _write_name(out, topic["topic"], flexible=flexible)
        _write_count(out, len(topic["partitions"]), flexible=flexible)
        for partition in topic["partitions"]:
            _write_partition(out, partition, version)
            records: Sequence[Buffer] = partition["records"]
            size_bytes = sum(map(len, records))
            _write_count(out, size_bytes, flexible=flexible)
            if size_bytes:
                out = bytearray()
                buffers += [*records, out]
            if flexible:
                out.append(0)
        if flexible:
            out.append(0)
    if flexible:
        out.append(0)
    _HEAD.pack_into(first, 0, sum(map(len, buffers)) - _COUNT.size, correlation_id)
    return [buffer for buffer in buffers if len(buffer)]


def _write_partition(out: bytearray, partition: Mapping[str, Any], version: int) -> None:
    high_watermark = partition["high_watermark"]
    out += _FETCHED.pack(
        partition["partition_index"], partition["error_code"], high_watermark, high_watermark
    )
    if version >= LOG_START_VERSION:
        out += _OFFSET.pack(partition["log_start_offset"])
    # No transaction was ever aborted here: null.
    if version >= FLEXIBLE_VERSION:
        out.append(0)
    else:
        out += _COUNT.pack(-1)
    if version >= REPLICA_VERSION:
        out += _COUNT.pack(_NO_REPLICA)


def _write_count(out: bytearray, count: int, *, flexible: bool) -> None:
    if flexible:
        write_unsigned_varint(out, count + 1)
    else:
        out += _COUNT.pack(count)


def _write_name(out: bytearray, name: str, *, flexible: bool) -> None:
    encoded = name.encode()
    if flexible:
        write_unsigned_varint(out, len(encoded) + 1)
    else:
        out += _NAME.pack(len(encoded))
    out += encoded


# -- the request that carries the load -----------------------------------------------------------------


class ProducePartition(msgspec.Struct, frozen=True):
    """What one partition is to write. ``records`` is a view of the frame."""

    index: int
    records: Buffer | None


class ProduceTopic(msgspec.Struct, frozen=True):
    """What the partitions of one topic are to write."""

    name: str
    partition_data: list[ProducePartition]


class ProduceRequest(msgspec.Struct, frozen=True):
    """As kio has it, but that the time is a number."""

    transactional_id: str | None
    acks: int
    timeout_ms: int
    topic_data: list[ProduceTopic]


def read_produce_request(frame: memoryview, position: int) -> tuple[ProduceRequest, int]:
    """Versions 3 to 7, and the position behind. Raises Unreadable."""
    transactional_id, position = _read_name(frame, position)
    acks, timeout_ms, topic_count = _ACKS.unpack_from(frame, position)
    position += _ACKS.size
    items = topic_count
    topics: list[ProduceTopic] = []
    for _ in range(topic_count):
        name, position = _read_name(frame, position)
        if name is None:
            raise Unreadable("a topic without a name")
        (count,) = _COUNT.unpack_from(frame, position)
        items += max(count, 0)
        if items > ITEMS_MAX:
            raise too_many_items()
        partitions, position = _read_partitions(frame, position + _COUNT.size, count)
        topics.append(ProduceTopic(name, partitions))
    return ProduceRequest(transactional_id, acks, timeout_ms, topics), position


def _read_partitions(frame: memoryview, position: int, count: int) -> tuple[list[ProducePartition], int]:
    partitions: list[ProducePartition] = []
    for _ in range(count):
        index, size = _HEAD.unpack_from(frame, position)
        position += _HEAD.size
        records = None
        if size >= 0:
            records = frame[position : position + size]
            position += size
            if position > len(frame):
                raise Unreadable(f"a batch is said to have {size} bytes, which do not follow")
        partitions.append(ProducePartition(index, records))
    return partitions, position


def _read_name(frame: memoryview, position: int) -> tuple[str | None, int]:
    (size,) = _NAME.unpack_from(frame, position)
    position += _NAME.size
    if size < 0:
        return None, position
    end = position + size
    if end > len(frame):
        raise Unreadable(f"a name is said to have {size} bytes, which do not follow")
    return str(frame[position:end], "utf-8"), end

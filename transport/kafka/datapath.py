"""What carries the load, by hand: the request to produce, and the responses to produce and to fetch.

The batches of a request are views of its frame. A fetch response is a list of buffers, in which the
batches stand as the partition sent them, uncopied.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from odradek.protocol.batch import Buffer
from transport.kafka.decoding import Unreadable, take_items
from transport.kafka.encoding import write_unsigned_varint

_HEAD = struct.Struct(">ii")
_ACKS = struct.Struct(">hii")
_COUNT = struct.Struct(">i")
_NAME = struct.Struct(">h")
_PRODUCED = struct.Struct(">ihq")
_OFFSET = struct.Struct(">q")
_FETCHED = struct.Struct(">ihqq")
_SESSION = struct.Struct(">hi")

SESSION_VERSION = 7
LOG_START_VERSION = 5
REPLICA_VERSION = 11
FLEXIBLE_VERSION = 12
_NO_REPLICA = -1


def encode_produce_response(version: int, correlation_id: int, body: Mapping[str, Any]) -> bytearray:
    """Versions 0 to 7."""
    out = bytearray(_HEAD.size)
    topics = body["responses"]
    out += _COUNT.pack(len(topics))
    for topic in topics:
        name = topic["name"].encode()
        out += _NAME.pack(len(name))
        out += name
        partitions = topic["partition_responses"]
        out += _COUNT.pack(len(partitions))
        for partition in partitions:
            out += _PRODUCED.pack(partition["index"], partition["error_code"], partition["base_offset"])
            if version >= 2:
                out += _OFFSET.pack(partition["log_append_time"])
            if version >= LOG_START_VERSION:
                out += _OFFSET.pack(partition["log_start_offset"])
    if version >= 1:
        out += _COUNT.pack(0)
    _HEAD.pack_into(out, 0, len(out) - _COUNT.size, correlation_id)
    return out


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


def read_produce_request(frame: memoryview, position: int) -> tuple[Any, int]:
    """Versions 3 to 7, and the position behind. The records are views of the frame. Raises Unreadable."""
    transactional_id, position = _read_name(frame, position)
    acks, timeout_ms, count = _ACKS.unpack_from(frame, position)
    position += _ACKS.size
    take_items(max(count, 0))
    topics = []
    for _ in range(count):
        name, position = _read_name(frame, position)
        if name is None:
            raise Unreadable("a topic without a name")
        (partition_count,) = _COUNT.unpack_from(frame, position)
        position += _COUNT.size
        take_items(max(partition_count, 0))
        partitions = []
        for _ in range(partition_count):
            index, size = _HEAD.unpack_from(frame, position)
            position += _HEAD.size
            records = None
            if size >= 0:
                records = frame[position : position + size]
                position += size
                if position > len(frame):
                    raise Unreadable(f"a batch is said to have {size} bytes, which do not follow")
            partitions.append(SimpleNamespace(index=index, records=records))
        topics.append(SimpleNamespace(name=name, partition_data=partitions))
    timeout = timedelta(milliseconds=timeout_ms)
    body = SimpleNamespace(transactional_id=transactional_id, acks=acks, timeout=timeout, topic_data=topics)
    return body, position


def _read_name(frame: memoryview, position: int) -> tuple[str | None, int]:
    (size,) = _NAME.unpack_from(frame, position)
    position += _NAME.size
    if size < 0:
        return None, position
    end = position + size
    if end > len(frame):
        raise Unreadable(f"a name is said to have {size} bytes, which do not follow")
    return str(frame[position:end], "utf-8"), end

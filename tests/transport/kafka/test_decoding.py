"""Reading requests: as kio reads what says no more than we know, as Kafka the rest, and lies not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
from datetime import timedelta
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.index import load_request_schema
from kio.serial import entity_reader as kio_reader

from actors.kafka.registry import SERVED
from tests.support.kafka import request_frame
from transport.kafka.codec import RequestRefused, read_request
from transport.kafka.decoding import ITEMS_MAX, Unreadable, begin_request, entity_reader
from transport.kafka.encoding import entity_encoder

READABLE = [
    (key, version)
    for key, (low, high) in SERVED.items()
    for version in range(low, high + 1)
    if key != 0 or version >= 3
]
ERRORS = (Unreadable, ValueError, IndexError, OverflowError, struct.error)
FLAGS = {"include_cluster_authorized_operations": False, "include_topic_authorized_operations": False}
PLAIN = {
    "bool": True,
    "int8": 2,
    "int16": 300,
    "int32": 70_000,
    "int64": 2**40,
    "timedelta_i32": 1_500,
    "timedelta_i64": 2_500,
    "error_code": 3,
    "uuid": bytes(range(16)),
    "string": "größe",
    "bytes": b"\0\xff",
    "records": b"\0\xff",
}


def filled(schema: Any) -> dict[str, Any]:
    """A body of the message with something in every field."""
    hints = get_type_hints(schema)
    return {field.name: _value(field, hints[field.name]) for field in dataclasses.fields(schema)}


def _value(field: dataclasses.Field[Any], kind: Any) -> Any:
    for each in (kind, *get_args(kind)):
        items = get_args(each)
        if items and items[-1] is Ellipsis:
            item = items[0]
            return (
                [filled(item)] * 2
                if dataclasses.is_dataclass(item)
                else [PLAIN[field.metadata["kafka_type"]]]
            )
        if dataclasses.is_dataclass(each):
            return filled(each)
    return PLAIN[field.metadata["kafka_type"]]


@pytest.fixture(autouse=True)
def _request() -> None:
    begin_request()


@pytest.mark.parametrize(("key", "version"), READABLE)
def test_what_kio_reads_is_read_alike(key: int, version: int) -> None:
    schema: Any = load_request_schema(key, version)
    out = bytearray()
    entity_encoder(schema)(out, filled(schema))
    frame = memoryview(bytes(out))
    expected, size = kio_reader(schema)(frame, 0)
    read, position = entity_reader(schema)(frame, 0)
    assert position == size == len(frame)
    assert_alike(read, expected)


def assert_alike(read: Any, expected: Any) -> None:
    """A named tuple is like kio's object: the same fields, the same values, of the same types."""
    if dataclasses.is_dataclass(expected):
        assert set(read._fields) == {field.name for field in dataclasses.fields(expected)}
        for name in read._fields:
            assert_alike(getattr(read, name), getattr(expected, name))
    elif isinstance(expected, tuple):
        assert len(read) == len(expected)
        for mine, theirs in zip(read, expected, strict=True):
            assert_alike(mine, theirs)
    else:
        assert read == expected


@pytest.mark.parametrize(("key", "version"), READABLE)
def test_no_message_ends_too_early_or_lies_about_its_lists(key: int, version: int) -> None:
    """Each prefix of a message, and each of its bytes made as large as it can be: an error, or other values.

    kio's own reader ends the process for some of these.
    """
    schema: Any = load_request_schema(key, version)
    out = bytearray()
    entity_encoder(schema)(out, filled(schema))
    reader = entity_reader(schema)
    for place in range(len(out)):
        with contextlib.suppress(*ERRORS):
            reader(memoryview(bytes(out[:place])), 0)
            pytest.fail(f"{place} of {len(out)} bytes are a message")
        for size in (1, 4, 5):
            lie = bytes(out[:place]) + b"\xff" * (size - 1) + b"\x7f" + bytes(out[place + size :])
            with contextlib.suppress(*ERRORS):
                reader(memoryview(lie), 0)


def test_all_topics_as_librdkafka_asks_for_them() -> None:
    """Byte for byte what librdkafka 2.16 sends for list_topics()."""
    frame = bytes.fromhex("0003000900000003000772646b61666b6100" + "0000000001000000")
    body = read_request(frame, SERVED).body
    assert (body.topics, body.allow_auto_topic_creation) == (None, False)


def test_unknown_tags_are_skipped_at_every_depth() -> None:
    metadata = request_frame(3, 9, 1, {"topics": [{"name": "t"}], "allow_auto_topic_creation": True} | FLAGS)
    assert metadata.endswith(b"\x02\x02t\x00\x01\x00\x00\x00")
    more = metadata[:-8] + b"\x02\x02t" + b"\x01\x07\x03abc" + b"\x01\x00\x00" + b"\x02\x05\x00\x09\x01x"
    body = read_request(more, SERVED).body
    assert [topic.name for topic in body.topics] == ["t"] and body.allow_auto_topic_creation


def test_what_follows_behind_a_request_without_tags_is_refused() -> None:
    """Such a version cannot say more: it is another message, or none."""
    frame = request_frame(3, 8, 1, {"topics": None, "allow_auto_topic_creation": True} | FLAGS)
    with pytest.raises(RequestRefused, match="1 bytes follow"):
        read_request(frame + b"\0", SERVED)


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\x00\x00\x00\x01\x00\x20",  # a tag longer than what follows
        b"\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff",  # a varint without an end
        b"\x00\x00\x00\x00\xff\x7f",  # more tags than there can be
        b"\xff\xff\xff\xff\x0f\x00\x00\x00\x01\x00\x00",  # more topics than bytes
        b"\x02\x00\x00\x00\x00\x00\x01\x00\x00",  # a topic without a name
        b"\x02\x7ft\x00\x00\x00\x00\x01\x00\x00",  # a name longer than what follows
        b"\x02\x02\xff\x00\x00\x00\x00\x01\x00\x00",  # a name that is no text
        b"",
    ],
)
def test_lies_are_refused(body: bytes) -> None:
    header = bytes.fromhex("0003000900000003000772646b61666b6100")
    with pytest.raises(RequestRefused):
        read_request(header + body, SERVED)


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_read_or_fail(raw: bytes) -> None:
    for key, version in ((3, 9), (19, 7), (11, 6), (1, 12), (0, 7)):
        begin_request()
        with contextlib.suppress(*ERRORS):
            _, position = entity_reader(load_request_schema(key, version))(memoryview(raw), 0)
            assert 0 < position <= len(raw)


def test_a_request_has_so_many_items_and_no_more() -> None:
    """Without a bound, 64 MiB of the smallest items would keep a gateway busy for half a minute."""

    def request(topics: int) -> bytes:
        names = [{"name": "t"}] * topics
        return request_frame(3, 9, 1, {"topics": names, "allow_auto_topic_creation": False} | FLAGS)

    for _ in range(2):  # each request has its own
        assert len(read_request(request(ITEMS_MAX), SERVED).body.topics) == ITEMS_MAX
    with pytest.raises(RequestRefused, match="more than 200000 items"):
        read_request(request(ITEMS_MAX + 1), SERVED)
    parts = [{"index": 0, "records": None}] * (ITEMS_MAX // 2)
    nested = [{"name": "t", "partition_data": parts}] * 2
    body = {"transactional_id": None, "acks": 1, "timeout": 1, "topic_data": nested}
    with pytest.raises(RequestRefused, match="more than 200000 items"):
        read_request(request_frame(0, 7, 1, body), SERVED)


def test_times_are_times() -> None:
    frame = request_frame(19, 7, 1, {"topics": [], "timeout": 1_500, "validate_only": False})
    assert read_request(frame[:-1] + b"\x01\x63\x00", SERVED).body.timeout == timedelta(milliseconds=1_500)

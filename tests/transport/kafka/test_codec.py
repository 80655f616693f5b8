"""Requests out of bytes: every version of every API, and bytes that are none."""

from __future__ import annotations

import contextlib
import struct
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio.index import load_request_schema
from kio.serial import entity_reader as kio_entity_reader

from actors.kafka.registry import SERVED
from tests.support.batches import make_batch
from tests.support.kafka import fetch_body, produce_body, read_response, request_frame
from transport.kafka.codec import RequestRefused, encode_response, read_request

HEADER = struct.Struct(">hhi")
INT32 = st.integers(-(2**31), 2**31 - 1)


def test_a_request_is_read_with_its_header() -> None:
    batch = make_batch(3)
    request = read_request(request_frame(0, 7, 42, produce_body({("t", 1): batch})), SERVED)
    header = request.header
    assert (header.api_key, header.version, header.correlation_id, request.client_id) == (0, 7, 42, "test")
    (topic,) = request.body.topic_data
    assert (topic.name, topic.partition_data[0].index, topic.partition_data[0].records) == ("t", 1, batch)


@pytest.mark.parametrize("client_id", [None, "", "ä"])
def test_any_client_id(client_id: str | None) -> None:
    frame = bytearray(HEADER.pack(3, 0, 1))
    encoded = (client_id or "").encode()
    frame += struct.pack(">h", -1 if client_id is None else len(encoded)) + encoded + struct.pack(">i", 0)
    assert read_request(bytes(frame), SERVED).client_id == (client_id or "")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_old_produce_is_read_so_that_it_can_be_refused_in_its_own_words(version: int) -> None:
    frame = request_frame(0, version, 1, produce_body({("t", 0): b"old format"}))
    assert read_request(frame, SERVED).body.topic_data[0].name == "t"
    response = {
        "name": "t",
        "partition_responses": [
            {"index": 0, "error_code": 35, "base_offset": -1, "log_append_time": -1, "log_start_offset": -1}
        ],
    }
    (encoded,) = encode_response(0, version, 9, {"responses": [response]})
    expected = struct.pack(">ii", 9, 1) + b"\0\1t" + struct.pack(">iihq", 1, 0, 35, -1)
    expected += struct.pack(">q", -1) if version >= 2 else b""
    expected += struct.pack(">i", 0) if version >= 1 else b""
    assert bytes(encoded)[4:] == expected


def test_a_version_of_api_versions_that_nobody_knows_is_answered_in_version_0() -> None:
    request = read_request(HEADER.pack(18, 99, 5) + b"\0\0 whatever", SERVED)
    assert (request.header.version, request.header.correlation_id, request.body) == (0, 5, None)


@pytest.mark.parametrize(
    ("api_key", "version"), [(0, 8), (1, 3), (1, 13), (3, 10), (18_000, 0), (-1, 0), (4, 0), (24, 0), (3, -1)]
)
def test_what_is_not_served_is_refused(api_key: int, version: int) -> None:
    with pytest.raises(RequestRefused, match=f"api key {api_key} version {version} is not served"):
        read_request(HEADER.pack(api_key, version, 1) + b"\xff\xff", SERVED)


@given(
    api_key=st.sampled_from(sorted(SERVED)),
    version=st.integers(0, 12),
    rest=st.binary(max_size=200),
)
def test_no_bytes_do_more_than_be_refused(api_key: int, version: int, rest: bytes) -> None:
    with contextlib.suppress(RequestRefused):
        read_request(HEADER.pack(api_key, version, 1) + rest, SERVED)


@given(st.data())
def test_a_changed_request_is_read_or_refused(data: st.DataObject) -> None:
    version = data.draw(st.integers(4, 12))
    frame = bytearray(request_frame(1, version, 1, fetch_body([("topic", 0, 5), ("topic", 1, 6)])))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(8, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RequestRefused):
        read_request(bytes(frame), SERVED)


@pytest.mark.parametrize("version", [0, 4, 9])
def test_an_array_that_claims_to_be_endless_takes_no_memory(version: int) -> None:
    claim = b"\xff\xff\xff\xff\x07" if version == 9 else struct.pack(">i", 2**31 - 1)
    frame = HEADER.pack(3, version, 1) + b"\xff\xff" + (b"\0" if version == 9 else b"") + claim
    with pytest.raises(RequestRefused):
        read_request(frame, SERVED)


def test_bytes_behind_the_body_are_refused_where_there_can_be_none() -> None:
    frame = request_frame(1, 11, 1, fetch_body([("t", 0, 0)]))
    read_request(frame, SERVED)
    with pytest.raises(RequestRefused, match="1 bytes follow"):
        read_request(frame + b"\0", SERVED)


def test_bytes_behind_the_tags_are_not_looked_at_as_in_kafka() -> None:
    frame = request_frame(1, 12, 1, fetch_body([("t", 0, 0)]))
    assert read_request(frame + b"\0", SERVED).body == read_request(frame, SERVED).body


@pytest.mark.parametrize("version", range(4, 13))
def test_a_fetch_answer_carries_the_batches_uncopied_in_every_version(version: int) -> None:
    first, second = make_batch(2, payload=b"a" * 90), make_batch(1, payload=b"b" * 300)
    partitions = [
        {
            "error_code": 0,
            "high_watermark": 9,
            "log_start_offset": 2,
            "partition_index": 0,
            "records": (first,),
        },
        {"error_code": 1, "high_watermark": -1, "log_start_offset": -1, "partition_index": 3, "records": ()},
        {
            "error_code": 0,
            "high_watermark": 7,
            "log_start_offset": 0,
            "partition_index": 4,
            "records": (first, second),
        },
    ]
    body = {"responses": [{"topic": "t", "partitions": partitions}, {"topic": "empty", "partitions": []}]}
    parts = encode_response(1, version, 77, body)
    assert sum(part is first for part in parts) == 2
    assert any(part is second for part in parts)
    encoded = b"".join(map(bytes, parts))
    assert struct.unpack_from(">i", encoded)[0] == len(encoded) - 4
    correlation_id, response = read_response(1, version, encoded[4:])
    assert correlation_id == 77
    topic, empty = response.responses
    assert (empty.topic, empty.partitions) == ("empty", ())
    read: list[Any] = list(topic.partitions)
    assert [bytes(each.records or b"") for each in read] == [first, b"", first + second]
    assert [each.error_code.value for each in read] == [0, 1, 0]
    assert [each.high_watermark for each in read] == [each.last_stable_offset for each in read] == [9, -1, 7]
    if version >= 5:
        assert [each.log_start_offset for each in read] == [2, -1, 0]


@pytest.mark.parametrize("version", range(3, 8))
def test_a_produce_answer_in_every_version(version: int) -> None:
    partition = {"index": 3, "error_code": 10, "base_offset": 5, "log_append_time": 77, "log_start_offset": 2}
    body = {"responses": [{"name": "t", "partition_responses": [partition]}]}
    (encoded,) = encode_response(0, version, 1, body)
    _, response = read_response(0, version, bytes(encoded)[4:])
    (read,) = response.responses[0].partition_responses
    assert (read.index, read.error_code.value, read.base_offset) == (3, 10, 5)
    assert round(read.log_append_time.timestamp() * 1000) == 77
    assert version < 5 or read.log_start_offset == 2


@pytest.mark.parametrize("version", range(3, 8))
@given(
    topics=st.lists(
        st.tuples(
            st.text(max_size=20),
            st.lists(
                st.tuples(st.integers(-(2**31), 2**31 - 1), st.none() | st.binary(max_size=60)), max_size=3
            ),
        ),
        max_size=3,
    ),
    acks=st.integers(-(2**15), 2**15 - 1),
    timeout_ms=st.integers(-(2**31), 2**31 - 1),
    transactional_id=st.none() | st.text(max_size=9),
)
def test_a_produce_request_is_what_kio_reads(
    version: int, topics: list[Any], acks: int, timeout_ms: int, transactional_id: str | None
) -> None:
    body = {
        "transactional_id": transactional_id,
        "acks": acks,
        "timeout": timeout_ms,
        "topic_data": [
            {"name": name, "partition_data": [{"index": index, "records": data} for index, data in parts]}
            for name, parts in topics
        ],
    }
    frame = request_frame(0, version, 1, body)
    ours = read_request(frame, SERVED).body
    schema: Any = load_request_schema(0, version)
    theirs, _ = kio_entity_reader(schema)(memoryview(frame), frame.index(b"test") + 4)
    assert (ours.transactional_id, ours.acks) == (theirs.transactional_id, theirs.acks)
    assert timedelta(milliseconds=ours.timeout_ms) == theirs.timeout
    assert [_plain(topic) for topic in ours.topic_data] == [_plain(topic) for topic in theirs.topic_data]


def _plain(topic: Any) -> tuple[str, list[tuple[int, bytes | None]]]:
    return topic.name, [
        (part.index, None if part.records is None else bytes(part.records)) for part in topic.partition_data
    ]


@given(st.data())
def test_a_changed_produce_request_is_read_or_refused(data: st.DataObject) -> None:
    frame = bytearray(request_frame(0, 7, 1, produce_body({("topic", 0): make_batch(), ("t", 1): None})))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(8, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RequestRefused):
        read_request(bytes(frame), SERVED)


def test_a_produce_request_that_claims_more_than_it_has_is_refused() -> None:
    frame = request_frame(0, 7, 1, produce_body({("topic", 0): make_batch()}))
    for cut in range(len(frame) - 60, len(frame)):
        with pytest.raises(RequestRefused):
            read_request(frame[:cut], SERVED)
    claims = HEADER.pack(0, 7, 1) + struct.pack(">hhhii", -1, -1, -1, 1000, 2**31 - 1)
    with pytest.raises(RequestRefused):
        read_request(claims, SERVED)

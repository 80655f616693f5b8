"""The wire contract of `fetch`, `list_offsets` and `delete_records`, through the router and directly."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.rawclient import (
    ENCODINGS,
    INVALID_REQUEST,
    OFFSET_OUT_OF_RANGE,
    SOCKETS,
    UNKNOWN_TOPIC_OR_PARTITION,
    EncodingName,
    RawClient,
    RawRecord,
    Served,
    SocketName,
    decode_batches,
    encode_batch,
    fetched_records,
    serve,
)

pytestmark = pytest.mark.processes

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def broker() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture(params=ENCODINGS)
def client(broker: Served, request: pytest.FixtureRequest) -> Iterator[RawClient]:
    with broker.client(request.param) as connected:
        yield connected


@pytest.fixture(scope="module")
def new_topic(broker: Served) -> Callable[[], str]:
    """Makes an empty topic of one partition."""
    numbers = itertools.count()

    def create() -> str:
        with broker.client() as client:
            return client.create(f"fetched-{next(numbers)}")

    return create


@pytest.fixture
def empty(new_topic: Callable[[], str]) -> str:
    return new_topic()


@pytest.fixture(scope="module")
def filled(new_topic: Callable[[], str], broker: Served) -> str:
    """Offsets 0 to 29 in three batches of ten records."""
    topic = new_topic()
    with broker.client() as client:
        for first in (0, 10, 20):
            batch = [RawRecord(b"%d" % (first + index) + b"." * 500) for index in range(10)]
            client.produce_batch(topic, encode_batch(batch)).ok()
    return topic


# -- waiting -------------------------------------------------------------------------------------------


def test_an_empty_partition_without_waiting(client: RawClient, empty: str) -> None:
    started_s = time.monotonic()
    reply = client.fetch(empty, 0, max_wait_ms=0).ok()
    assert reply["records"] == [] == reply.payload
    assert (reply["high_watermark"], reply["log_start_offset"]) == (0, 0)
    assert time.monotonic() - started_s < MINUTE_MS / 1000
    batches = client.fetch(empty, 0, max_wait_ms=0, format="batch").ok()
    assert b"".join(batches.payload) == b""


def test_a_fetch_waits_as_long_as_it_is_told(client: RawClient, empty: str) -> None:
    started_s = time.monotonic()
    reply = client.fetch(empty, 0, max_wait_ms=400).ok()
    assert time.monotonic() - started_s >= 0.39
    assert reply["records"] == []


def test_a_fetch_waits_half_a_second_by_default(client: RawClient, empty: str) -> None:
    started_s = time.monotonic()
    client.call("fetch", topic=empty, partition=0, offset=0).ok()
    assert time.monotonic() - started_s >= 0.49


def test_new_data_ends_the_wait_of_everybody(broker: Served, empty: str) -> None:
    with broker.client() as first, broker.client("msgpack") as second, broker.client() as writer:
        for each in (first, first, second):
            each.send("fetch", topic=empty, partition=0, offset=0, max_wait_ms=2 * MINUTE_MS)
        first.send("fetch", topic=empty, partition=0, offset=0, max_wait_ms=2 * MINUTE_MS, format="batch")
        first.ping()
        writer.produce(empty, b"news")
        for reply in [*first.receive_by_id(3).values(), second.receive()]:
            assert b"news" in b"".join(reply.ok().payload)
            assert reply["high_watermark"] == 1


def test_a_fetch_waits_for_min_bytes(broker: Served, empty: str) -> None:
    with broker.client() as reader, broker.client() as writer:
        reader.send("fetch", topic=empty, partition=0, offset=0, min_bytes=5_000, max_wait_ms=2 * MINUTE_MS)
        writer.produce(empty, b"little")
        assert reader_is_parked(reader, empty)
        writer.produce(empty, b"x" * 10_000)
        assert [len(each) for each in reader.receive().ok().payload] == [6, 10_000]


def reader_is_parked(reader: RawClient, topic: str) -> bool:
    """A later request to the same partition is answered, while the fetch before it is not."""
    request = reader.send("list_offsets", topic=topic, partition=0, at="latest")
    return bool(reader.receive().ok()["id"] == request) and not reader.waiting()


def test_when_the_time_is_over_a_fetch_returns_what_is_there(client: RawClient, empty: str) -> None:
    client.produce(empty, b"little")
    started_s = time.monotonic()
    reply = client.fetch(empty, 0, min_bytes=1 << 20, max_wait_ms=300).ok()
    assert time.monotonic() - started_s >= 0.29
    assert reply.payload == [b"little"]


def test_min_bytes_of_nothing_does_not_wait(client: RawClient, empty: str) -> None:
    assert client.fetch(empty, 0, min_bytes=0, max_wait_ms=2 * MINUTE_MS).ok()["records"] == []


def test_a_waiting_client_that_leaves_harms_nobody(broker: Served, empty: str) -> None:
    with broker.client() as reader, broker.client() as other:
        reader.send("fetch", topic=empty, partition=0, offset=0, max_wait_ms=2 * MINUTE_MS)
        reader.ping()
        reader.close()
        other.produce(empty, b"news")
        assert other.fetch(empty).ok().payload == [b"news"]


# -- how much ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_bytes", [0, 1, 61, 100, 5_000])
def test_one_batch_comes_however_small_max_bytes_is(client: RawClient, filled: str, max_bytes: int) -> None:
    reply = client.fetch(filled, 10, max_bytes=max_bytes, format="batch").ok()
    assert [batch.base_offset for batch in decode_batches(b"".join(reply.payload))] == [10]
    records = fetched_records(client.fetch(filled, 10, max_bytes=max_bytes).ok())
    assert records and [each.offset for each in records] == list(range(10, 10 + len(records)))


def test_max_bytes_bounds_what_comes(client: RawClient, filled: str) -> None:
    one = sum(map(len, client.fetch(filled, 0, max_bytes=1, format="batch").ok().payload))
    reply = client.fetch(filled, 0, max_bytes=2 * one + 60, format="batch").ok()
    assert [batch.base_offset for batch in decode_batches(b"".join(reply.payload))] == [0, 10]


@pytest.mark.parametrize("max_bytes", [1, 6_000, 1 << 20])
def test_page_by_page_everything_comes_once(client: RawClient, filled: str, max_bytes: int) -> None:
    found: list[int] = []
    while len(found) < 30:
        page = fetched_records(client.fetch(filled, len(found), max_bytes=max_bytes).ok())
        assert page
        found += [each.offset for each in page]
        assert [each.value for each in page] == [b"%d" % each.offset + b"." * 500 for each in page]
    assert found == list(range(30))


@pytest.mark.parametrize("offset", [0, 1, 7, 9, 10, 15, 29])
def test_a_fetch_from_within_a_batch(client: RawClient, filled: str, offset: int) -> None:
    records = fetched_records(client.fetch(filled, offset).ok())
    assert [each.offset for each in records] == list(range(offset, 30))
    batches = decode_batches(b"".join(client.fetch(filled, offset, format="batch").ok().payload))
    assert batches[0].base_offset == offset // 10 * 10, "the first batch may begin before the offset"
    assert [batch.base_offset for batch in batches] == list(range(offset // 10 * 10, 30, 10))
    assert all(len(batch.records) == 10 for batch in batches)


def test_at_the_end_there_is_nothing_yet(client: RawClient, filled: str) -> None:
    reply = client.fetch(filled, 30).ok()
    assert reply["records"] == [] and reply["high_watermark"] == 30


@pytest.mark.parametrize("offset", [31, 1000, 2**31, 2**62, 2**63 - 1, -1, -2, -(2**63)])
@pytest.mark.parametrize("record_format", ["records", "batch"])
def test_an_offset_outside_the_log_gets_both_ends(
    client: RawClient, filled: str, offset: int, record_format: str
) -> None:
    """At once, whatever it said about waiting."""
    reply = client.fetch(filled, offset, format=record_format, max_wait_ms=2 * MINUTE_MS)
    assert reply.code == OFFSET_OUT_OF_RANGE, reply.header
    assert (reply["high_watermark"], reply["log_start_offset"]) == (30, 0)
    assert reply["error"]["name"] == "OFFSET_OUT_OF_RANGE" and reply.payload == []


def test_a_topic_or_partition_that_is_not_there(client: RawClient, filled: str) -> None:
    for topic, partition in ((filled, 1), (filled, 2**31 - 1), ("nowhere", 0)):
        where = {"topic": topic, "partition": partition}
        for api, fields in (
            ("fetch", {"offset": 0}),
            ("list_offsets", {"at": "latest"}),
            ("delete_records", {"before_offset": 0}),
        ):
            reply = client.call(api, **where, **fields)
            assert reply.code == UNKNOWN_TOPIC_OR_PARTITION, (api, where)
            assert reply["error"]["name"] == "UNKNOWN_TOPIC_OR_PARTITION"
            assert reply["error"]["retriable"] is True


@pytest.mark.parametrize("record_format", ["Records", "batches", "", "avro"])
def test_other_formats_are_refused(client: RawClient, filled: str, record_format: str) -> None:
    reply = client.fetch(filled, 0, format=record_format)
    assert reply.code == INVALID_REQUEST and "format" in reply.message


# -- list_offsets --------------------------------------------------------------------------------------


def listed(client: RawClient, topic: str, at: str | int) -> tuple[int, int]:
    reply = client.call("list_offsets", topic=topic, partition=0, at=at).ok()
    return reply["offset"], reply["timestamp"]


def test_offsets_of_an_empty_partition(client: RawClient, empty: str) -> None:
    assert listed(client, empty, "earliest")[0] == 0
    assert listed(client, empty, "latest")[0] == 0
    assert listed(client, empty, "max_timestamp") == (-1, -1)
    assert listed(client, empty, 0) == (-1, -1)


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_offsets_by_place_and_by_time(client: RawClient, empty: str, in_one_batch: bool) -> None:
    records = [RawRecord(b"v", timestamp=each) for each in (1000, 3000, 2000, 3000, 500)]
    for batch in [records] if in_one_batch else [[each] for each in records]:
        client.produce_batch(empty, encode_batch(batch)).ok()
    assert listed(client, empty, "earliest")[0] == 0
    assert listed(client, empty, "latest")[0] == 5
    assert listed(client, empty, "max_timestamp") == (1, 3000)
    for at, expected in ((0, (0, 1000)), (1000, (0, 1000)), (1001, (1, 3000)), (3000, (1, 3000))):
        assert listed(client, empty, at) == expected, f"the first record that is as late as {at}"
    for at in (3001, 2**40, 2**62):
        assert listed(client, empty, at) == (-1, -1)


@pytest.mark.parametrize("at", ["", "Latest", "newest", "1", None, 1.5, True, [], {}])
def test_other_places_are_refused(client: RawClient, filled: str, at: Any) -> None:
    reply = client.call("list_offsets", topic=filled, partition=0, at=at)
    assert reply.code == INVALID_REQUEST and "at" in reply.message


# -- delete_records ------------------------------------------------------------------------------------


def test_deleted_records_cannot_be_read(client: RawClient, empty: str) -> None:
    client.produce_batch(empty, encode_batch([RawRecord(b"%d" % each) for each in range(10)])).ok()

    def delete(before: int) -> Any:
        return client.call("delete_records", topic=empty, partition=0, before_offset=before)

    assert delete(4).ok()["log_start_offset"] == 4
    reply = client.fetch(empty, 3)
    assert reply.code == OFFSET_OUT_OF_RANGE
    assert (reply["log_start_offset"], reply["high_watermark"]) == (4, 10)
    assert [each.offset for each in client.records(empty, offset=4)] == [4, 5, 6, 7, 8, 9]
    assert client.offset_of(empty, "earliest") == 4
    assert delete(2).ok()["log_start_offset"] == 4, "a start never goes back"
    assert delete(11).code == OFFSET_OUT_OF_RANGE
    assert client.fetch(empty, 4).ok()["log_start_offset"] == 4
    assert delete(10).ok()["log_start_offset"] == 10
    assert client.fetch(empty, 10).ok()["records"] == []
    assert client.produce(empty, b"next")["offset"] == 10


def test_a_time_before_the_start_finds_the_first_record_that_is_left(client: RawClient, empty: str) -> None:
    records = [RawRecord(b"v", timestamp=1000 * each) for each in range(5)]
    client.produce_batch(empty, encode_batch(records)).ok()
    client.call("delete_records", topic=empty, partition=0, before_offset=3).ok()
    assert listed(client, empty, 0) == (3, 3000)


# -- straight to a partition ---------------------------------------------------------------------------


def own_endpoint(client: RawClient, topic: str, partition: int = 0) -> str:
    (row,) = client.call("metadata", topics=[topic]).ok()["topics"]
    return next(
        str(each)
        for found in row["partitions"]
        if found["partition"] == partition
        for each in found["endpoints"]
    )


@pytest.mark.parametrize("socket", SOCKETS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_direct_path_speaks_the_same(
    broker: Served, empty: str, encoding: EncodingName, socket: SocketName
) -> None:
    with broker.client() as router:
        endpoint = own_endpoint(router, empty)
        with RawClient(endpoint, encoding=encoding, socket=socket) as direct:
            batch = encode_batch([RawRecord(b"%d" % each, b"\xff") for each in range(5)])
            reply = direct.produce_batch(empty, batch).ok()
            assert (reply["partition"], reply["offset"], reply["count"]) == (0, 0, 5)
            fetched = direct.fetch(empty, 2, format="batch").ok()
            assert b"".join(fetched.payload)[16:] == batch[16:]
            assert (fetched["high_watermark"], fetched["log_start_offset"]) == (5, 0)
            records = fetched_records(direct.fetch(empty, 2).ok())
            assert [each.value for each in records] == [b"2", b"3", b"4"]
            assert {each.key for each in records} == {b"\xff"}
            assert direct.offset_of(empty, "latest") == 5
            assert direct.fetch(empty, 99).code == OFFSET_OUT_OF_RANGE
            damaged = batch[:-1] + b"!"
            assert direct.produce_batch(empty, damaged).code == 2
        assert [each.value for each in router.records(empty)] == [b"0", b"1", b"2", b"3", b"4"]


def test_on_the_direct_path_without_acks_there_is_no_reply_either(broker: Served, empty: str) -> None:
    with broker.client() as router, RawClient(own_endpoint(router, empty)) as direct:
        batch = encode_batch([RawRecord(b"v")])
        for _ in range(3):
            direct.send("produce", batch, topic=empty, partition=0, format="batch", acks=0)
        assert direct.produce_batch(empty, batch).ok()["offset"] == 3
        assert not direct.waiting()


def test_a_partition_answers_for_nobody_else(broker: Served, empty: str, filled: str) -> None:
    """Whatever a partition does not serve gets an error, and is not written where it does not belong."""
    with broker.client() as router, RawClient(own_endpoint(router, empty)) as direct:
        batch = encode_batch([RawRecord(b"v")])
        assert direct.produce_batch(filled, batch).code is not None
        assert direct.produce_batch(empty, batch, 1).code is not None
        assert direct.fetch(filled, 0).code is not None
        assert direct.fetch(empty, 0, 1).code is not None
        assert direct.call("list_offsets", topic=filled, partition=0, at="latest").code is not None
        for api in ("no such", "create_topics", "status", "group_list"):
            assert direct.call(api, topics=[]).code is not None, api
        assert direct.offset_of(empty, "latest") == 0
        assert router.offset_of(filled, "latest") == 30


def test_the_direct_path_takes_bad_input_as_calmly(broker: Served, empty: str) -> None:
    with broker.client() as router, RawClient(own_endpoint(router, empty)) as direct:
        for frames in ((b"",), (b"{",), (b"\xc1",), (b"{}",), (b"[]",), (b"", b""), (b"x",) * 1000):
            direct.send_frames(*frames)
            assert direct.receive().code == INVALID_REQUEST, frames[:2]
        for name, value in (("offset", "1"), ("partition", None), ("topic", 1), ("max_bytes", [])):
            wrong = {"topic": empty, "partition": 0, "offset": 0, name: value}
            assert direct.call("fetch", **wrong).code == INVALID_REQUEST, name
        direct.send("fetch", topic=empty, partition=0, offset=0, max_wait_ms=2 * MINUTE_MS)
        assert reader_is_parked(direct, empty)
        router.produce(empty, b"news")
        assert direct.receive().ok().payload == [b"news"]

"""The wire contract of `produce`: one record, many records, batches, placement, acks and idempotence."""

from __future__ import annotations

import random
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.rawclient import (
    BATCH_HEADER_BYTES,
    CORRUPT_MESSAGE,
    ENCODINGS,
    INVALID_PRODUCER_EPOCH,
    INVALID_REQUEST,
    MESSAGE_TOO_LARGE,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    UNKNOWN_PRODUCER_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
    RawClient,
    RawRecord,
    Served,
    batch_of_bytes,
    decode_batches,
    encode_batch,
    partition_of,
    serve,
    value_bytes_for,
)

pytestmark = pytest.mark.processes

PARTITIONS = 7
SMALL_BYTES = 2_000
CLOCK_SLACK_MS = 60_000


@pytest.fixture(scope="module")
def broker() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture(params=ENCODINGS)
def client(broker: Served, request: pytest.FixtureRequest) -> Iterator[RawClient]:
    with broker.client(request.param) as connected:
        yield connected


@pytest.fixture(scope="module")
def topics(broker: Served) -> dict[str, str]:
    """`one` partition, `wide` with seven, `small` with three and a low max.message.bytes."""
    with broker.client() as client:
        return {
            "one": client.create("one"),
            "wide": client.create("wide", PARTITIONS),
            "small": client.create("small", 3, max_message_bytes=SMALL_BYTES),
        }


@pytest.fixture
def one(topics: dict[str, str]) -> str:
    return topics["one"]


@pytest.fixture
def wide(topics: dict[str, str]) -> str:
    return topics["wide"]


@pytest.fixture
def small(topics: dict[str, str]) -> str:
    return topics["small"]


def last_record(client: RawClient, topic: str, partition: int = 0) -> Any:
    (record,) = client.records(topic, partition, client.offset_of(topic, "latest", partition) - 1)
    return record


# -- one record ----------------------------------------------------------------------------------------


def test_one_record_comes_back_as_it_went(client: RawClient, one: str) -> None:
    blobs = [b"", b"text", "ключ".encode(), b"\xff\xfe\x00", b"\x80", bytes(range(256))]
    headers = [["trace", client.bytes_field(blob)] for blob in blobs] + [["", "x"], ["trace", "again"]]
    for blob in blobs:
        end = client.offset_of(one, "latest")
        key = client.bytes_field(blob)
        reply = client.produce(one, blob, key=key, headers=headers, timestamp=1_700_000_000_123)
        assert reply.payload == []
        assert {name: reply[name] for name in ("topic", "partition", "offset", "timestamp")} == {
            "topic": one,
            "partition": 0,
            "offset": end,
            "timestamp": 1_700_000_000_123,
        }
        record = last_record(client, one)
        assert (record.offset, record.timestamp) == (end, 1_700_000_000_123)
        assert (record.key, record.value) == (blob, blob)
        assert record.headers == [("trace", each) for each in blobs] + [("", b"x"), ("trace", b"again")]


def test_a_string_stands_for_its_utf8_bytes(client: RawClient, one: str) -> None:
    text = "naïve 🔑 \x00 \u2028"
    client.produce(one, b"v", key=text, headers=[["имя", text]])
    record = last_record(client, one)
    assert record.key == text.encode() and record.headers == [("имя", text.encode())]


def test_json_replies_have_strings_for_utf8_and_base64_for_the_rest(broker: Served, one: str) -> None:
    with broker.client() as client:
        header = ["h", {"base64": "/w=="}]
        produced = client.produce(one, b"v", key={"base64": "w6k="}, headers=[header])
        (row,) = client.fetch(one, produced["offset"]).ok()["records"]
        assert row["key"] == "é" and row["headers"] == [header]


def test_messagepack_replies_have_bin(broker: Served, one: str) -> None:
    with broker.client("msgpack") as client:
        offset = client.produce(one, b"v", key="text", headers=[["h", b"\xff"]])["offset"]
        (row,) = client.fetch(one, offset).ok()["records"]
        assert row["key"] == b"text" and row["headers"] == [["h", b"\xff"]]


@pytest.mark.parametrize(
    "wrong", ["!", "@@@@", "YQ", "YQ=", "Y Q=", "é===", 1, None, ["YQ=="], {"base64": "YQ=="}]
)
def test_base64_that_is_none_is_refused(broker: Served, one: str, wrong: Any) -> None:
    with broker.client() as client:
        end = client.offset_of(one, "latest")
        for fields in ({"key": {"base64": wrong}}, {"headers": [["h", {"base64": wrong}]]}):
            assert client.call("produce", b"v", topic=one, partition=0, **fields).code == INVALID_REQUEST
        assert client.offset_of(one, "latest") == end


def test_no_payload_is_a_null_value_and_an_empty_frame_an_empty_one(client: RawClient, one: str) -> None:
    client.call("produce", topic=one, partition=0, key="gone").ok()
    assert last_record(client, one).value is None
    client.call("produce", b"", topic=one, partition=0, key="empty").ok()
    assert last_record(client, one).value == b""


def test_no_key_is_not_an_empty_key(client: RawClient, one: str) -> None:
    client.produce(one, b"v", key=None)
    assert last_record(client, one).key is None
    client.produce(one, b"v", key="")
    assert last_record(client, one).key == b""


def test_a_record_without_timestamp_gets_the_time(client: RawClient, one: str) -> None:
    before_ms = int(time.time() * 1000)
    reply = client.produce(one, b"v")
    assert abs(reply["timestamp"] - before_ms) < CLOCK_SLACK_MS
    assert last_record(client, one).timestamp == reply["timestamp"]


def test_one_record_has_at_most_one_payload_frame(client: RawClient, one: str) -> None:
    end = client.offset_of(one, "latest")
    assert client.call("produce", b"a", b"b", topic=one, partition=0).code == INVALID_REQUEST
    assert client.offset_of(one, "latest") == end


def test_a_topic_is_made_by_the_first_produce(client: RawClient) -> None:
    name = f"new-{client.encoding}"
    first = client.call("produce", b"v", topic=name, key="k").ok()
    assert first["offset"] == 0
    (row,) = client.call("metadata", topics=[name]).ok()["topics"]
    assert row["error"] is None and row["partitions"]


def test_many_first_produces_make_one_topic(broker: Served) -> None:
    """All of them wait for the same topic, and none is lost."""
    with broker.client() as client:
        sent = [client.send("produce", b"%d" % index, topic="rush", partition=0) for index in range(50)]
        replies = client.receive_by_id(len(sent))
        assert [replies[each].ok()["offset"] for each in sent] == list(range(50))


@pytest.mark.parametrize("partition", [1, 99, 2**31 - 1])
def test_a_partition_that_is_not_there(client: RawClient, one: str, partition: int) -> None:
    forms: tuple[dict[str, Any], ...] = ({}, {"records": [{}]}, {"format": "batch"})
    for fields in forms:
        payload = batch_of_bytes(100)
        reply = client.call("produce", payload, topic=one, partition=partition, **fields)
        errors = [reply["error"]] if reply.code else list(reply.header.get("errors", {}).values())
        assert [error["code"] for error in errors] == [UNKNOWN_TOPIC_OR_PARTITION]


# -- acks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("acks", ["all", 1])
def test_acknowledged_writes_are_answered(client: RawClient, one: str, acks: str | int) -> None:
    end = client.offset_of(one, "latest")
    assert client.produce(one, b"v", acks=acks)["offset"] == end
    assert client.call("produce", b"v", topic=one, partition=0, records=[{}], acks=acks).ok()["offsets"] == [
        [0, end + 1]
    ]
    assert client.produce_batch(one, batch_of_bytes(100), acks=acks).ok()["offset"] == end + 2
    assert len(client.fetch(one, end, min_bytes=1, max_wait_ms=60_000).ok().payload) >= 1


def test_without_acks_there_is_no_reply_at_all(client: RawClient, one: str) -> None:
    """Neither for what was written nor for what was not: the replies are those of the other requests."""
    end = client.offset_of(one, "latest")
    batch = encode_batch([RawRecord(b"three")])
    damaged = batch[:-1] + bytes([batch[-1] ^ 1])
    client.send("produce", b"one", topic=one, partition=0, acks=0)
    client.send("produce", b"two", topic=one, partition=0, acks=0, records=[{}])
    client.send("produce", batch, topic=one, partition=0, acks=0, format="batch")
    client.send("produce", damaged, topic=one, partition=0, acks=0, format="batch")
    client.send("produce", b"lost", topic=one, partition=99, acks=0)
    last = client.send("produce", b"four", topic=one, partition=0)
    assert client.receive().ok()["id"] == last
    values = [record.value for record in client.records(one, 0, end)]
    assert sorted(value or b"" for value in values) == [b"four", b"one", b"three", b"two"]
    client.ping()
    assert not client.waiting()


@pytest.mark.parametrize("acks", ["all", 0])
def test_produces_in_different_forms_keep_their_order_too(
    client: RawClient, one: str, acks: str | int
) -> None:
    """What one connection sends to one partition is written in that order, whatever form it has."""
    end = client.offset_of(one, "latest")
    fields = {"topic": one, "partition": 0, "acks": acks}
    for first in range(0, 30, 3):
        client.send("produce", b"%d" % first, **fields)
        client.send("produce", b"%d" % (first + 1), **fields, records=[{}])
        batch = encode_batch([RawRecord(b"%d" % (first + 2))])
        client.send("produce", batch, **fields, format="batch")
    if acks == "all":
        assert all(reply.ok() for reply in client.receive_by_id(30).values())
    client.produce(one, b"last")
    values = [each.value for each in client.records(one, 0, end)]
    assert values == [*(b"%d" % index for index in range(30)), b"last"]


@pytest.mark.parametrize("acks", [2, -2, "none", "ALL", "", 1.5, True, [], {}])
def test_other_acks_are_refused(client: RawClient, one: str, acks: Any) -> None:
    reply = client.call("produce", b"v", topic=one, partition=0, acks=acks)
    assert reply.code == INVALID_REQUEST and "acks" in reply.message


# -- placement -----------------------------------------------------------------------------------------


def random_keys(seed: int, count: int) -> list[bytes]:
    dice = random.Random(seed)
    return [dice.randbytes(dice.randrange(0, 40)) for _ in range(count)]


def test_keys_go_where_kafka_puts_them(client: RawClient, wide: str) -> None:
    keys = [b"", b"user-7", *random_keys(1, 100)]
    sent = [client.send("produce", b"v", topic=wide, key=client.bytes_field(key)) for key in keys]
    replies = client.receive_by_id(len(sent))
    placed = [replies[each].ok()["partition"] for each in sent]
    assert placed == [partition_of(key, PARTITIONS) for key in keys]


def test_keys_of_many_records_go_where_kafka_puts_them(client: RawClient, wide: str) -> None:
    keys = [b"", *random_keys(2, 100)]
    records = [{"key": client.bytes_field(key)} for key in keys]
    offsets = client.call("produce", *[b"v"] * len(keys), topic=wide, records=records).ok()["offsets"]
    assert [partition for partition, _ in offsets] == [partition_of(key, PARTITIONS) for key in keys]


def test_a_named_partition_wins_over_the_key(client: RawClient, wide: str) -> None:
    other = (partition_of(b"k", PARTITIONS) + 1) % PARTITIONS
    assert client.produce(wide, b"v", other, key="k")["partition"] == other
    reply = client.call("produce", b"a", b"b", topic=wide, partition=other, records=[{"key": "k"}, {}]).ok()
    assert [partition for partition, _ in reply["offsets"]] == [other, other]


def test_without_a_key_the_router_chooses(client: RawClient, wide: str) -> None:
    reply = client.produce(wide, b"free", None)
    assert 0 <= reply["partition"] < PARTITIONS
    stored = client.records(wide, reply["partition"], reply["offset"])
    assert stored[0].value == b"free" and stored[0].key is None


def test_after_more_partitions_keys_hash_over_the_new_total(client: RawClient) -> None:
    name = client.create(f"grows-{client.encoding}", 2)
    keys = [b"key-%d" % index for index in range(40)]
    for partitions in (2, 5):
        if partitions > 2:
            client.call("create_partitions", topic=name, partitions=partitions).ok()
        placed = [client.produce(name, b"v", None, key=key.decode())["partition"] for key in keys]
        assert placed == [partition_of(key, partitions) for key in keys]


# -- many records --------------------------------------------------------------------------------------


def test_many_records_over_several_partitions_keep_their_order(client: RawClient, wide: str) -> None:
    ends = {each: client.offset_of(wide, "latest", each) for each in range(PARTITIONS)}
    keys = [b"key-%d" % (index % 23) for index in range(300)]
    values = [b"%d" % index for index in range(len(keys))]
    records = [{"key": key.decode(), "timestamp": 1000 + index} for index, key in enumerate(keys)]
    reply = client.call("produce", *values, topic=wide, records=records).ok()
    assert not reply.header.get("errors") and reply.payload == []
    expected: dict[int, list[bytes]] = defaultdict(list)
    for index, (partition, offset) in enumerate(reply["offsets"]):
        assert offset == ends[partition] + len(expected[partition]), "dense and in order"
        expected[partition].append(values[index])
    for partition, sent in expected.items():
        assert [each.value for each in client.records(wide, partition, ends[partition])] == sent


def test_many_records_keep_all_their_fields(client: RawClient, one: str) -> None:
    end = client.offset_of(one, "latest")
    blob = b"\xff\x00"
    records = [
        {"key": client.bytes_field(blob), "headers": [["h", client.bytes_field(blob)]], "timestamp": 77},
        {"key": None, "null": True},
        {"null": False},
        {},
    ]
    client.call("produce", b"first", b"", b"", b"last", topic=one, partition=0, records=records).ok()
    stored = client.records(one, 0, end)
    assert [each.value for each in stored] == [b"first", None, b"", b"last"]
    assert [each.key for each in stored] == [blob, None, None, None]
    assert stored[0].headers == [("h", blob)] and stored[0].timestamp == 77
    assert [each.offset for each in stored] == list(range(end, end + 4))


@pytest.mark.parametrize("frames", [0, 1, 3, 4])
def test_many_records_need_a_frame_each(client: RawClient, one: str, frames: int) -> None:
    end = client.offset_of(one, "latest")
    reply = client.call("produce", *[b"v"] * frames, topic=one, partition=0, records=[{}, {}])
    assert reply.code == INVALID_REQUEST
    assert client.offset_of(one, "latest") == end, "nothing of it was written"


def test_a_record_that_is_too_large_fails_alone(client: RawClient, small: str) -> None:
    ends = [client.offset_of(small, "latest", each) for each in range(3)]
    keys = ["a", "b", "c", "d", "e", "f", "g", "h"]
    values = [b"v"] * len(keys)
    values[3] = b"x" * 5000
    reply = client.call("produce", *values, topic=small, records=[{"key": key} for key in keys]).ok()
    offsets = reply["offsets"]
    assert [partition for partition, _ in offsets] == [partition_of(key.encode(), 3) for key in keys]
    assert [index for index, (_, offset) in enumerate(offsets) if offset is None] == [3]
    errors = {int(index): error for index, error in reply["errors"].items()}
    assert errors.keys() == {3} and errors[3]["code"] == MESSAGE_TOO_LARGE
    stored = [record for each in range(3) for record in client.records(small, each, ends[each])]
    assert sorted(record.key or b"" for record in stored) == [b"a", b"b", b"c", b"e", b"f", b"g", b"h"]


def test_many_records_that_together_exceed_the_limit_are_split(client: RawClient, small: str) -> None:
    """No record is too large; what goes into one batch is the router's business."""
    end = client.offset_of(small, "latest", 1)
    values = [b"%03d" % index + b"x" * 300 for index in range(100)]
    reply = client.call("produce", *values, topic=small, partition=1, records=[{}] * len(values)).ok()
    assert reply["offsets"] == [[1, end + index] for index in range(len(values))]
    assert [each.value for each in client.records(small, 1, end)] == values


# -- limits --------------------------------------------------------------------------------------------


def test_the_largest_batch_is_taken_and_one_byte_more_is_not(client: RawClient, small: str) -> None:
    end = client.offset_of(small, "latest")
    assert client.produce_batch(small, batch_of_bytes(SMALL_BYTES)).ok()["offset"] == end
    assert client.produce_batch(small, batch_of_bytes(SMALL_BYTES + 1)).code == MESSAGE_TOO_LARGE
    assert client.offset_of(small, "latest") == end + 1


def test_the_largest_record_is_taken_and_one_byte_more_is_not(client: RawClient, small: str) -> None:
    end = client.offset_of(small, "latest")
    largest = b"x" * value_bytes_for(SMALL_BYTES, b"key")
    assert client.produce(small, largest, key="key", timestamp=0)["offset"] == end
    reply = client.call("produce", largest + b"x", topic=small, partition=0, key="key", timestamp=0)
    assert reply.code == MESSAGE_TOO_LARGE and reply["error"]["retriable"] is False
    assert client.offset_of(small, "latest") == end + 1


def test_the_default_limit_is_kafkas(client: RawClient, one: str) -> None:
    assert (
        client.call("describe_configs", topic=one).ok()["config"]["max.message.bytes"]["default"] == 1048588
    )
    client.produce_batch(one, batch_of_bytes(1048588)).ok()
    assert client.produce_batch(one, batch_of_bytes(1048589)).code == MESSAGE_TOO_LARGE
    assert client.call("produce", b"x" * (4 << 20), topic=one, partition=0).code == MESSAGE_TOO_LARGE


# -- batches -------------------------------------------------------------------------------------------


def test_a_batch_is_stored_as_it_came(client: RawClient, one: str) -> None:
    records = [
        RawRecord(b"a", b"k", (("h", b"1"), ("h", None)), 1000),
        RawRecord(None, b"\xff", (), 3000),
        RawRecord(b"", None, (), 2000),
    ]
    batch = encode_batch(records)
    end = client.offset_of(one, "latest")
    reply = client.produce_batch(one, batch).ok()
    assert (reply["partition"], reply["offset"], reply["count"]) == (0, end, 3)
    fetched = client.fetch(one, end, format="batch").ok()
    joined = b"".join(fetched.payload)
    assert struct.unpack_from(">q", joined)[0] == end
    assert joined[16:] == batch[16:], "but for base offset and leader epoch, byte for byte"
    assert decode_batches(joined)[0].records == records
    stored = client.records(one, 0, end)
    assert [(each.key, each.value, each.timestamp) for each in stored] == [
        (b"k", b"a", 1000),
        (b"\xff", None, 3000),
        (None, b"", 2000),
    ]
    assert stored[0].headers == [("h", b"1"), ("h", None)]


def test_a_batch_needs_its_partition_and_one_frame(client: RawClient, one: str) -> None:
    batch = batch_of_bytes(100)
    end = client.offset_of(one, "latest")
    assert client.call("produce", batch, topic=one, format="batch").code == INVALID_REQUEST
    assert client.call("produce", batch, topic=one, format="batch", partition=None).code == INVALID_REQUEST
    for frames in ((), (batch, batch), (batch, b"")):
        reply = client.call("produce", *frames, topic=one, partition=0, format="batch")
        assert reply.code in (INVALID_REQUEST, CORRUPT_MESSAGE), frames
    assert client.offset_of(one, "latest") == end


def test_any_flipped_bit_of_a_batch_is_found(client: RawClient, one: str) -> None:
    """All but base offset and leader epoch, which the partition writes itself."""
    end = client.offset_of(one, "latest")
    batch = encode_batch([RawRecord(b"value", b"key", (("h", b"x"),))])
    positions = [*range(8, 12), *range(16, len(batch))]
    sent = {}
    for position in positions:
        damaged = bytearray(batch)
        damaged[position] ^= 1 << position % 8
        request = client.send("produce", bytes(damaged), topic=one, partition=0, format="batch")
        sent[request] = position
    replies = client.receive_by_id(len(sent))
    wrong = {sent[each]: reply.code for each, reply in replies.items() if reply.code != CORRUPT_MESSAGE}
    assert wrong == {}, "by position in the batch"
    assert client.offset_of(one, "latest") == end
    client.produce_batch(one, batch).ok()


RECORDS = [RawRecord(b"a"), RawRecord(b"b"), RawRecord(b"c")]
WHOLE = encode_batch(RECORDS)


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00", id="one byte"),
        pytest.param(WHOLE[:BATCH_HEADER_BYTES], id="header only"),
        pytest.param(WHOLE[: BATCH_HEADER_BYTES - 1], id="part of a header"),
        pytest.param(WHOLE[:-1], id="one byte short"),
        pytest.param(WHOLE + b"\x00", id="one byte more"),
        pytest.param(WHOLE + WHOLE, id="two batches in one frame"),
        pytest.param(b"\x00" * 200, id="zeros"),
        pytest.param(b"\xff" * 200, id="ones"),
        pytest.param(encode_batch(RECORDS, count=2), id="fewer records than said"),
        pytest.param(encode_batch(RECORDS, count=4), id="more records than said"),
        pytest.param(encode_batch(RECORDS, count=-1), id="a negative count"),
        pytest.param(encode_batch(RECORDS, count=2**31 - 1), id="a huge count"),
        pytest.param(encode_batch(RECORDS, last_offset_delta=7), id="a last offset that is not there"),
        pytest.param(encode_batch(RECORDS, last_offset_delta=2**31 - 1), id="a huge last offset"),
        pytest.param(encode_batch(RECORDS, last_offset_delta=-1), id="a negative last offset"),
        pytest.param(encode_batch([]), id="no record"),
        pytest.param(encode_batch(RECORDS, magic=1), id="the format before"),
        pytest.param(encode_batch(RECORDS, magic=3), id="a format that is not known"),
    ],
)
def test_a_batch_that_is_none_is_refused_and_leaves_no_trace(
    client: RawClient, one: str, damaged: bytes
) -> None:
    end = client.offset_of(one, "latest")
    reply = client.produce_batch(one, damaged)
    assert reply.code is not None, "it was taken"
    assert reply.code in (CORRUPT_MESSAGE, INVALID_REQUEST), reply.header
    assert client.offset_of(one, "latest") == end
    client.produce_batch(one, WHOLE).ok()
    assert [each.value for each in client.records(one, 0, end)] == [b"a", b"b", b"c"]


# -- idempotence ---------------------------------------------------------------------------------------


class Session:
    """An idempotent producer on partition 0 of a topic."""

    def __init__(self, client: RawClient, topic: str) -> None:
        reply = client.call("init_producer_id").ok()
        self.client, self.topic = client, topic
        self.producer_id, self.epoch = reply["producer_id"], reply["producer_epoch"]

    def send(self, sequence: int, count: int = 1, epoch: int | None = None) -> Any:
        batch = encode_batch(
            [RawRecord(b"%d" % (sequence + index)) for index in range(count)],
            producer_id=self.producer_id,
            producer_epoch=self.epoch if epoch is None else epoch,
            base_sequence=sequence,
        )
        return self.client.produce_batch(self.topic, batch)


@pytest.fixture
def session(client: RawClient, one: str) -> Session:
    return Session(client, one)


def test_a_retry_gets_the_same_offset_and_makes_no_copy(session: Session) -> None:
    end = session.client.offset_of(session.topic, "latest")
    offsets = [session.send(sequence, 3).ok()["offset"] for sequence in (0, 3, 6, 9, 12)]
    assert offsets == [end, end + 3, end + 6, end + 9, end + 12]
    for sequence, offset in zip((12, 0, 9, 3, 6, 12), (12, 0, 9, 3, 6, 12), strict=True):
        retried = session.send(sequence, 3).ok()
        assert (retried["offset"], retried["count"]) == (end + offset, 3)
    assert session.client.offset_of(session.topic, "latest") == end + 15
    assert session.send(15).ok()["offset"] == end + 15


def test_pipelined_duplicates_are_one_batch(session: Session) -> None:
    """The second is there before the first is durable."""
    client = session.client
    end = client.offset_of(session.topic, "latest")
    batch = encode_batch(
        [RawRecord(b"x")], producer_id=session.producer_id, producer_epoch=session.epoch, base_sequence=0
    )
    sent = [
        client.send("produce", batch, topic=session.topic, partition=0, format="batch") for _ in range(10)
    ]
    replies = client.receive_by_id(len(sent))
    assert [replies[each].ok()["offset"] for each in sent] == [end] * 10
    assert client.offset_of(session.topic, "latest") == end + 1


def test_a_gap_in_the_sequence_is_refused(session: Session) -> None:
    session.send(0).ok()
    end = session.client.offset_of(session.topic, "latest")
    for sequence in (2, 100, 2**31 - 1):
        assert session.send(sequence).code == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert session.client.offset_of(session.topic, "latest") == end
    assert session.send(1).ok()["offset"] == end


def test_a_session_that_does_not_start_at_zero_is_refused(session: Session) -> None:
    end = session.client.offset_of(session.topic, "latest")
    assert session.send(5).code in (OUT_OF_ORDER_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID)
    assert session.client.offset_of(session.topic, "latest") == end
    assert session.send(0).ok()["offset"] == end


def test_an_older_epoch_is_fenced_by_a_newer_one(session: Session) -> None:
    session.send(0).ok()
    newer = session.epoch + 1
    session.send(0, epoch=newer).ok()
    end = session.client.offset_of(session.topic, "latest")
    for sequence in (0, 1):
        assert session.send(sequence, epoch=session.epoch).code == INVALID_PRODUCER_EPOCH
    assert session.client.offset_of(session.topic, "latest") == end
    assert session.send(1, epoch=newer).ok()["offset"] == end


def test_producers_and_partitions_have_sequences_of_their_own(client: RawClient, wide: str) -> None:
    first, second = Session(client, wide), Session(client, wide)
    first.send(0).ok()
    second.send(0).ok()
    batch = encode_batch(
        [RawRecord(b"x")], producer_id=first.producer_id, producer_epoch=first.epoch, base_sequence=0
    )
    client.produce_batch(wide, batch, 1).ok()


def test_producer_ids_are_never_given_twice(broker: Served) -> None:
    with broker.client() as first, broker.client("msgpack") as second:
        sent = [(each, each.send("init_producer_id")) for _ in range(100) for each in (first, second)]
        replies = {each: each.receive_by_id(100) for each in (first, second)}
        found = [replies[each][request].ok()["producer_id"] for each, request in sent]
        assert len(set(found)) == 200 and min(found) >= 0

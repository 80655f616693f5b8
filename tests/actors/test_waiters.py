"""What becomes of answers: records taken from batches, and the word that a topic exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from actors import waiters
from actors.actor import Answer
from actors.effects import Effect
from actors.waiters import FetchedRecords, PassOn, TopicCreated
from odradek.protocol.errors import InvalidConfig, OdradekError, OffsetOutOfRange, TopicAlreadyExists
from odradek.protocol.messages import (
    CreatedTopic,
    CreateTopicsReply,
    FetchReply,
    ListOffsetsReply,
    failure,
)
from odradek.protocol.records import RecordToWrite, encode_batch
from tests.support.batches import make_batch
from tests.support.transcript import only_reply, replies, said, sender


def test_pass_on_changes_nothing() -> None:
    reply = ListOffsetsReply(offset=3, timestamp=4)
    (effect,) = replies(PassOn(sender()).answered(Answer(1, reply, [b"frame"])))
    assert effect.reply is reply
    assert list(effect.payload) == [b"frame"]
    assert said(PassOn(sender()).failed(OffsetOutOfRange())) == [("client", "OFFSET_OUT_OF_RANGE")]


def placed(base_offset: int, *records: RecordToWrite) -> bytes:
    return base_offset.to_bytes(8, "big") + encode_batch(records)[8:]


def fetched(from_offset: int, *batches: bytes) -> tuple[FetchReply, list[bytes]]:
    effects = FetchedRecords(sender(), from_offset).answered(Answer(1, FetchReply(high_watermark=9), batches))
    (effect,) = replies(effects)
    return cast(FetchReply, effect.reply), [bytes(frame) for frame in effect.payload]


def test_records_before_the_offset_are_left_out() -> None:
    batch = placed(10, *(RecordToWrite(number, None, b"%d" % number) for number in range(4)))
    reply, values = fetched(12, batch)
    assert isinstance(reply.records, list)
    assert [record.offset for record in reply.records] == [12, 13]
    assert values == [b"2", b"3"]
    assert reply.high_watermark == 9


def test_a_record_comes_as_it_went() -> None:
    records = [
        RecordToWrite(5, b"\xff\x00", b"\xfe", [("name", b"\xfd"), ("none", None), ("name", b"")]),
        RecordToWrite(6, b"", b""),
        RecordToWrite(7, None, None),
    ]
    reply, values = fetched(0, placed(0, *records[:1]), placed(1, *records[1:]))
    assert isinstance(reply.records, list)
    first, second, third = reply.records
    assert (first.key, first.headers) == (b"\xff\x00", [("name", b"\xfd"), ("none", None), ("name", b"")])
    assert (second.key, second.null, third.key, third.null) == (b"", False, None, True)
    assert [record.timestamp for record in reply.records] == [5, 6, 7]
    assert values == [b"\xfe", b"", b""]


def test_compressed_batches_are_read() -> None:
    for compression in ("gzip", "snappy", "lz4", "zstd"):
        batch = encode_batch([RecordToWrite(1, None, bytes(500))], compression=compression)
        assert fetched(0, batch)[1] == [bytes(500)]


def test_an_error_passes_with_both_ends() -> None:
    reply = FetchReply(error=OffsetOutOfRange("no").wire(), high_watermark=5, log_start_offset=2)
    told = only_reply(FetchedRecords(sender(), 0).answered(Answer(1, reply)), FetchReply)
    assert (told.high_watermark, told.log_start_offset) == (5, 2)
    assert told.error is not None


def test_a_batch_that_cannot_be_decoded_is_an_error_that_names_itself_and_no_crash() -> None:
    garbage = make_batch(3, payload=b"\xff" * 20)
    reply, values = fetched(0, garbage)
    assert reply.error is not None
    assert reply.error.name == "CORRUPT_MESSAGE"
    assert values == []


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
@pytest.mark.parametrize("garbage", [b"", b"\0", b"\xff" * 40, bytes(40)])
def test_no_codec_can_be_made_to_crash(codec: int, garbage: bytes) -> None:
    batch = bytearray(make_batch(payload=garbage))
    batch[22] = codec
    reply, _ = fetched(0, bytes(batch))
    assert reply.error is not None


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (CreateTopicsReply(topics=[CreatedTopic(name="a")]), None),
        (CreateTopicsReply(topics=[CreatedTopic(name="a", error=TopicAlreadyExists().wire())]), None),
        (
            CreateTopicsReply(topics=[CreatedTopic(name="a", error=InvalidConfig("x").wire())]),
            "INVALID_CONFIG",
        ),
        (failure(InvalidConfig("x")), "INVALID_CONFIG"),
        (failure(TopicAlreadyExists("x")), None),
    ],
)
def test_a_topic_that_exists_is_as_good_as_one_that_was_created(
    reply: CreateTopicsReply, name: str | None
) -> None:
    heard: list[OdradekError | None] = []

    def ended(error: OdradekError | None) -> Sequence[Effect]:
        heard.append(error)
        return ()

    TopicCreated(ended).answered(Answer(1, reply))
    assert [error and error.name for error in heard] == [name]


def test_a_reply_of_records_is_bounded_and_never_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = encode_batch([RecordToWrite(1, None, bytes(100)) for _ in range(50)])
    monkeypatch.setattr(waiters, "RECORDS_REPLY_RECORDS_MAX", 20)
    reply, payload = waiters.as_records(FetchReply(), [batches], 5)
    assert isinstance(reply.records, list)
    assert [record.offset for record in reply.records] == list(range(5, 25))
    assert len(payload) == 20
    monkeypatch.setattr(waiters, "RECORDS_REPLY_BYTES_MAX", 1)
    reply, payload = waiters.as_records(FetchReply(), [batches], 25)
    assert len(payload) == 1, "one record comes, however large it is"

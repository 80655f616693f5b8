"""A partition under its topic's settings: the time of a flush, the broker's stamp, the topic's codec."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from actors.actor import Answer
from actors.effects import Effect
from actors.gathering import Destination, Gatherer, SingleReceipt
from actors.messages import Configure
from odradek.protocol.batch import check_batch
from odradek.protocol.messages import ListOffsets, ListOffsetsReply, ProduceReply
from odradek.protocol.records import RecordToWrite, decode_batch, encode_batch, new_builder
from tests.actors.test_partition import Rig, fetch, fetched, produce
from tests.support.batches import idempotent, make_batch
from tests.support.transcript import ask, only_reply, replies, said, sender, syncs

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


# -- flush.messages, flush.ms


def test_with_more_than_one_flush_message_the_answer_comes_after_the_write() -> None:
    rig = Rig(flush_messages=10, flush_ms=500)
    effects = rig.turn(produce(make_batch(3)))
    assert said(effects) == [("client", "ok")]
    assert syncs(effects) == []
    assert rig.log.durable_offset == 0
    assert fetched(rig.turn(fetch(0, max_wait_ms=0)))[1] == b"", "readers see what is durable"


def test_the_sync_begins_when_so_many_wait() -> None:
    rig = Rig(flush_messages=10, flush_ms=500)
    assert syncs(rig.turn(produce(make_batch(6)))) == []
    assert len(syncs(rig.turn(produce(make_batch(4))))) == 1
    rig.sync()
    assert rig.log.durable_offset == 10
    assert rig.actor.deadline() is None
    assert syncs(rig.turn(produce(make_batch(9)))) == [], "counting begins anew"


def test_the_sync_begins_when_the_oldest_has_waited_long_enough() -> None:
    rig = Rig(flush_messages=10, flush_ms=500)
    begun_s = rig.clock.now().monotonic_s
    rig.turn(produce(make_batch(1)))
    rig.clock.advance(0.4)
    assert syncs(rig.turn(produce(make_batch(1)))) == []
    assert rig.actor.deadline() == begun_s + 0.5
    rig.clock.advance(0.1)
    assert len(syncs(rig.settle())) == 1
    assert rig.actor.deadline() is None, "it would spin while the sync is under way"
    rig.sync()
    assert rig.log.durable_offset == 2


def test_a_parked_reader_is_released_by_the_late_sync() -> None:
    rig = Rig(flush_messages=10, flush_ms=500)
    rig.turn(fetch(0, max_wait_ms=10_000, min_bytes=1))
    rig.turn(produce(make_batch(1)))
    rig.clock.advance(0.5)
    rig.settle()
    reply, batches = fetched(rig.sync())
    assert (reply.error, check_batch(batches).record_count) == (None, 1)


def test_going_back_to_one_syncs_what_waits() -> None:
    rig = Rig(flush_messages=10, flush_ms=86_400_000)
    rig.turn(produce(make_batch(1)))
    effects = rig.turn(ask(Configure(config={})))
    assert len(syncs(effects)) == 1
    rig.sync()
    effects = rig.turn(produce(make_batch(1)))
    assert replies(effects) == [], "acknowledged after the sync again"


def test_stopping_makes_all_of_it_durable() -> None:
    rig = Rig(flush_messages=10, flush_ms=86_400_000)
    rig.turn(produce(make_batch(4)))
    rig.actor.stop(rig.clock.now())
    assert rig.log.durable_offset == 4


def test_a_retry_is_no_message_that_waits_for_ever() -> None:
    rig = Rig(flush_messages=10, flush_ms=500)
    rig.turn(produce(idempotent(1, 0)))
    rig.clock.advance(0.5)
    rig.settle()
    rig.sync()
    rig.turn(produce(idempotent(1, 0)))
    rig.clock.advance(0.5)
    assert syncs(rig.settle()) == []
    assert rig.actor.deadline() is None


# -- message.timestamp.type


def test_the_reply_tells_the_brokers_time_and_list_offsets_finds_it() -> None:
    rig = Rig(log_append_time=True)
    at_ms = rig.clock.now().wall_ms
    rig.turn(produce(encode_batch([RecordToWrite(5, None, b"a"), RecordToWrite(9, None, b"b")])))
    reply = only_reply(rig.sync(), ProduceReply)
    assert (reply.timestamp, reply.log_append_time) == (at_ms, at_ms)
    found = rig.turn(ask(ListOffsets(topic="events", partition=0, at=at_ms)))
    assert only_reply(found, ListOffsetsReply) == ListOffsetsReply(offset=0, timestamp=at_ms)
    found = rig.turn(ask(ListOffsets(topic="events", partition=0, at="max_timestamp")))
    assert only_reply(found, ListOffsetsReply) == ListOffsetsReply(offset=0, timestamp=at_ms)


def test_the_routers_single_records_are_told_the_brokers_time() -> None:
    def told(reply: ProduceReply) -> list[int | object]:
        gatherer = Gatherer()
        destination = Destination("events", 0, "all")
        for timestamp in (5, 9):
            receipt = SingleReceipt(sender(), "events")
            gatherer.add(destination, RecordToWrite(timestamp, None, b"v"), receipt, 10_000)
        [(_, waiter)] = gatherer.flush()
        return [stamp_of(effect) for effect in waiter.answered(Answer(1, reply))]

    assert told(ProduceReply(topic="events", partition=0, offset=4, timestamp=9)) == [5, 9]
    stamped = ProduceReply(topic="events", partition=0, offset=4, timestamp=9, log_append_time=9)
    assert told(stamped) == [9, 9]


def stamp_of(effect: Effect) -> int | object:
    return only_reply([effect], ProduceReply).timestamp


@pytest.mark.parametrize("codec", CODECS)
def test_list_offsets_is_exact_to_the_record_inside_a_compressed_batch(codec: str) -> None:
    rig = Rig()
    stamps = [10, 30, 20, 50, 40]
    rig.keep(encode_batch([RecordToWrite(ts, None, b"v" * 50) for ts in stamps], compression=codec))
    for at_ms, expected in ((0, 0), (10, 0), (11, 1), (30, 1), (31, 3), (50, 3), (51, -1)):
        effects = rig.turn(ask(ListOffsets(topic="events", partition=0, at=at_ms)))
        assert only_reply(effects, ListOffsetsReply).offset == expected, at_ms


# -- compression.type


def one_batch(codec: str, sequence: int = 0) -> bytes:
    builder = new_builder(compression=codec, producer_id=4, producer_epoch=2, base_sequence=sequence)
    for number in range(20):
        key = None if number % 3 else b"k%d" % number
        builder.append(number, 1_000 + number, key, b"value " * 10 if number % 4 else None, [("h", None)])
    return bytes(builder.build())


def contents(batch: bytes) -> Sequence[object]:
    return list(decode_batch(batch))


@pytest.mark.parametrize("wanted", CODECS)
@pytest.mark.parametrize("sent", CODECS)
def test_a_topic_keeps_every_batch_in_its_codec(sent: str, wanted: str) -> None:
    rig = Rig(codec=wanted)
    batch = one_batch(sent)
    rig.turn(produce(batch))
    assert only_reply(rig.sync(), ProduceReply).error is None
    stored = bytes(rig.log.read(0, 1))
    before, after = check_batch(batch), check_batch(stored)
    assert after.compression == CODECS.index(wanted)
    assert contents(stored) == contents(batch)
    same = (
        "record_count",
        "base_timestamp",
        "max_timestamp",
        "producer_id",
        "producer_epoch",
        "base_sequence",
    )
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    if sent == wanted:
        assert stored[16:] == batch[16:], "it is not touched"


def test_a_retry_of_a_recompressed_batch_is_known() -> None:
    rig = Rig(codec="zstd")
    for _ in range(2):
        rig.turn(produce(one_batch("gzip")))
    reply = only_reply(rig.sync()[:1], ProduceReply)
    assert reply.offset == 0
    assert rig.log.end_offset == 20


def test_what_cannot_be_opened_is_refused_and_the_next_one_taken() -> None:
    rig = Rig(codec="zstd")
    effects = rig.turn(produce(make_batch(payload=b"no records")))
    assert said(effects) == [("client", "CORRUPT_MESSAGE")]
    assert rig.log.end_offset == 0
    rig.turn(produce(one_batch("none")))
    assert said(rig.sync()) == [("client", "ok")]


def test_without_the_setting_nothing_is_opened() -> None:
    rig = Rig()
    rig.turn(produce(make_batch(payload=b"no records")))
    assert said(rig.sync()) == [("client", "ok")]

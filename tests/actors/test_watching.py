"""What only gateways ask of a partition: to hear when its high watermark moves, and where an epoch ends."""

from __future__ import annotations

import pytest

from actors import watching
from actors.actor import Envelope
from actors.messages import EpochEnd, EpochEndReply, Watch, WatchReply
from odradek.protocol.errors import LeaderNotAvailable
from odradek.protocol.messages import DeleteRecords, ErrorReply
from tests.actors.test_partition import Rig, produce
from tests.support.batches import make_batch
from tests.support.transcript import ask, error_name, only_reply, replies, said


def watch(offset: int, *, by: str = "gateway", wait_ms: int = 30_000, partition: int = 0) -> Envelope:
    request = Watch(topic="events", partition=partition, offset=offset, max_wait_ms=wait_ms)
    return ask(request, by=by)


def test_a_watch_is_answered_when_what_was_written_is_durable_and_not_before() -> None:
    rig = Rig()
    rig.keep(make_batch(3))
    assert rig.turn(watch(3)) == []
    assert replies(rig.turn(produce(make_batch(2), acks=0))) == []
    reply = only_reply(rig.sync(), WatchReply)
    assert (reply.high_watermark, reply.log_start_offset) == (5, 0)
    rig.turn(produce(make_batch(), acks=0))
    assert rig.sync() == [], "a watch is answered once"


@pytest.mark.parametrize("offset", [0, 2])
def test_what_is_there_already_is_told_at_once(offset: int) -> None:
    rig = Rig()
    rig.keep(make_batch(3))
    rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=1)))
    reply = only_reply(rig.turn(watch(offset)), WatchReply)
    assert (reply.high_watermark, reply.log_start_offset) == (3, 1)


def test_each_waits_for_its_own_offset() -> None:
    rig = Rig()
    rig.turn(watch(0, by="near"), watch(2, by="far"))
    rig.turn(produce(make_batch(2), acks=0))
    assert said(rig.sync()) == [("near", "ok")]
    rig.turn(produce(make_batch(1), acks=0))
    assert said(rig.sync()) == [("far", "ok")]


def test_the_time_of_a_watch_ends() -> None:
    rig = Rig()
    rig.turn(watch(0, by="short", wait_ms=100), watch(0, by="long", wait_ms=5_000))
    deadline_s = rig.actor.deadline()
    assert deadline_s == pytest.approx(rig.clock.now().monotonic_s + 0.1)
    rig.clock.advance(0.1)
    assert said(rig.settle()) == [("short", "ok")]
    rig.clock.advance(5)
    assert said(rig.settle()) == [("long", "ok")]
    assert rig.actor.deadline() is None


def test_who_does_not_wait_is_told_at_once() -> None:
    reply = only_reply(Rig().turn(watch(0, wait_ms=0)), WatchReply)
    assert reply.high_watermark == 0


def test_watchers_are_bounded_and_the_oldest_is_told_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCHERS_MAX", 2)
    rig = Rig()
    assert rig.turn(watch(0, by="a"), watch(0, by="b")) == []
    assert said(rig.turn(watch(0, by="c"))) == [("a", "ok")]


def test_a_partition_that_stops_says_so() -> None:
    rig = Rig()
    rig.turn(watch(0))
    effects = rig.actor.stop(rig.clock.now())
    reply = only_reply(list(effects), ErrorReply)
    assert reply.error is not None
    assert reply.error.code == LeaderNotAvailable.code


def test_another_partitions_watch_is_refused() -> None:
    assert error_name(Rig().turn(watch(0, partition=1))) == "UNKNOWN_TOPIC_OR_PARTITION"


@pytest.mark.parametrize(("asked", "epoch", "end_offset"), [(0, 0, 3), (-1, -1, -1), (1, 1, 5), (9, -1, -1)])
def test_where_an_epoch_ends(asked: int, epoch: int, end_offset: int) -> None:
    first = Rig()
    first.keep(make_batch(3))
    first.log.close()
    rig = Rig(first.disk)
    rig.keep(make_batch(2))
    assert (first.log.leader_epoch, rig.log.leader_epoch) == (0, 1)
    request = EpochEnd(topic="events", partition=0, leader_epoch=asked)
    reply = only_reply(rig.turn(ask(request)), EpochEndReply)
    assert (reply.leader_epoch, reply.end_offset) == (epoch, end_offset)

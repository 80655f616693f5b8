"""Lag: the coordinator's description joined with every partition's end, whatever some of them say."""

from __future__ import annotations

from typing import cast

from actors.actor import Answer
from actors.effects import Forward
from actors.lag import EndWaiter, LagWaiter
from odradek.protocol.errors import GroupIdNotFound, LeaderNotAvailable, RequestTimedOut
from odradek.protocol.messages import GroupDescribeReply, GroupOffset, ListOffsets, ListOffsetsReply, failure
from tests.support.transcript import error_name, forwards, only_reply, replies, sender


def described(*committed: int) -> GroupDescribeReply:
    return GroupDescribeReply(
        group="g",
        offsets=[
            GroupOffset(topic="a", partition=number, offset=offset) for number, offset in enumerate(committed)
        ],
    )


class Asking:
    def __init__(self, *unserved: int) -> None:
        self.waiters: dict[int, EndWaiter] = {}
        self._unserved = unserved

    def __call__(self, topic: str, partition: int, waiter: EndWaiter) -> Forward:
        if partition in self._unserved:
            raise LeaderNotAvailable("starting")
        self.waiters[partition] = waiter
        return Forward(f"{topic}-{partition}", ListOffsets(topic=topic, partition=partition, at="latest"), 1)


def lags(reply: GroupDescribeReply) -> list[tuple[int | None, int | None]]:
    assert isinstance(reply.offsets, list)
    return [(offset.end_offset, offset.lag) for offset in reply.offsets]


def test_every_partition_is_asked_and_the_reply_waits_for_the_last() -> None:
    asking = Asking()
    effects = LagWaiter(sender(), asking).answered(Answer(1, described(3, -1)))
    assert len(forwards(effects)) == 2
    assert replies(effects) == []
    assert list(asking.waiters[1].answered(Answer(1, ListOffsetsReply(offset=7, timestamp=-1)))) == []
    effects = asking.waiters[0].answered(Answer(1, ListOffsetsReply(offset=10, timestamp=-1)))
    assert lags(only_reply(effects, GroupDescribeReply)) == [(10, 7), (7, None)]


def test_a_partition_that_cannot_say_leaves_its_lag_unknown() -> None:
    asking = Asking(0)
    effects = LagWaiter(sender(), asking).answered(Answer(1, described(1, 2, 3)))
    assert replies(effects) == []
    asking.waiters[1].failed(RequestTimedOut())
    effects = asking.waiters[2].answered(Answer(1, failure(LeaderNotAvailable())))
    assert lags(only_reply(effects, GroupDescribeReply)) == [(None, None)] * 3


def test_a_group_without_offsets_or_without_any_partition_that_serves_is_answered_at_once() -> None:
    assert (
        lags(only_reply(LagWaiter(sender(), Asking()).answered(Answer(1, described())), GroupDescribeReply))
        == []
    )
    effects = LagWaiter(sender(), Asking(0)).answered(Answer(1, described(4)))
    assert lags(cast(GroupDescribeReply, replies(effects)[0].reply)) == [(None, None)]


def test_lag_is_never_negative() -> None:
    asking = Asking()
    LagWaiter(sender(), asking).answered(Answer(1, described(9)))
    effects = asking.waiters[0].answered(Answer(1, ListOffsetsReply(offset=4, timestamp=-1)))
    assert lags(only_reply(effects, GroupDescribeReply)) == [(4, 0)]


def test_errors_pass() -> None:
    assert error_name(LagWaiter(sender(), Asking()).answered(Answer(1, failure(GroupIdNotFound())))) == (
        "GROUP_ID_NOT_FOUND"
    )
    assert error_name(LagWaiter(sender(), Asking()).failed(RequestTimedOut())) == "REQUEST_TIMED_OUT"

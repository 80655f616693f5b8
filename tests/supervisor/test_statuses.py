"""Answers to status: completed beside the loop, in order, never more than may wait."""

from __future__ import annotations

import os
import select
import threading

import msgspec

from actors.effects import Sender
from odradek.protocol.codec import Encoding
from odradek.protocol.messages import ActorStatus, StatusReply
from supervisor.effects import RespondStatus
from supervisor.statuses import STATUSES_WAITING_MAX, Complete, StatusSampling, new_sampler

PATIENCE_S = 30.0


def request(number: int) -> RespondStatus:
    row = ActorStatus(
        name=str(number),
        role="supervisor",
        pid=None,
        state="serving",
        restarts=0,
        uptime_s=1.0,
        pss_bytes=None,
        cpu_percent=None,
    )
    return RespondStatus(Sender("control", b"client", False, Encoding.MSGPACK, number), (row,))


def next_replies(sampling: StatusSampling) -> list[tuple[Sender, StatusReply]]:
    readable, _, _ = select.select([sampling.fd], [], [], PATIENCE_S)
    assert readable, "the loop was not woken"
    return sampling.take()


def test_a_slow_sample_keeps_nobody_waiting_and_replies_come_in_order() -> None:
    under_way, may_go_on = threading.Event(), threading.Event()

    def complete(rows: tuple[ActorStatus, ...]) -> list[ActorStatus]:
        under_way.set()
        assert may_go_on.wait(PATIENCE_S)
        return list(rows)

    def sampler() -> Complete:
        return complete

    sampling = StatusSampling(sampler)
    assert sampling.ask(request(0))
    assert under_way.wait(PATIENCE_S)
    assert sampling.take() == []  # the asking thread goes on while the first sample hangs
    assert all(sampling.ask(request(number)) for number in range(1, STATUSES_WAITING_MAX + 1))
    assert not sampling.ask(request(999)), "one more than may wait"
    assert select.select([sampling.fd], [], [], 0)[0] == []

    may_go_on.set()
    replies: list[tuple[Sender, StatusReply]] = []
    while len(replies) <= STATUSES_WAITING_MAX:
        replies += next_replies(sampling)
    numbers = list(range(STATUSES_WAITING_MAX + 1))
    assert [to.id for to, _ in replies] == numbers
    assert [reply.actors for _, reply in replies] == [list(request(number).rows) for number in numbers]
    assert sampling.ask(request(1_000))
    assert [to.id for to, _ in next_replies(sampling)] == [1_000]


def test_real_samples_have_memory_and_a_process_that_is_gone_has_none() -> None:
    (row,) = request(0).rows
    mine = msgspec.structs.replace(row, pid=os.getpid())
    gone = msgspec.structs.replace(row, pid=2**22 + 1)
    found = new_sampler()((mine, gone, row))
    assert found[0].pss_bytes is not None
    assert found[0].pss_bytes > 1_000_000
    assert found[1:] == [gone, row]

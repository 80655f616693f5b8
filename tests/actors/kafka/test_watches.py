"""What is left of fetches that waited: nothing, whoever else waits longer."""

from __future__ import annotations

import gc
import weakref

import pytest

from actors.kafka.watches import STALE_MAX
from actors.messages import Watch, WatchReply
from odradek.protocol.messages import FetchReply
from tests.support.kafka import GatewayRig, fetch_body

FETCH = 1
PATIENT_MS, HASTY_MS = 300_000, 500
ROUNDS = 3 * STALE_MAX


class Payload(bytearray):
    """Bytes that a test can see go away."""


@pytest.fixture
def rig() -> GatewayRig:
    return GatewayRig(topics={"t": 2})


def found(high_watermark: int) -> FetchReply:
    return FetchReply(topic="t", partition=1, high_watermark=high_watermark, log_start_offset=0)


def wait_and_read(rig: GatewayRig, offset: int) -> weakref.ref[Payload]:
    """A patient client finds nothing, waits, is woken and reads; what it read."""
    rig.ask(FETCH, 12, fetch_body([("t", 1, offset)], wait_ms=PATIENT_MS), connection=b"busy")
    (read,) = rig.take()
    rig.answer(read, found(offset))
    (watch,) = rig.take()
    assert isinstance(watch.request, Watch)
    rig.answer(watch, WatchReply(high_watermark=offset + 1, log_start_offset=0))
    (again,) = rig.take()
    payload = Payload(100)
    rig.answer(again, found(offset + 1), (payload,))
    (reply,) = rig.replies
    rig.replies.clear()
    assert reply.body is not None
    return weakref.ref(payload)


def test_a_fetch_that_was_answered_is_let_go_of_though_others_still_wait(rig: GatewayRig) -> None:
    """All that it had read would be kept until its time is over, at any rate of fetches."""
    rig.ask(FETCH, 12, fetch_body([("t", 0, 10)], wait_ms=HASTY_MS), connection=b"quiet")
    rig.answer(rig.take()[0], found(10))
    assert len(rig.take()) == 1
    kept = [wait_and_read(rig, offset) for offset in range(10)]
    rig.actor.deadline()
    gc.collect()
    assert [each() for each in kept] == [None] * len(kept)


def test_what_is_noted_of_fetches_that_were_answered_is_bounded(rig: GatewayRig) -> None:
    rig.ask(FETCH, 12, fetch_body([("t", 0, 10)], wait_ms=HASTY_MS), connection=b"quiet")
    rig.answer(rig.take()[0], found(10))
    rig.take()
    first_s = rig.actor._watches.deadline()
    for offset in range(ROUNDS):
        wait_and_read(rig, offset)
        assert len(rig.actor._watches._deadlines) <= STALE_MAX + 2
    assert rig.actor._watches.deadline() == first_s, "who still waits is not forgotten"

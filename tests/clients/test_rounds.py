"""Small batches of many partitions: one by one while they are few, then in rounds; nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from odradek import rounds
from odradek.batches import Batch, Clock
from odradek.queues import PartitionQueue
from odradek.rounds import FLYING_MAX, ROUND_S_MAX, STRAGGLERS_MAX, Rounds
from odradek.session import Backoff


def queue(number: int) -> PartitionQueue:
    return PartitionQueue("events", number, 1_000, Backoff(0.1, 1.0))


def batch(number: int) -> Batch:
    lock = threading.Lock()
    return Batch(
        "events", number, lock, bytes_max=999, compression="none", opened_at=0.0, deadline=1.0, clock=Clock()
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [100.0]

    class Time:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr(rounds, "time", Time)

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def fly(some: Rounds, count: int) -> list[Batch]:
    flying = [batch(number) for number in range(count)]
    for each in flying:
        some.left(each)
    return flying


def test_a_few_partitions_never_wait() -> None:
    some = Rounds()
    for number in range(1_000):
        assert some.admits(queue(number))
        [each] = fly(some, 1)
        some.landed(each)
    fly(some, FLYING_MAX - 1)
    assert some.admits(queue(0))
    assert not some.has_waiting


def test_many_wait_until_most_are_back_and_leave_together(clock: Any) -> None:
    some = Rounds()
    flying = fly(some, FLYING_MAX)
    late = [queue(number) for number in range(100)]
    assert not any(some.admits(each) for each in late)
    assert not some.admits(late[0]), "once is enough"
    for each in flying[STRAGGLERS_MAX + 1 :]:
        some.landed(each)
    assert some.wait_s() == pytest.approx(ROUND_S_MAX)
    assert not some.admits(queue(100)), "whoever comes now must not overtake those who wait"
    some.landed(flying[STRAGGLERS_MAX])
    assert some.wait_s() == 0
    begun = some.begin()
    assert begun[:100] == late
    assert len(begun) == 101
    assert all(some.admits(each) for each in begun), "the whole round, however many they are"
    fly(some, len(begun))
    some.begun()
    assert not some.admits(queue(0))


def test_partitions_that_do_not_answer_hold_up_a_round_and_only_one(clock: Any) -> None:
    some = Rounds()
    dead = fly(some, FLYING_MAX)
    assert not some.admits(queue(0))
    clock(2 * ROUND_S_MAX)
    assert some.wait_s() == 0
    assert len(some.begin()) == 1
    some.begun()
    assert some.admits(queue(1)), "the dead count no more"
    some.landed(dead[0])
    assert some.admits(queue(1))

"""Syncer: tickets run one after the other, and every one comes back, wherever it ran."""

from __future__ import annotations

import errno
import select
import threading
from collections.abc import Iterator

import pytest

from actors.actor import Synced
from transport.syncer import Syncer

WAIT_S = 30.0


class Ticket:
    def __init__(self, error: OSError | None = None, gate: threading.Event | None = None) -> None:
        self.error = error
        self.gate = gate
        self.thread: int | None = None

    def run(self) -> None:
        if self.gate is not None:
            assert self.gate.wait(WAIT_S)
        self.thread = threading.get_ident()
        if self.error is not None:
            raise self.error


@pytest.fixture
def syncer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Syncer]:
    """One that finds no disk quick enough to wait for."""
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 0.0)
    syncer = Syncer()
    yield syncer
    syncer.close()


def take(syncer: Syncer, count: int) -> list[Synced]:
    taken: list[Synced] = []
    while len(taken) < count:
        assert select.select([syncer.wakeup_fd], [], [], WAIT_S)[0], "nothing came back"
        taken += syncer.take()
    return taken


def test_tickets_come_back_in_order_with_what_the_system_said(syncer: Syncer) -> None:
    failed = OSError(errno.EIO, "lost")
    tickets = [Ticket(), Ticket(failed), Ticket()]
    assert [syncer.run(ticket) for ticket in tickets] == [None] * 3
    assert take(syncer, 3) == [Synced(tickets[0]), Synced(tickets[1], failed), Synced(tickets[2])]
    assert {ticket.thread for ticket in tickets} != {threading.get_ident()}
    assert syncer.idle


def test_it_is_idle_only_when_every_result_was_taken(syncer: Syncer) -> None:
    assert syncer.idle
    gate = threading.Event()
    syncer.run(Ticket(gate=gate))
    assert not syncer.idle
    assert syncer.take() == []
    gate.set()
    assert select.select([syncer.wakeup_fd], [], [], WAIT_S)[0]
    assert not syncer.idle
    assert len(syncer.take()) == 1
    assert syncer.idle
    assert not select.select([syncer.wakeup_fd], [], [], 0)[0], "nothing is left to wake for"


def test_more_results_than_the_pipe_holds_are_all_there(syncer: Syncer) -> None:
    for _ in range(70_000):
        syncer.run(Ticket())
    assert len(take(syncer, 70_000)) == 70_000


def test_close_waits_for_the_ticket_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 0.0)
    syncer = Syncer()
    ticket = Ticket()
    assert syncer.run(ticket) is None
    syncer.close()
    assert ticket.thread not in {None, threading.get_ident()}


def test_on_a_quick_disk_every_ticket_runs_at_once_and_no_thread_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 1e9)
    threads_before = threading.active_count()
    syncer = Syncer()
    first, second, failed = Ticket(), Ticket(), OSError(errno.EIO, "lost")
    third = Ticket(failed)
    assert syncer.run(first) == Synced(first)
    assert syncer.run(second) == Synced(second)
    assert syncer.run(third) == Synced(third, failed)
    assert {first.thread, second.thread, third.thread} == {threading.get_ident()}
    assert syncer.idle
    assert syncer.take() == []
    assert not select.select([syncer.wakeup_fd], [], [], 0)[0], "nobody is woken for what was told at once"
    assert threading.active_count() == threads_before
    syncer.close()


def test_behind_a_slow_ticket_the_next_goes_to_the_thread_until_one_is_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    syncer = Syncer()
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 1e9)
    assert syncer.run(Ticket()) is not None
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 0.0)  # as if it had been slow
    slow = Ticket()
    assert syncer.run(slow) is None
    assert take(syncer, 1) == [Synced(slow)]
    assert slow.thread != threading.get_ident()
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 1e9)
    quick = Ticket()
    assert syncer.run(quick) == Synced(quick)
    syncer.close()


def test_no_ticket_overtakes_one_that_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 0.0)
    syncer = Syncer()
    gate = threading.Event()
    tickets = [Ticket(gate=gate), Ticket()]
    assert syncer.run(tickets[0]) is None
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 1e9)
    assert syncer.run(tickets[1]) is None, "the disk is quick, but one is out"
    gate.set()
    assert [synced.ticket for synced in take(syncer, 2)] == tickets
    syncer.close()


def test_a_syncer_that_had_nothing_to_do_closes() -> None:
    Syncer().close()

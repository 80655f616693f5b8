"""PendingTable: every request ends once, in time, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.actor import Answer
from actors.effects import Effect
from actors.pending import SLOT_S, PendingTable
from odradek.protocol.errors import OdradekError, RequestTimedOut, ThrottlingQuotaExceeded


@dataclass
class Recorder:
    errors: list[OdradekError] = field(default_factory=list)

    def answered(self, answer: Answer) -> Sequence[Effect]:
        raise AssertionError("the table itself answers nobody")

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        self.errors.append(error)
        return ()


def test_a_token_is_taken_once() -> None:
    table = PendingTable()
    token = table.add(Recorder(), "a", 1.0, writes=True, size_bytes=10)
    assert (len(table), table.bytes_in_flight) == (1, 10)
    taken = table.take(token)
    assert taken is not None
    assert (taken.address, taken.writes) == ("a", True)
    assert table.take(token) is None
    assert (len(table), table.bytes_in_flight) == (0, 0)
    assert table.deadline() is None


def test_tokens_are_never_0_and_never_given_twice() -> None:
    table = PendingTable()
    tokens = []
    for _ in range(5):
        tokens.append(table.add(Recorder(), "a", 1.0))
        table.take(tokens[-1])
    assert len({0, *tokens}) == 6, "0 is the token of what nobody waits for"


def test_requests_are_bounded() -> None:
    table = PendingTable(requests_max=1)
    token = table.add(Recorder(), "a", 1.0)
    with pytest.raises(ThrottlingQuotaExceeded):
        table.add(Recorder(), "a", 1.0)
    table.take(token)
    table.add(Recorder(), "a", 1.0)


def test_bytes_are_bounded_but_one_request_always_fits() -> None:
    table = PendingTable(bytes_max=10)
    token = table.add(Recorder(), "a", 1.0, size_bytes=99)
    with pytest.raises(ThrottlingQuotaExceeded):
        table.add(Recorder(), "a", 1.0, size_bytes=1)
    table.take(token)
    table.add(Recorder(), "a", 1.0, size_bytes=4)
    table.add(Recorder(), "a", 1.0, size_bytes=6)
    with pytest.raises(ThrottlingQuotaExceeded):
        table.add(Recorder(), "a", 1.0, size_bytes=1)


def test_a_time_out_names_who_did_not_answer() -> None:
    table = PendingTable()
    recorder = Recorder()
    token = table.add(recorder, "partition:a-0", 1.0)
    table.expire(0.99)
    assert recorder.errors == []
    table.expire(1.0)
    assert [type(error) for error in recorder.errors] == [RequestTimedOut]
    assert "partition:a-0" in recorder.errors[0].message
    assert table.take(token) is None


def test_take_address_takes_only_what_went_there() -> None:
    table = PendingTable()
    for address in ("a", "b", "a"):
        table.add(Recorder(), address, 1.0)
    assert [pending.address for pending in table.take_address({"a"})] == ["a", "a"]
    assert [pending.address for pending in table.clear()] == ["b"]


def test_answered_requests_leave_nothing_but_their_slots() -> None:
    table = PendingTable()
    table.add(Recorder(), "long poll", 0.5)
    for _ in range(1_000):
        table.take(table.add(Recorder(), "a", 30.0))
        table.deadline()
    assert len(table._slot_order) == 2


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.floats(0, 0.3), st.booleans()),
        max_size=60,
    )
)
def test_each_request_ends_once_and_not_before_its_time_nor_a_slot_after_it(
    requests: list[tuple[float, float, bool]],
) -> None:
    table = PendingTable()
    now_s = 0.0
    waiting: list[tuple[Recorder, float, int]] = []
    for timeout_s, step_s, take_oldest in requests:
        recorder = Recorder()
        waiting.append((recorder, now_s + timeout_s, table.add(recorder, "a", now_s + timeout_s)))
        if take_oldest:
            taken = waiting.pop(0)
            assert (table.take(taken[2]) is None) == bool(taken[0].errors)
        now_s += step_s
        table.expire(now_s)
        for recorder, deadline_s, _ in waiting:
            assert len(recorder.errors) <= 1
            if now_s < deadline_s - 1e-6:
                assert not recorder.errors
            if now_s > deadline_s + SLOT_S + 1e-6:
                assert recorder.errors
    table.expire(now_s + 6.0)
    assert all(len(recorder.errors) == 1 for recorder, _, _ in waiting)
    assert (len(table), table.deadline()) == (0, None)

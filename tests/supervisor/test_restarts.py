"""The restart policy: how patient, and when no longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.restarts import BOOT_DELAY_S, GiveUp, RestartHistory, RestartPolicy, Retry

POLICY = RestartPolicy(delay_min_s=0.05, delay_max_s=10.0, crashes_max=10, window_s=60.0, boot_failures_max=3)


def test_the_first_restart_is_immediate_and_each_next_waits_twice_as_long() -> None:
    history = RestartHistory(POLICY)
    decisions = [history.crashed(float(second)) for second in range(6)]
    assert decisions == [Retry(delay) for delay in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)]


def test_a_delay_never_exceeds_its_bound() -> None:
    assert POLICY.delay_s(9) == pytest.approx(6.4)
    assert POLICY.delay_s(10) == 10.0
    assert POLICY.delay_s(10_000) == 10.0


def test_one_crash_more_than_allowed_within_the_window_gives_up() -> None:
    history = RestartHistory(POLICY)
    assert all(isinstance(history.crashed(second * 0.1), Retry) for second in range(10))
    decision = history.crashed(1.0)
    assert isinstance(decision, GiveUp)
    assert "11 times within 60 s" in decision.reason


def test_crashes_before_the_window_are_forgotten() -> None:
    history = RestartHistory(POLICY)
    for second in range(10):
        history.crashed(float(second))
    assert history.crashed(100.0) == Retry(0.0)


def test_failed_boots_count_in_a_row_and_serving_forgives_them() -> None:
    history = RestartHistory(POLICY)
    assert [history.failed_to_boot() for _ in range(3)] == [Retry(BOOT_DELAY_S)] * 3
    assert isinstance(history.failed_to_boot(), GiveUp)
    history.served()
    assert history.failed_to_boot() == Retry(BOOT_DELAY_S)


def test_no_patience_at_all() -> None:
    assert isinstance(RestartHistory(RestartPolicy(crashes_max=0)).crashed(0.0), GiveUp)


@given(st.lists(st.floats(0, 300), max_size=60))
def test_give_up_means_more_crashes_in_a_window_than_allowed(gaps_s: list[float]) -> None:
    history = RestartHistory(POLICY)
    crashes_s: list[float] = []
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        crashes_s.append(now_s)
        recent = sum(crash_s > now_s - POLICY.window_s for crash_s in crashes_s)
        decision = history.crashed(now_s)
        assert isinstance(decision, GiveUp) == (recent > POLICY.crashes_max)
        if isinstance(decision, GiveUp):
            return
        assert decision.delay_s == POLICY.delay_s(recent)


def test_an_essential_child_that_has_served_waits_and_is_never_given_up() -> None:
    history = RestartHistory(POLICY, essential=True)
    history.served()
    crashes = [history.crashed(second * 0.1) for second in range(1_000)]
    assert crashes[:2] == [Retry(0.0), Retry(0.05)]
    assert crashes[10:] == [Retry(10.0)] * 990
    boots = [history.failed_to_boot() for _ in range(100)]
    assert boots[3:] == [Retry(10.0)] * 97


def test_an_essential_child_that_never_served_is_given_up() -> None:
    history = RestartHistory(POLICY, essential=True)
    assert [history.failed_to_boot() for _ in range(3)] == [Retry(BOOT_DELAY_S)] * 3
    assert isinstance(history.failed_to_boot(), GiveUp)

"""When records are due does not depend on how the system copes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from loadtest.schedule import Schedule

RATES = st.floats(0.5, 1e6)
PRODUCERS = st.integers(1, 32)


@given(RATES, PRODUCERS, st.integers(0, 31), st.floats(0.1, 20), st.integers(0, 10**18))
def test_every_record_is_due_inside_the_run(
    rate: float, producers: int, index: int, duration_s: float, start_ns: int
) -> None:
    schedule = Schedule.of(rate, producers, index % producers, start_ns, duration_s)
    if schedule.count:
        assert start_ns <= schedule.due_ns(0)
        last_ns = schedule.due_ns(schedule.count - 1)
        assert last_ns <= schedule.end_ns
        assert schedule.due_count(schedule.end_ns + 1) == schedule.count


@given(RATES, PRODUCERS, st.integers(0, 31), st.floats(0.1, 20), st.integers(0, 10_000))
def test_what_is_due_is_counted_from_its_own_moment(
    rate: float, producers: int, index: int, duration_s: float, number: int
) -> None:
    schedule = Schedule.of(rate, producers, index % producers, 0, duration_s)
    if number < schedule.count:
        due_ns = schedule.due_ns(number)
        assert schedule.due_count(due_ns + 1) >= number + 1
        assert schedule.due_count(due_ns - 1) <= number + 1
        assert schedule.due_count(due_ns - int(schedule.period_ns) - 2) <= number


def test_producers_take_turns_and_make_the_rate_together() -> None:
    schedules = [Schedule.of(1_000, 4, index, 0, 2.0) for index in range(4)]
    due = sorted(schedule.due_ns(number) for schedule in schedules for number in range(schedule.count))
    assert len(due) == 2_000
    assert {after - before for before, after in itertools.pairwise(due)} == {1_000_000}


def test_nothing_is_due_before_the_start() -> None:
    schedule = Schedule.of(10, 1, 0, 5_000_000_000, 1.0)
    assert schedule.due_count(4_999_999_999) == 0
    assert schedule.due_count(5_000_000_000) == 1

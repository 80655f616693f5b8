"""Latencies survive the way from a process to the report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.clients import LookedUp
from loadtest.consuming import LOOKED_AT_PER_POLL_MAX, Observations
from loadtest.latencies import HIGHEST_US, Tally, curve_ms, new_histogram, percentiles_ms
from loadtest.producing import Acknowledgements
from loadtest.stamps import STAMP, fillers, read_stamp


@given(st.lists(st.integers(1, 50_000_000), min_size=1, max_size=200))
def test_a_tally_keeps_each_value_to_three_digits(values_us: list[int]) -> None:
    tally = Tally()
    for value in values_us:
        tally.note(value)
    histogram = new_histogram()
    histogram.decode_and_add(tally.take())
    assert histogram.get_total_count() == len(values_us)
    assert percentiles_ms(histogram)["max"] * 1000 == pytest.approx(max(values_us), rel=0.02, abs=1)
    middle = sorted(values_us)[(len(values_us) - 1) // 2]
    assert percentiles_ms(histogram)["p50"] * 1000 == pytest.approx(middle, rel=0.02, abs=1)


def test_a_tally_begins_anew_when_it_was_taken() -> None:
    tally = Tally()
    tally.note(5, 3)
    tally.take()
    histogram = new_histogram()
    histogram.decode_and_add(tally.take())
    assert histogram.get_total_count() == 0
    assert percentiles_ms(histogram) == {} and curve_ms(histogram) == []


def test_what_is_out_of_bounds_is_kept_at_the_bound() -> None:
    tally = Tally()
    tally.note(-7)
    tally.note(HIGHEST_US * 5)
    histogram = new_histogram()
    histogram.decode_and_add(tally.take())
    assert histogram.get_total_count() == 2


def test_a_value_has_the_size_that_was_asked_for_and_says_when_it_was_due() -> None:
    value = STAMP.pack(123, 4, 5) + fillers(100)[0]
    assert len(value) == 100
    assert read_stamp(value) == (123, 4, 5)


def _values(numbers: list[int], due_ns: int = 0) -> list[tuple[int, bytes]]:
    return [(0, STAMP.pack(due_ns, 1, number)) for number in numbers]


def test_a_reader_notices_that_records_changed_places() -> None:
    observations = Observations()
    observations.note(_values([0, 1, 3, 2, 4]), now_ns=1)
    assert observations.take().out_of_order == 1


def test_a_reader_compares_only_records_of_one_producer_and_partition() -> None:
    observations = Observations()
    observations.note(
        [(0, STAMP.pack(0, 1, 9)), (1, STAMP.pack(0, 1, 8)), (0, STAMP.pack(0, 2, 7))], now_ns=1
    )
    assert observations.take().out_of_order == 0


def test_a_pair_is_made_only_of_a_record_that_is_looked_at() -> None:
    looked_at: list[int] = []

    def look(number: int) -> tuple[int, bytes]:
        looked_at.append(number)
        return 0, STAMP.pack(1, 1, number)

    observations = Observations()
    observations.note(LookedUp(range(LOOKED_AT_PER_POLL_MAX * 10), look), now_ns=1)
    assert looked_at == list(range(0, LOOKED_AT_PER_POLL_MAX * 10, 10))
    assert observations.take().records == LOOKED_AT_PER_POLL_MAX * 10


def test_records_that_are_not_looked_into_count_all_the_same() -> None:
    observations = Observations()
    count = LOOKED_AT_PER_POLL_MAX * 3 + 7
    observations.note(_values(list(range(count)), due_ns=1_000_000), now_ns=3_000_000)
    interval = observations.take()
    histogram = new_histogram()
    histogram.decode_and_add(interval.histogram)
    assert interval.records == count == histogram.get_total_count()
    assert percentiles_ms(histogram)["p50"] == pytest.approx(2.0, rel=0.01)


def test_a_record_of_somebody_else_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match="use a topic of its own"):
        Observations().note([(3, b"short")], now_ns=1)


def test_records_of_the_warm_up_are_counted_apart_and_have_no_latency() -> None:
    observations = Observations(measured_from_ns=1_000)
    observations.note(_values([0, 1], due_ns=999) + _values([2], due_ns=1_000), now_ns=5_000_000)
    found = observations.take()
    assert (found.records, found.warm_up_records, found.out_of_order) == (1, 2, 0)
    histogram = new_histogram()
    histogram.decode_and_add(found.histogram)
    assert histogram.get_total_count() == 1
    assert observations.take().warm_up_records == 0


def test_acknowledgements_of_the_warm_up_are_counted_apart_and_have_no_latency() -> None:
    acknowledgements = Acknowledgements(measured_from_ns=1_000)
    acknowledgements.expect(999)(5, True)
    acknowledgements.expect(999)(2, False)
    acknowledgements.expect(1_000)(3, True)
    found = acknowledgements.take()
    assert (found.records, found.warm_up_records, found.failed) == (3, 5, 2)
    histogram = new_histogram()
    histogram.decode_and_add(found.histogram)
    assert histogram.get_total_count() == 3

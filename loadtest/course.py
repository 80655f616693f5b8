"""Course: what the clients report, added up while a run goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

from loadtest.latencies import curve_ms, new_histogram, percentiles_ms
from loadtest.result import Moment, Side
from loadtest.words import Interval

P99 = "p99"


@dataclass(slots=True)
class _Total:
    """One side so far; ``fresh`` is what came since the last moment."""

    histogram: HdrHistogram = field(default_factory=new_histogram)
    fresh: HdrHistogram = field(default_factory=new_histogram)
    records: int = 0
    warm_up_records: int = 0
    records_before: int = 0
    failed: int = 0
    out_of_order: int = 0
    cpu_s: float = 0.0
    last_s: float = 0.0

    def add(self, interval: Interval, at_s: float) -> None:
        self.records += interval.records
        self.warm_up_records += interval.warm_up_records
        self.failed += interval.failed
        self.out_of_order += interval.out_of_order
        self.cpu_s += interval.cpu_s
        if interval.histogram:
            self.fresh.decode_and_add(interval.histogram)
        if interval.records:
            self.last_s = max(self.last_s, at_s)

    @property
    def all_records(self) -> int:
        return self.records + self.warm_up_records

    def turn(self, seconds: float) -> tuple[float, float | None]:
        """(records per second, p99 in ms) since the last turn."""
        rate = (self.all_records - self.records_before) / seconds
        self.records_before = self.all_records
        p99 = percentiles_ms(self.fresh).get(P99)
        self.histogram.add(self.fresh)
        self.fresh = new_histogram()  # cheaper than reset()
        return rate, p99

    def side(self, value_bytes: int, from_s: float = 0.0) -> Side:
        seconds = max(self.last_s - from_s, 1e-9)
        rate = self.records / seconds
        return Side(
            records=self.records,
            failed=self.failed,
            seconds=seconds,
            records_per_s=rate,
            megabytes_per_s=rate * value_bytes / 1e6,
            latency_ms=percentiles_ms(self.histogram),
            curve_ms=curve_ms(self.histogram),
            client_cpu_s=self.cpu_s,
        )


class Course:
    """Both sides of a run."""

    def __init__(self, value_bytes: int, warm_up_s: float = 0.0) -> None:
        self._value_bytes = value_bytes
        self._warm_up_s = warm_up_s
        self._produce = _Total()
        self._consume = _Total()
        self._turned_at_s = 0.0
        self.reading_from_s = warm_up_s
        self.moments: list[Moment] = []

    def add(self, role: str, interval: Interval, at_s: float) -> None:
        """A client's report of records of which the last came ``at_s`` seconds after the load began."""
        (self._produce if role == "producer" else self._consume).add(interval, at_s)

    def turn(self, at_s: float) -> None:
        """Close a moment."""
        seconds = max(at_s - self._turned_at_s, 1e-9)
        self._turned_at_s = at_s
        produced, produce_p99 = self._produce.turn(seconds)
        consumed, end_to_end_p99 = self._consume.turn(seconds)
        self.moments.append(
            Moment(
                at_s=at_s,
                produced_per_s=produced,
                consumed_per_s=consumed,
                lag_records=self.lag_records,
                produce_p99_ms=produce_p99,
                end_to_end_p99_ms=end_to_end_p99,
            )
        )

    @property
    def acknowledged(self) -> int:
        """Records so far, those of the warm-up too."""
        return self._produce.all_records

    @property
    def consumed(self) -> int:
        """Records so far, those of the warm-up too."""
        return self._consume.all_records

    @property
    def lag_records(self) -> int:
        """Acknowledged and not yet read; readers may be ahead of the producers' reports."""
        return max(0, self.acknowledged - self.consumed)

    @property
    def out_of_order(self) -> int:
        """Records that came before one that was sent earlier to the same partition."""
        return self._consume.out_of_order

    def produce_side(self) -> Side:
        """The producers' totals."""
        return self._produce.side(self._value_bytes, self._warm_up_s)

    def consume_side(self) -> Side:
        """The consumers' totals; latency is end to end."""
        return self._consume.side(self._value_bytes, self.reading_from_s)

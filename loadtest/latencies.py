"""Latencies: a tally that costs little while the load runs, and the histograms that come of it.

A process counts microseconds in a dict, to three digits; at each report they become an HdrHistogram, which
travels in its own compressed form and can be added to others without losing a percentile.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from hdrh.histogram import HdrHistogram

LOWEST_US: Final = 1
HIGHEST_US: Final = 3_600_000_000
DIGITS: Final = 3
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
CURVE_PERCENTILES: Final = (0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 99.999)
COARSE_FROM_US: Final = 10_000


def new_histogram() -> HdrHistogram:
    """An empty one, in microseconds, up to an hour."""
    return HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)


class Tally:
    """Latencies in microseconds since the last ``take``."""

    def __init__(self) -> None:
        self._counts: defaultdict[int, int] = defaultdict(int)

    def note(self, latency_us: int, count: int = 1) -> None:
        """So many records had this latency."""
        if latency_us >= COARSE_FROM_US:
            latency_us -= latency_us % 100  # what the histogram's digits would drop anyway
        self._counts[latency_us] += count

    def take(self) -> bytes:
        """What was noted, encoded, and begin anew."""
        counts, self._counts = self._counts, defaultdict(int)
        histogram = new_histogram()
        for latency_us, count in counts.items():
            histogram.record_value(min(max(latency_us, LOWEST_US), HIGHEST_US), count)
        return bytes(histogram.encode())


def percentiles_ms(histogram: HdrHistogram) -> dict[str, float]:
    """Milliseconds by percentile, "max" too; empty where nothing was recorded."""
    if not histogram.get_total_count():
        return {}
    found = histogram.get_percentile_to_value_dict(list(PERCENTILES))
    return {f"p{level:g}": value / 1000 for level, value in found.items()} | {
        "max": histogram.get_max_value() / 1000
    }


def curve_ms(histogram: HdrHistogram) -> list[tuple[float, float]]:
    """(percentile, milliseconds) for a plot, denser towards 100."""
    if not histogram.get_total_count():
        return []
    found = histogram.get_percentile_to_value_dict(list(CURVE_PERCENTILES))
    return [(level, value / 1000) for level, value in sorted(found.items())]

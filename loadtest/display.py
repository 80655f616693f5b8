"""Display: how a run goes on, once a second: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from loadtest.course import Course
from loadtest.plots import short_number
from loadtest.report import MIB, milliseconds
from loadtest.watching import Watcher

ACTORS_SHOWN_MAX = 10


class Display:
    """A context manager; ``show`` is called as the run goes on. Everything goes to stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live: Live | None = None
        if sys.stderr.isatty() and not quiet:
            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, course: Course, watcher: Watcher, at_s: float) -> None:
        """The last moment of the course."""
        if self._quiet:
            return
        if self._live is None:
            sys.stderr.write(f"{at_s:5.0f} s  {_line(course)}\n")
            return
        self._live.update(Group(_rates(course, at_s), _actors(watcher)), refresh=True)


def _line(course: Course) -> str:
    moment = course.moments[-1]
    parts = [
        f"produce {short_number(moment.produced_per_s)}/s",
        f"p99 {milliseconds(moment.produce_p99_ms) or '-'}",
        f"consume {short_number(moment.consumed_per_s)}/s",
        f"p99 {milliseconds(moment.end_to_end_p99_ms) or '-'}",
        f"lag {moment.lag_records:,}",
    ]
    return "  ".join(parts)


def _rates(course: Course, at_s: float) -> Table:
    produce, consume, moment = course.produce_side(), course.consume_side(), course.moments[-1]
    table = Table("", "records/s", "MB/s", "p50", "p99", "p99.9", "records", title=f"{at_s:.0f} s")
    for name, rate, side in (
        ("produce", moment.produced_per_s, produce),
        ("consume", moment.consumed_per_s, consume),
    ):
        share = rate / side.records_per_s if side.records_per_s else 0.0
        table.add_row(
            name,
            short_number(rate),
            f"{side.megabytes_per_s * share:,.1f}",
            *(milliseconds(side.latency_ms.get(level)) for level in ("p50", "p99", "p99.9")),
            f"{side.records:,}",
        )
    table.caption = f"lag {moment.lag_records:,} records"
    return table


def _actors(watcher: Watcher) -> Table:
    table = Table("process", "CPU", "PSS")
    latest = sorted(watcher.latest, key=lambda usage: -usage.cpu_percent)
    for usage in latest[:ACTORS_SHOWN_MAX]:
        table.add_row(usage.name, f"{usage.cpu_percent:.0f} %", f"{usage.pss_bytes / MIB:.1f} MiB")
    return table

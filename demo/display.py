"""The display: what people see while the flights flow: bars and tables on a terminal, else plain lines."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from demo.report import carrier_rows, route_rows
from demo.tally import FlightTally

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

LINE_INTERVAL_S = 1.0
REFRESHES_PER_S = 8
ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far the flights are."""

    flights: int
    sent: int = 0
    received: int = 0
    tally: FlightTally = field(default_factory=FlightTally)


class Display(Protocol):
    """Where the demo says what it does."""

    def stage(self, sentence: str) -> None:
        """A step begins."""

    def update(self, snapshot: Snapshot) -> None:
        """The flights are so far; may be called as often as one likes."""

    def close(self) -> None:
        """Nothing more will move."""


def new_display() -> Display:
    """The display that fits stdout."""
    return LiveDisplay() if sys.stdout.isatty() else LineDisplay()


class LineDisplay:
    """A line for each step and, while flights flow, one a second."""

    def __init__(self) -> None:
        self._line_at = 0.0

    def stage(self, sentence: str) -> None:
        _write(sentence)

    def update(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        done = snapshot.received == snapshot.flights
        if now < self._line_at and not done:
            return
        self._line_at = now + LINE_INTERVAL_S
        _write(
            f"{snapshot.sent:>9,} in  {snapshot.received:>9,} out  of {snapshot.flights:,}"
            + (f"  (busiest so far: {route_rows(snapshot.tally, 1)[0][0]})" if snapshot.tally.records else "")
        )

    def close(self) -> None:
        """Lines need no end."""


class LiveDisplay:
    """Two progress bars over the tables as they grow."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description:<4}"),
            BarColumn(),
            TextColumn("{task.completed:>9,.0f} of {task.total:,.0f}"),
            TimeElapsedColumn(),
        )
        self._in = self._progress.add_task("in", start=False, total=0)
        self._out = self._progress.add_task("out", start=False, total=0)
        self._snapshot = Snapshot(0)
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
        )
        self._moving = False

    def stage(self, sentence: str) -> None:
        self._console.print(sentence, highlight=False, markup=False)

    def update(self, snapshot: Snapshot) -> None:
        if not self._moving:
            self._moving = True
            for task in (self._in, self._out):
                self._progress.update(task, total=snapshot.flights)
                self._progress.start_task(task)
            self._live.start()
        self._snapshot = snapshot
        self._progress.update(self._in, completed=snapshot.sent)
        self._progress.update(self._out, completed=snapshot.received)

    def close(self) -> None:
        if self._moving:
            self._moving = False
            self._live.stop()

    def _render(self) -> Group:
        from rich.columns import Columns
        from rich.console import Group

        tally = self._snapshot.tally
        carriers = _small_table(("airline", "flights", "delay"), carrier_rows(tally, ROWS_SHOWN), (0, 1, 4))
        routes = _small_table(("route", "flights", "delay"), route_rows(tally, ROWS_SHOWN), (0, 2, 3))
        return Group(self._progress, Columns([carriers, routes], padding=(1, 3)))


def _small_table(titles: tuple[str, ...], rows: list[list[str]], shown: tuple[int, ...]) -> Table:
    from rich.table import Table

    table = Table(box=None)
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    return table


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

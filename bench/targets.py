"""Targets: what was measured, what it is compared with, and whether that is good enough."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the result. ``limit`` is the least or the most, as ``at_least`` says."""

    part: str
    name: str
    measured: float
    limit: float
    unit: str
    at_least: bool
    detail: str = ""
    rounds: tuple[float, ...] = ()
    """What each round measured, where there were several: their spread is the noise."""
    yardstick: str = ""
    """What makes a ratio of it (``bench.yardsticks``); none where it is one, or hangs on a timer."""

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def row(self) -> tuple[str, str, str, str, str]:
        """The cells of the table: name, measured, limit, verdict, detail."""
        sign = "≥" if self.at_least else "≤"
        return (
            self.name,
            f"{self.measured:.3g} {self.unit}".strip(),
            f"{sign} {self.limit:g} {self.unit}".strip(),
            "met" if self.met else "NOT MET",
            self.detail,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one part of the benchmark found: its targets and every number behind them."""

    targets: list[Target] = field(default_factory=list)
    numbers: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    rank = min(len(ordered) - 1, int(len(ordered) * percent / 100))
    return ordered[rank]


def ratios(measured: Sequence[float], reference: Sequence[float]) -> tuple[float, ...]:
    """The ratio of each pair that was measured one right after the other."""
    return tuple(ours / bare for ours, bare in zip(measured, reference, strict=True))


def median_ratio(measured: Sequence[float], reference: Sequence[float]) -> float:
    """The median of those ratios."""
    return statistics.median(ratios(measured, reference))


def table(targets: Sequence[Target]) -> str:
    """The targets as aligned plain text."""
    rows = [("target", "measured", "limit", "verdict", ""), *(target.row() for target in targets)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[4]]).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)

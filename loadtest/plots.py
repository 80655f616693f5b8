"""Plots: line charts as SVG, drawn here so that a report is one file that needs nothing from anywhere."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 860
HEIGHT: Final = 300
LEFT: Final = 76
RIGHT: Final = 34
TOP: Final = 14
BOTTOM: Final = 46
TICKS: Final = 5
NOTHING: Final = 1e-9
COLOURS: Final = ("#0b6bcb", "#d1570b", "#26873c", "#8a3ffc", "#b3261e", "#00808a", "#7a6a00", "#5c5c66")
LEGEND_WIDTH_MIN: Final = 180
LEGEND_CHARACTER_WIDTH: Final = 7.0
LEGEND_MARK_WIDTH: Final = 30


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of points."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis's title, and the labels of places that are not plain numbers: (place, label)."""

    title: str
    labels: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to pixels."""

    low: float
    high: float
    from_pixel: float
    to_pixel: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.from_pixel + share * (self.to_pixel - self.from_pixel)


def line_chart(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """An <svg> of the lines; the y axis begins at 0, and so does an x axis without labels."""
    lines = [line for line in lines if line.points]
    if not lines:
        return "<p>There is nothing to draw: no samples were taken.</p>"
    xs = [point[0] for line in lines for point in line.points] + [place for place, _ in x.labels]
    ys = [point[1] for line in lines for point in line.points]
    ticks = round_ticks(max(ys))
    lowest = min(xs) if x.labels else min(0.0, *xs)
    across = _Scale(lowest, max(xs) if max(xs) > lowest else lowest + 1, LEFT, WIDTH - RIGHT)
    up = _Scale(0.0, ticks[-1], HEIGHT - BOTTOM, TOP)
    legend_rows = math.ceil(len(lines) / _legend_columns(lines))
    height = HEIGHT + 18 * legend_rows
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escaped(f"{y.title} by {x.title}")}">',
        *_grid(across, up, ticks, x, y),
        *(_path(line, COLOURS[index % len(COLOURS)], across, up) for index, line in enumerate(lines)),
        *_legend(lines),
        "</svg>",
    ]
    return "\n".join(parts)


def _grid(across: _Scale, up: _Scale, ticks: Sequence[float], x: Axis, y: Axis) -> list[str]:
    parts: list[str] = []
    for tick in ticks:
        at = up.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{short_number(tick)}</text>')
    places = x.labels or [
        (tick, short_number(tick)) for tick in round_ticks(across.high) if across.low <= tick <= across.high
    ]
    for place, label in places:
        parts.append(
            f'<text x="{across.at(place):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{escaped(label)}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escaped(x.title)}</text>')
    half = (HEIGHT - BOTTOM + TOP) / 2
    parts.append(
        f'<text transform="translate(14 {half}) rotate(-90)" text-anchor="middle">{escaped(y.title)}</text>'
    )
    return parts


def _path(line: Line, colour: str, across: _Scale, up: _Scale) -> str:
    points = [(across.at(px), up.at(py)) for px, py in line.points]
    drawn = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    dots = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2" fill="{colour}"/>' for px, py in points)
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _legend_columns(lines: Sequence[Line]) -> int:
    """How many names have room beside each other."""
    longest = max(len(line.name) for line in lines)
    width = max(LEGEND_WIDTH_MIN, LEGEND_MARK_WIDTH + longest * LEGEND_CHARACTER_WIDTH)
    return max(1, int((WIDTH - LEFT) // width))


def _legend(lines: Sequence[Line]) -> list[str]:
    per_row = _legend_columns(lines)
    width = (WIDTH - LEFT) / per_row
    parts: list[str] = []
    for index, line in enumerate(lines):
        column, row = index % per_row, index // per_row
        left, top = round(LEFT + column * width), HEIGHT + 6 + 18 * row
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<rect x="{left}" y="{top - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{left + 16}" y="{top}">{escaped(line.name)}</text>')
    return parts


def round_ticks(highest: float) -> list[float]:
    """From 0 to at least ``highest`` in round steps."""
    if highest < NOTHING:
        return [0.0, 1.0]
    rough = highest / TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    return [step * index for index in range(math.ceil(highest / step - 1e-9) + 1)]


def short_number(value: float) -> str:
    """1234567 as 1.23M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def escaped(text: str) -> str:
    return html.escape(text, quote=True)

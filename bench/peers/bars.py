"""Bars: the same number of several peers beside each other, as an SVG file of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest import plots
from loadtest.plots import escaped, round_ticks, short_number

COLOURS = (*plots.COLOURS, "#a8328f")
WIDTH = 860
LEFT = 250
RIGHT = 70
ROW = 20
BAR = 13
HEAD = 30
FOOT = 16
GAP = 14
LOWEST = 1e-3
_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1c1c21; } .title { font-weight: 600; }
.grid { stroke: #e3e3e8; } .paper { fill: #ffffff; } .small { font-size: 11px; opacity: .75; }
@media (prefers-color-scheme: dark) {
  text { fill: #e8e8ee; } .grid { stroke: #3a3a42; } .paper { fill: #17171b; }
}"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A peer's number; ``to`` makes it a span from one to the other. None: ``note`` says why it has none."""

    name: str
    colour: int
    value: float | None
    to: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one number. ``logarithmic``: dots and spans, because a bar needs a zero."""

    title: str
    unit: str
    bars: Sequence[Bar]
    logarithmic: bool = False


def chart(panels: Sequence[Panel]) -> str:
    """A whole SVG document, the panels one below the other."""
    heights = [HEAD + ROW * len(panel.bars) + FOOT + GAP for panel in panels]
    total = sum(heights)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" role="img" '
        f'aria-label="{escaped("; ".join(panel.title for panel in panels))}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{total}"/>',
    ]
    top = 0
    for panel, height in zip(panels, heights, strict=True):
        parts += _panel(panel, top)
        top += height
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to pixels; ``marks`` are where the grid is."""

    low: float
    high: float
    logarithmic: bool
    marks: Sequence[float]

    @classmethod
    def of(cls, panel: Panel) -> _Scale:
        values = [value for bar in panel.bars for value in (bar.value, bar.to) if value is not None]
        if not panel.logarithmic:
            marks = round_ticks(max(values, default=0.0))
            return cls(0.0, marks[-1], False, marks)
        values = [max(value, LOWEST) for value in values] or [1.0]
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        powers = range(low, max(high, low + 1) + 1)
        return cls(powers[0], powers[-1], True, [10.0**power for power in powers])

    def at(self, value: float) -> float:
        place = math.log10(max(value, LOWEST)) if self.logarithmic else value
        return LEFT + (place - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)


def _panel(panel: Panel, top: int) -> list[str]:
    scale = _Scale.of(panel)
    bottom = top + HEAD + ROW * len(panel.bars)
    parts = [
        f'<text class="title" x="12" y="{top + 20}">{escaped(panel.title)} ({escaped(panel.unit)})</text>'
    ]
    for mark in scale.marks:
        at = scale.at(mark)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top + HEAD}" y2="{bottom}"/>')
        parts.append(
            f'<text class="small" x="{at:.1f}" y="{bottom + 13}" text-anchor="middle">'
            f"{short_number(mark)}</text>"
        )
    for row, bar in enumerate(panel.bars):
        parts += _bar(bar, scale, top + HEAD + ROW * row)
    return parts


def _bar(bar: Bar, scale: _Scale, top: float) -> list[str]:
    middle = top + ROW / 2
    parts = [f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escaped(bar.name)}</text>']
    colour = COLOURS[bar.colour % len(COLOURS)]
    if bar.value is None:
        return [*parts, f'<text class="small" x="{LEFT + 6}" y="{middle + 4}">{escaped(bar.note)}</text>']
    start, end = scale.at(bar.value), scale.at(bar.value if bar.to is None else bar.to)
    label = (
        short_number(bar.value) if bar.to is None else f"{short_number(bar.value)} to {short_number(bar.to)}"
    )
    if not scale.logarithmic:
        parts.append(
            f'<rect x="{LEFT}" y="{middle - BAR / 2}" width="{max(end - LEFT, 1):.1f}" height="{BAR}" '
            f'fill="{colour}"/>'
        )
    else:
        parts.append(
            f'<line x1="{start:.1f}" x2="{end:.1f}" y1="{middle}" y2="{middle}" stroke="{colour}" '
            'stroke-width="4"/>'
        )
        parts += [
            f'<circle cx="{at:.1f}" cy="{middle}" r="5" fill="{colour}"/>'
            for at in dict.fromkeys((start, end))
        ]
    # Where the label would leave the picture it goes to the other side.
    inside = end + 8 * len(label) > WIDTH
    anchor, x = ("end", start - 10) if inside and scale.logarithmic else ("start", end + 9)
    return [*parts, f'<text class="small" x="{x:.1f}" y="{middle + 4}" text-anchor="{anchor}">{label}</text>']

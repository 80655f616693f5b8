"""Page: a result as one HTML file with its plots, to look at and to send on."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from loadtest.plots import Axis, Line, line_chart
from loadtest.report import (
    ACTOR_TITLES,
    SIDE_TITLES,
    SWEEP_TITLES,
    actor_rows,
    side_rows,
    summary,
    sweep_rows,
)
from loadtest.result import Result

ACTORS_DRAWN_MAX = 8
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c21; --paper: #fff; --faint: #e3e3e8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ee; --paper: #17171b; --faint: #3a3a42; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; white-space: nowrap;
         border-bottom: 1px solid var(--faint); }
th + th, td + td { text-align: right; } .facts td + td { text-align: left; white-space: normal; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--ink); }
.grid { stroke: var(--faint); } p.small { font-size: .85rem; opacity: .75; }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """A whole HTML document."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
            f'<h1>{_text(title)}</h1><p class="small">{now}</p>',
            *sections,
            '<p class="small">Latencies count from the moment a record was due, not from when it was sent: '
            "a stall of the system shows in them.</p>",
            "</body></html>",
        ]
    )


def result_sections(result: Result) -> list[str]:
    """The tables and plots of one run."""
    sections = [
        _table(("", ""), summary(result), css="facts"),
        "<h2>Totals</h2>",
        _table(SIDE_TITLES, side_rows(result)),
        "<h2>Throughput over time</h2>",
        _throughput(result),
        "<h2>Latency by percentile</h2>",
        _percentiles(result),
        "<h2>99th percentile over time</h2>",
        _latency_over_time(result),
    ]
    if result.actors:
        sections += ["<h2>CPU of the broker's processes</h2>", _cpu(result)]
        sections.append(_table(ACTOR_TITLES, actor_rows(result)))
    return sections


def sweep_sections(option: str, results: Sequence[tuple[str, Result]]) -> list[str]:
    """The scaling curve, then each run."""
    labels = [(float(place), value) for place, (value, _) in enumerate(results)]
    produced = [(float(place), result.produce.records_per_s) for place, (_, result) in enumerate(results)]
    consumed = [
        (float(place), result.consume.records_per_s)
        for place, (_, result) in enumerate(results)
        if result.consume is not None
    ]
    sections = [
        _table((option, *SWEEP_TITLES), sweep_rows(results)),
        "<h2>Scaling</h2>",
        line_chart(
            [Line("produce", produced), Line("consume", consumed)], Axis(option, labels), Axis("records/s")
        ),
    ]
    for value, result in results:
        sections.append(f"<h2>{_text(option)} = {_text(value)}</h2>")
        sections += result_sections(result)
    return sections


def _throughput(result: Result) -> str:
    produced = [(moment.at_s, moment.produced_per_s) for moment in result.moments]
    consumed = [(moment.at_s, moment.consumed_per_s) for moment in result.moments]
    lines = [Line("acknowledged", produced)]
    if result.consume is not None:
        lines.append(Line("read", consumed))
    return line_chart(lines, Axis("seconds"), Axis("records/s"))


def _percentiles(result: Result) -> str:
    """The x axis stretches towards 100: each nine takes as much room as the one before."""
    sides = [("until acknowledged", result.produce), ("end to end", result.consume)]
    lines = [
        Line(name, [(_nines(level), value) for level, value in side.curve_ms])
        for name, side in sides
        if side is not None
    ]
    labels = [(_nines(level), f"{level:g}") for level in (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)]
    return line_chart(lines, Axis("percentile", labels), Axis("ms"))


def _nines(level: float) -> float:
    return -math.log10(1 - level / 100)


def _latency_over_time(result: Result) -> str:
    acknowledged = [
        (moment.at_s, moment.produce_p99_ms) for moment in result.moments if moment.produce_p99_ms is not None
    ]
    read = [
        (moment.at_s, moment.end_to_end_p99_ms)
        for moment in result.moments
        if moment.end_to_end_p99_ms is not None
    ]
    lines = [Line("until acknowledged", acknowledged), Line("end to end", read)]
    return line_chart(lines, Axis("seconds"), Axis("ms"))


def _cpu(result: Result) -> str:
    lines = [
        Line(use.name, list(zip(use.at_s, use.cpu_percent, strict=True)))
        for use in result.actors[:ACTORS_DRAWN_MAX]
    ]
    return line_chart(lines, Axis("seconds"), Axis("% of a core"))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, css: str = "") -> str:
    head = "".join(f"<th>{_text(title)}</th>" for title in titles) if any(titles) else ""
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="{css}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _text(text: str) -> str:
    return html.escape(text, quote=True)

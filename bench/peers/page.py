"""Page: the findings as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from bench.peers.findings import Figure, Findings
from loadtest.plots import short_number


def document(findings: Findings) -> str:
    """Who was measured on what, and the tables."""
    lines = ["## The machine", ""]
    lines += [f"- {name}: {value}" for name, value in findings.machine.items()]
    lines += ["", "## Who was measured", ""]
    rows = [
        (facts.name, facts.version, facts.durability, facts.client, facts.source)
        for facts in findings.facts.values()
    ]
    lines += _table(("peer", "version", "when it acknowledges", "client", "program from"), rows)
    lines += ["", "## What was found", "", tables(findings)]
    return "\n".join(lines) + "\n"


def tables(findings: Findings) -> str:
    """A table for each number: the median, and the ratio to the reference in the same round."""
    lines: list[str] = []
    case = ""
    for figure in findings.values:
        if figure.case != case:
            case = figure.case
            lines += ["", f"### {case}", ""]
        lines += [f"{figure.name} ({figure.unit}; {'more' if figure.more else 'less'} is better)", ""]
        lines += _table(
            ("peer", "median", f"to {_name(findings, findings.reference)}"), _rows(findings, figure)
        )
        lines.append("")
    lines += [f"- failed: {trouble}" for trouble in findings.troubles]
    return "\n".join(lines)


def _rows(findings: Findings, figure: Figure) -> list[tuple[str, ...]]:
    found = [(peer, findings.median(figure, peer)) for peer in findings.facts]
    known = [(peer, value) for peer, value in found if value is not None]
    known.sort(key=lambda pair: pair[1], reverse=figure.more)
    return [
        (_name(findings, peer), short_number(value), _ratio(findings.ratio(figure, peer)))
        for peer, value in known
    ]


def _name(findings: Findings, peer: str) -> str:
    facts = findings.facts.get(peer)
    return peer if facts is None else facts.name


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]

"""Page: the findings as docs/benchmarks.md, with its tables and its plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers import life, session
from bench.peers.bars import Bar, Panel, chart
from bench.peers.findings import Figure, Findings
from bench.peers.goals import GOALS, KAFKA
from bench.peers.workloads import (
    CONSUME,
    LATENCY,
    LATENCY_S,
    LOAD_S,
    P50,
    P99,
    PATIENCE_S,
    PRODUCE,
    THROUGHPUT,
    WARM_UP,
    WARM_UP_S,
    Case,
    Measured,
)
from bench.worker import PROJECT
from loadtest.plots import short_number

PAGE = PROJECT / "docs" / "benchmarks.md"
WHY_CHARACTERS_MAX = 90
NOT_MEASURED = "-"

_HEAD = """\
# Beside what people would use instead

`make bench-peers` starts each broker, puts the same load on it with `odradek loadtest`, and lets them take
turns. This page is written by `python -m bench.peers --merge RESULTS`; nothing in it was typed. What counts
is the ratio to Kafka **in the same round**: the median over the rounds. Clients run on the same cores as the
broker, so what a client costs is in each row; where it is the client that bounds a peer's numbers, the table
of peers says so.
"""
_METHOD = """\
## How it is measured

- A round starts each peer once: first acknowledgement, memory, a warm-up of {warm_up:g} s at full speed that
  counts for nothing, then the cases. The next round goes through the peers the other way round.
- Every case has a topic of its own, and `sync` is called before it, so that nobody pays for what the one
  before left in the page cache. Kafka's deleted files go after one second instead of a minute for the same
  reason.
- Throughput: as fast as the producers can for {load:g} s, until the last acknowledgement; then one consumer
  reads everything from the start. The numbers are records divided by the time until the last of them. At
  most {batch} records are handed over in one call.
- Latency: open loop for {latency:g} s after {latency_warm_up:g} s that count for nothing; each record counts
  from when it was due, so a stall shows. One partition, one producer, one consumer.
- Memory is PSS of all processes of a peer together: what is shared counts once. Under load: eight partitions
  at 1,000 records/s.
- "Too slow" means: {patience:g} s after the load's own time not everything was acknowledged and read.
- Peers of one program ({variants}) are measured in
  what makes the difference, the others in everything.
- Lost or displaced records make a case fail; the load tester checks each run.
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its figures are the columns of one or more tables, and its panels are drawn."""

    title: str
    name: str
    text: str
    tables: Sequence[Mapping[str, Figure]]


def files(findings: Findings, page: Path) -> dict[Path, str]:
    """The page and its plots, which go beside it."""
    drawn = {
        page.with_name(f"{page.stem}-{section.name}.svg"): _chart(findings, section)
        for section in _sections()
        if _has(findings, section)
    }
    return {page: document(findings, page.stem), **drawn}


def document(findings: Findings, stem: str) -> str:
    """All of the Markdown; plots are named after ``stem``."""
    lines = [_HEAD, *_about(findings), *_goals(findings), *_peers(findings)]
    for section in _sections():
        if _has(findings, section):
            lines += [f"## {section.title}", "", section.text, ""]
            lines += [f"![{section.title}]({stem}-{section.name}.svg)", ""]
            lines += _tables(findings, section)
    lines += [*_failed(findings), _method(), *_machine(findings)]
    return "\n".join(lines).rstrip() + "\n"


def tables(findings: Findings) -> str:
    """The tables alone, for a terminal."""
    lines: list[str] = []
    for section in _sections():
        if _has(findings, section):
            lines += [f"## {section.title}", "", *_tables(findings, section)]
    return "\n".join([*lines, *_failed(findings)])


def _figure(case: Case, measured: Measured) -> Figure:
    return Figure(case.name, measured.name, measured.unit, measured.more_is_better)


def _sections() -> list[Section]:
    sizes = [[case for case in THROUGHPUT if case.name.startswith(size)] for size in ("100 B", "1 KiB")]

    def throughput(measured: Measured) -> list[dict[str, Figure]]:
        return [
            {case.name: _figure(case, measured) for case in cases if measured in case.measured}
            for cases in sizes
        ]

    return [
        Section(
            "Produce",
            "produce",
            "Records per second until the last acknowledgement, and the ratio to Kafka.",
            throughput(PRODUCE),
        ),
        Section(
            "Consume from the start",
            "consume",
            "Records per second that one consumer reads, after the producers are done.",
            throughput(CONSUME),
        ),
        Section(
            "End-to-end latency",
            "latency",
            "Milliseconds from when a record was due until it was read. The plot goes from the median to the "
            "99th percentile, on a logarithmic axis.",
            [
                {
                    f"{measured.name.removeprefix('end to end ')}, {case.name}": _figure(case, measured)
                    for measured in (P50, P99)
                }
                for case in LATENCY
            ],
        ),
        Section(
            "Start and memory",
            "start",
            "The start is on an empty directory.",
            [
                {figure.name: figure for figure in (session.CONNECTIONS, session.ACKNOWLEDGED)},
                {figure.name: figure for figure in (session.IDLE, session.LOADED)},
            ],
        ),
        Section(
            "Back after kill -9",
            "restart",
            "All processes are killed at once, with eight partitions of values of "
            f"{life.LOG.value_bytes:,} B; the time ends when records in all of them are acknowledged again.",
            [{figure.name: figure for figure in (life.BACK, life.LOG_SIZE)}],
        ),
        Section(
            "1,000 partitions",
            "thousand",
            "Made, then a record to each, until all are acknowledged; memory at that time; then the "
            "throughput of one producer (100 B) to all of them, in turns with 8 partitions beside them, "
            "to which the ratio is; before they were made 8 partitions were loaded, too.",
            [
                {
                    figure.name: figure
                    for figure in (
                        life.READY,
                        life.MEMORY,
                        life.FEW_BEFORE,
                        life.FEW_BESIDE,
                        life.MANY_PRODUCE,
                        life.MANY_TO_FEW,
                    )
                }
            ],
        ),
    ]


def _has(findings: Findings, section: Section) -> bool:
    return any(
        findings.median(figure, peer) is not None
        for table in section.tables
        for figure in table.values()
        for peer in findings.facts
    )


def _tables(findings: Findings, section: Section) -> list[str]:
    lines: list[str] = []
    for table in section.tables:
        titles = ["peer", *(f"{title} ({figure.unit})" for title, figure in table.items())]
        rows = [
            [findings.facts[peer].name, *(_cell(findings, figure, peer) for figure in table.values())]
            for peer in findings.facts
        ]
        kept = [row for row in rows if any(cell != NOT_MEASURED for cell in row[1:])]
        lines += [*_table(titles, kept), ""] if kept else []
    return lines


def _cell(findings: Findings, figure: Figure, peer: str) -> str:
    value = findings.median(figure, peer)
    if value is None:
        why = findings.failure(figure.case, peer)
        return NOT_MEASURED if why is None else f"failed: {_short(why)}"
    ratio = findings.ratio(figure, peer, KAFKA)
    shown = short_number(value)
    return shown if ratio is None or peer == KAFKA else f"{shown} (**{_ratio(ratio)}**)"


def _ratio(value: float) -> str:
    return f"{value:.2f} x" if value >= 0.1 else f"{value:.3f} x"


def _short(why: str) -> str:
    line = why.splitlines()[0].replace("|", "/")
    return line if len(line) <= WHY_CHARACTERS_MAX else f"{line[:WHY_CHARACTERS_MAX]}…"


def _about(findings: Findings) -> list[str]:
    commands = ", ".join(f"`{command}`" for command in findings.commands)
    rounds = f"{findings.rounds} round{'' if findings.rounds == 1 else 's'}"
    minutes = f"{findings.seconds / 60:.0f} minutes"
    return [
        f"Measured by {commands}: {rounds}, {minutes}. Each cell is a median, and in brackets the ratio",
        "to Kafka with its default settings.",
        "",
    ]


def _goals(findings: Findings) -> list[str]:
    found = [(goal, goal.measured(findings)) for goal in GOALS]
    rows = [
        (
            goal.text,
            f"{'at least' if goal.at_least else 'at most'} {goal.bound:.3g}",
            short_number(measured),
            "yes" if goal.met(measured) else f"no: by a factor of {_missed(goal.bound, measured):.2f}",
        )
        for goal, measured in found
        if measured is not None
    ]
    if not rows:
        return []
    return ["## The goals", "", *_table(("what", "goal", "measured", "met"), rows), ""]


def _missed(bound: float, measured: float) -> float:
    return max(bound, measured) / max(min(bound, measured), 1e-9)


def _peers(findings: Findings) -> list[str]:
    rows = [
        (facts.name, facts.version, facts.durability, facts.client, facts.batch, facts.limit, facts.source)
        for facts in findings.facts.values()
    ]
    titles = (
        "peer",
        "version",
        "when it acknowledges",
        "client",
        "batch",
        "bounded by its client",
        "program from",
    )
    lines = ["## Who was measured", "", *_table(titles, rows), ""]
    return lines + [f"- {name} was left out: {why}" for name, why in findings.skipped.items()]


def _failed(findings: Findings) -> list[str]:
    if not findings.failures:
        return []
    lines = ["## What failed", ""]
    for failure in findings.failures:
        name = findings.facts[failure.peer].name if failure.peer in findings.facts else failure.peer
        lines.append(f"- {name}, {failure.case}, round {failure.round}: {_short(failure.why)}")
    return [*lines, ""]


def _method() -> str:
    return _METHOD.format(
        warm_up=WARM_UP.workload.duration_s,
        load=LOAD_S,
        latency=LATENCY_S,
        latency_warm_up=WARM_UP_S,
        patience=PATIENCE_S,
        batch=THROUGHPUT[0].workload.batch_records,
        variants="the gateway, Kafka with flush, Redis every second, NATS with sync always",
    )


def _machine(findings: Findings) -> list[str]:
    return ["## The machine", "", *(f"- {name}: {value}" for name, value in findings.machine.items())]


def _chart(findings: Findings, section: Section) -> str:
    if section.name == "latency":
        return chart([_spans(findings, table) for table in section.tables])
    return chart(
        [
            Panel(title, figure.unit, _bars(findings, figure))
            for table in section.tables
            for title, figure in table.items()
            if any(findings.median(figure, peer) is not None for peer in findings.facts)
        ]
    )


def _spans(findings: Findings, table: Mapping[str, Figure]) -> Panel:
    low, high = table.values()
    bars = [
        Bar(
            facts.name,
            index,
            findings.median(low, peer),
            findings.median(high, peer),
            _note(findings, low, peer),
        )
        for index, (peer, facts) in enumerate(findings.facts.items())
    ]
    known = [bar for bar in bars if bar.value is not None or bar.note]
    return Panel(f"{low.case}, p50 to p99", low.unit, known, logarithmic=True)


def _bars(findings: Findings, figure: Figure) -> list[Bar]:
    bars = [
        Bar(facts.name, index, findings.median(figure, peer), note=_note(findings, figure, peer))
        for index, (peer, facts) in enumerate(findings.facts.items())
    ]
    return [bar for bar in bars if bar.value is not None or bar.note]


def _note(findings: Findings, figure: Figure, peer: str) -> str:
    return "" if findings.failure(figure.case, peer) is None else "failed"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]

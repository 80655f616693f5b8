"""Findings: every number of every peer, by round; what counts is the median of the ratios inside a round."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.peers.peer import Facts


@dataclass(frozen=True, slots=True)
class Figure:
    """What a number says; ``more``: more is better."""

    case: str
    name: str
    unit: str
    more: bool


@dataclass(frozen=True, slots=True)
class Value:
    """A number of one peer in one round; ``round`` is its own in each run that was merged."""

    figure: Figure
    peer: str
    round: str
    value: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that a peer, or its client, did not get through."""

    case: str
    peer: str
    round: str
    why: str


@dataclass(slots=True)
class Findings:
    """All of one run of the comparison, or of several. ``skipped``: peers that could not be had, and why."""

    machine: dict[str, Any]
    commands: list[str] = field(default_factory=list)
    facts: dict[str, Facts] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    def figures(self) -> list[Figure]:
        """Every figure that has a value."""
        return list(dict.fromkeys(value.figure for value in self.values))

    def of(self, figure: Figure, peer: str) -> dict[str, float]:
        """By round."""
        return {
            value.round: value.value for value in self.values if value.figure == figure and value.peer == peer
        }

    def median(self, figure: Figure, peer: str) -> float | None:
        """Over the rounds; None where the peer has none."""
        values = self.of(figure, peer)
        return statistics.median(values.values()) if values else None

    def ratio(self, figure: Figure, peer: str, reference: str) -> float | None:
        """To the reference, round by round, then the median; None where no round has both."""
        theirs = self.of(figure, reference)
        pairs = [
            value / theirs[number] for number, value in self.of(figure, peer).items() if theirs.get(number)
        ]
        return statistics.median(pairs) if pairs else None

    def failure(self, case: str, peer: str) -> str | None:
        """Why the peer has no number there; None where it did not fail."""
        whys = [failure.why for failure in self.failures if (failure.case, failure.peer) == (case, peer)]
        return whys[-1] if whys else None

    @property
    def rounds(self) -> int:
        """How many rounds have numbers."""
        return len({value.round for value in self.values})

    def write(self, file: Path) -> None:
        """As JSON, in one step, so that a run that is cut leaves the file before."""
        plain = {
            "machine": self.machine,
            "commands": self.commands,
            "seconds": self.seconds,
            "peers": {name: asdict(facts) for name, facts in self.facts.items()},
            "skipped": self.skipped,
            "values": [
                asdict(value.figure) | {"peer": value.peer, "round": value.round, "value": value.value}
                for value in self.values
            ],
            "failures": [asdict(failure) for failure in self.failures],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.unfinished")
        unfinished.write_text(json.dumps(plain, indent=1) + "\n")
        unfinished.replace(file)


def read(file: Path) -> Findings:
    """What ``write`` wrote."""
    plain = json.loads(file.read_text())
    return Findings(
        machine=plain["machine"],
        commands=plain["commands"],
        facts={name: Facts(**facts) for name, facts in plain["peers"].items()},
        skipped=plain["skipped"],
        values=[_value(each) for each in plain["values"]],
        failures=[Failure(**failure) for failure in plain["failures"]],
        seconds=plain["seconds"],
    )


def _value(plain: dict[str, Any]) -> Value:
    figure = Figure(plain["case"], plain["name"], plain["unit"], plain["more"])
    return Value(figure, plain["peer"], plain["round"], plain["value"])


def merged(runs: Sequence[Findings]) -> Findings:
    """All as if they were one run; rounds of different runs stay apart. The last machine stands for all."""
    whole = Findings(machine=runs[-1].machine)
    for number, run in enumerate(runs, 1):
        whole.commands += [command for command in run.commands if command not in whole.commands]
        whole.facts |= run.facts
        whole.skipped |= run.skipped
        whole.seconds += run.seconds
        whole.values += [
            Value(value.figure, value.peer, f"{number}.{value.round}", value.value) for value in run.values
        ]
        whole.failures += [
            Failure(failure.case, failure.peer, f"{number}.{failure.round}", failure.why)
            for failure in run.failures
        ]
    whole.skipped = {name: why for name, why in whole.skipped.items() if name not in whole.facts}
    return whole

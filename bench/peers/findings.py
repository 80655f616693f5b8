"""Findings: every number of every peer, by round; what counts is the median of the ratios inside a round."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.peers.peer import Facts


@dataclass(frozen=True, slots=True)
class Figure:
    """What a number says."""

    case: str
    name: str
    unit: str
    more: bool


@dataclass(slots=True)
class Findings:
    """All of one run of the comparison. ``reference``: the peer that the others are divided by."""

    machine: dict[str, Any]
    reference: str
    facts: dict[str, Facts] = field(default_factory=dict)
    values: dict[Figure, dict[str, list[float]]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, figure: Figure, peer: str, value: float) -> None:
        """A number of one round."""
        self.values.setdefault(figure, {}).setdefault(peer, []).append(value)

    def median(self, figure: Figure, peer: str) -> float | None:
        """Over the rounds; None where the peer has none."""
        values = self.values.get(figure, {}).get(peer)
        return statistics.median(values) if values else None

    def ratio(self, figure: Figure, peer: str) -> float | None:
        """To the reference, round by round, then the median."""
        ours = self.values.get(figure, {}).get(peer, [])
        theirs = self.values.get(figure, {}).get(self.reference, [])
        pairs = [own / other for own, other in zip(ours, theirs, strict=False) if other]
        return statistics.median(pairs) if pairs else None

    def plain(self) -> dict[str, Any]:
        """As JSON can carry it."""
        return {
            "machine": self.machine,
            "reference": self.reference,
            "seconds": self.seconds,
            "peers": {name: asdict(facts) for name, facts in self.facts.items()},
            "figures": [asdict(figure) | {"values": values} for figure, values in self.values.items()],
            "troubles": self.troubles,
        }

"""Goals: what this broker is to reach beside the others, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass

from bench.peers.findings import Figure, Findings
from bench.peers.life import MANY, MANY_TO_FEW, MEMORY, READY
from bench.peers.session import ACKNOWLEDGED, LOADED
from bench.peers.workloads import CONSUME, LATENCY, P50, P99, PRODUCE, THROUGHPUT, Case, Measured

OURS = "odradek"
KAFKA = "kafka"
REDIS = "redis-always"


@dataclass(frozen=True, slots=True)
class Goal:
    """``bound`` of the ratio to ``reference``, or of the number itself; ``scale``: divides it before."""

    text: str
    figure: Figure
    bound: float
    at_least: bool
    reference: str | None = None
    scale: float = 1.0

    def measured(self, findings: Findings) -> float | None:
        """What is compared with the bound; None where it was not measured."""
        if self.reference is not None:
            return findings.ratio(self.figure, OURS, self.reference)
        value = findings.median(self.figure, OURS)
        return None if value is None else value / self.scale

    def met(self, measured: float) -> bool:
        """Whether this is enough."""
        return measured >= self.bound if self.at_least else measured <= self.bound


def _figure(case: Case, measured: Measured) -> Figure:
    return Figure(case.name, measured.name, measured.unit, measured.more_is_better)


def _goals() -> tuple[Goal, ...]:
    goals = [
        Goal(f"{measured.name}, {case.name}: to Kafka", _figure(case, measured), 1.5, True, KAFKA)
        for measured in (PRODUCE, CONSUME)
        for case in THROUGHPUT
        if measured in case.measured
    ]
    slow = LATENCY[0]
    for measured in (P50, P99):
        figure, text = _figure(slow, measured), f"{measured.name}, {slow.name}"
        goals.append(Goal(f"{text}: to Kafka", figure, 0.5, False, KAFKA))
        goals.append(Goal(f"{text}: to Redis, always", figure, 1.0, False, REDIS))
    first = THROUGHPUT[0]
    return (
        *goals,
        Goal(f"produce, {first.name}: to Redis, always", _figure(first, PRODUCE), 8.0, True, REDIS),
        Goal(f"{ACKNOWLEDGED.name}: to Kafka", ACKNOWLEDGED, 0.2, False, KAFKA),
        Goal(f"{LOADED.name}: to Kafka", LOADED, 1 / 3, False, KAFKA),
        Goal(
            "1,000 partitions, made and each written to, s",
            READY,
            20.0,
            False,
        ),
        Goal(
            "1,000 partitions, memory of each, MB",
            MEMORY,
            6.0,
            False,
            scale=MANY * 1e6 / (1 << 20),
        ),
        Goal(
            "1,000 partitions, produce to that with 8",
            MANY_TO_FEW,
            0.8,
            True,
        ),
    )


GOALS = _goals()

"""Options: how long, how hard and with which faults a run tortures the broker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FAULTS = ("kill", "pause", "restart")
CLIENT_ROLES = ("producer", "member", "kafka-producer", "kafka-member")
ROLES = ("partition", "router", "gateway", "coordinator", "supervisor", *CLIENT_ROLES)
SECONDS_MAX = 24 * 3600
RECORDS_MAX = 20_000_000
TOPIC = "torture"
GROUP = "tortured"
KAFKA_GROUP = "tortured-too"
"""A group is classic or consumer, never both."""
GATEWAYS_MAX = 4


@dataclass(frozen=True, slots=True)
class TortureOptions:
    """``seconds`` of load with faults; ``records_max`` and ``faults_max`` end it sooner.

    ``nemesis``: kinds of faults, or "kind:role" for one role only. ``rate`` is in records/s of each producer.
    ``kafka_producers`` and ``kafka_members`` speak Kafka's protocol, through any of the ``gateways``.
    ``retention_bytes`` of each partition; None keeps everything. ``keep``: where the history stays; None
    keeps it only of a run that failed.
    """

    seconds: float = 60.0
    seed: int = 0
    nemesis: tuple[str, ...] = FAULTS
    partitions: int = 3
    producers: int = 2
    members: int = 3
    gateways: int = 2
    kafka_producers: int = 2
    kafka_members: int = 3
    rate: float = 300.0
    records_max: int = 2_000_000
    faults_max: int = 10_000
    fault_interval_s: tuple[float, float] = (0.1, 1.0)
    pause_s: tuple[float, float] = (0.1, 3.5)
    retention_bytes: int | None = None
    keep: Path | None = None

    def __post_init__(self) -> None:
        bounds = (
            ("seconds", self.seconds, 1, SECONDS_MAX),
            ("records_max", self.records_max, 1, RECORDS_MAX),
            ("partitions", self.partitions, 1, 64),
            ("producers", self.producers, 1, 16),
            ("members", self.members, 0, 16),
            ("gateways", self.gateways, 0, GATEWAYS_MAX),
            ("kafka_producers", self.kafka_producers, 0, 16 if self.gateways else 0),
            ("kafka_members", self.kafka_members, 0, 16 if self.gateways else 0),
            ("rate", self.rate, 1, 100_000),
        )
        for name, value, lowest, highest in bounds:
            if not lowest <= value <= highest:
                raise ValueError(f"{name} is {lowest} to {highest}, not {value}")
        self.faults()

    def faults(self) -> list[tuple[str, str]]:
        """(kind, role) of each fault that may be injected. Raises ValueError for a word that is none."""
        found = []
        for word in self.nemesis:
            kind, _, role = word.partition(":")
            if kind not in FAULTS or (role and role not in ROLES):
                raise ValueError(
                    f"{word!r} is no fault; write {', '.join(FAULTS)}, or one of them with a role, such as "
                    f"kill:partition; roles are {', '.join(ROLES)}"
                )
            roles = (role,) if role else [each for each in ROLES if self._is_there(each)]
            found += [("restart", "broker")] if kind == "restart" else [(kind, each) for each in roles]
        return found

    def _is_there(self, role: str) -> bool:
        """Whether the run has any of them, to be harmed."""
        counts = {
            "gateway": self.gateways,
            "member": self.members,
            "kafka-producer": self.kafka_producers,
            "kafka-member": self.kafka_members,
        }
        return counts.get(role, 1) > 0

    @property
    def clients(self) -> dict[str, int]:
        """How many processes of each role there are, in the order in which they are told to end."""
        counts = {
            "producer": self.producers,
            "kafka-producer": self.kafka_producers,
            "reader": 1,
            "kafka-reader": min(1, self.gateways),
            "member": self.members,
            "kafka-member": self.kafka_members,
        }
        return {role: count for role, count in counts.items() if count}

"""Result: what one run of a load test found, as plain data; ``--json`` prints it as it is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from loadtest.watching import Usage
from loadtest.workload import Workload


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """Producers or consumers, all together. Latencies in milliseconds count from when a record was due.

    ``seconds``: from the first moment of the load, or the end of its warm-up, to this side's last record.
    What the warm-up sent is in none of the numbers but ``failed`` and ``client_cpu_s``.
    """

    records: int
    failed: int
    seconds: float
    records_per_s: float
    megabytes_per_s: float
    latency_ms: dict[str, float]
    curve_ms: list[tuple[float, float]]
    client_cpu_s: float


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the course of a run; rates since the moment before, latencies of that time."""

    at_s: float
    produced_per_s: float
    consumed_per_s: float
    lag_records: int
    produce_p99_ms: float | None
    end_to_end_p99_ms: float | None


class ActorUse(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of the broker used; ``at_s`` are the seconds of the load of ``cpu_percent``."""

    name: str
    cpu_percent_mean: float
    cpu_percent_max: float
    pss_bytes_max: int
    cpu_percent: list[float]
    at_s: list[float]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``lost``: acknowledged and not read; None where nobody read, or not to the end, or nothing
    was acknowledged. ``interrupted``: by Ctrl-C, so that the load was shorter than the workload says."""

    target: str
    workload: Workload
    produce: Side
    consume: Side | None
    sent: int
    lost: int | None
    out_of_order: int
    moments: list[Moment]
    actors: list[ActorUse]
    notes: list[str]
    interrupted: bool = False

    @property
    def sound(self) -> bool:
        """Whether everything came, in order."""
        return not self.produce.failed and not self.lost and not self.out_of_order


def actor_uses(samples: Sequence[Sequence[Usage]], times_s: Sequence[float]) -> list[ActorUse]:
    """By process, over all looks, each at its second; those that use most come first."""
    by_name: dict[str, list[tuple[float, Usage]]] = {}
    for at_s, sample in zip(times_s, samples, strict=False):  # a look may be going on
        for usage in sample:
            by_name.setdefault(usage.name, []).append((at_s, usage))
    uses = [
        ActorUse(
            name=name,
            cpu_percent_mean=statistics.fmean(usage.cpu_percent for _, usage in looks),
            cpu_percent_max=max(usage.cpu_percent for _, usage in looks),
            pss_bytes_max=max(usage.pss_bytes for _, usage in looks),
            cpu_percent=[usage.cpu_percent for _, usage in looks],
            at_s=[at_s for at_s, _ in looks],
        )
        for name, looks in by_name.items()
    ]
    return sorted(uses, key=lambda use: (-use.cpu_percent_mean, use.name))

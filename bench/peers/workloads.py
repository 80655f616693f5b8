"""Workloads: what every peer is measured with, and which number of a result counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtest.result import Result
from loadtest.workload import Workload

LOAD_S = 5.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A number of a result: its name, its unit, and whether more is better."""

    name: str
    unit: str
    more_is_better: bool
    of: Callable[[Result], float]


@dataclass(frozen=True, slots=True)
class Case:
    """A workload and what counts in it."""

    name: str
    workload: Workload
    measured: tuple[Measured, ...]


def _produced(result: Result) -> float:
    return result.produce.records_per_s


def _consumed(result: Result) -> float:
    assert result.consume is not None
    return result.consume.records_per_s


def _end_to_end(level: str) -> Callable[[Result], float]:
    def read(result: Result) -> float:
        assert result.consume is not None
        return result.consume.latency_ms[level]

    return read


PRODUCE = Measured("produce", "records/s", True, _produced)
CONSUME = Measured("consume", "records/s", True, _consumed)
P50 = Measured("end to end p50", "ms", False, _end_to_end("p50"))
P99 = Measured("end to end p99", "ms", False, _end_to_end("p99"))


def _throughput(value_bytes: int, partitions: int, producers: int) -> Case:
    """Produce for LOAD_S, then read it all from the start."""
    workload = Workload(
        producers=producers,
        consumers=1,
        partitions=partitions,
        value_bytes=value_bytes,
        duration_s=LOAD_S,
        read_after=True,
    )
    many = "s" if producers > 1 else ""
    name = (
        f"{value_bytes} B, {partitions} partition{'s' if partitions > 1 else ''}, {producers} producer{many}"
    )
    return Case(name, workload, (PRODUCE, CONSUME))


def _latency(rate: float, batch_records: int) -> Case:
    workload = Workload(consumers=1, rate=rate, duration_s=LOAD_S, batch_records=batch_records)
    return Case(f"100 B at {rate:,.0f} records/s", workload, (P50, P99))


CASES: tuple[Case, ...] = (
    _throughput(100, 1, 1),
    _throughput(1024, 1, 1),
    _throughput(100, 8, 1),
    _throughput(100, 8, 4),
    _throughput(1024, 8, 4),
    _latency(1_000, 1),
    _latency(20_000, 100),
)

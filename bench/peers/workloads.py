"""Workloads: what every peer is measured with, and which number of a result counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from loadtest.result import Result
from loadtest.workload import Workload

LOAD_S = 2.0
LATENCY_S = 10.0
WARM_UP_S = 3.0
READING_S = 4.0
"""What reading back takes, for the estimate of a run."""
OVERHEAD_S = 1.5
"""Starting and ending clients, making and deleting the topic, for the estimate of a run."""
PATIENCE_S = 12.0
"""So long after the load's own time everything must be acknowledged and read, or the case has failed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A number of a result: its name, its unit, and whether more is better."""

    name: str
    unit: str
    more_is_better: bool
    of: Callable[[Result], float]


@dataclass(frozen=True, slots=True)
class Case:
    """A workload and what counts in it; ``main``: only for those peers that take part in everything."""

    name: str
    workload: Workload
    measured: tuple[Measured, ...]
    main: bool = False

    def shortened(self, load_s: float) -> Case:
        """The same for a trial of the machinery, whose numbers say nothing."""
        warm_up_s = min(self.workload.warm_up_s, load_s)
        workload = msgspec.structs.replace(self.workload, duration_s=load_s, warm_up_s=warm_up_s)
        return replace(self, workload=workload)

    @property
    def estimate_s(self) -> float:
        """How long it takes on a quiet machine."""
        reads = self.workload.consumers and self.workload.rate is None
        return self.workload.load_s + OVERHEAD_S + (READING_S if reads else 0.0)


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


def _size(value_bytes: int) -> str:
    return "1 KiB" if value_bytes == 1024 else f"{value_bytes} B"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _throughput(value_bytes: int, partitions: int, producers: int, *, read: bool = True) -> Case:
    """Produce for LOAD_S, then, with ``read``, read it all from the start."""
    workload = Workload(
        producers=producers,
        consumers=1 if read else 0,
        partitions=partitions,
        value_bytes=value_bytes,
        duration_s=LOAD_S,
        read_after=read,
    )
    name = f"{_size(value_bytes)}, {_count(partitions, 'partition')}, {_count(producers, 'producer')}"
    return Case(name, workload, (PRODUCE, CONSUME) if read else (PRODUCE,), main=not read)


def _latency(rate: float, batch_records: int) -> Case:
    workload = Workload(
        consumers=1, rate=rate, duration_s=LATENCY_S, warm_up_s=WARM_UP_S, batch_records=batch_records
    )
    return Case(f"100 B at {rate:,.0f} records/s", workload, (P50, P99))


THROUGHPUT: tuple[Case, ...] = (
    _throughput(100, 1, 1),
    _throughput(100, 8, 1, read=False),
    _throughput(100, 8, 4),
    _throughput(1024, 1, 1),
    _throughput(1024, 8, 1, read=False),
    _throughput(1024, 8, 4),
)
LATENCY: tuple[Case, ...] = (_latency(1_000, 1), _latency(20_000, 100))
CASES = LATENCY + THROUGHPUT
WARM_UP = Case("warm-up", Workload(consumers=1, duration_s=LOAD_S, partitions=1), ())
"""What a peer gets after each start, before anything is measured: compilers at run time need it."""

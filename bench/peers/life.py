"""Life: what needs a start of its own: coming back after kill -9, and a thousand partitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.peers.acknowledging import insist, measure, measure_here, send, topic
from bench.peers.findings import Figure
from bench.peers.peer import Peer, Running
from bench.peers.workloads import WARM_UP
from loadtest.workload import Target, Workload

MIB = 1 << 20
LOG_BYTES = 2 << 30
LOG_LOAD_S_MAX = 60.0
LOG = Workload(consumers=0, partitions=8, value_bytes=4096, duration_s=2.0)
MANY = 1_000
CALL_RECORDS = 10
FEW_PARTITIONS = Workload(consumers=0, partitions=8, duration_s=3.0)
MANY_PARTITIONS = Workload(consumers=0, partitions=MANY, duration_s=3.0)
THOUSAND = "1,000 partitions"
RESTART = "kill -9 with a log of 2 GiB"
BACK = Figure(RESTART, "until it acknowledges again", "s", False)
LOG_SIZE = Figure(RESTART, "log at that time", "MiB", True)
READY = Figure(THOUSAND, "made and each written to", "s", False)
MEMORY = Figure(THOUSAND, "memory", "MiB", False)
MANY_PRODUCE = Figure(THOUSAND, "produce, 1 producer", "records/s", True)
MANY_TO_FEW = Figure(THOUSAND, "produce, to that with 8 partitions", "ratio", True)


@dataclass(frozen=True, slots=True)
class LifeMeasure:
    """A measurement that starts the peer itself; ``estimate_s`` beside the peer's own starts."""

    name: str
    measure: Callable[[Peer, Path], Iterator[tuple[Figure, float]]]
    estimate_s: float


def restart(peer: Peer, data: Path) -> Iterator[tuple[Figure, float]]:
    """Until records in all eight partitions that were written are acknowledged again."""
    with peer.running(data) as running, topic(running.target(), LOG.partitions) as before:
        written = _fill(before)
        running.kill()
        begun = time.monotonic()
        running.start()
        target = _same_topic(running, before)  # its port may be another
        acknowledged = insist(lambda: _write_everywhere(target, LOG))
    yield BACK, acknowledged - begun
    yield LOG_SIZE, written / MIB


def _fill(target: Target) -> int:
    """Bytes of values that were acknowledged."""
    written, give_up_at = 0, time.monotonic() + LOG_LOAD_S_MAX
    while written < LOG_BYTES and time.monotonic() < give_up_at:
        written += measure_here(target, LOG).produce.records * LOG.value_bytes
    return written


def _same_topic(running: Running, target: Target) -> Target:
    now = running.target()
    return Target(address=now.address, client=now.client, topic=target.topic)


def thousand(peer: Peer, data: Path) -> Iterator[tuple[Figure, float]]:
    """Made, written to everywhere, and loaded like eight."""
    running = peer.running(data)
    with running:
        measure(running.target(), WARM_UP.workload)
        few = measure(running.target(), FEW_PARTITIONS).produce.records_per_s
        begun = time.monotonic()
        with topic(running.target(), MANY) as target:
            ready = insist(lambda: _write_everywhere(target, MANY_PARTITIONS))
            yield READY, ready - begun
            yield MEMORY, running.pss_bytes() / MIB
            many = measure_here(target, MANY_PARTITIONS).produce.records_per_s
        yield MANY_PRODUCE, many
        yield MANY_TO_FEW, many / few
        # In order, a thousand processes or files would take their time, and nobody measures that.
        running.kill()


def _write_everywhere(target: Target, workload: Workload) -> float:
    """As many calls as partitions, for clients that take them in turn; many keys for the others."""
    value = bytes(workload.value_bytes)
    calls = [
        ([value] * CALL_RECORDS, [f"{call}-{place}".encode() for place in range(CALL_RECORDS)])
        for call in range(workload.partitions)
    ]
    return send(target, workload, calls)


LIFE: tuple[LifeMeasure, ...] = (
    LifeMeasure(RESTART, restart, 45.0),
    LifeMeasure(THOUSAND, thousand, 30.0),
)

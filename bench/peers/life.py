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
FEW_BEFORE = Figure(THOUSAND, "produce to 8 partitions before", "records/s", True)
FEW_BESIDE = Figure(THOUSAND, "produce to 8 partitions beside them", "records/s", True)
MANY_PRODUCE = Figure(THOUSAND, "produce, 1 producer", "records/s", True)
MANY_TO_FEW = Figure(THOUSAND, "produce, to that with 8 partitions", "ratio", True)
FEW_TOPIC = "peers-few"


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
    """Made, written to everywhere, and loaded like eight, which are loaded before, too."""
    running = peer.running(data)
    with running:
        measure(running.target(), WARM_UP.workload)
        yield FEW_BEFORE, measure(running.target(), FEW_PARTITIONS).produce.records_per_s
        begun = time.monotonic()
        with topic(running.target(), MANY) as many:
            ready = insist(lambda: _write_everywhere(many, MANY_PARTITIONS))
            yield READY, ready - begun
            yield MEMORY, running.pss_bytes() / MIB
            with topic(running.target(), FEW_PARTITIONS.partitions, FEW_TOPIC) as few:
                few_rate, many_rate = in_turns(
                    lambda: measure_here(few, FEW_PARTITIONS).produce.records_per_s,
                    lambda: measure_here(many, MANY_PARTITIONS).produce.records_per_s,
                )
        yield FEW_BESIDE, few_rate
        yield MANY_PRODUCE, many_rate
        yield MANY_TO_FEW, many_rate / few_rate
        # In order, a thousand processes or files would take their time, and nobody measures that.
        running.kill()


def in_turns(few: Callable[[], float], many: Callable[[], float]) -> tuple[float, float]:
    """The mean of two loads of each: the inner two of the one, the outer two of the other.

    What a machine does by and by then strikes both alike. A virtual one that gives memory back to its host
    pays for each page that it takes again, ten times what a copy costs, and a thousand new processes have
    just taken those that it had: a load before them cannot be compared with one after them.
    """
    first, *inner, last = few(), many(), many(), few()
    return (first + last) / 2, sum(inner) / 2


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
    LifeMeasure(THOUSAND, thousand, 45.0),
)

"""Life: how long a peer takes to start and to come back, and what memory it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.peers.findings import Figure
from bench.peers.peer import Peer, Running
from loadtest.run import measure
from loadtest.workload import Workload

MIB = 1 << 20
GIB = 1 << 30
ONE_RECORD = Workload(consumers=0, rate=10, duration_s=0.1, batch_records=1)
EIGHT_PARTITIONS = Workload(consumers=1, partitions=8, rate=1_000, duration_s=2.0, batch_records=1)
LOG_BYTES = 2 * GIB
VALUE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class LifeMeasure:
    """A measurement that starts the peer itself."""

    name: str
    measure: Callable[[Peer, Path], Iterator[tuple[Figure, float]]]


def _acknowledge_one(running: Running) -> None:
    result = measure(running.target(), ONE_RECORD, None, lambda *_: None)
    if not result.produce.records:
        raise RuntimeError("the first record was not acknowledged")


def start(peer: Peer, data: Path) -> Iterator[tuple[Figure, float]]:
    """From nothing to taking connections, and the memory of an idle broker."""
    begun = time.monotonic()
    with peer.running(data) as running:
        yield Figure("life", "start until it takes connections", "s", False), time.monotonic() - begun
        _acknowledge_one(running)
        yield Figure("life", "memory, idle", "MiB", False), running.pss_bytes() / MIB


def loaded(peer: Peer, data: Path) -> Iterator[tuple[Figure, float]]:
    """Memory with eight partitions while records flow; taken right after."""
    with peer.running(data) as running:
        measure(running.target(), EIGHT_PARTITIONS, None, lambda *_: None, keep_topic=True)
        yield Figure("life", "memory, 8 partitions under load", "MiB", False), running.pss_bytes() / MIB


def restart(peer: Peer, data: Path) -> Iterator[tuple[Figure, float]]:
    """kill -9 with a log of 2 GiB, then start again on the same data."""
    seconds = 0.0
    running = peer.running(data)
    with running:
        workload = Workload(consumers=0, value_bytes=VALUE_BYTES, duration_s=1.0)
        written = 0
        while written < LOG_BYTES and seconds < RESTART_LOAD_S_MAX:
            result = measure(running.target(), workload, None, lambda *_: None, keep_topic=True)
            written += result.produce.records * VALUE_BYTES
            seconds += result.produce.seconds
        running.kill()
    begun = time.monotonic()
    with peer.running(data) as running:
        _acknowledge_one(running)
        yield (
            Figure("life", "kill -9 with a full log, until it acknowledges", "s", False),
            time.monotonic() - begun,
        )
        yield Figure("life", "log at that time", "MiB", True), written / MIB


RESTART_LOAD_S_MAX = 60.0
LIFE: tuple[LifeMeasure, ...] = (
    LifeMeasure("start", start),
    LifeMeasure("memory under load", loaded),
    LifeMeasure("restart", restart),
)

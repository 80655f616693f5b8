"""Acknowledging: measure with bounds, and ask a peer for one acknowledgement, in this process, at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from bench.peers.workloads import PATIENCE_S
from loadtest.clients import client_module
from loadtest.course import Course
from loadtest.result import Result
from loadtest.run import Run
from loadtest.run import measure as measure_on_new_topic
from loadtest.watching import Watched, Watcher
from loadtest.workload import Target, Workload

TOPIC = "peers"
ACKNOWLEDGED_S_MAX = 120.0
ATTEMPT_AGAIN_S = 0.05
ONE_RECORD = Workload(consumers=0, batch_records=1)


class FellBehindError(RuntimeError):
    """The peer, or its client, did not get through a workload in time."""


@dataclass(slots=True)
class Patience:
    """A load test's progress callback that ends what takes too long; at most PATIENCE_S after the load."""

    workload: Workload

    def __call__(self, course: Course, watcher: Watcher, at_s: float) -> None:
        if at_s > self.workload.load_s + PATIENCE_S:
            raise FellBehindError(
                f"too slow: {PATIENCE_S:g} s after the load {course.acknowledged:,} were acknowledged "
                f"({course.acknowledged / at_s:,.0f} a second), {course.consumed:,} read"
            )


def measure(target: Target, workload: Workload, watched: Watched | None = None) -> Result:
    """On a new topic, which is deleted. Raises FellBehindError, and what the load test raises."""
    return measure_on_new_topic(target, workload, watched, Patience(workload))


def measure_here(target: Target, workload: Workload) -> Result:
    """On the topic that the target has. Raises as ``measure``."""
    return Run(target, workload, None, Patience(workload)).measure()


@contextmanager
def topic(target: Target, partitions: int, name: str = TOPIC) -> Iterator[Target]:
    """A topic of that name, made now; it stays."""
    named = msgspec.structs.replace(target, topic=name)
    with client_module(named).topic_of(named, partitions, keep=True):
        yield named


@dataclass(slots=True)
class _Settling:
    """Counts what is acknowledged, and notes when; from whatever thread tells."""

    acknowledged: int = 0
    last_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, count: int, acknowledged: bool) -> None:
        if acknowledged:
            with self.lock:
                self.acknowledged += count
                self.last_s = time.monotonic()


def send(target: Target, workload: Workload, calls: Sequence[tuple[list[bytes], list[bytes]]]) -> float:
    """Some (values, keys), a call each; returns when the last was acknowledged (monotonic seconds).

    Raises RuntimeError where one was not, and what the client raises.
    """
    producer = client_module(target).ClientProducer(target, workload)
    settling = _Settling()
    for values, keys in calls:
        producer.send(values, keys, settling)
    producer.finish()
    wanted = sum(len(values) for values, _ in calls)
    if settling.acknowledged < wanted:
        raise RuntimeError(f"{wanted - settling.acknowledged} of {wanted} records were not acknowledged")
    return settling.last_s


def first_acknowledgement(target: Target, workload: Workload) -> float:
    """When one record was acknowledged (monotonic seconds); asks again while the peer is not ready."""
    value = bytes(workload.value_bytes)
    return insist(lambda: send(target, workload, [([value], [b"key"])]))


def insist(ask: Callable[[], float]) -> float:
    """What ``ask`` returns, as soon as it raises nothing; its error after ACKNOWLEDGED_S_MAX."""
    give_up_at = time.monotonic() + ACKNOWLEDGED_S_MAX
    while True:
        try:
            return ask()
        except Exception:
            # A peer that is not ready yet says so in as many ways as there are clients.
            if time.monotonic() > give_up_at:
                raise
        time.sleep(ATTEMPT_AGAIN_S)

"""Groups: how soon a member reads, how soon it has its share, how much one coordinator serves.

The first two go through the SDK, the rest is raw: DEALERs with requests in flight, so that the
coordinator is the limit. Every number is taken on a whole broker with its routers and its disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.broker import Broker
from bench.group_roles import PARTITIONS, TOPIC
from bench.targets import Outcome, Target, percentile
from bench.wire import RequestFailed, Wire
from bench.worker import BackgroundWorker
from bench.yardsticks import START, WORK
from odradek import Consumer, Producer, TopicPartition

FIRST_RECORD_S_MAX = 0.1
SHARE_S_MAX = 0.5
COMMITS_PER_S_MIN = 5_000
RESTART_S_MAX = 1.0
MEMBERS = 1_000
MEMBER_PROCESSES = 2
JOIN_S_MAX = 30.0
BEATS_PER_S_MIN = 1_000
"""Every one of the members, once a second, as the coordinator asks them to."""

ROUNDS = 15
COMMIT_PROCESSES = 2
COMMITS_PER_PROCESS = 20_000
STORED_OFFSETS = 100_000
RESTART_PARTITIONS = 20
STORES_IN_FLIGHT = 64
RETRY_S = 0.01
BEAT_P99_MS_MAX = 1_000.0
"""What the coordinator asks for itself: a heartbeat is answered before the next one is due."""
WAIT_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Reader:
    """A member that polls in a thread until told to stop; ``held`` is set with its first partition."""

    consumer: Consumer
    stop: threading.Event
    held: threading.Event
    thread: threading.Thread

    def close(self) -> None:
        self.stop.set()
        self.thread.join()
        self.consumer.close()


def measure(directory: Path) -> Outcome:
    """All parts on one broker, the restart on its own."""
    with Broker(directory / "groups-data") as broker:
        with Wire(broker.router) as wire:
            wire.create_topic(TOPIC, PARTITIONS)
        with Producer(broker.router) as producer:
            for partition in range(PARTITIONS):
                producer.send_many(TOPIC, [b"x" * 100] * 100, partition=partition)
            producer.flush(WAIT_S_MAX)
        firsts_s = [_first_record_s(broker.router, f"first-{number}") for number in range(ROUNDS)]
        shares_s = [_share_s(broker.router, f"share-{number}") for number in range(ROUNDS)]
        commits_per_s = _commits_per_s(broker.router)
        crowd = _crowd(broker.router)
    restart_s = _restart_s(directory / "groups-restart-data")
    return _outcome(firsts_s, shares_s, commits_per_s, crowd, restart_s)


def _first_record_s(router: str, group: str) -> float:
    """From the making of a consumer to its first record; the group knows the topic's positions."""
    commit = [{"topic": TOPIC, "partition": number, "offset": 50} for number in range(PARTITIONS)]
    with Wire(router) as wire:
        wire.ask({"api": "offset_commit", "group": group, "offsets": commit})
    begun = time.perf_counter()
    with Consumer(router, group=group, topics=[TOPIC]) as consumer:
        records = consumer.poll(WAIT_S_MAX, 1)
        took_s = time.perf_counter() - begun
    if not records or records[0].offset != 50:
        raise RequestFailed(f"the first record is {records}")
    return took_s


def _share_s(router: str, group: str) -> float:
    """From the making of a second member to its whole share, while the first one reads on."""
    first = _reader(router, group, PARTITIONS)
    if not first.held.wait(WAIT_S_MAX):
        raise RequestFailed("the first member got no partitions")
    # The second comes at any moment between two heartbeats of the first.
    threading.Event().wait(0.1 + (int(group.rsplit("-", 1)[1]) % 10) / 10)
    begun = time.perf_counter()
    second = _reader(router, group, PARTITIONS // 2)
    shared = second.held.wait(WAIT_S_MAX)
    took_s = time.perf_counter() - begun
    second.close()
    first.close()
    if not shared:
        raise RequestFailed("the second member never got its share")
    return took_s


def _reader(router: str, group: str, share: int) -> Reader:
    stop, held = threading.Event(), threading.Event()
    holds: set[TopicPartition] = set()

    def take(partitions: list[TopicPartition]) -> None:
        holds.update(partitions)
        if len(holds) >= share:
            held.set()

    consumer = Consumer(router, group=group, topics=[TOPIC], on_assigned=take)

    def read() -> None:
        while not stop.is_set():
            consumer.poll(0.05)

    thread = threading.Thread(target=read)
    thread.start()
    return Reader(consumer, stop, held, thread)


def _commits_per_s(router: str) -> float:
    """Commits of one position each, from several processes with requests in flight."""
    results = _together(
        "commit", router, [f"commits-{number}" for number in range(COMMIT_PROCESSES)], COMMITS_PER_PROCESS
    )
    begun = min(float(result["begun"]) for result in results)
    ended = max(float(result["ended"]) for result in results)
    return COMMIT_PROCESSES * COMMITS_PER_PROCESS / (ended - begun)


def _crowd(router: str) -> dict[str, float]:
    """A group of 1,000: the time until all have joined, until all hold their share, and heartbeats."""
    results = _together("crowd", router, ["crowd"] * MEMBER_PROCESSES, MEMBERS // MEMBER_PROCESSES)
    begun = min(float(result["begun"]) for result in results)
    held = sum(int(result["held"]) for result in results)
    if held != PARTITIONS:
        raise RequestFailed(f"{MEMBERS} members hold {held} of {PARTITIONS} partitions")
    return {
        "join_s": max(float(result["joined"]) for result in results) - begun,
        "converge_s": max(float(result["converged"]) for result in results) - begun,
        "paced_per_s": sum(float(result["paced_per_s"]) for result in results),
        "beat_p99_ms": max(float(result["beat_p99_ms"]) for result in results),
        "beats_per_s": sum(float(result["beats_per_s"]) for result in results),
    }


def _together(role: str, router: str, groups: Sequence[str], count: int) -> list[dict[str, Any]]:
    """The results of one process for each group name, all running at the same time."""
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                BackgroundWorker(
                    "bench.group_roles", role, "--router", router, "--group", group, "--count", str(count)
                )
            )
            for group in groups
        ]
        return [worker.result() for worker in workers]


def _restart_s(data: Path) -> float:
    """kill -9 of the coordinator until it gives out positions again; 100,000 of them are stored."""
    with Broker(data) as broker, Wire(broker.router) as wire:
        wire.create_topic(TOPIC, RESTART_PARTITIONS)
        groups = [f"group-{number}" for number in range(STORED_OFFSETS // RESTART_PARTITIONS)]
        for number, group in enumerate(groups):
            if number >= STORES_IN_FLIGHT:
                wire.hear()
            offsets = [
                {"topic": TOPIC, "partition": partition, "offset": number}
                for partition in range(RESTART_PARTITIONS)
            ]
            wire.tell({"api": "offset_commit", "group": group, "offsets": offsets})
        for _ in range(STORES_IN_FLIGHT):
            wire.hear()
        begun = time.perf_counter()
        os.kill(_coordinator_pid(wire), signal.SIGKILL)
        found = _answered(wire, {"api": "offset_fetch", "group": groups[-1], "timeout_ms": 200})
        took_s = time.perf_counter() - begun
    if [row["offset"] for row in found["offsets"]] != [len(groups) - 1] * RESTART_PARTITIONS:
        raise RequestFailed("the coordinator came back without what was committed")
    return took_s


def _coordinator_pid(wire: Wire) -> int:
    (actor,) = [each for each in wire.ask({"api": "status"})["actors"] if each["name"] == "coordinator"]
    return int(actor["pid"])


def _answered(wire: Wire, request: dict[str, Any]) -> dict[str, Any]:
    """The reply to a request that is asked again until there is one without an error."""
    give_up_at = time.monotonic() + WAIT_S_MAX
    while True:
        try:
            return wire.ask(request)
        except RequestFailed:
            if time.monotonic() > give_up_at:
                raise
            threading.Event().wait(RETRY_S)


def _outcome(
    firsts_s: list[float],
    shares_s: list[float],
    commits_per_s: float,
    crowd: dict[str, float],
    restart_s: float,
) -> Outcome:
    def most(
        name: str,
        measured: float,
        limit: float,
        unit: str,
        detail: str = "",
        rounds: Sequence[float] = (),
        yardstick: str = WORK,
    ) -> Target:
        return Target("groups", name, measured, limit, unit, False, detail, tuple(rounds), yardstick)

    def least(name: str, measured: float, limit: float, unit: str) -> Target:
        return Target("groups", name, measured, limit, unit, at_least=True, yardstick=WORK)

    def spread(values_s: list[float]) -> str:
        return f"median of {len(values_s)}, the worst {max(values_s):.3f} s"

    targets = [
        most(
            "first record after joining an idle group", statistics.median(firsts_s),
            FIRST_RECORD_S_MAX, "s", spread(firsts_s), firsts_s,
        ),
        most(
            "a new member has its share", percentile(shares_s, 90), SHARE_S_MAX, "s",
            f"9 of 10; {spread(shares_s)}", shares_s, yardstick="",
        ),
        least("commits on one coordinator", commits_per_s, COMMITS_PER_S_MIN, "/s"),
        most("1,000 members join one group", crowd["join_s"], JOIN_S_MAX, "s"),
        most("1,000 members have converged", crowd["converge_s"], JOIN_S_MAX, "s"),
        most("heartbeat of 1,000 members, p99", crowd["beat_p99_ms"], BEAT_P99_MS_MAX, "ms"),
        least("heartbeats of 1,000 members, flat out", crowd["beats_per_s"], BEATS_PER_S_MIN, "/s"),
        most(
            "coordinator back after kill -9, 100,000 offsets", restart_s, RESTART_S_MAX, "s",
            "found dead, started, replayed, asked", yardstick=START,
        ),
    ]  # fmt: skip
    numbers: dict[str, object] = {
        "first_record_s": firsts_s,
        "share_s": shares_s,
        "commits_per_s": commits_per_s,
        "crowd": crowd,
        "restart_s": restart_s,
    }
    return Outcome(targets, numbers)

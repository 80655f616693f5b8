"""Start-up time and memory of the process tree, with few and with many partitions."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.broker import Broker
from bench.targets import Outcome, Target
from bench.wire import Wire
from bench.yardsticks import MEMORY, START

FEW_PARTITIONS = 8
MANY_PARTITIONS = 200
READY_FEW_S_MAX = 1.0
READY_MANY_S_MAX = 6.0
STARTS_FEW = 3
STARTS_MANY = 1
MIB = 1 << 20
ACTOR_PSS_MIB_MAX = 8.0
BROKER_PSS_MIB_MAX = 120.0


def measure(directory: Path) -> Outcome:
    """Create topics, stop, and start again as an operator would after an upgrade."""
    few, sizes = _restarts(directory / "few-data", FEW_PARTITIONS, STARTS_FEW)
    many, many_sizes = _restarts(directory / "many-data", MANY_PARTITIONS, STARTS_MANY)
    actors = [size / MIB for title, size in sizes.items() if "partition" in title]
    many_actors = [size / MIB for title, size in many_sizes.items() if "partition" in title]
    total = sum(sizes.values()) / MIB
    targets = [
        _ready(FEW_PARTITIONS, few, READY_FEW_S_MAX),
        _ready(MANY_PARTITIONS, many, READY_MANY_S_MAX),
        Target("tree", "PSS of an idle partition actor", max(actors, default=float("inf")),
               ACTOR_PSS_MIB_MAX, "MiB", at_least=False,
               detail=f"largest of {len(actors)}", rounds=tuple(actors), yardstick=MEMORY),
        Target("tree", f"PSS of the whole broker, {FEW_PARTITIONS} partitions", total,
               BROKER_PSS_MIB_MAX, "MiB", at_least=False,
               detail=f"{len(sizes)} processes; {total - sum(actors):.0f} MiB besides the partitions",
               yardstick=MEMORY),
    ]  # fmt: skip
    numbers: dict[str, object] = {
        "ready_s_few": few,
        "ready_s_many": many,
        "pss_bytes_few": sizes,
        "pss_mib_actor_many_median": statistics.median(many_actors) if many_actors else None,
        "pss_mib_total_many": sum(many_sizes.values()) / MIB,
    }
    return Outcome(targets, numbers)


def _restarts(data: Path, partitions: int, starts: int) -> tuple[list[float], dict[str, int]]:
    """Ready times of starts with existing topics, and the PSS of each process after the last."""
    with Broker(data) as broker, Wire(broker.router) as wire:
        wire.create_topic("idle", partitions)
    ready_s: list[float] = []
    sizes: dict[str, int] = {}
    for _ in range(starts):
        with Broker(data) as broker:
            ready_s.append(broker.ready_s)
            sizes = broker.pss_bytes()
    return ready_s, sizes


def _ready(partitions: int, ready_s: list[float], limit_s: float) -> Target:
    detail = f"median of {len(ready_s)}"
    return Target(
        "tree", f"ready with {partitions} partitions", statistics.median(ready_s), limit_s, "s",
        at_least=False, detail=detail, rounds=tuple(ready_s), yardstick=START,
    )  # fmt: skip

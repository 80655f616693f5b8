"""A thousand partitions: how soon they serve, what each holds, what they cost when idle, and what they carry.

Takes minutes and gigabytes of memory, so it runs only when it is asked for: ``python -m bench crowd``.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench.broker import Broker
from bench.targets import Outcome, Target, median_ratio
from bench.worker import run_worker
from odradek import Admin

PARTITIONS = 1_000
FEW_PARTITIONS = 8
READY_S_MAX = 20.0
PARTITION_PSS_BYTES_MAX = 6e6
THROUGHPUT_RATIO_MIN = 0.8
CREATE_S_MAX = PARTITIONS * 0.1
STATUS_S_MAX = 5.0
IDLE_CORES_MAX = 0.25
IDLE_S = 10.0
ROUNDS = 3
ROUND_S = 4.0
SETTLE_S = 5.0


def measure(directory: Path) -> Outcome:
    """Create the topic, start again with it, look at the idle tree, then produce over few and over many."""
    data = directory / "crowd"
    with Broker(data) as broker, Admin(broker.router) as admin:
        begun = time.perf_counter()
        admin.create_topic("many", PARTITIONS)
        create_s = time.perf_counter() - begun
        admin.create_topic("few", FEW_PARTITIONS)
    with Broker(data) as broker:
        ready_s = broker.ready_s
        time.sleep(SETTLE_S)
        idle_cores = _idle_cores(broker)
        sizes = [size for title, size in broker.pss_bytes().items() if "partition many" in title]
        status_s = _status_s(broker)
        rates = {keys: _rates(broker, keys) for keys in ("none", "uniform")}
    ratios = {keys: median_ratio(many, few) for keys, (few, many) in rates.items()}
    targets = [
        Target("crowd", f"ready with {PARTITIONS} partitions", ready_s, READY_S_MAX, "s", at_least=False),
        Target("crowd", f"topic of {PARTITIONS} made", create_s, CREATE_S_MAX, "s", at_least=False),
        Target("crowd", "PSS of a partition", statistics.median(sizes) / 1e6, PARTITION_PSS_BYTES_MAX / 1e6,
               "MB", at_least=False, detail=f"median of {len(sizes)}, largest {max(sizes) / 1e6:.2f}"),
        Target("crowd", "CPU of the idle broker", idle_cores, IDLE_CORES_MAX, "cores", at_least=False),
        Target("crowd", "status", status_s, STATUS_S_MAX, "s", at_least=False),
        *(Target("crowd", f"produce, keys {keys}: {PARTITIONS} partitions to {FEW_PARTITIONS}", ratio,
                 THROUGHPUT_RATIO_MIN, "", at_least=True, detail=f"median of {ROUNDS} pairs")
          for keys, ratio in ratios.items()),
    ]  # fmt: skip
    numbers: dict[str, object] = {
        "create_s": create_s,
        "ready_s": ready_s,
        "pss_bytes": sizes,
        "idle_cores": idle_cores,
        "status_s": status_s,
        "records_per_s": {keys: {"few": few, "many": many} for keys, (few, many) in rates.items()},
    }
    return Outcome(targets, numbers)


def _idle_cores(broker: Broker) -> float:
    before = broker.cpu_s()
    begun = time.perf_counter()
    time.sleep(IDLE_S)
    return (broker.cpu_s() - before) / (time.perf_counter() - begun)


def _status_s(broker: Broker) -> float:
    with Admin(broker.router) as admin:
        begun = time.perf_counter()
        admin.status()
        return time.perf_counter() - begun


def _rates(broker: Broker, keys: str) -> tuple[list[float], list[float]]:
    """Records per second over few and over many partitions, in turns."""
    rates: dict[str, list[float]] = {"few": [], "many": []}
    for _ in range(ROUNDS):
        for topic, found in rates.items():
            result = run_worker("bench.crowd_roles", broker.router, topic, keys, str(ROUND_S))
            found.append(result["records"] / result["seconds"])
    return rates["few"], rates["many"]

"""Compaction: how fast a partition's log is cleaned, and what that costs those who produce meanwhile."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from bench.broker import Broker
from bench.targets import Outcome, Target, percentile
from bench.wire import Wire
from bench.yardsticks import WORK
from odradek.protocol.batch import check_batch
from odradek.protocol.records import RecordToWrite, encode_batch
from partitions.files import OsFiles
from partitions.log import Log
from partitions.settings import MIB, LogSettings

LOG_BYTES = 128 * MIB
KEYS = 20_000
BATCH_BYTES = 16 << 10
CLEANING_MIB_S_MIN = 20.0
"""Kafka's default of one cleaner thread on a slow disk does about as much; below it would be felt."""
SETTINGS = LogSettings(segment_bytes=16 * MIB, compacts=True, min_cleanable_dirty_ratio=0.0)
NOW_MS = 1_700_000_000_000

TOPIC = "compacted"
VALUE_BYTES = 1024
PREFILL_BYTES = 96 * MIB
ROUNDS = 6
PHASE_S = 4.0
P99_RATIO_MAX = 2.0
CHECK_INTERVAL_S = 0.05
LOOK_INTERVAL_S = 0.02
BUSY_SHARE_MIN = 0.3
"""With less of its phase spent on cleaning the comparison would say nothing."""


def measure(directory: Path) -> Outcome:
    """The speed of the job alone, for two sizes of values, and p99 of produce with and without it."""
    speeds = {size: _speed(directory / f"cleaning-{size}", size) for size in (100, 1024)}
    targets = [
        Target(
            "compaction", f"cleaning, values of {size} B", mib_s, CLEANING_MIB_S_MIN, "MiB/s",
            at_least=True, detail=f"{LOG_BYTES >> 20} MiB over {KEYS:,} keys, without its rests",
            yardstick=WORK,
        )
        for size, mib_s in speeds.items()
    ]  # fmt: skip
    phases, busy = _latencies(directory / "compaction-data")
    latencies = {name: [each for phase in found for each in phase] for name, found in phases.items()}
    without, with_it = (percentile(latencies[name], 99) for name in ("without", "with"))
    by_round = [
        percentile(compacting, 99) / percentile(not_so, 99)
        for not_so, compacting in zip(phases["without"], phases["with"], strict=True)
    ]
    targets.append(
        Target(
            "compaction", "p99 of produce, compacting to not", with_it / without, P99_RATIO_MAX, "x",
            at_least=False,
            detail=f"{with_it * 1e3:.2f} ms to {without * 1e3:.2f} ms, cleaning {busy:.0%} of the time",
            rounds=tuple(by_round),
        )
    )  # fmt: skip
    numbers: dict[str, object] = {"cleaning_mib_s": speeds, "busy_share": busy}
    for name, values in latencies.items():
        numbers[name] = {f"p{rank}_ms": percentile(values, rank) * 1e3 for rank in (50, 90, 99)}
    return Outcome(targets, numbers)


# -- the job alone


def _speed(directory: Path, value_bytes: int) -> float:
    """MiB of log that one pass cleans in a second, two reads and one write of it."""
    log = Log.open(directory, SETTINGS, files=OsFiles(), wall_ms=NOW_MS, topic_id="bench")
    for batch in _batches(value_bytes, LOG_BYTES):
        log.append(batch, check_batch(batch), NOW_MS)
        log.write()
    ticket = log.sync_begin()
    assert ticket is not None
    ticket.run()
    log.sync_done(ticket, None)
    size, begun_s, passed = log.size_bytes, time.perf_counter(), 0
    while (cleaning := log.plan_cleaning(NOW_MS)) is not None:
        passed += 1
        under_way = True
        while under_way:
            for _ in cleaning.run():
                pass
            under_way = log.cleaning_done(cleaning, None)
    taken_s = time.perf_counter() - begun_s
    assert passed == 1, "one pass has room for all keys"
    assert log.size_bytes < size
    log.close()
    return size / MIB / taken_s


def _batches(value_bytes: int, total_bytes: int) -> Iterator[bytes]:
    """Random keys out of KEYS, values that no codec would make small."""
    dice = random.Random(value_bytes)
    per_batch = max(1, BATCH_BYTES // (value_bytes + 25))
    made = 0
    while made < total_bytes:
        records = [
            RecordToWrite(NOW_MS, b"key-%07d" % dice.randrange(KEYS), dice.randbytes(value_bytes))
            for _ in range(per_batch)
        ]
        batch = encode_batch(records)
        made += len(batch)
        yield batch


# -- beside a producer


def _latencies(data: Path) -> tuple[dict[str, list[list[float]]], float]:
    """Seconds of each produce by phase, with and without compaction; the share in which it really went on."""
    found: dict[str, list[list[float]]] = {"without": [], "with": []}
    looks: list[bool] = []
    with Broker(data, retention_check_interval_s=CHECK_INTERVAL_S) as broker, Wire(broker.router) as wire:
        _create(wire)
        for batch in _batches(VALUE_BYTES, PREFILL_BYTES):
            wire.ask({"api": "produce", "topic": TOPIC, "partition": 0, "format": "batch"}, [batch])
        for _ in range(ROUNDS):
            for name, policy in (("without", "delete"), ("with", "compact")):
                _set_policy(wire, policy)
                _produce(wire, 0.5)  # what was under way comes to its end, or begins
                found[name].append(_produce(wire, PHASE_S, data if name == "with" else None, looks))
    busy = sum(looks) / len(looks)
    if busy < BUSY_SHARE_MIN:
        raise RuntimeError(f"only {busy:.0%} of the phase was spent on compaction")
    return found, busy


def _create(wire: Wire) -> None:
    config = {
        "cleanup.policy": "delete",
        "min.cleanable.dirty.ratio": 0,
        "segment.bytes": MIB,
        "file.delete.delay.ms": 0,
    }
    reply = wire.ask({"api": "create_topics", "topics": [{"name": TOPIC, "partitions": 1, "config": config}]})
    assert not reply["topics"][0]["error"], reply


def _set_policy(wire: Wire, policy: str) -> None:
    wire.ask({"api": "alter_configs", "topic": TOPIC, "config": {"cleanup.policy": policy}})


def _produce(
    wire: Wire, seconds: float, data: Path | None = None, looks: list[bool] | None = None
) -> list[float]:
    """One record at a time; now and then a look whether a segment is being cleaned."""
    taken: list[float] = []
    dice, value = random.Random(len(looks or ())), random.Random(1).randbytes(VALUE_BYTES)
    now = time.perf_counter()
    end_s, look_s = now + seconds, now
    while now < end_s:
        key = f"key-{dice.randrange(KEYS):07d}"
        begun_s = time.perf_counter()
        wire.ask({"api": "produce", "topic": TOPIC, "partition": 0, "key": key}, [value])
        now = time.perf_counter()
        taken.append(now - begun_s)
        if data is not None and looks is not None and now >= look_s:
            looks.append(any(data.glob(f"{TOPIC}-0/*.cleaned")))
            look_s = now + LOOK_INTERVAL_S
    return taken

"""Restart after kill -9 with a large log: the time until everything serves again."""

from __future__ import annotations

import time
from pathlib import Path

from bench.broker import Broker
from bench.records import BATCH_BYTES_MAX, values
from bench.targets import Outcome, Target
from bench.wire import RequestFailed, Wire
from bench.yardsticks import START
from odradek.protocol.batch import read_header
from odradek.protocol.records import new_builder

LOG_BYTES = 2 << 30
RESTART_S_MAX = 2.0
BATCHES_IN_FLIGHT = 8
TOPIC = "large"


def measure(directory: Path) -> Outcome:
    """Fill one partition, kill the broker while it still writes, and start it again."""
    data = directory / "restart-data"
    batch = _full_batch()
    batch_count = -(-LOG_BYTES // len(batch))
    broker = Broker(data)
    with Wire(broker.router) as wire:
        wire.create_topic(TOPIC, 1)
        _fill(wire, batch, batch_count)
        for _ in range(BATCHES_IN_FLIGHT):
            wire.tell(_REQUEST, [batch])
        broker.kill()
    acknowledged = batch_count * read_header(batch).record_count
    with Broker(data) as restarted, Wire(restarted.router) as wire:
        end = wire.ask({"api": "list_offsets", "topic": TOPIC, "partition": 0, "at": "latest"})["offset"]
        if end < acknowledged:
            raise RequestFailed(f"{acknowledged} records were acknowledged, the log ends at {end}")
        ready_s = restarted.ready_s
    target = Target(
        "restart", "restart after kill -9, 2 GiB of log", ready_s, RESTART_S_MAX, "s",
        at_least=False, detail=f"{acknowledged} acknowledged records, all there", yardstick=START,
    )  # fmt: skip
    return Outcome([target], {"ready_s": ready_s, "records": acknowledged, "end_offset": end})


_REQUEST = {"api": "produce", "topic": TOPIC, "partition": 0, "format": "batch"}


def _full_batch() -> bytes:
    builder = new_builder(BATCH_BYTES_MAX)
    source = values()
    count = 0
    while builder.append(count, int(time.time() * 1000), None, source[count % len(source)], []) is not None:
        count += 1
    return bytes(builder.build())


def _fill(wire: Wire, batch: bytes, batch_count: int) -> None:
    for number in range(batch_count):
        if number >= BATCHES_IN_FLIGHT:
            wire.hear()
        wire.tell(_REQUEST, [batch])
    for _ in range(min(batch_count, BATCHES_IN_FLIGHT)):
        wire.hear()

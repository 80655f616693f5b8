"""More partitions than a client has connections: records reach each of them and come back, before and after a
restart."""

from __future__ import annotations

import time
from pathlib import Path

from odradek import Admin, Consumer, Producer, TopicPartition
from odradek.connection import ENDPOINTS_MAX
from supervisor.noticeboard import CROWD
from tests.support.broker import BrokerProcess

PARTITIONS = max(ENDPOINTS_MAX, CROWD) + 16
PATIENCE_S = 120.0
READY_S_MAX = 240.0


def read(router: str, expected: int) -> dict[int, list[bytes | None]]:
    """What every partition holds, when ``expected`` records have come."""
    found: dict[int, list[bytes | None]] = {}
    with Consumer(router, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("many", partition) for partition in range(PARTITIONS)])
        until_s, count = time.monotonic() + PATIENCE_S, 0
        while count < expected and time.monotonic() < until_s:
            for record in consumer.poll(1.0, expected):
                found.setdefault(record.partition, []).append(record.value)
                count += 1
    return found


def test_every_one_of_many_partitions_is_written_and_read(tmp_path: Path) -> None:
    wanted = {partition: [b"%d" % partition] for partition in range(PARTITIONS)}
    broker = BrokerProcess(tmp_path / "data")
    try:
        broker.start(timeout_s=READY_S_MAX)
        with Admin(broker.bootstrap, timeout_ms=READY_S_MAX * 1000) as admin:
            admin.create_topic("many", PARTITIONS)
            rows = admin.status()
            assert sum(row.state == "serving" and row.role == "partition" for row in rows) == PARTITIONS
        with Producer(broker.bootstrap) as producer:
            for partition, (value,) in wanted.items():
                producer.send("many", value, partition=partition)
        assert read(broker.bootstrap, PARTITIONS) == wanted
        broker.stop()
        broker.start(timeout_s=READY_S_MAX)
        assert read(broker.bootstrap, PARTITIONS) == wanted
    finally:
        broker.close()

"""Whose time a record bears: its producer's or the broker's, and that everybody is told the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import pytest

from odradek import Consumer, Producer, TopicPartition
from tests.support.rawclient import Served, serve

pytestmark = pytest.mark.processes

WAIT_S = 30.0
LONG_AGO_MS = 1_000_000_000_000


@pytest.fixture(scope="module")
def broker() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "router"])
@pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
def test_producer_and_consumer_are_told_the_same_time(
    broker: Served, kind: str, direct: bool, compression: Literal["none", "lz4"]
) -> None:
    topic = f"{kind}-{direct}-{compression}"
    with broker.client() as client:
        client.create(topic, message_timestamp_type=kind)
    before_ms = time.time_ns() // 1_000_000
    with Producer(broker.endpoint, compression=compression, direct=direct) as producer:
        told = [producer.send(topic, b"one", timestamp=LONG_AGO_MS).result(WAIT_S).timestamp]
        many = producer.send_many(topic, [b"v"] * 10, timestamp=LONG_AGO_MS)
        told += [metadata.timestamp for metadata in many.results(WAIT_S)]
    after_ms = time.time_ns() // 1_000_000
    with Consumer(broker.endpoint, direct=direct) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek_to_beginning()
        read: list[int] = []
        while len(read) < len(told):
            read += [record.timestamp for record in consumer.poll(WAIT_S)]
    assert read == told
    if kind == "CreateTime":
        assert set(told) == {LONG_AGO_MS}
    else:
        assert all(before_ms <= stamp <= after_ms for stamp in told)

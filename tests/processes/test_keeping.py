"""What a topic keeps, on a real disk: retention through the broker's settings, and a disk nearly full."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.rawclient import KAFKA_STORAGE_ERROR, RawClient, Served, serve

pytestmark = pytest.mark.processes

WAIT_S = 40.0
COMMITTED = {"topic": "full", "partition": 0, "offset": 0}


def files(served: Served, topic: str, pattern: str) -> list[Path]:
    return sorted((served.data / f"{topic}-0").glob(pattern))


def wait_for_start(client: RawClient, topic: str, offset: int) -> None:
    """Asks until the topic begins at ``offset``; each answer takes its time."""
    deadline_s = time.monotonic() + WAIT_S
    while client.offset_of(topic, "earliest") != offset:
        assert time.monotonic() < deadline_s, "retention did not come"
        client.fetch(topic, client.offset_of(topic, "latest"), max_wait_ms=50)


def test_old_records_go_and_new_ones_go_on_behind_them() -> None:
    with serve(retention_check_interval_s=0.1) as served, served.client() as client:
        client.create("old", segment_bytes=1024, file_delete_delay_ms=0)
        for number in range(10):
            client.produce("old", b"x" * 300, timestamp=1_000_000_000_000 + number).ok()
        wait_for_start(client, "old", 10)
        assert client.produce("old", b"new").ok()["offset"] == 10
        assert [record.value for record in client.records("old", offset=10)] == [b"new"]
        deadline_s = time.monotonic() + WAIT_S
        while files(served, "old", "*.deleted"):
            assert time.monotonic() < deadline_s, "the space did not come back"
            client.fetch("old", 11, max_wait_ms=50)
        assert [path.name for path in files(served, "old", "*.log")] == [f"{10:020d}.log"]


def test_a_topic_that_keeps_for_ever_keeps_what_others_let_go() -> None:
    with serve(retention_check_interval_s=0.1) as served, served.client() as client:
        for topic, retention_ms in (("kept", -1), ("old", 1_000)):
            client.create(topic, retention_ms=retention_ms)
            client.produce(topic, b"v", timestamp=1_000_000_000_000).ok()
        wait_for_start(client, "old", 1)
        assert client.offset_of("kept", "earliest") == 0


def test_below_the_free_space_that_is_to_stay_only_records_are_refused() -> None:
    with serve(disk_free_bytes_min=1 << 50) as served, served.client() as client:
        client.create("full")
        refused = client.call("produce", b"v", topic="full", partition=0)
        assert refused.code == KAFKA_STORAGE_ERROR
        assert "disk_free_bytes_min" in refused.message
        assert client.offset_of("full", "latest") == 0
        committed = client.call("offset_commit", group="g", offsets=[COMMITTED]).ok()
        assert committed["offsets"][0]["error"] is None
        client.create("another")

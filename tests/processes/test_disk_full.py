"""A disk that is really full: what is refused, what goes on, and that nothing acknowledged suffers.

Each test has a tmpfs of its own, filled to the last byte behind the broker's back. Without the right to
mount they are skipped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.broker import BrokerProcess
from tests.support.rawclient import KAFKA_STORAGE_ERROR, RawClient, RawReply
from tests.support.smalldisk import SmallDisk, small_disk

pytestmark = pytest.mark.processes

MIB = 1 << 20
DISK_BYTES = 40 * MIB
BALLAST_BYTES = 8 * MIB
WAIT_S = 30.0
BATCH_BYTES = 400_000
BATCHES_MAX = 200
NOTE = "m" * 4_000
GROUPS = 300


@contextmanager
def full_broker(tmp_path: Path, **settings: object) -> Iterator[tuple[SmallDisk, BrokerProcess, RawClient]]:
    """A broker on a small disk that is not full yet; its soft limit is as low as it goes."""
    with (
        small_disk(tmp_path / "disk", DISK_BYTES) as disk,
        BrokerProcess(disk.path / "data", disk_free_bytes_min=0, **settings) as process,  # type: ignore[arg-type]
        RawClient(process.bootstrap) as client,
    ):
        yield disk, process, client


@pytest.fixture(params=[0, BALLAST_BYTES], ids=["bare", "ballast"])
def ballast_bytes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        threading.Event().wait(0.05)


def value_of(number: int) -> bytes:
    return b"%08d" % number * (BATCH_BYTES // 8)


def produce_until_refused(client: RawClient, topic: str, first: int) -> tuple[int, RawReply]:
    """Records one by one from number ``first`` on; the number of the refused one, and its reply."""
    for number in range(first, first + BATCHES_MAX):
        reply = client.call("produce", value_of(number), topic=topic, partition=0)
        if reply.code is not None:
            return number, reply
        assert reply["offset"] == number
    raise AssertionError("the disk was never full")


def check_refusal(reply: RawReply) -> None:
    assert reply.code == KAFKA_STORAGE_ERROR
    assert reply["error"]["retriable"]
    assert "ree disk space" in reply.message


def produce_when_there_is_space(client: RawClient, topic: str, number: int) -> None:
    """Sent again until it is taken, as a producer does: at the very next offset."""
    wait_for(
        "records are still refused",
        lambda: client.call("produce", value_of(number), topic=topic, partition=0).code is None,
    )
    assert client.offset_of(topic, "latest") == number + 1


def check_records(client: RawClient, topic: str, count: int) -> None:
    found: list[bytes] = []
    while len(found) < count:
        found += [record.value or b"" for record in client.records(topic, offset=len(found))]
    assert found == [value_of(number) for number in range(count)]


def commit(client: RawClient, group: str, offset: int) -> str | None:
    """The name of the commit's error."""
    row = {"topic": "events", "partition": 0, "offset": offset, "metadata": NOTE}
    reply = client.call("offset_commit", group=group, offsets=[row])
    error = reply["error"] or reply["offsets"][0]["error"]
    return None if error is None else str(error["name"])


def committed(client: RawClient, group: str) -> int:
    (row,) = client.call("offset_fetch", group=group, topics=["events"]).ok()["offsets"] or [{"offset": -1}]
    return int(row["offset"])


@pytest.mark.parametrize("config", [{}, {"segment_bytes": 500_000}], ids=["batch", "roll"])
def test_in_the_middle_of_a_batch_or_of_a_roll(
    tmp_path: Path, config: dict[str, int], ballast_bytes: int
) -> None:
    with full_broker(tmp_path, ballast_bytes=ballast_bytes) as (disk, process, client):
        client.create("events", **config)
        taken = 5
        for number in range(taken):
            client.produce("events", value_of(number)).ok()
        for spared in (3 * BATCH_BYTES // 2, 0):
            disk.fill(keep_free_bytes=spared)
            taken, refused = produce_until_refused(client, "events", taken)
            check_refusal(refused)
            check_records(client, "events", taken)
            assert client.offset_of("events", "latest") == taken
        disk.free()
        produce_when_there_is_space(client, "events", taken)
        process.child("partition events-0").kill()
        wait_for(
            "the partition came back",
            lambda: client.call("fetch", topic="events", partition=0, offset=0).code is None,
        )
        check_records(client, "events", taken + 1)
        assert client.produce("events", value_of(taken + 1)).ok()["offset"] == taken + 1


def test_with_ballast_commits_and_the_catalogue_go_on(tmp_path: Path) -> None:
    with full_broker(tmp_path, ballast_bytes=BALLAST_BYTES) as (disk, process, client):
        client.create("events", segment_bytes=500_000)
        client.produce("events", value_of(0)).ok()
        disk.fill()
        taken, refused = produce_until_refused(client, "events", 1)
        check_refusal(refused)
        # More than the coordinator's log has space reserved for.
        assert {commit(client, f"group-{number}", number) for number in range(GROUPS)} == {None}
        client.call("alter_configs", topic="events", config={"retention.ms": 86_400_000}).ok()
        client.create("more", 2)
        client.call("delete_topics", names=["more"]).ok()
        check_records(client, "events", taken)
        check_refusal(client.call("produce", value_of(taken), topic="events", partition=0))
        wait_for("the log says it", lambda: bool(process.events("disk full: ballast given back")))
        reason = {row["name"]: row["reason"] for row in client.call("status").ok()["actors"]}["supervisor"]
        assert "of 8 MiB of the ballast are missing" in reason

        process.child("coordinator").kill()
        process.child("partition events-0").kill()
        wait_for("the coordinator is back", lambda: client.call("offset_fetch", group="group-0").code is None)
        assert [committed(client, f"group-{number}") for number in range(GROUPS)] == list(range(GROUPS))
        wait_for(
            "the partition is back",
            lambda: client.call("fetch", topic="events", partition=0, offset=0).code is None,
        )
        check_records(client, "events", taken)

        disk.free()
        produce_when_there_is_space(client, "events", taken)
        wait_for("the ballast is whole again", lambda: bool(process.events("ballast whole again")))
        assert client.call("status").ok()["actors"][0]["reason"] is None
        described = client.call("describe_configs", topic="events").ok()["config"]
        assert described["retention.ms"]["value"] == 86_400_000


def test_without_ballast_they_are_refused_change_nothing_and_resume(tmp_path: Path) -> None:
    with full_broker(tmp_path, ballast_bytes=0) as (disk, process, client):
        client.create("events")
        assert commit(client, "group", 0) is None
        disk.fill()
        offset = 0
        for number in range(1, 2 * GROUPS):
            error = commit(client, "group", number)
            if error is not None:
                assert error == "KAFKA_STORAGE_ERROR"
                break
            offset = number
        else:
            raise AssertionError("the coordinator's log was never full")
        assert committed(client, "group") == offset
        refused = client.call("alter_configs", topic="events", config={"retention.ms": 5})
        assert refused.code == KAFKA_STORAGE_ERROR
        assert "nothing was changed" in refused.message
        disk.free()
        wait_for("commits are still refused", lambda: commit(client, "group", offset + 1) is None)
        described = client.call("describe_configs", topic="events").ok()["config"]
        assert described["retention.ms"]["value"] == described["retention.ms"]["default"]
        process.restart()
    assert not (tmp_path / "disk" / "data").exists(), "the disk is gone"


def test_others_that_fill_the_disk_again_and_again_use_up_the_upper_half_only(tmp_path: Path) -> None:
    with full_broker(tmp_path, ballast_bytes=BALLAST_BYTES) as (disk, process, client):
        client.create("events")
        ballast = disk.path / "data" / "odradek.ballast"

        def half_is_gone() -> bool:
            disk.fill()
            return len(list(ballast.iterdir())) == BALLAST_BYTES // MIB // 2

        wait_for("the upper half was never given back", half_is_gone)
        for _ in range(2):
            disk.fill()
            process.child("partition events-0").kill()
            wait_for(
                "the partition is back",
                lambda: client.call("fetch", topic="events", partition=0, offset=0).code is None,
            )
        client.call("alter_configs", topic="events", config={"retention.ms": 86_400_000}).ok()
        assert {commit(client, "group", number) for number in range(GROUPS)} == {None}


def test_deleting_makes_space_on_a_full_disk(tmp_path: Path) -> None:
    settings = {"ballast_bytes": BALLAST_BYTES, "retention_check_interval_s": 0.1}
    with full_broker(tmp_path, **settings) as (disk, _process, client):
        client.create("events", segment_bytes=500_000, file_delete_delay_ms=0)
        for number in range(50):
            client.produce("events", value_of(number)).ok()
        disk.fill()
        taken, refused = produce_until_refused(client, "events", 50)
        check_refusal(refused)
        disk.fill()
        client.call("delete_records", topic="events", partition=0, before_offset=taken).ok()
        produce_when_there_is_space(client, "events", taken)
        assert [record.value for record in client.records("events", offset=taken)] == [value_of(taken)]

"""Maintenance of a partition: when it passes, what it asks of the world, what it survives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.actor import Envelope, Moment, Synced, Worked
from actors.effects import Effect, Job, Log, Sync, Work
from actors.maintenance import CLOCK_HOLD_S
from actors.partition import PartitionActor
from odradek.protocol.messages import DeleteRecords, DeleteRecordsReply, Produce
from partitions.log import Log as PartitionLog
from partitions.retention import EXPIRED_SEGMENTS_MAX
from partitions.settings import LogSettings
from tests.support.batches import make_batch
from tests.support.simdisk import SimDisk
from tests.support.transcript import ask, only_reply

DIRECTORY = Path("/simulated/events-0")
HOUR_MS = 3_600_000
SETTINGS = LogSettings(segment_bytes=1024, retention_ms=HOUR_MS, file_delete_delay_ms=60_000)
INTERVAL_S = 300.0
WALL_MS = 1_700_000_000_000


class Rig:
    """A partition that is maintained, its disk and two clocks that can be told to disagree."""

    def __init__(self, settings: LogSettings = SETTINGS, free_bytes_min: int = 0) -> None:
        self.disk = SimDisk()
        self.log = PartitionLog.open(DIRECTORY, settings, files=self.disk, wall_ms=WALL_MS, topic_id="id")
        self.actor = PartitionActor("events", 0, self.log, INTERVAL_S, free_bytes_min)
        self.now = Moment(1_000.0, WALL_MS)
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.jobs: list[Job] = []

    def turn(self, *envelopes: Any) -> list[Effect]:
        effects: list[Effect] = []
        for envelope in envelopes:
            effects += self.actor.receive(envelope, self.now)
        return self.perform([*effects, *self.actor.settle(self.now)])

    def perform(self, effects: Sequence[Effect]) -> list[Effect]:
        done: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Sync):
                effect.ticket.run()
                done += self.perform(self.actor.receive(Synced(effect.ticket), self.now))
            elif isinstance(effect, Work):
                self.jobs.append(effect.job)
            elif isinstance(effect, Log):
                self.logged.append((effect.event, effect.fields))
            else:
                done.append(effect)
        return done

    def work(self) -> None:
        job = self.jobs.pop(0)
        list(job.run())
        self.turn(Worked(job))

    def fill(self, batches: int = 12) -> None:
        for _ in range(batches):
            self.turn(stamped_produce(self))

    def pass_time(self, seconds: float, *, jump_ms: int = 0) -> None:
        self.now = Moment(self.now.monotonic_s + seconds, self.now.wall_ms + int(seconds * 1000) + jump_ms)

    def live(self, seconds: float) -> None:
        end_s = self.now.monotonic_s + seconds
        while self.now.monotonic_s < end_s:
            deadline_s = self.actor.deadline()
            assert deadline_s is not None
            assert deadline_s > self.now.monotonic_s, "it would spin"
            self.pass_time(min(deadline_s, end_s) - self.now.monotonic_s)
            self.turn()

    def names(self, suffix: str) -> list[str]:
        return [name for name in self.disk.names[DIRECTORY] if name.endswith(suffix)]


def stamped_produce(rig: Rig, size_bytes: int = 240) -> Envelope:
    """A batch of now."""
    batch = make_batch(payload=b"x" * size_bytes, timestamp=rig.now.wall_ms)
    return ask(Produce(topic="events", partition=0, format="batch"), batch)


def test_without_an_interval_nothing_is_ever_due() -> None:
    log = PartitionLog.open(DIRECTORY, SETTINGS, files=SimDisk(), wall_ms=1, topic_id="id")
    actor = PartitionActor("events", 0, log)
    actor.settle(Moment(1.0, 1))
    assert actor.deadline() is None


def test_old_records_go_the_active_segment_too_and_the_space_comes_back_later() -> None:
    rig = Rig()
    rig.turn()
    rig.fill()
    rig.live(HOUR_MS / 1000 - INTERVAL_S)
    assert rig.log.start_offset == 0
    rig.live(2 * INTERVAL_S + 5)
    assert rig.log.start_offset == rig.log.durable_offset == 12
    assert [event for event, _ in rig.logged] == ["old segments deleted"] * 2
    assert rig.logged[0][1] == {
        "from_offset": 0,
        "start_offset": 9,
        "expired_segments": 3,
        "oversize_segments": 0,
    }
    assert len(rig.names(".log.deleted")) == 4
    assert rig.jobs == [], "the files stay for their delay"
    rig.live(62)
    assert len(rig.jobs) == 1, "one job at a time"
    rig.work()
    rig.work()
    assert rig.names(".deleted") == []


def test_records_deleted_by_a_client_give_their_space_back_too() -> None:
    rig = Rig(replace(SETTINGS, retention_ms=-1, file_delete_delay_ms=0))
    rig.fill()
    effects = rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=7)))
    assert only_reply(effects, DeleteRecordsReply).log_start_offset == 7
    assert len(rig.jobs) == 1
    rig.work()
    assert rig.names(".deleted") == []


@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_that_jumps_deletes_nothing_for_a_while_and_says_so(years: int) -> None:
    rig = Rig()
    rig.turn()
    rig.fill(200)
    rig.pass_time(INTERVAL_S, jump_ms=years * 365 * 24 * HOUR_MS)
    rig.turn()
    [(event, fields)] = rig.logged
    assert event == "the time of day jumped"
    assert fields["no_expiry_for_s"] == CLOCK_HOLD_S
    rig.live(CLOCK_HOLD_S - INTERVAL_S)
    assert rig.log.start_offset == 0
    rig.live(INTERVAL_S)
    assert rig.log.start_offset == (3 * EXPIRED_SEGMENTS_MAX if years > 0 else 0), "one pass's bound"


def test_a_full_disk_is_said_and_tried_again() -> None:
    rig = Rig()
    rig.turn()
    rig.fill()
    rig.pass_time(2 * HOUR_MS / 1000)
    rig.disk.capacity = 0
    rig.turn()
    assert [event for event, _ in rig.logged] == ["retention failed"]
    assert rig.log.start_offset == 0
    rig.disk.capacity = None
    rig.live(INTERVAL_S)
    assert rig.log.start_offset > 0


def test_a_job_that_fails_is_said_and_the_next_one_runs() -> None:
    rig = Rig(replace(SETTINGS, file_delete_delay_ms=0))
    rig.fill()
    rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=4)))
    rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=10)))
    first = rig.jobs.pop()
    rig.perform(rig.actor.receive(Worked(first, OSError(5, "Input/output error")), rig.now))
    assert rig.logged[-1][0] == "maintenance failed"
    rig.turn()
    assert len(rig.jobs) == 1

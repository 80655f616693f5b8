"""The internal log stays small, and neither a crash nor a failure at any step changes what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import compaction as compaction_module
from actors.actor import Envelope, Synced
from actors.coordinator import CoordinatorActor, CoordinatorOptions
from actors.effects import Effect, Log, Reply, Sync
from odradek.protocol.batch import read_header
from odradek.protocol.errors import KafkaStorageError
from odradek.protocol.messages import GroupDescribe, InitProducerId, OffsetCommitReply, OffsetFetch, Request
from odradek.protocol.messages import Reply as ReplyMessage
from partitions.log import Log as PartitionLog
from partitions.settings import LogSettings
from tests.support.coordinating import Coordinating, FakeMember, commit, heartbeat, routes
from tests.support.fakes import FakeClock, FakeLog, sender
from tests.support.simdisk import PowerCut, SimDisk

DIRECTORY = Path("/data/__consumer_offsets-0")
SETTINGS = LogSettings(segment_bytes=4096, checkpoint_bytes=8192)
TOPICS = {"events": 8}
FULL = KafkaStorageError("no space left on device")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots of a few entries a piece, after a few hundred bytes."""
    monkeypatch.setattr(compaction_module, "LOG_BYTES_MIN", 4000)
    monkeypatch.setattr(compaction_module, "GROWTH_MAX", 2)
    monkeypatch.setattr(compaction_module, "PIECE_ENTRIES_MAX", 3)
    monkeypatch.setattr(compaction_module, "RETRY_BYTES", 1000)


def compacted(c: Coordinating) -> int:
    return sum(line.event == "coordinator_log_compacted" for line in c.lines)


def picture(actor: CoordinatorActor) -> object:
    """All that the log must say."""
    state = actor._state
    offsets = {name: dict(state.offsets.of_group(name)) for name in state.groups}
    return state.groups, offsets, state.offsets.count, state.producer_ids.block()


def restarted(log: FakeLog) -> CoordinatorActor:
    return CoordinatorActor(log.after_crash(), CoordinatorOptions(new_id=str))


def test_a_log_of_overwritten_offsets_stays_small_and_says_the_same() -> None:
    c = Coordinating(topics=TOPICS)
    for group in ("g1", "g2", "g3"):
        c.commit(dict.fromkeys(range(8), 0), group=group)
    a = FakeMember(c, "a")
    a.beat()
    largest = 0
    for offset in range(400):
        c.commit({offset % 8: offset}, group=f"g{offset % 3 + 1}")
        largest = max(largest, sum(map(len, c.log.batches)))
        if offset % 50 == 0:
            assert picture(restarted(c.log)) == picture(c.actor)
    assert compacted(c) >= 3
    assert c.log.start_offset > 0
    assert largest < 20_000, "a bound, whatever the number of commits"
    assert picture(restarted(c.log)) == picture(c.actor)
    c.ask_any(InitProducerId())
    assert picture(restarted(c.log)) == picture(c.actor)


def test_what_changes_while_the_snapshot_is_written_is_not_lost() -> None:
    """Between two pieces groups come and go, members move, offsets change on both sides of the copy."""
    c = Coordinating(topics=TOPICS)
    members = [FakeMember(c, name) for name in "abc"]
    for step in range(600):
        c.commit({step % 8: step}, group=f"g{step % 5}")
        match step % 12:
            case 1 | 4:
                members[step % 3].beat()
            case 7:
                c.ask_any(heartbeat(members[step % 3].id, -1))
            case 9:
                c.send(GroupDescribe(group="g1"))
                c.tell_topics({"events": 8, f"later-{step}": 1})
        if step % 7 == 0:
            assert picture(restarted(c.log)) == picture(c.actor), step
    assert compacted(c) >= 3


def test_one_turn_writes_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_module, "LOG_BYTES_MIN", 1 << 20)
    c = Coordinating(topics=TOPICS)
    for group in range(12):
        c.commit(dict.fromkeys(range(8), 1), group=f"g{group}")
    monkeypatch.setattr(compaction_module, "LOG_BYTES_MIN", 0)
    monkeypatch.setattr(compaction_module, "GROWTH_MAX", 0)
    c.actor._journal._compaction._limit_bytes = 0
    rounds = 0
    while not compacted(c):
        number = c.send(commit({0: rounds}, group="g0"))
        c.settle()
        entries = [read_header(batch).record_count for batch in c.log.batches[c.log.durable :]]
        assert entries == [1 + 3] or rounds >= 36, "the commit and one piece"
        c.finish_sync()
        assert number in c.replies, "who commits does not wait for the snapshot"
        rounds += 1
    assert rounds >= (12 * 9) // 3


@pytest.mark.parametrize("where", ["write", "sync", "advance"])
def test_a_snapshot_that_fails_is_begun_anew(where: str) -> None:
    c = Coordinating(topics=TOPICS)
    for offset in range(60):
        c.commit({offset % 8: offset})
    before = compacted(c)
    for offset in range(200):
        c.send(commit({offset % 8: 100 + offset}))
        c.settle()
        if where == "advance":
            c.log.fail_advances = FULL if offset < 150 else None
        if where == "write":
            c.log.fail_writes = FULL if offset % 3 == 0 and offset < 150 else None
        if c.syncs:
            failed = where == "sync" and offset == 30
            c.finish_sync(OSError(5, "Input/output error") if failed else None)
            if failed:
                assert c.failures
                break
        assert picture(restarted(c.log)) == picture(c.actor) if not c.log.unsynced else True
    if where == "sync":
        c.crash()
        return
    for offset in range(60):
        c.commit({offset % 8: 1000 + offset})
    assert compacted(c) > before
    assert any(line.event == "coordinator_log_not_compacted" for line in c.lines) == (where == "advance")
    assert picture(restarted(c.log)) == picture(c.actor)


class Running:
    """A coordinator over the real log, on a disk that may lose power at any operation."""

    def __init__(self, disk: SimDisk) -> None:
        self.clock = FakeClock()
        self.log = PartitionLog.open(DIRECTORY, SETTINGS, files=disk, wall_ms=1, topic_id="A" * 22)
        self.actor = CoordinatorActor(self.log, CoordinatorOptions(new_id=str))
        self.lines: list[Log] = []
        self.ask(routes(TOPICS))

    def ask(self, request: Request) -> ReplyMessage | None:
        """Its reply, with everything that follows from it done."""
        now = self.clock.now()
        replies: list[ReplyMessage] = []
        waiting: list[Effect] = [
            *self.actor.receive(Envelope(sender(1), request), now),
            *self.actor.settle(now),
        ]
        while waiting:
            effect = waiting.pop(0)
            if isinstance(effect, Sync):
                effect.ticket.run()
                waiting += [*self.actor.receive(Synced(effect.ticket), now), *self.actor.settle(now)]
            elif isinstance(effect, Reply):
                replies.append(effect.reply)
            elif isinstance(effect, Log):
                self.lines.append(effect)
        return replies[0] if replies else None


def script() -> Iterator[tuple[Request, dict[tuple[str, int], int]]]:
    """Requests, and the offsets that each commits."""
    yield heartbeat("a", 0, {}, topics=["events"]), {}
    for step in range(70):
        group, number = f"g{step % 3}", step % 4
        yield commit({number: step}, group=group), {(group, number): step}


def test_power_may_fail_at_every_operation_of_a_snapshot() -> None:
    """What was acknowledged is there, what was not is there or not, and it goes on from there."""
    operations, compactions, starts = 0, 0, set[int]()
    while True:
        disk = SimDisk()
        running = Running(disk)
        disk.cut_at = disk.operations + operations + 1
        acknowledged: dict[tuple[str, int], int] = {}
        sent: dict[tuple[str, int], set[int]] = {}
        finished = False
        try:
            for request, offsets in script():
                for place, offset in offsets.items():
                    sent.setdefault(place, set()).add(offset)
                reply = running.ask(request)
                assert reply is not None
                assert reply.error is None
                if isinstance(reply, OffsetCommitReply):
                    acknowledged |= offsets
            finished = True
        except PowerCut:
            pass
        disk = disk.crash(operations, keep=("none", "subset", "all")[operations % 3])
        again = Running(disk)
        starts.add(again.log.start_offset)
        for group in ("g0", "g1", "g2"):
            found = again.actor._state.offsets.of_group(group)
            for number in range(4):
                at_least = acknowledged.get((group, number), -1)
                committed = found.get(("events", number))
                offset = -1 if committed is None else committed.offset
                assert offset >= at_least, (operations, group, number)
                assert offset == -1 or offset in sent[group, number]
        reply = again.ask(commit({0: 1000}, group="g0"))
        assert reply is not None
        assert reply.error is None
        reply = again.ask(OffsetFetch(group="g0"))
        assert reply is not None
        compactions = max(
            compactions, sum(line.event == "coordinator_log_compacted" for line in running.lines)
        )
        if finished:
            break
        operations += 1
    assert compactions >= 1, "the script was too short to need a snapshot"
    assert len(starts) >= 2
    assert operations > 100

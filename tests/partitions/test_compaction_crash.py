"""Compaction and power cuts: at every operation nothing that counts is lost, and nothing comes back.

What counts is what a reader of the whole log knows in the end: the latest value of each key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from odradek.protocol.batch import check_batch
from odradek.protocol.errors import CorruptMessage
from partitions.cleaning import Cleaning
from partitions.log import Log
from partitions.swapping import FILE_NAME
from tests.partitions.compacting import COMPACT, Kept, batch_of, clean, produce, records_of, state_of
from tests.partitions.harness import DIRECTORY, NOW_MS, open_log, sync
from tests.support.simdisk import PowerCut, SimDisk

KEYS = 6
PRODUCER = 7


@dataclass
class Told:
    """What was sent, by offset, and how much of it is acknowledged."""

    sent: list[Kept] = field(default_factory=list)
    acknowledged: int = 0
    start: int = 0

    def state(self, end: int) -> dict[bytes | None, bytes]:
        return state_of(self.sent[:end])


def send(log: Log, told: Told, *, sequence: int | None = None) -> None:
    """Two records, acknowledged; now and then one deletes its key."""
    offset = log.end_offset
    pairs = []
    for number in (offset, offset + 1):
        key = b"key-%d" % (number * number % KEYS)
        pairs.append((key, None if number % 11 == 5 else b"value-%d" % number + b"." * 60))
    told.sent += [Kept(offset + n, key, value) for n, (key, value) in enumerate(pairs)]
    produce(log, batch_of(pairs, sequence=sequence))
    told.acknowledged = log.durable_offset


def fill(disk: SimDisk, told: Told) -> Log:
    log = open_log(disk, COMPACT)
    for number in range(20):
        send(log, told, sequence=2 * number if number < 5 else None)
    return log


def scenario(disk: SimDisk, told: Told) -> None:
    """Passes with records between their steps, deletion from the start in the middle, and a restart."""
    log = fill(disk, told)
    for round_number in range(2):
        cleaning = log.plan_cleaning(NOW_MS)
        assert cleaning is not None
        under_way = True
        while under_way:
            if log.cleaning_may_go_on:
                run_among_records(cleaning, log, told)
                under_way = log.cleaning_done(cleaning, None)
            else:
                send(log, told)
        if round_number == 0:
            told.start = log.advance_start(7, unlink_later=True)
        unlinking = log.take_unlinking()
        if unlinking is not None:
            list(unlinking.run())
        for _ in range(8):
            send(log, told)
    log.close()
    log = open_log(disk, COMPACT)
    clean(log)
    log.close()


def run_among_records(cleaning: Cleaning, log: Log, told: Told) -> None:
    """One run, with records between its slices."""
    run = cleaning.run()
    try:
        for _ in run:
            send(log, told)
    except PowerCut:
        with contextlib.suppress(PowerCut):
            run.close()  # else the collector does it, later
        raise


def operations() -> tuple[int, int]:
    disk = SimDisk()
    fill(disk, Told())
    begin = disk.operations
    disk = SimDisk()
    scenario(disk, Told())
    return begin, disk.operations


BEGIN, END = operations()


def cut(operation: int) -> tuple[SimDisk, Told]:
    disk, told = SimDisk(), Told()
    disk.cut_at = operation
    with pytest.raises(PowerCut):
        scenario(disk, told)
    return disk, told


def check(disk: SimDisk, told: Told, where: object, *, vouched: bool = True) -> list[Kept]:
    """The log after the power came back is what it should be; and a second start changes nothing."""
    log = open_log(disk, COMPACT)
    found = records_of(log)
    assert log.damages == (), where
    assert told.start <= log.start_offset, where
    assert told.acknowledged <= log.end_offset <= len(told.sent), where
    if vouched:
        assert log.recovery.from_checkpoint, where
    assert set(found) <= set(told.sent), where
    offsets = [record.offset for record in found]
    assert offsets == sorted(set(offsets)), where
    kept_from_start = [record for record in told.sent[: log.end_offset] if record.offset >= log.start_offset]
    expected, state = state_of(kept_from_start), state_of(found)
    assert {key: state.get(key) for key in expected} == expected, where
    assert state.keys() <= told.state(log.end_offset).keys() | expected.keys(), (where, "it came back")
    names = set(disk.names[DIRECTORY])
    assert not [name for name in names if name.endswith((".cleaned", ".deleted", ".tmp"))], where
    assert FILE_NAME not in names, where
    log.close()
    again = open_log(disk, COMPACT)
    assert again.recovery.bytes_scanned == 0, where
    assert records_of(again) == found, where
    again.close()
    return found


MODES = ("none", "all", "subset")


@pytest.mark.parametrize("part", range(3))
def test_power_cut_at_every_operation(part: int) -> None:
    """What the disk keeps of un-synced work goes in turns: nothing, all, any part of it."""
    assert END - BEGIN > 200
    for operation in range(BEGIN + 1 + part, END + 1, 3):
        disk, told = cut(operation)
        check(disk.crash(operation, keep=MODES[operation // 3 % 3]), told, operation)


@pytest.mark.parametrize("seed", range(2))
def test_power_cut_where_renames_do_not_wait_for_one_another(seed: int) -> None:
    """The cleaned file may have its name and an old one behind it still has its own."""
    for operation in range(BEGIN + 1, END + 1):
        disk, told = cut(operation)
        check(disk.crash(2 * operation + seed, keep="scattered"), told, operation)


def test_killed_at_every_other_operation() -> None:
    for operation in range(BEGIN + 1, END + 1, 2):
        disk, told = cut(operation)
        disk.release()
        check(disk, told, operation)


def test_power_cut_without_a_checkpoint_left() -> None:
    for operation in range(BEGIN + 1, END + 1, 4):
        disk, told = cut(operation)
        after = disk.crash(operation)
        after.remove(DIRECTORY / "odradek-checkpoint")
        check(after, told, operation, vouched=False)


def swaps_during_syncs(disk: SimDisk, told: Told) -> int:
    """Passes whose swaps come while a sync is under way, so that no checkpoint can be written at once."""
    log = fill(disk, told)
    for _ in range(20):
        send(log, told)
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    waited, under_way = 0, True
    while under_way:
        offset = log.end_offset
        told.sent.append(Kept(offset, b"late-%d" % offset, b"value"))
        batch = batch_of([(b"late-%d" % offset, b"value")])
        log.append(batch, check_batch(batch), NOW_MS)
        log.write()
        ticket = log.sync_begin()
        assert ticket is not None
        while log.cleaning_may_go_on:
            list(cleaning.run())
            under_way = log.cleaning_done(cleaning, None)
            waited += under_way and not log.cleaning_may_go_on
        ticket.run()
        log.sync_done(ticket, None)
        told.acknowledged = log.durable_offset
    log.close()
    return waited


def test_power_cut_between_two_swaps_where_no_checkpoint_could_be_written() -> None:
    """The second waits for it: there is one note, and it explains one swap."""
    disk = SimDisk()
    assert swaps_during_syncs(disk, Told()) > 2, "else this would prove nothing"
    for operation in range(BEGIN + 1, disk.operations + 1, 2):
        cut_disk, told = SimDisk(), Told()
        cut_disk.cut_at = operation
        with pytest.raises(PowerCut):
            swaps_during_syncs(cut_disk, told)
        check(cut_disk.crash(operation, keep=MODES[operation // 2 % 3]), told, operation)


def test_what_no_checkpoint_knows_as_closed_is_not_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start takes the cleaned segment as it is: the producers in it must be in the checkpoint."""

    def full(*_: object) -> None:
        raise OSError(28, "no space left on device")

    disk = SimDisk()
    log = open_log(disk, COMPACT)
    first = batch_of([(b"key", b"value")], sequence=0)
    with monkeypatch.context() as patched:
        patched.setattr("partitions.log.save_checkpoint", full)
        produce(log, first, *(batch_of([(b"key", b"." * 300)]) for _ in range(12)))
        assert log.segment_count > 1
        assert clean(log) == 0
    after = disk.crash(1, keep="all")
    again = open_log(after, COMPACT)
    retried = again.append(first, check_batch(first), NOW_MS)
    assert (retried.base_offset, retried.duplicate) == (0, True)
    log.checkpoint()
    assert clean(log) == 1


def swap_moments() -> Iterator[int]:
    """Operations at which a cut leaves a promised swap that is not settled."""
    for operation in range(BEGIN + 1, END + 1):
        disk, _ = cut(operation)
        if FILE_NAME in disk.crash(operation, keep="all").names[DIRECTORY]:
            yield operation


def test_power_cut_during_the_recovery_that_finishes_a_swap() -> None:
    moments = list(swap_moments())
    assert len(moments) > 10, "else this would prove nothing"
    for moment in moments[:: max(1, len(moments) // 4)]:
        disk, told = cut(moment)
        crashed = disk.crash(moment, keep="all")
        expected = check(crashed, told, moment)
        crashed = disk.crash(moment, keep="all")
        open_log(crashed, COMPACT)
        for operation in range(1, crashed.operations + 1):
            again = disk.crash(moment, keep="all")
            again.cut_at = operation
            with contextlib.suppress(PowerCut):
                open_log(again, COMPACT)
            survived = again.crash(operation, keep=MODES[operation % 3])
            assert check(survived, told, (moment, operation)) == expected


def test_a_producers_last_batch_is_known_after_every_cut() -> None:
    """Its retry gets the offset that it had: compaction takes records, never the memory of a producer."""
    last = batch_of([(b"x", b"y"), (b"x", b"y")], sequence=8)
    for operation in range(BEGIN + 1, END + 1, 7):
        disk, _ = cut(operation)
        after = disk.crash(operation)
        after.remove(DIRECTORY / "odradek-checkpoint")
        log = open_log(after, COMPACT)
        if log.start_offset > 8:
            continue
        appended = log.append(last, check_batch(last), NOW_MS)
        assert (appended.base_offset, appended.duplicate) == (8, True), operation


def test_an_old_note_that_comes_back_changes_nothing() -> None:
    disk, told = SimDisk(), Told()
    log = fill(disk, told)
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    list(cleaning.run())
    note = bytes(disk.content(DIRECTORY / FILE_NAME))
    log.cleaning_done(cleaning, None)
    assert FILE_NAME not in disk.names[DIRECTORY], "the checkpoint knows"
    log.close()
    for step in ("at once", "after another pass", "after the segment went"):
        log = open_log(disk, COMPACT)
        if step == "after another pass":
            for _ in range(12):
                send(log, told)
            clean(log)
        if step == "after the segment went":
            told.start = log.advance_start(40)
        log.close()
        descriptor = disk.open(DIRECTORY / FILE_NAME, create=True)
        disk.pwritev(descriptor, [note], 0)
        disk.fdatasync(descriptor)
        disk.close(descriptor)
        check(disk, told, step)


def two_passes(disk: SimDisk) -> tuple[list[Kept], int]:
    """Of the first segment both make one of the same size; what is kept, and where the second begins.

    The first empties a producer's batch, the second takes what is left of it: both forms have 61 bytes.
    """
    small = replace(COMPACT, segment_bytes=7000, compaction_map_bytes_max=500, checkpoint_bytes=1 << 20)
    log = open_log(disk, small)
    produce(log, batch_of([(b"key-1", b"." * 2000)], sequence=0))
    produce(log, *(batch_of([(b"key-%d" % number, b"." * 2000)]) for number in range(1, 22)))
    log.reconfigure(replace(small, segment_bytes=14_000))
    first = log.plan_cleaning(NOW_MS)
    assert first is not None
    list(first.run())
    assert not log.cleaning_done(first, None)
    produce(log, *(batch_of([(b"later", b".")], sequence=number) for number in range(1, 6)))
    begin, expected = disk.operations, records_of(log)
    second = log.plan_cleaning(NOW_MS)
    assert second is not None
    list(second.run())
    assert first.swap is not None
    assert second.swap is not None
    assert first.swap.entry.size == second.swap.entry.size
    return expected, begin


def test_a_note_that_was_unlinked_cannot_meet_the_file_of_the_next_pass() -> None:
    """Both are of one segment and of one size, but the file is not whole yet."""
    disk = SimDisk()
    expected, begin = two_passes(disk)
    for operation in range(begin + 1, disk.operations + 1):
        cut_disk = SimDisk()
        cut_disk.cut_at = operation
        with pytest.raises(PowerCut):
            two_passes(cut_disk)
        for seed in range(30):
            log = open_log(cut_disk.crash(seed, keep="scattered"), COMPACT)
            assert (log.damages, records_of(log)) == ((), expected), (operation, seed)


def test_a_failed_note_stops_compaction_until_the_next_start() -> None:
    disk, told = SimDisk(), Told()
    log = fill(disk, told)
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    fsync_directory, calls = disk.fsync_directory, []

    def failing(path: object) -> None:
        calls.append(path)
        if FILE_NAME in disk.names[DIRECTORY]:
            raise OSError(5, "Input/output error")
        fsync_directory(DIRECTORY)

    disk.fsync_directory = failing  # type: ignore[method-assign]
    with pytest.raises(OSError, match="Input/output"):
        list(cleaning.run())
    disk.fsync_directory = fsync_directory  # type: ignore[method-assign]
    assert not log.cleaning_done(cleaning, OSError(5, "Input/output error"))
    assert log.plan_cleaning(NOW_MS) is None, "nobody knows what the disk has"
    send(log, told)
    for keep in ("none", "all"):
        check(disk.crash(1, keep=keep), told, keep)


def test_a_swap_that_cannot_be_done_stops_the_log_and_the_next_start_does_it() -> None:
    disk, told = SimDisk(), Told()
    log = fill(disk, told)
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    list(cleaning.run())
    disk.fail_at = disk.operations + 2
    with pytest.raises(Exception, match="could not take its place"):
        log.cleaning_done(cleaning, None)
    assert log.failure is not None
    log.close()
    check(disk, told, "failed")


def test_the_harness_notices_a_swap_without_its_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the note a cut between the renames loses records: the protection is needed."""
    monkeypatch.setattr("partitions.cleaning.commit_note", lambda *_: None)
    monkeypatch.setattr("partitions.cleaning.write_note", lambda *_: None)
    lost = 0
    for operation in range(BEGIN + 1, END + 1, 2):
        disk, told = SimDisk(), Told()
        disk.cut_at = operation
        with contextlib.suppress(PowerCut):
            scenario(disk, told)
            continue
        try:
            check(disk.crash(operation, keep="all"), told, operation)
        except (AssertionError, CorruptMessage):
            lost += 1
    assert lost > 3


class CompactedLog(RuleBasedStateMachine):
    """Any order of appends, passes, steps of passes, deletions, cuts and restarts, against a dict."""

    @initialize()
    def begin(self) -> None:
        self.disk = SimDisk()
        self.log = open_log(self.disk, COMPACT)
        self.told = Told()
        self.cleaning: Cleaning | None = None
        self.now_ms = NOW_MS

    @rule(count=st.integers(1, 6), data=st.data())
    def append(self, count: int, data: st.DataObject) -> None:
        values = st.sampled_from([None, b"a" * 90, b"b" * 200])
        pairs = [(b"k%d" % data.draw(st.integers(0, KEYS)), data.draw(values)) for _ in range(count)]
        offset = self.log.end_offset
        self.told.sent += [Kept(offset + n, key, value) for n, (key, value) in enumerate(pairs)]
        codec = data.draw(st.sampled_from(["none", "zstd"]))
        batch = batch_of(pairs, compression=codec)
        self.log.append(batch, check_batch(batch), NOW_MS)

    @rule()
    def sync(self) -> None:
        sync(self.log)
        self.told.acknowledged = self.log.durable_offset

    @rule(days=st.integers(0, 2))
    def plan(self, days: int) -> None:
        self.now_ms += days * COMPACT.delete_retention_ms
        planned = self.log.plan_cleaning(self.now_ms)
        if planned is not None:
            assert self.cleaning is None
            self.cleaning = planned

    @precondition(lambda self: self.cleaning is not None)
    @rule()
    def step(self) -> None:
        assert self.cleaning is not None
        if self.log.cleaning_may_go_on:
            list(self.cleaning.run())
            if not self.log.cleaning_done(self.cleaning, None):
                self.cleaning = None

    @precondition(lambda self: self.cleaning is not None)
    @rule(steps=st.integers(0, 3))
    def give_up(self, steps: int) -> None:
        assert self.cleaning is not None
        if not self.log.cleaning_may_go_on:
            return
        run = self.cleaning.run()
        for _ in range(steps):
            next(run, None)
        run.close()
        self.log.cleaning_done(self.cleaning, OSError(5, "given up"))
        self.cleaning = None

    @rule(part=st.floats(0, 1))
    def delete(self, part: float) -> None:
        self.told.start = self.log.advance_start(int(self.log.durable_offset * part), unlink_later=True)

    @rule()
    def unlink(self) -> None:
        unlinking = self.log.take_unlinking()
        if unlinking is not None:
            list(unlinking.run())

    @rule(keep=st.sampled_from(["none", "all", "subset"]), seed=st.integers(0, 999), vouched=st.booleans())
    def power_cut(self, keep: str, seed: int, vouched: bool) -> None:
        self.disk = self.disk.crash(seed, keep=keep)
        if not vouched:
            self.disk.remove(DIRECTORY / "odradek-checkpoint")
        self.reopen()

    @rule()
    def restart(self) -> None:
        self.log.close()
        self.reopen()

    def reopen(self) -> None:
        check(self.disk, self.told, "reopened", vouched=False)
        self.log = open_log(self.disk, COMPACT)
        self.cleaning = None
        del self.told.sent[self.log.end_offset :]
        self.told.acknowledged = self.log.end_offset

    def teardown(self) -> None:
        sync(self.log)
        self.told.acknowledged = self.log.durable_offset
        if self.cleaning is not None:
            self.log.cleaning_done(self.cleaning, OSError(5, "given up"))
        clean(self.log, self.now_ms + 3 * COMPACT.delete_retention_ms)
        self.log.close()
        check(self.disk, self.told, "at the end", vouched=False)


CompactedLog.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestCompactedLog = CompactedLog.TestCase

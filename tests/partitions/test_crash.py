"""Power cuts at every operation: what was acknowledged is there, and recovering twice changes nothing."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field

import pytest

from odradek.protocol.batch import check_batch
from odradek.protocol.errors import KafkaStorageError
from partitions.errors import LogFailed
from partitions.log import Log
from partitions.settings import LogSettings
from tests.partitions.harness import (
    DIRECTORY,
    NOW_MS,
    append,
    append_synced,
    open_log,
    read_all,
    signed,
    sync,
)
from tests.support.batches import idempotent, make_batch
from tests.support.simdisk import PowerCut, SimDisk
from tests.support.tiers import in_tier

PRODUCER = 9


@dataclass
class Told:
    """What the workload was told before the power went."""

    staged: dict[int, bytes] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    acknowledged: int = 0
    start: int = 0
    sent: list[tuple[bytes, int]] = field(default_factory=list)
    """(batch, base offset) of each batch of the idempotent producer, by sequence."""


def workload(disk: SimDisk, seed: int, told: Told) -> None:
    """Appends in groups, with overlapping syncs, restarts and deletions."""
    dice = random.Random(seed)
    log = open_log(disk)
    sequence = 0
    for step in range(25):
        for _ in range(dice.randint(1, 4)):
            payload = bytes([step + 1]) * dice.randint(1, 700)
            if dice.random() < 0.5:
                batch = idempotent(PRODUCER, sequence, payload=payload)
                told.sent.append((batch, log.end_offset))
                sequence += 1
            else:
                batch = make_batch(dice.randint(1, 3), payload=payload)
            appended = log.append(batch, check_batch(batch), NOW_MS)
            told.staged[appended.base_offset] = signed(batch)
            told.ends[appended.base_offset] = appended.last_offset + 1
        log.write()
        ticket = log.sync_begin()
        if ticket is not None:
            ticket.run()
            log.sync_done(ticket, None)
        told.acknowledged = log.durable_offset
        if step == 11:
            told.start = log.advance_start(log.durable_offset // 2)
        if step == 17:
            log.close()
            log = open_log(disk)
    log.close()


def operations_of_workload(seed: int = 1) -> int:
    disk = SimDisk()
    workload(disk, seed, Told())
    return disk.operations


OPERATIONS = operations_of_workload()


def cut(operation: int, seed: int = 1) -> tuple[SimDisk, Told]:
    disk, told = SimDisk(), Told()
    disk.cut_at = operation
    with pytest.raises(PowerCut):
        workload(disk, seed, told)
    return disk, told


@pytest.mark.parametrize("keep", ["none", "all", "subset"])
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("seed", in_tier((1,), (1, 2, 3, 4, 5)))
def test_power_cut_at_every_operation(part: int, keep: str, seed: int) -> None:
    operations = operations_of_workload(seed)
    assert operations > 100
    for operation in range(1 + part, operations + 1, 4):
        disk, told = cut(operation, seed)
        after = disk.crash(operation, keep=keep)
        log = open_log(after)
        reading = read_all(log)
        assert log.end_offset == log.durable_offset >= told.acknowledged, operation
        assert log.start_offset >= told.start
        assert not reading.damaged, operation
        assert log.end_offset in (log.start_offset, *told.ends.values())
        expected = {
            base: content
            for base, content in told.staged.items()
            if log.start_offset < told.ends[base] <= log.end_offset
        }
        assert reading.batches == expected, (operation, "what is kept is the first part of what was sent")
        check_duplicates(log.durable_offset, told, after)
        after.release()
        second = open_log(after)
        assert second.recovery.bytes_truncated == 0
        assert second.recovery.set_aside == ()
        assert read_all(second) == reading
        retry_what_was_lost(second, told)
        second.close()


def retry_what_was_lost(log: Log, told: Told) -> None:
    """The producer sends again, in order, what it had in flight: each batch once, at dense offsets."""
    for batch, offset in told.sent:
        if offset < log.durable_offset:
            continue
        expected = log.end_offset
        [appended] = append(log, batch)
        assert (appended.base_offset, appended.duplicate) == (expected, False)
    sync(log)
    assert log.durable_offset == log.end_offset
    assert not read_all(log).damaged


def test_the_cuts_of_this_disk_do_tear_batches_apart() -> None:
    """Else the test above would prove nothing: sound batches do survive behind torn ones."""
    cuttings = 0
    for operation in range(1, OPERATIONS + 1):
        log = open_log(cut(operation)[0].crash(operation))
        cuttings += len(log.recovery.set_aside)
    assert cuttings > 5


def check_duplicates(durable: int, told: Told, disk: SimDisk) -> None:
    """The last five acknowledged batches of the producer, sent again, get the offsets they had."""
    disk.release()
    log = open_log(disk)
    acknowledged = [offset for _, offset in told.sent if offset < told.acknowledged]
    known = log._producers.get(PRODUCER)
    for offset in acknowledged[-1:]:
        assert known is not None
        assert any(batch.base_offset == offset for batch in known.batches)
    for batch in known.batches if known is not None else ():
        header = check_batch(idempotent(PRODUCER, batch.base_sequence))
        assert log.append(idempotent(PRODUCER, batch.base_sequence), header, NOW_MS) == (
            batch.base_offset,
            batch.last_offset,
            batch.timestamp,
            True,
        )
    assert log.end_offset == durable


def test_power_cut_during_recovery() -> None:
    for moment, seed, keep in ((OPERATIONS * 2 // 3, 5, "all"), *torn_moments(3)):
        disk, _told = cut(moment)
        crashed = disk.crash(seed, keep=keep)
        expected = read_all(open_log(crashed))
        whole = kept_aside(crashed)
        for operation in range(1, crashed.operations + 1):
            again = disk.crash(seed, keep=keep)
            again.cut_at = operation
            with contextlib.suppress(PowerCut):
                open_log(again)
            survived = again.crash(operation)
            assert read_all(open_log(survived)) == expected, operation
            assert kept_aside(survived) == whole, operation


def torn_moments(count: int) -> list[tuple[int, int, str]]:
    """(operation, seed, mode) of power cuts after which recovery has sound batches to set aside."""
    found = []
    for operation in range(OPERATIONS, 0, -1):
        log = open_log(cut(operation)[0].crash(operation))
        if log.recovery.set_aside:
            found.append((operation, operation, "subset"))
        if len(found) == count:
            return found
    raise AssertionError("the disk never tears")


def kept_aside(disk: SimDisk) -> dict[str, bytes]:
    """The batches that were set aside, without reserved space."""
    return {
        name: bytes(inode.content).rstrip(b"\0")
        for name, inode in disk.names[DIRECTORY].items()
        if name.endswith(".cut")
    }


def test_the_harness_notices_a_sync_that_does_nothing() -> None:
    class Lying(SimDisk):
        def fdatasync(self, descriptor: int) -> None:
            self._step("sync")

    disk = Lying()
    log = open_log(disk)
    append_synced(log, make_batch(payload=b"x" * 900))
    assert open_log(disk.crash(1, keep="none")).end_offset < log.durable_offset


def test_failed_sync_is_final_and_its_data_is_not_believed_afterwards() -> None:
    disk = SimDisk()
    log = open_log(disk)
    append_synced(log, make_batch(), make_batch())
    append(log, make_batch(payload=b"lost"))
    disk.sync_error = OSError(5, "Input/output error")
    sync(log)
    syncs = disk.trace.count("sync")
    assert (log.durable_offset, log.end_offset) == (2, 3)
    assert len(read_all(log).batches) == 2
    for attempt in (
        lambda: append(log, make_batch()),
        lambda: log.sync_begin(),
        lambda: log.read(2, 10),
        lambda: log.advance_start(1),
    ):
        with pytest.raises(LogFailed, match=r"sync failed .*Input/output error"):
            attempt()
    log.close()
    assert disk.trace.count("sync") == syncs
    disk.sync_error = None
    again = open_log(disk)
    assert again.end_offset == 2, "the cache still shows the batch, the disk never got it"
    append_synced(again, make_batch(payload=b"new"))


def test_no_space_takes_the_whole_group_back() -> None:
    disk = SimDisk()
    log = open_log(disk)
    append_synced(log, idempotent(1, 0, payload=b"x" * 300), make_batch())
    before = log.size_bytes, log.segment_count, log.end_offset
    for spare in (0, 1, 600, 700, 2500, 5000):
        state = log._producers.get(1)
        append(log, *[idempotent(1, number, payload=b"y" * 600) for number in range(1, 12)])
        append(log, idempotent(2, 0))
        disk.capacity = (
            disk.used()
            - len(disk.content(log._state.segments[0].path))
            + log._state.segments[0].durable_size
            + spare
        )
        with pytest.raises(Exception, match="no space for offsets 2 to 13"):
            log.write()
        assert (log.size_bytes, log.segment_count, log.end_offset) == before
        assert log._producers.get(1) == state
        assert log._producers.get(2) is None
        assert log.sync_begin() is None
        assert len(read_all(log).batches) == 2
        disk.capacity = None
        crashed = open_log(disk.crash(spare))
        assert crashed.end_offset == 2
    appended = append_synced(log, idempotent(1, 1), make_batch())
    assert [item.base_offset for item in appended] == [2, 3]
    log.close()
    assert sorted(read_all(open_log(disk)).batches) == [0, 1, 2, 3]


def test_without_reserved_space_the_log_goes_on() -> None:
    disk = SimDisk()
    disk.allocate_error = OSError(95, "Operation not supported")
    log = open_log(disk)
    for _ in range(10):
        append_synced(log, make_batch(payload=b"x" * 300))
    assert len(read_all(log).batches) == 10


def test_restart_reads_only_the_tail() -> None:
    settings = LogSettings(segment_bytes=200_000, checkpoint_bytes=40_000)
    disk = SimDisk()
    log = open_log(disk, settings)
    for _ in range(600):
        append_synced(log, make_batch(payload=b"x" * 1000))
    assert log.size_bytes > 600_000
    disk.release()
    disk.bytes_read = 0
    again = open_log(disk, settings)
    assert again.recovery.from_checkpoint
    assert again.end_offset == 600
    assert again.recovery.bytes_scanned <= disk.bytes_read < 250_000, (
        "the tail, its reserved zeros, small files"
    )
    assert len(read_all(again).batches) == 600


def test_leftovers_are_cleaned_and_foreign_files_left_alone() -> None:
    disk = SimDisk()
    open_log(disk).close()
    for name in ("00000000000000000007.log.deleted", "odradek-checkpoint.tmp", "notes.txt", "7.log", "x.tmp"):
        disk.close(disk.open(DIRECTORY / name, create=True))
    open_log(disk)
    names = set(disk.names[DIRECTORY])
    assert {"notes.txt", "7.log", "x.tmp"} <= names
    assert not {"00000000000000000007.log.deleted", "odradek-checkpoint.tmp"} & names


def test_the_name_of_a_new_segment_is_durable_before_its_records_are_read() -> None:
    disk = SimDisk()
    log = open_log(disk)
    append(log, *[make_batch(payload=b"x" * 900) for _ in range(4)])
    log.write()
    append(log, make_batch())  # staged over the sync, so that no checkpoint comes with it
    ticket = log.sync_begin()
    assert ticket is not None
    ticket.run()
    log.sync_done(ticket, None)
    assert (log.segment_count, log.durable_offset) == (2, 4)
    assert open_log(disk.crash(1, keep="none")).end_offset == 4


def test_an_opening_that_fails_leaves_nothing_open() -> None:
    for operation in range(1, OPERATIONS, 7):
        disk, _ = cut(operation)
        crashed = disk.crash(operation)
        opened = open_log(crashed)
        steps, reading = crashed.operations, read_all(opened)
        for step in range(1, steps + 1):
            broken = disk.crash(operation)
            broken.fail_at = step
            try:
                log = open_log(broken)
            except KafkaStorageError as error:
                assert "cannot be opened: " in error.message
            else:
                log.close()  # it was a cache that could not be written
            assert broken.descriptors == {}
            assert broken.locked == set()
            assert read_all(open_log(broken)) == reading

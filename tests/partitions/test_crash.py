"""Power cuts at every operation: what was acknowledged is there, and recovering twice changes nothing."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field

import pytest

from odradek.protocol.batch import check_batch
from partitions.errors import LogFailed
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

PRODUCER = 9


@dataclass
class Told:
    """What the workload was told before the power went."""

    staged: dict[int, bytes] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    acknowledged: int = 0
    start: int = 0
    sequences: list[tuple[int, int]] = field(default_factory=list)
    """(sequence, base offset) of each batch of the idempotent producer."""


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
                told.sequences.append((sequence, log.end_offset))
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


def operations_of_workload() -> int:
    disk = SimDisk()
    workload(disk, 1, Told())
    return disk.operations


OPERATIONS = operations_of_workload()


def cut(operation: int, seed: int) -> tuple[SimDisk, Told]:
    disk, told = SimDisk(), Told()
    disk.cut_at = operation
    with pytest.raises(PowerCut):
        workload(disk, 1, told)
    return disk, told


@pytest.mark.parametrize("keep", ["none", "all", "subset"])
@pytest.mark.parametrize("part", range(4))
def test_power_cut_at_every_operation(part: int, keep: str) -> None:
    assert OPERATIONS > 100
    for operation in range(1 + part, OPERATIONS + 1, 4):
        disk, told = cut(operation, seed=operation)
        after = disk.crash(operation, keep=keep)
        log = open_log(after)
        reading = read_all(log)
        assert log.end_offset == log.durable_offset >= told.acknowledged, operation
        assert log.start_offset >= told.start
        kept = [base for base, end in told.ends.items() if end > log.start_offset]
        for first, _ in reading.damaged:
            assert first >= told.acknowledged, (operation, "acknowledged records were quarantined")
        for base, content in reading.batches.items():
            assert told.staged[base] == content, operation
        assert {base for base in kept if base < told.acknowledged} <= set(reading.batches)
        if keep != "subset":
            assert not reading.damaged
            assert sorted(reading.batches) == [base for base in kept if base < log.end_offset]
        check_duplicates(log.durable_offset, told, after)
        after.release()
        second = open_log(after)
        assert second.recovery.bytes_truncated == 0
        assert read_all(second) == reading
        second.close()


def check_duplicates(durable: int, told: Told, disk: SimDisk) -> None:
    """The last five acknowledged batches of the producer, sent again, get the offsets they had."""
    disk.release()
    log = open_log(disk)
    acknowledged = [item for item in told.sequences if item[1] < told.acknowledged]
    known = log._producers.get(PRODUCER)
    for sequence, offset in acknowledged[-1:]:
        assert known is not None
        assert any(batch.base_offset == offset for batch in known.batches), sequence
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
    disk, _told = cut(OPERATIONS * 2 // 3, seed=5)
    crashed = disk.crash(5, keep="all")
    expected = read_all(open_log(crashed))
    for operation in range(1, 30):
        again = disk.crash(5, keep="all")
        again.cut_at = operation
        with contextlib.suppress(PowerCut):
            open_log(again)
        survived = again.crash(operation)
        assert read_all(open_log(survived)) == expected, operation


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
            disk.used() - len(disk.content(log._segments[0].path)) + log._segments[0].durable_size + spare
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
    settings = LogSettings(segment_bytes=200_000, checkpoint_bytes=20_000)
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

"""The ballast: made whole or not at all, given back a piece at a time, and what is written with its help."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from partitions.ballast import PIECE_BYTES, Ballast, BallastedFiles
from partitions.errors import StorageFull
from partitions.log import Log
from partitions.settings import LogSettings
from tests.partitions.harness import (
    DIRECTORY,
    NOW_MS,
    TOPIC_ID,
    append,
    append_synced,
    open_log,
    read_all,
    sync,
)
from tests.support.batches import make_batch
from tests.support.simdisk import PowerCut, SimDisk

PLACE = Path("/data/odradek.ballast")
PIECES = 4
UNPREALLOCATED = LogSettings(preallocate=False)


def ballast(disk: SimDisk, pieces: int = PIECES) -> Ballast:
    return Ballast(disk, PLACE, pieces * PIECE_BYTES)


def filled(disk: SimDisk) -> Ballast:
    made = ballast(disk)
    assert made.fill(0) == PIECES
    return made


def test_it_is_made_once_and_keeps_what_is_to_stay_free() -> None:
    disk = SimDisk()
    disk.capacity = 3 * PIECE_BYTES
    made = ballast(disk)
    assert made.fill(PIECE_BYTES) == 2
    assert made.fill(PIECE_BYTES) == 0
    assert disk.free_bytes(PLACE) == PIECE_BYTES
    assert made.pieces() == ["0000", "0001"]
    disk.capacity = 10 * PIECE_BYTES
    assert made.fill(PIECE_BYTES) == 2
    assert made.fill(PIECE_BYTES) == 0


def test_it_is_given_back_a_piece_at_a_time_until_there_is_none() -> None:
    disk = SimDisk()
    made = filled(disk)
    for left in range(PIECES - 1, -1, -1):
        assert made.give_back()
        assert disk.used() == left * PIECE_BYTES
    assert not made.give_back()


def test_none_is_wanted_none_is_there() -> None:
    disk = SimDisk()
    filled(disk)
    none = ballast(disk, pieces=0)
    none.tidy()
    assert disk.used() == 0
    assert none.fill(0) == 0


@pytest.mark.parametrize("keep", ["none", "subset", "all"])
def test_a_crash_at_any_moment_leaves_whole_pieces_and_nothing_else(keep: str) -> None:
    whole = SimDisk()
    filled(whole)
    for cut_at in range(1, whole.operations + 1):
        disk = SimDisk()
        disk.cut_at = cut_at
        with pytest.raises(PowerCut):
            ballast(disk).fill(0)
        after = disk.crash(cut_at, keep=keep)
        again = ballast(after)
        again.tidy()
        for name in again.pieces():
            assert after.size(PLACE / name) == PIECE_BYTES
        again.fill(0)
        assert after.used() == PIECES * PIECE_BYTES


def test_a_piece_that_finds_no_space_leaves_nothing() -> None:
    disk = SimDisk()
    disk.allocate_error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        ballast(disk).fill(0)
    assert disk.list_directory(PLACE) == []


def test_work_on_a_full_disk_is_done_again_with_each_piece_and_not_for_ever() -> None:
    disk = SimDisk()
    made, tries = filled(disk), []

    def work() -> str:
        tries.append(disk.used())
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return "done"

    assert made.spend(work) == "done"
    assert tries == [4 * PIECE_BYTES, 3 * PIECE_BYTES, 2 * PIECE_BYTES]
    tries.extend([0] * 100)

    def hopeless() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        made.spend(hopeless)
    assert made.pieces() == []


@pytest.mark.parametrize("number", [errno.EIO, errno.EFBIG])
def test_what_is_not_for_lack_of_space_costs_no_ballast(number: int) -> None:
    disk = SimDisk()
    made = filled(disk)

    def broken() -> None:
        raise OSError(number, "no ballast helps here")

    with pytest.raises(OSError, match="no ballast helps"):
        made.spend(broken)
    assert len(made.pieces()) == PIECES


# -- a log on a full disk ------------------------------------------------------------------------------


def open_with_ballast(disk: SimDisk, *, for_segments: bool = True) -> Log:
    return Log.open(
        DIRECTORY,
        UNPREALLOCATED,
        files=BallastedFiles(disk, ballast(disk), for_segments=for_segments),
        wall_ms=NOW_MS,
        topic_id=TOPIC_ID,
    )


def test_a_log_with_ballast_writes_on_where_another_is_refused() -> None:
    disk = SimDisk()
    filled(disk)
    log = open_with_ballast(disk)
    disk.capacity = disk.used()
    batch = make_batch(payload=b"x" * 300_000)
    for offset in range(10):
        assert append(log, batch)[0].base_offset == offset
        sync(log)
    assert len(ballast(disk).pieces()) == PIECES - 3, "no more than it needs"
    log.close()
    assert set(read_all(open_log(disk, UNPREALLOCATED)).batches) == set(range(10))


def test_a_log_with_ballast_is_refused_when_that_is_used_up_and_goes_on_with_dense_offsets() -> None:
    disk = SimDisk()
    filled(disk)
    log = open_with_ballast(disk)
    disk.capacity = disk.used()
    batch = make_batch(payload=b"x" * 300_000)
    taken = 0
    with pytest.raises(StorageFull, match="no space"):
        while taken < 100:
            append_synced(log, batch)
            taken += 1
    assert 3 * PIECES <= taken <= 4 * PIECES
    disk.capacity = None
    assert append_synced(log, batch)[0].base_offset == taken
    assert set(read_all(log).batches) == set(range(taken + 1))


def test_records_take_no_ballast_and_deleting_them_on_a_full_disk_does() -> None:
    disk = SimDisk()
    filled(disk)
    log = open_with_ballast(disk, for_segments=False)
    batch = make_batch(payload=b"x" * 300_000)
    for _ in range(3):
        append_synced(log, batch)
    disk.capacity = disk.used()
    with pytest.raises(StorageFull):
        append_synced(log, batch)
    assert len(ballast(disk).pieces()) == PIECES
    assert log.advance_start(2) == 2
    assert len(ballast(disk).pieces()) == PIECES - 1
    log.close()
    disk.release()
    again = open_with_ballast(disk, for_segments=False)
    assert (again.start_offset, again.end_offset) == (2, 3)


def test_a_full_disk_is_told_apart_where_a_log_is_opened() -> None:
    disk = SimDisk()
    append_synced(open_log(disk, UNPREALLOCATED), make_batch())
    disk.release()
    disk.capacity = disk.used()
    with pytest.raises(StorageFull, match="cannot be opened"):
        open_log(disk, UNPREALLOCATED)
    disk.release()
    disk.capacity += 1 << 20
    assert open_log(disk, UNPREALLOCATED).end_offset == 1

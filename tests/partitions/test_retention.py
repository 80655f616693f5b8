"""Retention: what goes, what stays, and that no crash loses the one or revives the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from odradek.protocol.errors import InvalidConfig, KafkaStorageError
from partitions.errors import StorageFull
from partitions.log import Log
from partitions.retention import EXPIRED_SEGMENTS_MAX, Kept, SegmentFacts, decide_retention
from partitions.settings import DAY_MS, LogSettings, check_config
from tests.partitions.harness import DIRECTORY, NOW_MS, SMALL, append_synced, open_log, read_all, sync
from tests.support.batches import checked, make_batch
from tests.support.simdisk import PowerCut, SimDisk

HOUR_MS = 3_600_000
HOURLY = replace(SMALL, retention_ms=HOUR_MS, segment_bytes=1024, index_interval_bytes=64)


def closed(*segments: tuple[int, int]) -> list[SegmentFacts]:
    """(bytes, latest ms) of segments of ten records each."""
    return [SegmentFacts(10 * (n + 1), size, latest) for n, (size, latest) in enumerate(segments)]


def keep(retention_ms: int = -1, retention_bytes: int = -1) -> LogSettings:
    return LogSettings(retention_ms=retention_ms, retention_bytes=retention_bytes)


# -- the decision


def test_minus_one_keeps_for_ever() -> None:
    old = closed((10**12, 0), (10**12, 0))
    assert decide_retention(0, old, 10**12, keep(), 2**62) == Kept(0, 0, 0)


def test_by_time_a_segment_goes_once_its_latest_record_is_older() -> None:
    segments = closed((1, 100), (1, 200), (1, 300))
    assert decide_retention(0, segments, 1, keep(retention_ms=50), 150).start_offset == 0
    assert decide_retention(0, segments, 1, keep(retention_ms=50), 151) == Kept(10, 1, 0)
    assert decide_retention(0, segments, 1, keep(retention_ms=0), 10_000) == Kept(30, 3, 0)


def test_a_young_segment_keeps_all_behind_it() -> None:
    segments = closed((1, 100), (1, 9_000), (1, 100))
    assert decide_retention(0, segments, 1, keep(retention_ms=50), 1_000) == Kept(10, 1, 0)


def test_by_size_what_stays_is_at_least_the_limit() -> None:
    segments = closed((100, 0), (100, 0), (100, 0))
    limits = {0: 30, 50: 30, 51: 20, 150: 20, 151: 10, 250: 10, 251: 0, 10**9: 0}
    for limit, start in limits.items():
        assert decide_retention(0, segments, 50, keep(retention_bytes=limit), 0).start_offset == start, limit


def test_both_limits_add_up() -> None:
    segments = closed((100, 10), (100, 5_000), (100, 5_000))
    assert decide_retention(0, segments, 50, keep(1_000, 150), 5_000) == Kept(20, 1, 1)


def test_a_clock_that_is_years_ahead_takes_one_passs_bound() -> None:
    segments = closed(*[(1, NOW_MS)] * 100)
    kept = decide_retention(0, segments, 1, keep(retention_ms=7 * DAY_MS), NOW_MS + 3650 * DAY_MS)
    assert kept == Kept(10 * EXPIRED_SEGMENTS_MAX, EXPIRED_SEGMENTS_MAX, 0)


def test_where_nobody_knows_the_time_only_size_counts() -> None:
    segments = closed((100, 0), (100, 0))
    assert decide_retention(0, segments, 0, keep(1, 100), None) == Kept(10, 0, 1)


def test_the_start_never_goes_back() -> None:
    assert decide_retention(25, closed((1, 0), (1, 0), (1, 10**9)), 1, keep(1), 1_000).start_offset == 25


@pytest.mark.parametrize("value", ["-2", "1.5", "soon", True, 2**63, "1_000", "\u0663", ""])
def test_values_that_mean_nothing_are_refused(value: object) -> None:
    with pytest.raises(InvalidConfig, match=r"retention\.ms is .* it must be a whole number of milliseconds"):
        check_config({"retention.ms": value})


# -- on files


def filled(disk: SimDisk, batches: int = 12, *, step_ms: int = 0, settings: LogSettings = HOURLY) -> Log:
    """Batches of an idempotent producer, three to a segment, ``step_ms`` apart."""
    log = open_log(disk, settings)
    for number in range(batches):
        append_synced(log, stamped(number, NOW_MS + number * step_ms))
    return log


def stamped(sequence: int, timestamp: int) -> bytes:
    return make_batch(
        payload=bytes([sequence]) * 240,
        timestamp=timestamp,
        producer_id=7,
        producer_epoch=0,
        base_sequence=sequence,
    )


def retain(log: Log, wall_ms: int) -> Kept:
    kept = log.retention(wall_ms)
    log.advance_start(kept.start_offset, unlink_later=True)
    return kept


def test_expired_segments_go_and_the_rest_is_served() -> None:
    disk = SimDisk()
    log = filled(disk, step_ms=HOUR_MS)
    count = log.segment_count
    kept = retain(log, NOW_MS + 6 * HOUR_MS)
    assert kept == Kept(3, 1, 0)
    assert (log.start_offset, log.segment_count) == (3, count - 1)
    assert list(read_all(log).batches) == list(range(3, 12))
    assert log.offset_for_timestamp(0) == (3, NOW_MS + 3 * HOUR_MS)


def test_files_are_renamed_first_and_unlinked_by_the_job() -> None:
    disk = SimDisk()
    log = filled(disk)
    assert retain(log, NOW_MS + DAY_MS).start_offset == 9
    renamed = sorted(name for name in disk.names[DIRECTORY] if name.endswith(".deleted"))
    assert [name for name in renamed if ".log." in name] == [f"{n:020d}.log.deleted" for n in (0, 3, 6)]
    unlinking = log.take_unlinking()
    assert unlinking is not None
    assert log.take_unlinking() is None
    assert sum(unlinking.run()) > 9 * 240
    assert not [name for name in disk.names[DIRECTORY] if name.endswith(".deleted")]
    assert list(unlinking.run()) == [], "a job that runs twice finds nothing"


def test_a_rename_that_fails_loses_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was renamed gives its space back, what was not is deleted by the next pass."""
    disk = SimDisk()
    log = filled(disk)
    rename = disk.rename

    def refuse(source: Path, target: Path) -> None:
        if source.name == f"{3:020d}.log":
            raise OSError(28, "no space left on device")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(disk, "rename", refuse)
        with pytest.raises(StorageFull):
            log.advance_start(6, unlink_later=True)
    assert log.start_offset == 6
    log.advance_start(7, unlink_later=True)
    unlinking = log.take_unlinking()
    assert unlinking is not None
    list(unlinking.run())
    left = sorted(name for name in disk.names[DIRECTORY] if name[:1].isdecimal() and ".log" in name)
    assert left == [f"{n:020d}.log" for n in (6, 9)]
    log.close()
    assert open_log(disk).recovery.from_checkpoint


def test_the_active_segment_is_closed_when_it_is_expired() -> None:
    disk = SimDisk()
    log = filled(disk, 2)
    assert not log.roll_expired(NOW_MS + HOUR_MS)
    assert log.roll_expired(NOW_MS + HOUR_MS + 1)
    assert not log.roll_expired(NOW_MS + HOUR_MS + 1), "the new one is empty"
    assert retain(log, NOW_MS + DAY_MS).start_offset == 0, "it waits for its sync"
    sync(log)
    assert retain(log, NOW_MS + DAY_MS).start_offset == 2
    assert (log.start_offset, log.durable_offset, log.end_offset, log.segment_count) == (2, 2, 2, 1)
    [appended] = append_synced(log, stamped(2, NOW_MS))
    assert (appended.base_offset, appended.duplicate) == (2, False), "the producer is known still"
    log.close()
    log = open_log(disk, HOURLY)
    assert log.recovery.bytes_scanned == 0
    assert append_synced(log, stamped(2, NOW_MS))[0].duplicate
    assert list(read_all(log).batches) == [2]


def test_what_is_not_durable_is_never_closed_for_its_age() -> None:
    log = filled(SimDisk(), 1)
    log.append(*checked(stamped(1, NOW_MS)), NOW_MS)
    assert not log.roll_expired(NOW_MS + DAY_MS)
    log.write()
    assert not log.roll_expired(NOW_MS + DAY_MS)


def test_a_disk_too_full_for_a_new_segment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    log = filled(disk, 2)

    def full(path: object, *, create: bool) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "open", full)
        with pytest.raises(KafkaStorageError, match="cannot be made"):
            log.roll_expired(NOW_MS + DAY_MS)
    assert log.segment_count == 1
    assert append_synced(log, stamped(2, NOW_MS))[0].base_offset == 2


# -- crashes


def scenario(disk: SimDisk, told: list[int]) -> None:
    """Fills a log, lets retention take the closed segments, then the active one; ``told`` hears starts."""
    log = filled(disk)
    told[:] = [0, 12]
    told[0] = retain(log, NOW_MS + DAY_MS).start_offset
    log.roll_expired(NOW_MS + DAY_MS)
    sync(log)
    told[0] = retain(log, NOW_MS + DAY_MS).start_offset
    unlinking = log.take_unlinking()
    assert unlinking is not None
    list(unlinking.run())
    append_synced(log, stamped(12, NOW_MS))
    told[1] = 13
    log.close()


def operations() -> tuple[int, int]:
    disk = SimDisk()
    filled(disk)
    begin = disk.operations
    disk = SimDisk()
    scenario(disk, [])
    return begin, disk.operations


BEGIN, END = operations()


@pytest.mark.parametrize("keep_unsynced", ["none", "all", "subset"])
def test_power_cut_at_every_operation_of_retention(keep_unsynced: str) -> None:
    assert END - BEGIN > 30
    for operation in range(BEGIN + 1, END + 1):
        disk, told = SimDisk(), [0, 12]
        disk.cut_at = operation
        with pytest.raises(PowerCut):
            scenario(disk, told)
        survives(disk.crash(operation, keep=keep_unsynced), told, operation)


def test_killed_at_every_operation_of_retention() -> None:
    for operation in range(BEGIN + 1, END + 1):
        disk, told = SimDisk(), [0, 12]
        disk.cut_at = operation
        with pytest.raises(PowerCut):
            scenario(disk, told)
        disk.release()
        survives(disk, told, operation)


def survives(disk: SimDisk, told: list[int], operation: int) -> None:
    start, durable = told
    log = open_log(disk, HOURLY)
    assert start <= log.start_offset <= 12, operation
    assert log.start_offset in (0, 9, 12), operation
    assert durable <= log.end_offset, operation
    assert log.damages == (), operation
    reading = read_all(log)
    assert list(reading.batches) == list(range(log.start_offset, log.end_offset)), operation
    assert not reading.damaged
    assert not [name for name in disk.names[DIRECTORY] if name.endswith(".deleted")], "cleaned up"
    if log.end_offset == 12:
        [appended] = append_synced(log, stamped(12, NOW_MS))
        assert appended.base_offset == 12, "sequences go on"
    log.close()
    again = open_log(disk, HOURLY)
    assert (again.start_offset, again.end_offset) == (log.start_offset, 13)

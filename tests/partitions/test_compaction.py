"""Compaction: what stays, what goes, when; and that a reader finds every offset where it was."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from odradek.protocol.batch import DELETE_HORIZON_MASK, check_batch, checksum, iterate_headers, read_header
from odradek.protocol.records import decode_batches
from partitions.cleaning import SLICE_RECORDS
from partitions.compaction import GROUP_SEGMENTS_MAX, Span, decide_compaction, group_segments
from partitions.files import OpenFiles
from partitions.log import Log
from partitions.segment import MaxTimestamp, Segment
from partitions.settings import DAY_MS, LogSettings
from tests.partitions.compacting import COMPACT, Kept, batch_of, clean, produce, records_of, state_of
from tests.partitions.harness import DIRECTORY, NOW_MS, open_log, sync
from tests.support.batches import make_batch
from tests.support.simdisk import SimDisk

Pair = tuple[bytes | None, bytes | None]


# -- when


def segments(*described: tuple[int, int]) -> list[Segment]:
    """(bytes, latest ms) of segments of ten records each, begun at their latest time."""
    disk = SimDisk()
    made = []
    for number, (size, latest_ms) in enumerate(described):
        segment = Segment(DIRECTORY, 10 * number, disk, OpenFiles(disk, 1))
        segment.size, segment.next_offset, segment.created_ms = size, 10 * number + 10, latest_ms
        segment.max_timestamp = MaxTimestamp(latest_ms, 10 * number, 10 * number + 9)
        made.append(segment)
    return made


def when(**settings: Any) -> LogSettings:
    return LogSettings(compacts=True, **settings)


def test_it_is_time_once_the_dirty_part_is_more_than_the_ratio() -> None:
    closed = segments((100, 0), (50, 0), (50, 0))
    assert decide_compaction(closed, 0, when(), 0) == Span(3, 0)
    assert decide_compaction(closed, 10, when(min_cleanable_dirty_ratio=0.49), 0) == Span(3, 1)
    assert decide_compaction(closed, 10, when(min_cleanable_dirty_ratio=0.5), 0) is None
    assert decide_compaction(closed, 15, when(min_cleanable_dirty_ratio=0.4), 0) == Span(3, 1)
    assert decide_compaction(closed, 30, when(min_cleanable_dirty_ratio=0.0), 0) is None, "nothing is dirty"
    assert decide_compaction([], 0, when(), 0) is None


def test_a_young_record_keeps_its_segment_and_all_behind_it() -> None:
    closed = segments((1, 100), (1, 9_000), (1, 100))
    assert decide_compaction(closed, 0, when(min_compaction_lag_ms=1_000), 9_999) == Span(1, 0)
    assert decide_compaction(closed, 0, when(min_compaction_lag_ms=1_000), 10_000) == Span(3, 0)
    assert decide_compaction(closed, 0, when(), 50) == Span(3, 0), "without a lag the time does not matter"


def test_what_has_waited_too_long_is_compacted_whatever_the_ratio() -> None:
    closed = segments((1000, 0), (1, 5_000))
    late = when(min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=100)
    assert decide_compaction(closed, 10, late, 5_100) is None
    assert decide_compaction(closed, 10, late, 5_101) == Span(2, 1)


def test_neighbours_become_one_segment_up_to_the_bounds() -> None:
    def grouped(sizes: list[int]) -> list[int]:
        return [len(group) for group in group_segments(segments(*[(size, 0) for size in sizes]), 100)]

    assert grouped([40, 40, 40, 100, 1, 99, 1]) == [2, 1, 1, 2, 1]
    assert grouped([101, 1]) == [1, 1], "one that is too large stays alone"
    assert grouped([1] * (GROUP_SEGMENTS_MAX + 1)) == [GROUP_SEGMENTS_MAX, 1]


# -- what


def keyed(count: int, keys: int = 10, *, batch: int = 3, codec: str = "none", first: int = 0) -> list[bytes]:
    """Batches of ``count`` records over a few keys, each value once."""
    pairs: list[Pair] = [
        (b"key-%d" % (n % keys), b"value-%d" % n + b"." * 30) for n in range(first, first + count)
    ]
    return [batch_of(pairs[n : n + batch], compression=codec) for n in range(0, count, batch)]


def closed_log(disk: SimDisk, batches: list[bytes], settings: LogSettings = COMPACT) -> Log:
    log = open_log(disk, settings)
    produce(log, *batches)
    return log


def active_base(log: Log) -> int:
    return log._state.segments[-1].base_offset


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_the_latest_record_of_each_key_stays_at_its_offset_in_its_codec(codec: str) -> None:
    log = closed_log(SimDisk(), keyed(300, codec=codec))
    before, size = records_of(log), log.size_bytes
    assert clean(log) == 1
    after, active = records_of(log), active_base(log)
    last = {record.key: record.offset for record in before if record.offset < active}
    assert after == [
        record for record in before if record.offset >= active or last[record.key] == record.offset
    ]
    assert state_of(after) == state_of(before)
    assert (log.start_offset, log.end_offset) == (0, 300)
    assert log.size_bytes < size / 2
    headers = [header for _, header in iterate_headers(log.read(after[0].offset, 1 << 20))]
    assert {header.compression for header in headers if header.record_count} == {
        read_header(keyed(3, codec=codec)[0]).compression
    }
    assert clean(log) == 0, "what is clean stays as it is"


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_batch_of_more_records_than_a_slice_is_cleaned_as_any_other(codec: str) -> None:
    count = 2 * SLICE_RECORDS + 1
    settings = replace(COMPACT, segment_bytes=1 << 20, max_message_bytes=1 << 20)
    disk = SimDisk()
    pairs: list[Pair] = [(b"key-%d" % (n % 7), b"value-%d" % n) for n in range(count)]
    log = closed_log(disk, [], settings)
    for _ in range(3):
        produce(log, batch_of(pairs, compression=codec))
        log._writer.roll()
        sync(log)
    assert clean(log) >= 1
    assert [record.offset for record in records_of(log)] == [*range(3 * count - 7, 3 * count)]


def test_every_offset_can_be_fetched_and_leads_to_the_next_record() -> None:
    log = closed_log(SimDisk(), keyed(120))
    clean(log)
    kept = records_of(log)
    for offset in range(log.durable_offset):
        for max_bytes in (1, 200, 1 << 20):
            content = bytes(log.read(offset, max_bytes))
            headers = [header for _, header in iterate_headers(content)]
            assert headers[0].base_offset <= offset <= headers[0].last_offset
            found = [item.offset for item in decode_batches(content, offset)]
            expected = [item.offset for item in kept if offset <= item.offset <= headers[-1].last_offset]
            assert found == expected


def test_records_keep_their_times_and_headers() -> None:
    disk = SimDisk()
    log = closed_log(disk, keyed(120, keys=7))
    before = {item.offset: item for item in decode_batches(log.read(0, 1), 0)}
    everything = {}
    offset = 0
    while offset < 120:
        for item in decode_batches(log.read(offset, 1), offset):
            everything[item.offset] = item
            offset = item.offset + 1
    assert before.items() <= everything.items()
    clean(log)
    offset = 0
    while content := log.read(offset, 1):
        for item in decode_batches(content, offset):
            assert item == everything[item.offset]
        *_, (_, last) = iterate_headers(content)
        offset = last.next_offset


def test_times_lead_to_the_first_record_that_is_left() -> None:
    log = open_log(SimDisk(), COMPACT)
    for number in range(100):
        produce(log, batch_of([(b"k%d" % (number % 7), b"v" * 60)], timestamp=NOW_MS + 10 * number))
    clean(log)
    kept = {item.offset for item in records_of(log)}
    for number in range(100):
        found = log.offset_for_timestamp(NOW_MS + 10 * number - 3)
        assert found is not None
        assert found[0] == min(offset for offset in kept if offset >= number)
    assert log.offset_of_max_timestamp() == (99, NOW_MS + 990)


def test_a_record_without_a_key_stays() -> None:
    pairs: list[Pair] = [(None, b"a" * 200), (b"k", b"1" * 200), (None, b"b" * 200), (b"k", b"2" * 200)]
    log = closed_log(SimDisk(), [batch_of(pairs)] * 6)
    before, active = records_of(log), active_base(log)
    clean(log)
    closed = [item for item in before if item.offset < active]
    latest = max(item.offset for item in closed if item.key == b"k")
    assert [item for item in records_of(log) if item.offset < active] == [
        item for item in closed if item.key is None or item.offset == latest
    ]


def test_what_cannot_be_read_as_records_stays_as_it_is() -> None:
    strange = make_batch(3, payload=b"?" * 300)
    log = open_log(SimDisk(), COMPACT)
    produce(log, *keyed(30), strange, *keyed(60))
    clean(log)
    content = bytes(log.read(31, 1))
    assert content[16:] == strange[16:]


@pytest.mark.parametrize("map_bytes", [1, 300, 1_000, 5_000])
def test_more_keys_than_memory_take_several_passes_to_the_same_end(map_bytes: int) -> None:
    batches = keyed(300, keys=40)
    whole, few = closed_log(SimDisk(), batches), closed_log(SimDisk(), batches)
    few.reconfigure(replace(COMPACT, compaction_map_bytes_max=map_bytes))
    assert clean(whole) == 1
    passes = clean(few)
    assert passes > 1
    assert records_of(few) == records_of(whole)


def test_tombstones_stay_for_their_time_and_take_the_key_with_them() -> None:
    disk = SimDisk()
    log = closed_log(disk, [batch_of([(b"gone", b"x" * 100)]), batch_of([(b"stays", b"y" * 100)])])
    produce(log, batch_of([(b"gone", None)]))
    produce(log, *keyed(60))
    clean(log)
    assert [item.value for item in records_of(log) if item.key == b"gone"] == [None]
    header = read_header(log.read(2, 1))
    assert header.attributes & DELETE_HORIZON_MASK
    assert header.base_timestamp == NOW_MS + COMPACT.delete_retention_ms
    produce(log, *keyed(60))
    clean(log, NOW_MS + COMPACT.delete_retention_ms - 1)
    assert [item.offset for item in records_of(log) if item.key == b"gone"] == [2]
    assert read_header(log.read(2, 1)).base_timestamp == NOW_MS + COMPACT.delete_retention_ms, "set once"
    produce(log, *keyed(60))
    clean(log, NOW_MS + COMPACT.delete_retention_ms)
    assert not [item for item in records_of(log) if item.key == b"gone"]
    assert [item.offset for item in records_of(log) if item.key == b"stays"] == [1]


def test_a_tombstone_in_the_part_that_is_not_cleaned_deletes_nothing_yet() -> None:
    log = closed_log(SimDisk(), [*keyed(60), batch_of([(b"key-3", None)])])
    clean(log)
    assert any(item.key == b"key-3" and item.value for item in records_of(log))
    assert b"key-3" not in state_of(records_of(log))


# -- beside the rest


def test_the_start_offset_stays_though_the_first_records_go() -> None:
    log = closed_log(SimDisk(), keyed(120))
    clean(log)
    assert log.start_offset == 0
    assert records_of(log)[0].offset > 0


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_producers_memory_survives_compaction_and_a_restart(checkpoint: bool) -> None:
    disk, settings = SimDisk(), COMPACT
    log = open_log(disk, settings)
    batches = [batch_of([(b"k", b"v%d" % n + b"." * 200)], sequence=n) for n in range(8)]
    produce(log, *batches, *keyed(120))
    clean(log)
    assert [item.key for item in records_of(log)].count(b"k") == 1
    log.close()
    if not checkpoint:
        disk.remove(DIRECTORY / "odradek-checkpoint")
    log = open_log(disk, settings)
    assert log.recovery.from_checkpoint is checkpoint
    for sequence in range(3, 8):
        [again] = [log.append(batches[sequence], read_header(batches[sequence]), NOW_MS)]
        assert (again.base_offset, again.duplicate) == (sequence, True)
    produce(log, batch_of([(b"k", b"new")], sequence=8))
    assert records_of(log)[-1] == Kept(128, b"k", b"new")
    produce(log, *keyed(120))
    clean(log)
    log.close()
    log = open_log(disk, settings)
    assert log.append(
        batch_of([(b"k", b"new")], sequence=8), read_header(batch_of([(b"k", b"new")], sequence=8)), NOW_MS
    ).duplicate


def test_leader_epochs_survive_where_all_their_records_went() -> None:
    disk = SimDisk()
    for _ in range(6):
        log = open_log(disk, COMPACT)
        produce(log, *keyed(30))
        log.close()
    log = open_log(disk, COMPACT)
    epochs = [log.epoch_end_offset(epoch) for epoch in range(log.leader_epoch)]
    clean(log)
    log.close()
    for name in ("odradek-checkpoint", "leader-epoch-checkpoint"):
        disk.remove(DIRECTORY / name)
    log = open_log(disk, COMPACT)
    assert [log.epoch_end_offset(epoch) for epoch in range(len(epochs))] == epochs


def test_retention_and_compaction_work_on_one_log() -> None:
    disk = SimDisk()
    settings = replace(COMPACT, deletes=True, retention_ms=DAY_MS)
    log = open_log(disk, settings)
    for day in range(6):
        for number in range(30):
            stamp = NOW_MS + day * DAY_MS
            produce(log, batch_of([(b"k%d" % (number % 5 + day), b"v" * 80)], timestamp=stamp))
    clean(log, NOW_MS + 5 * DAY_MS)
    before = records_of(log)
    kept = log.retention(NOW_MS + 5 * DAY_MS)
    assert kept.start_offset > 0
    log.advance_start(kept.start_offset)
    assert records_of(log) == [item for item in before if item.offset >= kept.start_offset]
    log.close()
    log = open_log(disk, settings)
    assert log.recovery.bytes_scanned == 0
    assert log.start_offset == kept.start_offset


def test_without_delete_in_the_policy_nothing_is_too_old() -> None:
    log = closed_log(SimDisk(), keyed(120))
    assert log.retention(NOW_MS + 1000 * DAY_MS).start_offset == 0
    assert not log.roll_expired(NOW_MS + 1000 * DAY_MS)


def test_the_active_segment_is_closed_where_compaction_waits_for_it() -> None:
    settings = replace(COMPACT, max_compaction_lag_ms=1_000)
    log = closed_log(SimDisk(), keyed(12), settings)
    assert not log.roll_expired(NOW_MS + 1_000)
    assert log.roll_expired(NOW_MS + 1_001)
    produce(log, *keyed(3))
    clean(log, NOW_MS + 1_001)
    assert len([item for item in records_of(log) if item.offset < 12]) == 10


def test_records_may_be_deleted_from_the_start_while_a_pass_runs() -> None:
    disk = SimDisk()
    log = closed_log(disk, keyed(300))
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    steps = cleaning.run()
    next(steps)
    assert log.advance_start(150) == 150
    files = set(disk.names[DIRECTORY])
    assert "00000000000000000000.log" in files, "the pass reads it"
    list(steps)
    under_way = log.cleaning_done(cleaning, None)
    while under_way:
        list(cleaning.run())
        under_way = log.cleaning_done(cleaning, None)
    assert log.start_offset == 150
    assert log._state.segments[0].next_offset > 150, "what lies below the start is gone"
    assert all(item.offset >= 150 for item in records_of(log))
    log.close()
    assert records_of(open_log(disk, COMPACT)) == records_of_closed(disk)


def records_of_closed(disk: SimDisk) -> list[Kept]:
    disk.release()
    return records_of(open_log(disk, COMPACT))


@pytest.mark.parametrize("slow", ["the last sync", "the checkpoint"])
def test_what_was_written_last_is_compacted_though_nothing_is_written_any_more(slow: str) -> None:
    """A pass that ends while the last sync runs leaves its checkpoint to a next sync, which never comes."""
    disk = SimDisk()
    log = closed_log(disk, keyed(200))
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    list(cleaning.run())
    while not cleaning.complete:
        log.cleaning_done(cleaning, None)
        list(cleaning.run())
    for batch in keyed(200, first=200):
        log.append(batch, check_batch(batch), NOW_MS)
    log.write()
    ticket = log.sync_begin()
    assert ticket is not None
    if slow == "the last sync":
        log.cleaning_done(cleaning, None)
        ticket.run()
        log.sync_done(ticket, None)
    else:
        ticket.run()
        log.sync_done(ticket, None)
        disk.capacity = disk.used()
        log.cleaning_done(cleaning, None)
        disk.capacity = None
    assert clean(log) >= 1
    active = active_base(log)
    keys = [record.key for record in records_of(log) if record.offset < active]
    assert len(keys) == len(set(keys))


def test_a_pass_that_is_given_up_leaves_nothing_behind() -> None:
    disk = SimDisk()
    log = closed_log(disk, keyed(300))
    before, names = records_of(log), set(disk.names[DIRECTORY])
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    steps = cleaning.run()
    for _ in range(2):
        next(steps)
    steps.close()
    assert set(disk.names[DIRECTORY]) == names
    assert log.plan_cleaning(NOW_MS) is None, "one at a time"
    assert not log.cleaning_done(cleaning, OSError(5, "given up"))
    assert records_of(log) == before
    assert clean(log) == 1


def test_what_stays_holds_nothing_of_what_was_read_around_it() -> None:
    """One small batch of each MiB stays: what is gathered for a write must not keep the MiB in memory."""
    windows = 24
    disk = SimDisk()
    log = open_log(disk, replace(COMPACT, segment_bytes=64 << 20, max_message_bytes=2 << 20))
    for number in range(windows):
        produce(log, batch_of([(b"kept-%d" % number, b"v")]), batch_of([(b"big", b"x" * (1 << 20))]))
    log._writer.roll()
    sync(log)
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    tracemalloc.start()
    try:
        list(cleaning.run())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < windows << 19
    log.cleaning_done(cleaning, None)
    assert len(records_of(log)) == windows + 1


def test_a_disk_without_room_ends_the_pass_and_harms_nothing() -> None:
    disk = SimDisk()
    log = closed_log(disk, keyed(300))
    before = records_of(log)
    for reserve, spare in ((1 << 61, None), (0, 100)):
        cleaning = log.plan_cleaning(NOW_MS, reserve)
        assert cleaning is not None
        if spare is not None:
            disk.capacity = disk.used() + 10_000
            disk.free_bytes = lambda path: 1 << 40  # type: ignore[method-assign]  # it lies
            disk.capacity = disk.used() + spare
        with pytest.raises(OSError, match="space"):
            list(cleaning.run())
        assert not log.cleaning_done(cleaning, OSError(28, "no space"))
        disk.capacity = None
        assert not [name for name in disk.names[DIRECTORY] if name.endswith(".cleaned")]
    assert records_of(log) == before
    assert clean(log) == 1
    assert state_of(records_of(log)) == state_of(before)


# -- gaps and damage


def cleaned_segment(disk: SimDisk) -> tuple[Log, bytes]:
    log = closed_log(disk, keyed(120))
    clean(log)
    return log, bytes(disk.content(DIRECTORY / f"{0:020d}.log"))


def test_a_cleaned_segment_has_no_gaps_so_a_missing_batch_is_damage() -> None:
    disk = SimDisk()
    log, content = cleaned_segment(disk)
    headers = list(iterate_headers(content))
    assert any(header.record_count == 0 for _, header in headers)
    assert [header.base_offset for _, header in headers[1:]] == [
        header.next_offset for _, header in headers[:-1]
    ]
    log.close()
    position, header = headers[len(headers) // 2]
    disk.damage(DIRECTORY / f"{0:020d}.log", content[:position] + content[position + header.size_bytes :])
    disk.remove(DIRECTORY / "odradek-checkpoint")
    again = open_log(disk, COMPACT)
    assert (header.base_offset, header.last_offset) in again.damages


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_is_damage_of_the_batch_it_is_in(seed: int) -> None:
    disk, dice = SimDisk(), random.Random(seed)
    log, content = cleaned_segment(disk)
    log.close()
    position, header = dice.choice(list(iterate_headers(content)))
    broken = bytearray(content)
    broken[position + dice.randrange(21, header.size_bytes)] ^= 1 << dice.randrange(8)
    disk.damage(DIRECTORY / f"{0:020d}.log", bytes(broken))
    disk.remove(DIRECTORY / "odradek-checkpoint")
    again = open_log(disk, COMPACT)
    assert again.damages == ((header.base_offset, header.last_offset),)
    assert again.plan_cleaning(NOW_MS) is None, "a damaged log is not compacted"


def test_a_pass_that_meets_damage_names_it_and_ends() -> None:
    disk = SimDisk()
    log = closed_log(disk, keyed(120))
    path = DIRECTORY / f"{0:020d}.log"
    content = bytearray(disk.content(path))
    position, header = list(iterate_headers(bytes(content)))[2]
    content[position + 70] ^= 1
    disk.damage(path, bytes(content))
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    list(cleaning.run())
    assert cleaning.broken == (0, position, header.base_offset)
    assert not log.cleaning_done(cleaning, None)
    assert log.damages == ((header.base_offset, header.last_offset),)
    assert bytes(disk.content(path)) == bytes(content), "the bytes stay as they are"
    assert log.plan_cleaning(NOW_MS) is None


def test_checksums_of_all_that_was_rewritten_fit() -> None:
    disk = SimDisk()
    _, content = cleaned_segment(disk)
    for position, header in iterate_headers(content):
        assert checksum(content[position : position + header.size_bytes]) == header.crc

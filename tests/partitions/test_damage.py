"""Damage: torn tails are cut, the rest is named and everything around it still served."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from odradek.protocol.batch import read_header
from odradek.protocol.errors import CorruptMessage, KafkaStorageError
from partitions.log import Log
from partitions.settings import LogSettings
from tests.partitions.harness import DIRECTORY, SMALL, append_synced, open_log, read_all, signed
from tests.support.batches import idempotent, make_batch
from tests.support.simdisk import SimDisk

FIRST = DIRECTORY / f"{0:020d}.log"
ONE_SEGMENT = LogSettings(index_interval_bytes=128, preallocate=False)
CACHES = (".index", ".timeindex")
SMALL_FILES = (
    "odradek-checkpoint",
    "durable-position",
    "leader-epoch-checkpoint",
    "log-start-offset",
    "partition.metadata",
)


def filled(settings: LogSettings = ONE_SEGMENT, count: int = 6) -> tuple[SimDisk, list[bytes]]:
    """A cleanly closed log of ``count`` batches of 1 to 3 records."""
    disk = SimDisk()
    log = open_log(disk, settings)
    batches = [
        make_batch(n % 3 + 1, payload=bytes([n + 1]) * (20 + n), timestamp=1000 + n) for n in range(count)
    ]
    for batch in batches:
        append_synced(log, batch)
    log.close()
    return disk, batches


def without_bound(disk: SimDisk) -> SimDisk:
    """Nothing says any more how far the log was durable."""
    disk.remove(DIRECTORY / "odradek-checkpoint")
    disk.remove(DIRECTORY / "durable-position")
    return disk


def test_a_tail_torn_at_every_byte_is_cut_to_a_batch() -> None:
    disk, batches = filled()
    whole = bytes(disk.content(FIRST))
    ends, offsets = [0], [0]
    for number, batch in enumerate(batches):
        ends.append(ends[-1] + len(batch))
        offsets.append(offsets[-1] + number % 3 + 1)
    for size in range(ends[-4], len(whole)):
        for tail in (b"", bytes(1000), b"\xff"):
            torn, _ = filled()
            torn.damage(FIRST, whole[:size] + tail)
            log = open_log(without_bound(torn), ONE_SEGMENT)
            kept = max(number for number, end in enumerate(ends) if end <= size)
            if whole[:size].ljust(ends[-1], b"\0") == whole:
                kept = len(batches)
            assert log.end_offset == offsets[kept], size
            assert log.recovery.quarantined == ()
            assert torn.content(FIRST) == whole[: ends[kept]]
            [appended] = append_synced(log, make_batch(payload=b"next"))
            assert appended.base_offset == offsets[kept]


@pytest.mark.parametrize("checkpointed", [True, False])
@pytest.mark.parametrize("max_bytes", [1, 150, 4096])
def test_a_flipped_bit_anywhere_costs_one_batch_at_most(checkpointed: bool, max_bytes: int) -> None:
    disk, batches = filled()
    whole = bytes(disk.content(FIRST))
    bases = [0, 1, 3, 6, 7, 9, 12]
    ends = [sum(len(batch) for batch in batches[:n]) for n in range(len(batches) + 1)]
    names = {name: bytes(inode.content) for name, inode in disk.names[DIRECTORY].items()}
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        fresh = SimDisk()
        for name, content in names.items():
            descriptor = fresh.open(DIRECTORY / name, create=True)
            fresh.close(descriptor)
            fresh.damage(DIRECTORY / name, content)
        fresh.damage(FIRST, bytes(damaged))
        if not checkpointed:
            without_bound(fresh)
        log = open_log(fresh, ONE_SEGMENT)
        hit = max(number for number, end in enumerate(ends) if end <= position)
        reading = read_all(log, max_bytes)
        for number, batch in enumerate(batches):
            if number != hit:
                assert reading.batches.get(bases[number]) == signed(batch), (position, number)
        for base, content in reading.batches.items():
            assert signed(batches[bases.index(base)]) == content, position
        is_last, in_epoch = hit == len(batches) - 1, 12 <= position - ends[hit] < 16
        if not in_epoch and (checkpointed or not is_last):
            assert bases[hit] not in reading.batches
            assert (bases[hit], bases[hit + 1] - 1) in reading.damaged, position


def test_damage_in_the_middle_is_named_kept_and_survives_restarts() -> None:
    disk, batches = filled()
    position = len(batches[0]) + 30
    disk.content(FIRST)[position] ^= 0xFF
    disk.damage(FIRST, bytes(disk.content(FIRST)))
    damaged = bytes(disk.content(FIRST))
    log = open_log(without_bound(disk), ONE_SEGMENT)
    assert log.recovery.quarantined == ((1, 2),)
    assert bytes(disk.content(FIRST)) == damaged
    for offset in (1, 2):
        with pytest.raises(CorruptMessage, match=r"offsets 1 to 2 are damaged .* goes on at 3"):
            log.read(offset, 1000)
    [appended] = append_synced(log, make_batch())
    assert appended.base_offset == 12
    reading = read_all(log)
    log.close()
    for remove in (False, True):
        again = open_log(without_bound(disk) if remove else disk, ONE_SEGMENT)
        assert read_all(again) == reading
        assert again.damages == ((1, 2),)
        again.close()


def test_what_was_durable_is_never_cut() -> None:
    disk, _ = filled()
    content = bytes(disk.content(FIRST))
    for size in (0, 30, len(content) // 2, len(content) - 1):
        damaged, _batches = filled()
        damaged.damage(FIRST, content[:size])
        log = open_log(damaged, ONE_SEGMENT)
        assert log.end_offset == 12
        assert damaged.content(FIRST).rstrip(b"\0") == content[:size].rstrip(b"\0")
        reading = read_all(log)
        assert reading.damaged[-1][1] == 11
        assert append_synced(log, make_batch())[0].base_offset == 12
        log.close()
        again = open_log(damaged, ONE_SEGMENT)
        assert read_all(again).damaged == reading.damaged
        again.close()
        assert read_all(open_log(without_bound(damaged), ONE_SEGMENT)).damaged == reading.damaged


def test_a_missing_segment_is_named() -> None:
    disk, _batches = filled(SMALL, 120)
    bases = sorted(int(name[:20]) for name in disk.names[DIRECTORY] if name.endswith(".log"))
    assert len(bases) > 3
    disk.remove(DIRECTORY / f"{bases[1]:020d}.log")
    for _ in range(2):
        log = open_log(disk)
        assert read_all(log).damaged == [(bases[1], bases[2] - 1)]
        log.close()
        without_bound(disk)


def first_batch(content: bytes | memoryview) -> bytes:
    return bytes(content[: read_header(content).size_bytes])


def remove(disk: SimDisk, name: str) -> None:
    disk.remove(DIRECTORY / name)


def truncate(disk: SimDisk, name: str) -> None:
    content = bytes(disk.content(DIRECTORY / name))
    disk.damage(DIRECTORY / name, content[: len(content) * 2 // 3])


def flip(disk: SimDisk, name: str) -> None:
    content = bytearray(disk.content(DIRECTORY / name))
    if content and name != "partition.metadata":
        content[len(content) // 2] ^= 0x10
    disk.damage(DIRECTORY / name, bytes(content))


def junk(disk: SimDisk, name: str) -> None:
    disk.damage(DIRECTORY / name, random.Random(name).randbytes(96))


def zero(disk: SimDisk, name: str) -> None:
    disk.damage(DIRECTORY / name, bytes(len(disk.content(DIRECTORY / name))))


@pytest.mark.parametrize("harm", [remove, truncate, flip, junk, zero])
@pytest.mark.parametrize("which", [*CACHES, *SMALL_FILES])
def test_small_files_are_only_caches(harm: Callable[[SimDisk, str], None], which: str) -> None:
    def everything(log: Log) -> object:
        stamps = [log.offset_for_timestamp(stamp) for stamp in range(1000, 1125, 7)]
        state = log._producers.get(5)
        each = [first_batch(log.read(offset, 1)) for offset in range(log.start_offset, log.end_offset)]
        return read_all(log), stamps, log.offset_of_max_timestamp(), state and state.batches, each

    def build() -> SimDisk:
        disk, _ = filled(SMALL, 120)
        log = open_log(disk)
        append_synced(log, *[idempotent(5, sequence) for sequence in range(8)])
        log.advance_start(20)
        log.close()
        return disk

    expected = everything(open_log(build()))
    disk = build()
    for name in [name for name in disk.names[DIRECTORY] if name.endswith(which)]:
        harm(disk, name)
    log = open_log(disk)
    assert everything(log) == expected
    append_synced(log, make_batch())
    log.close()


def test_a_checkpoint_of_another_partition_is_not_believed() -> None:
    disk, batches = filled()
    other = SimDisk()
    log = Log.open(DIRECTORY.with_name("events-1"), ONE_SEGMENT, files=other, wall_ms=1, topic_id="x")
    append_synced(log, make_batch())
    log.close()
    disk.damage(
        DIRECTORY / "odradek-checkpoint",
        bytes(other.content(DIRECTORY.with_name("events-1") / "odradek-checkpoint")),
    )
    log = open_log(disk, ONE_SEGMENT)
    assert not log.recovery.from_checkpoint
    assert list(read_all(log).batches.values()) == [signed(batch) for batch in batches]


def test_a_batch_inside_a_record_is_not_taken_for_one() -> None:
    inner = make_batch(payload=b"inner")
    disk, _ = filled(count=1)
    log = open_log(disk, ONE_SEGMENT)
    append_synced(log, make_batch(payload=inner * 3), make_batch())
    log.close()
    content = bytes(disk.content(FIRST))
    disk.damage(FIRST, content[:-70])
    log = open_log(without_bound(disk), ONE_SEGMENT)
    assert log.end_offset == 1
    assert log.recovery.quarantined == ()


def test_a_disk_that_cannot_be_read_is_a_storage_error() -> None:
    disk, _ = filled()
    log = open_log(disk, ONE_SEGMENT)
    disk.read_error = OSError(5, "Input/output error")
    with pytest.raises(KafkaStorageError, match=r"reading .* failed: .*Input/output error"):
        log.read(0, 100)
    disk.read_error = None
    assert len(read_all(log).batches) == 6

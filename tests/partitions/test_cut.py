"""Where a log ends after a crash: cut behind the durable position, quarantined below it, reported always."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from odradek.protocol.batch import read_header
from partitions.cuttings import COPY_BYTES, CUTTINGS_KEPT, remove_oldest
from partitions.log import Log
from partitions.settings import LogSettings
from partitions.witness import FILE_NAME, RECORD_BYTES, DurablePosition, Witness, load_witness
from tests.partitions.harness import (
    DIRECTORY,
    NOW_MS,
    SMALL,
    append,
    append_synced,
    open_log,
    read_all,
    signed,
    sync,
)
from tests.support.batches import idempotent, make_batch
from tests.support.simdisk import SimDisk

FIRST = DIRECTORY / f"{0:020d}.log"
WITNESS = DIRECTORY / FILE_NAME
CHECKPOINT = DIRECTORY / "odradek-checkpoint"
ONE_SEGMENT = LogSettings(index_interval_bytes=128)
PRODUCER = 7


def batch(sequence: int, size: int = 100) -> bytes:
    return idempotent(PRODUCER, sequence, payload=bytes([sequence + 1]) * size)


def sent(log: Log, *sequences: int, size: int = 100, synced: bool = True) -> list[bytes]:
    """Appends the producer's batches and writes them; ``synced`` ones are durable."""
    batches = [batch(sequence, size) for sequence in sequences]
    append(log, *batches)
    log.write()
    if synced:
        sync(log)
    return batches


def flip(disk: SimDisk, path: Path, position: int) -> None:
    """The power is back, and one byte is not what it was."""
    content = bytearray(disk.content(path))
    content[position] ^= 0xFF
    disk.damage(path, bytes(content))


def cuttings(disk: SimDisk) -> dict[str, bytes]:
    return {
        name: bytes(inode.content) for name, inode in disk.names[DIRECTORY].items() if name.endswith(".cut")
    }


def batches_in(content: bytes) -> list[bytes]:
    """What was signed of each batch; behind the last there may be zeros."""
    found, position = [], 0
    while content[position:].strip(b"\0"):
        header = read_header(content, position)
        found.append(content[position + 16 : position + header.size_bytes])
        assert len(found[-1]) == header.size_bytes - 16, "the last batch is whole"
        position += header.size_bytes
    return found


def crashed(disk: SimDisk) -> SimDisk:
    return disk.crash(1, keep="all")


@pytest.mark.parametrize("whole_segments", [True, False])
@pytest.mark.parametrize("preallocate", [True, False])
def test_a_cut_batch_that_ends_with_zeros_keeps_them(whole_segments: bool, preallocate: bool) -> None:
    """Records without headers end with a zero byte: it is not reserved space."""
    settings = replace(SMALL if whole_segments else ONE_SEGMENT, preallocate=preallocate)
    disk = SimDisk()
    log = open_log(disk, settings)
    sent(log, 0)
    torn_at = log.size_bytes
    torn = make_batch(payload=b"t" * 1500)
    lost = [make_batch(payload=b"lost" * 300 + bytes(size)) for size in (1, 9)]
    append(log, torn, *lost)
    log.write()
    assert (log.segment_count > 1) is whole_segments
    disk = crashed(disk)
    flip(disk, FIRST, torn_at + 70)
    log = open_log(disk, settings)
    assert log.end_offset == 1
    kept = [content for name, content in sorted(cuttings(disk).items())]
    found = [item for content in kept for item in batches_in(content)]
    assert [item for item in found if item.startswith(signed(lost[0])[:4]) or b"lost" in item] == [
        signed(item) for item in lost
    ]


@pytest.mark.parametrize("killed", [True, False])
def test_behind_a_torn_batch_that_nobody_acknowledged_nothing_stays(killed: bool) -> None:
    disk = SimDisk()
    log = open_log(disk, ONE_SEGMENT)
    sent(log, 0, 1)
    end = log.size_bytes
    lost = sent(log, 2, 3, 4, synced=False)
    if killed:
        disk.release()
    else:
        disk = crashed(disk)
    flip(disk, FIRST, end + 80)
    tail = bytes(disk.content(FIRST)[end : end + 3 * len(lost[0])])
    log = open_log(disk, ONE_SEGMENT)
    assert (log.end_offset, log.size_bytes, log.damages) == (2, end, ())
    assert len(disk.content(FIRST)) == end
    assert log.recovery.bytes_truncated == len(tail)
    assert log.recovery.quarantined == ()
    [name] = log.recovery.set_aside
    assert name == f"{0:020d}.{end}.0.cut"
    assert {path: content.rstrip(b"\0") for path, content in cuttings(disk).items()} == {name: tail}
    assert batches_in(tail)[1:] == [signed(item) for item in lost[1:]]
    [note] = log.recovery.notes
    assert "cut at offset 2" in note
    assert name in note
    disk.release()
    second = open_log(disk, ONE_SEGMENT)
    assert (second.recovery.bytes_truncated, second.recovery.set_aside, second.recovery.notes) == (0, (), ())
    again = append_synced(second, *lost)
    assert [(item.base_offset, item.duplicate) for item in again] == [(2, False), (3, False), (4, False)]
    assert list(cuttings(disk)) == [name], "it survives the next start"
    assert len(read_all(second).batches) == 5


def test_the_cut_takes_whole_segments_and_what_the_indexes_said_of_them() -> None:
    disk = SimDisk()
    log = open_log(disk)
    sent(log, 0, 1, size=300)
    end = log.size_bytes
    lost = sent(log, *range(2, 20), size=300, synced=False)
    assert log.segment_count > 3
    disk = crashed(disk)
    flip(disk, FIRST, end + 80)
    log = open_log(disk)
    assert (log.segment_count, log.end_offset, log.size_bytes) == (1, 2, end)
    assert log.recovery.from_checkpoint
    found = [item for name in sorted(cuttings(disk)) for item in batches_in(cuttings(disk)[name])]
    assert [signed(item) for item in lost[1:]] == found[1:], "all that was sound is in the files"
    assert sorted(cuttings(disk)) == sorted(log.recovery.set_aside)
    others = [name for name in disk.names[DIRECTORY] if name.endswith(("index", ".log"))]
    assert {name[:20] for name in others} == {f"{0:020d}"}
    append_synced(log, *lost)
    log.close()
    again = open_log(disk)
    assert again.end_offset == 20
    assert [again.read(offset, 1)[:8] for offset in range(20)] == [n.to_bytes(8, "big") for n in range(20)]
    assert again.offset_of_max_timestamp() == (0, NOW_MS)


@pytest.mark.parametrize("end", ["closed", "killed", "killed after more"])
@pytest.mark.parametrize("hit", range(4))
def test_below_the_durable_position_damage_is_quarantined(end: str, hit: int) -> None:
    disk = SimDisk()
    log = open_log(disk, ONE_SEGMENT)
    durable = sent(log, 0, 1, 2, 3)
    size = len(durable[0])
    more = sent(log, 4, 5, synced=False) if end == "killed after more" else []
    if end == "closed":
        log.close()
    disk.release()
    flip(disk, FIRST, hit * size + 90)
    before = bytes(disk.content(FIRST)).rstrip(b"\0")
    log = open_log(disk, ONE_SEGMENT)
    assert bytes(disk.content(FIRST)).rstrip(b"\0") == before
    assert log.end_offset == 4 + len(more)
    reading = read_all(log)
    assert reading.damaged == [(hit, hit)]
    assert log.recovery.set_aside == ()
    expected = {number: signed(item) for number, item in enumerate([*durable, *more]) if number != hit}
    assert reading.batches == expected
    assert append_synced(log, make_batch())[0].base_offset == 4 + len(more)


def test_damage_on_both_sides_of_the_durable_position() -> None:
    """The last durable batch and the first behind it: one is named, at the other the log ends."""
    disk = SimDisk()
    log = open_log(disk, ONE_SEGMENT)
    [first, *_] = sent(log, 0, 1)
    size = len(first)
    lost = sent(log, 2, 3, synced=False)
    disk.release()
    flip(disk, FIRST, size + 90)
    flip(disk, FIRST, 2 * size + 90)
    log = open_log(disk, ONE_SEGMENT)
    assert (log.recovery.quarantined, log.end_offset) == (((1, 1),), 2)
    assert len(log.recovery.set_aside) == 1
    reading = read_all(log)
    disk.release()
    again = open_log(disk, ONE_SEGMENT)
    assert (again.recovery.bytes_truncated, again.recovery.set_aside) == (0, ())
    assert read_all(again) == reading
    assert append_synced(again, make_batch())[0].base_offset == 2
    assert len(lost) == 2


def test_without_a_bound_nothing_sound_is_cut() -> None:
    disk = SimDisk()
    log = open_log(disk, ONE_SEGMENT)
    [first, *_] = sent(log, 0, 1, 2)
    for keep_witness in (False, True):
        bare = crashed(disk)
        flip(bare, FIRST, len(first) + 80)
        bare.remove(CHECKPOINT)
        if keep_witness:
            bare.remove(DIRECTORY / "leader-epoch-checkpoint")
        else:
            bare.remove(WITNESS)
        log = open_log(bare, ONE_SEGMENT)
        assert (log.damages, log.end_offset, cuttings(bare)) == (((1, 1),), 3, {})


def test_the_witness_bounds_where_the_checkpoint_is_gone() -> None:
    disk = SimDisk()
    log = open_log(disk, ONE_SEGMENT)
    [first, *_] = sent(log, 0, 1, 2)
    size = len(first)
    sent(log, 3, 4, synced=False)
    disk = crashed(disk)
    disk.remove(CHECKPOINT)
    flip(disk, FIRST, size + 80)
    flip(disk, FIRST, 3 * size + 80)
    log = open_log(disk, ONE_SEGMENT)
    assert not log.recovery.from_checkpoint
    assert (log.damages, log.end_offset, len(cuttings(disk))) == (((1, 1),), 3, 1)


def test_the_witness_tells_of_every_sync_and_belongs_to_one_session() -> None:
    disk = SimDisk()
    log = open_log(disk)
    for number in range(12):
        sent(log, number, size=400)
        segment = log._state.segments[-1]
        told = load_witness(disk, DIRECTORY, owner(log), log.leader_epoch)
        assert told == DurablePosition(segment.base_offset, segment.size, number + 1)
    assert len(disk.content(WITNESS)) == RECORD_BYTES == 40
    assert load_witness(disk, DIRECTORY, owner(log), log.leader_epoch + 1) is None
    assert load_witness(disk, DIRECTORY, "x events-1", log.leader_epoch) is None
    whole = bytes(disk.content(WITNESS))
    for position in range(RECORD_BYTES):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        for content in (bytes(damaged), whole[:position]):
            disk.damage(WITNESS, content)
            assert load_witness(disk, DIRECTORY, owner(log), log.leader_epoch) is None
    disk.remove(WITNESS)
    assert load_witness(disk, DIRECTORY, owner(log), log.leader_epoch) is None


def owner(log: Log) -> str:
    return f"{log._topic_id} {log._directory.name}"


@pytest.mark.parametrize("harm", ["missing", "torn", "another epoch", "another partition", "stale"])
def test_whatever_became_of_the_witness_acknowledged_batches_stay(harm: str) -> None:
    disk = SimDisk()
    log = open_log(disk, ONE_SEGMENT)
    sent(log, 0)
    log.close()
    old = bytes(disk.content(WITNESS))
    log = open_log(disk, ONE_SEGMENT)
    sent(log, 1)
    stale = bytes(disk.content(WITNESS))
    acknowledged = sent(log, 2, 3)
    end = log.size_bytes
    lost = sent(log, 4, 5, synced=False)
    disk = crashed(disk)
    flip(disk, FIRST, end + 80)
    if harm == "missing":
        disk.remove(WITNESS)
    elif harm == "torn":
        disk.damage(WITNESS, bytes(disk.content(WITNESS)[:20]) + bytes(20))
    elif harm == "another epoch":
        disk.damage(WITNESS, old)
    elif harm == "another partition":
        other = Witness(disk, DIRECTORY, "x events-1", log.leader_epoch)
        other.write(0, 10_000, 10_000)
    else:
        disk.damage(WITNESS, stale)
    log = open_log(disk, ONE_SEGMENT)
    assert log.recovery.from_checkpoint
    assert (log.end_offset, log.size_bytes, log.damages) == (4, end, ())
    reading = read_all(log)
    assert [reading.batches[2], reading.batches[3]] == [signed(item) for item in acknowledged]
    assert [item.base_offset for item in append_synced(log, *lost)] == [4, 5]


def test_a_witness_that_cannot_be_written_is_no_error() -> None:
    class Refusing(SimDisk):
        def pwritev(self, descriptor: int, buffers: object, position: int) -> int:
            if self.descriptors[descriptor] is self.names[DIRECTORY].get(FILE_NAME):
                raise OSError(28, "no space left on device")
            return super().pwritev(descriptor, buffers, position)  # type: ignore[arg-type]

    log = open_log(Refusing())
    sent(log, 0, 1)
    assert (log.durable_offset, log.failure) == (2, None)


def test_cuttings_of_the_last_few_recoveries_are_kept() -> None:
    disk = SimDisk()
    large = replace(SMALL, segment_bytes=1 << 24, max_message_bytes=1 << 22)
    log = open_log(disk, large)
    for _ in range(CUTTINGS_KEPT + 2):
        sent(log, 0, 1, synced=False, size=COPY_BYTES // 2 + 100)
        disk = crashed(disk)
        flip(disk, FIRST, 80)
        log = open_log(disk, large)
        assert log.end_offset == 0
    names = sorted(cuttings(disk), key=lambda name: int(name.split(".")[2]))
    assert [int(name.split(".")[2]) for name in names] == list(range(2, CUTTINGS_KEPT + 2))
    assert "older files of that kind were deleted" in log.recovery.notes[-1]
    assert batches_in(cuttings(disk)[names[-1]])[1] == signed(batch(1, COPY_BYTES // 2 + 100))
    assert remove_oldest(disk, DIRECTORY) == []


def test_reserved_zeros_between_segments_are_no_damage() -> None:
    """A segment was full, its reserved space not yet given back when the power went."""
    disk = SimDisk()
    log = open_log(disk)
    batches = sent(log, *range(12), size=400, synced=False)
    disk = crashed(disk)
    disk.damage(FIRST, bytes(disk.content(FIRST)) + bytes(900))
    log = open_log(disk)
    assert log.segment_count > 2
    assert list(read_all(log).batches.values()) == [signed(item) for item in batches]
    assert log.recovery.set_aside == ()

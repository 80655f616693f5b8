"""Blocks that a disk or a person put in the wrong place: no wrong byte is ever served, and nothing is cut."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from odradek.protocol.batch import read_header
from partitions.log import Log
from partitions.settings import LogSettings
from tests.partitions.harness import DIRECTORY, NOW_MS, SMALL, append_synced, open_log, read_all, signed
from tests.support.batches import idempotent, make_batch
from tests.support.simdisk import SECTOR, SimDisk
from tests.support.tiers import in_tier

FIRST = DIRECTORY / f"{0:020d}.log"
ONE_SEGMENT = LogSettings(index_interval_bytes=128, preallocate=False)
COUNT = 12
PLACES = in_tier(40, 400)


def filled() -> tuple[SimDisk, list[bytes]]:
    """A cleanly closed log of batches, some of one size so that one can lie exactly where another was."""
    disk = SimDisk()
    log = open_log(disk, ONE_SEGMENT)
    batches = [
        make_batch(1, payload=bytes([number + 1]) * (300 if number % 2 else 200 + number))
        for number in range(COUNT)
    ]
    for batch in batches:
        append_synced(log, batch)
    log.close()
    return disk, batches


Harm = Callable[[bytearray, random.Random], None]


def zero_a_block(content: bytearray, dice: random.Random) -> None:
    start = dice.randrange(0, len(content), SECTOR)
    content[start : start + SECTOR] = bytes(len(content[start : start + SECTOR]))


def copy_a_block(content: bytearray, dice: random.Random) -> None:
    """A misdirected write: one block also stands in the place of another."""
    blocks = len(content) // SECTOR
    source, target = (place * SECTOR for place in dice.sample(range(blocks), 2))
    content[target : target + SECTOR] = content[source : source + SECTOR]


def swap_two_blocks(content: bytearray, dice: random.Random) -> None:
    blocks = len(content) // SECTOR
    one, two = (place * SECTOR for place in dice.sample(range(blocks), 2))
    content[one : one + SECTOR], content[two : two + SECTOR] = (
        content[two : two + SECTOR],
        content[one : one + SECTOR],
    )


def copy_any_chunk(content: bytearray, dice: random.Random) -> None:
    size = dice.randint(1, 1_000)
    source, target = dice.randrange(len(content)), dice.randrange(len(content))
    chunk = content[source : source + size][: len(content) - target]
    content[target : target + len(chunk)] = chunk


def put_a_whole_batch_elsewhere(content: bytearray, dice: random.Random) -> None:
    """Its checksum is right where it is now, only its offset says that it does not belong there."""
    size = len(make_batch(1, payload=bytes(300)))
    places = [start for start, end in placed(bytes(content)) if end - start == size]
    source, target = dice.sample(places, 2)
    content[target : target + size] = content[source : source + size]


HARMS: list[Harm] = [
    zero_a_block,
    copy_a_block,
    swap_two_blocks,
    copy_any_chunk,
    put_a_whole_batch_elsewhere,
]
LIMITED = (zero_a_block, put_a_whole_batch_elsewhere)
"""Damage at one place. Sound batches in several wrong places may look like the log going on there."""


@pytest.mark.parametrize("bounded", [True, False], ids=["bound known", "bound unknown"])
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_misplaced_bytes_are_never_served(harm: Harm, bounded: bool) -> None:
    disk, batches = filled()
    whole = bytes(disk.content(FIRST))
    sent = {number: signed(batch) for number, batch in enumerate(batches)}
    for seed in range(PLACES):
        content = bytearray(whole)
        harm(content, random.Random(seed))
        again = disk.crash(1)
        again.damage(FIRST, bytes(content))
        if not bounded:
            again.remove(DIRECTORY / "odradek-checkpoint")
            again.remove(DIRECTORY / "durable-position")
        log = open_log(again, ONE_SEGMENT)
        reading = read_all(log)
        for base, found in reading.batches.items():
            assert found == sent[base], (seed, "wrong bytes at an offset")
        if bounded and harm in LIMITED:
            touched = [
                number
                for number, (start, end) in enumerate(placed(whole))
                if content[start:end] != whole[start:end]
            ]
            around = {*range(min(touched, default=COUNT)), *range(max(touched, default=0) + 1, COUNT)}
            assert around <= set(reading.batches), (seed, "a sound batch is not served")
            assert log.end_offset == COUNT
        log.close()
        again.release()
        assert read_all(open_log(again, ONE_SEGMENT)) == reading


def placed(content: bytes) -> list[tuple[int, int]]:
    """Where each batch stands."""
    places, position = [], 0
    while position < len(content):
        size = read_header(content[position:]).size_bytes
        places.append((position, position + size))
        position += size
    return places


# -- caches that are not damaged, but wrong -----------------------------------------------------------


def built(count: int, start: int) -> SimDisk:
    disk = SimDisk()
    log = open_log(disk)
    for number in range(count):
        append_synced(
            log, make_batch(number % 3 + 1, payload=bytes([number + 1]) * 90, timestamp=1000 + number)
        )
    append_synced(log, *[idempotent(5, sequence) for sequence in range(8)])
    log.advance_start(start)
    log.close()
    return disk


def everything(log: Log) -> object:
    stamps = [log.offset_for_timestamp(stamp) for stamp in range(1000, 1100, 7)]
    state = log._producers.get(5)
    each = [bytes(log.read(offset, 1)) for offset in range(log.start_offset, log.end_offset)]
    return read_all(log), stamps, log.offset_of_max_timestamp(), state and state.batches, each


@pytest.mark.parametrize("kind", [".index", ".timeindex"])
@pytest.mark.parametrize("origin", ["older", "another partition", "its neighbour"])
def test_an_index_that_is_sound_but_not_this_one_changes_nothing(kind: str, origin: str) -> None:
    disk = built(60, 20)
    expected = everything(open_log(built(60, 20)))
    names = sorted(name for name in disk.names[DIRECTORY] if name.endswith(kind))
    assert len(names) > 3
    other = {"older": built(40, 20), "another partition": built(75, 0), "its neighbour": disk}[origin]
    sources = sorted(name for name in other.names[DIRECTORY] if name.endswith(kind))
    contents = [bytes(other.content(DIRECTORY / name)) for name in sources]
    for number, name in enumerate(names):
        disk.damage(DIRECTORY / name, contents[(number + 1) % len(contents)])
    log = open_log(disk)
    assert everything(log) == expected
    append_synced(log, make_batch())
    log.close()


def test_an_older_checkpoint_only_costs_time() -> None:
    disk = SimDisk()
    log = open_log(disk, SMALL)
    append_synced(log, *[make_batch(payload=bytes([n]) * 200) for n in range(1, 9)])
    log.checkpoint()
    old = bytes(disk.content(DIRECTORY / "odradek-checkpoint"))
    append_synced(log, *[idempotent(3, n, payload=bytes([n + 9]) * 200) for n in range(30)])
    log.close()
    expected = everything(open_log(disk.crash(1), SMALL))
    disk.damage(DIRECTORY / "odradek-checkpoint", old)
    disk.release()
    again = open_log(disk, SMALL, wall_ms=NOW_MS)
    assert everything(again) == expected

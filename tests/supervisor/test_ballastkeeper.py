"""The keeper of the ballast: when it gives back, when it makes whole, and what it says of it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from partitions.ballast import PIECE_BYTES, Ballast
from supervisor.access import AccessList
from supervisor.ballastkeeper import (
    FREE_BYTES_HARD,
    BallastedStorage,
    BallastKeeper,
)
from supervisor.catalog import Catalog
from supervisor.logs import EventLog
from tests.support.simdisk import SimDisk

PLACE = Path("/data/odradek.ballast")
PIECES = 4
KEEP_BYTES = PIECES * PIECE_BYTES


class Rig:
    """A keeper on a simulated disk whose other tenants take what they like."""

    def __init__(self, descriptor: int, path: Path, *, free_bytes: int = 100 * PIECE_BYTES) -> None:
        self._path = path
        self.disk = SimDisk()
        self.ballast = Ballast(self.disk, PLACE, PIECES * PIECE_BYTES)
        self.others(free_bytes)
        log = EventLog("supervisor", "info", json=True, descriptor=descriptor)
        self.keeper = BallastKeeper(self.ballast, lambda: self.disk.free_bytes(PLACE), KEEP_BYTES, log)

    def others(self, free_bytes: int) -> None:
        """So much is free from now on."""
        self.disk.capacity = self.disk.used() + free_bytes

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self._path.read_text().splitlines()]

    @property
    def pieces(self) -> int:
        return len(self.ballast.pieces())


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield descriptor, path
    os.close(descriptor)


@pytest.fixture
def rig(log_file: tuple[int, Path]) -> Rig:
    made = Rig(*log_file)
    made.keeper.check()
    return made


def test_while_there_is_space_it_is_whole_and_silent(rig: Rig) -> None:
    assert rig.pieces == PIECES
    assert rig.events() == []
    assert rig.keeper.reason is None


def test_before_the_disk_is_full_the_upper_half_goes_a_piece_at_a_time(rig: Rig) -> None:
    rig.others(FREE_BYTES_HARD)
    rig.keeper.check()
    assert rig.pieces == PIECES, "at the bound, not below it"
    for left in (3, 2, 2, 2):
        rig.others(FREE_BYTES_HARD - 1)
        rig.keeper.check()
        assert rig.pieces == left
    assert rig.events() == ["disk full: ballast given back"] * 2
    assert rig.keeper.reason == "2 of 4 MiB of the ballast are missing: free disk space"


def test_what_another_process_gave_back_is_said_and_made_again_when_there_is_space(rig: Rig) -> None:
    rig.others(0)
    while rig.ballast.give_back():
        pass
    rig.others(0)
    rig.keeper.check()
    assert rig.events() == ["disk full: ballast given back"]
    rig.others(KEEP_BYTES + PIECE_BYTES)
    rig.keeper.check()
    assert rig.pieces == 1, "what records need stays free"
    rig.others(10 * PIECE_BYTES)
    rig.keeper.check()
    assert rig.pieces == PIECES
    assert rig.events()[1:] == ["ballast partly back", "ballast whole again"]
    assert rig.keeper.reason is None


def test_a_start_on_a_full_disk_says_so(log_file: tuple[int, Path]) -> None:
    rig = Rig(*log_file, free_bytes=0)
    rig.keeper.check()
    rig.keeper.check()
    assert rig.events() == ["ballast not whole: the disk has too little space"]


def test_a_ballast_that_cannot_be_looked_after_is_said_once_and_stops_nothing(rig: Rig) -> None:
    assert rig.ballast.give_back()
    rig.disk.allocate_error = OSError(errno.EOPNOTSUPP, "Operation not supported")
    for _ in range(3):
        rig.keeper.check()
    assert rig.events().count("ballast cannot be kept") == 1


class FullStorage:
    """Takes a catalogue as soon as the ballast has shrunk to so many pieces."""

    def __init__(self, ballast: Ballast, needs_pieces_at_most: int) -> None:
        self._ballast = ballast
        self._needs = needs_pieces_at_most
        self.saved: list[Catalog] = []

    def save(self, catalog: Catalog) -> None:
        self._refuse()
        self.saved.append(catalog)

    def save_access(self, access: AccessList) -> None:
        self._refuse()

    def discard(self, topic: str, partitions: int) -> None:
        self._refuse()

    def _refuse(self) -> None:
        if len(self._ballast.pieces()) > self._needs:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_the_catalogue_is_written_with_the_help_of_the_ballast(rig: Rig) -> None:
    storage = FullStorage(rig.ballast, 2)
    ballasted = BallastedStorage(storage, rig.ballast)
    catalog = Catalog(cluster_id="c", offsets_topic_id="o")
    ballasted.save(catalog)
    assert (storage.saved, rig.pieces) == ([catalog], 2)
    ballasted.discard("events", 1)
    assert rig.pieces == 2
    BallastedStorage(FullStorage(rig.ballast, 1), rig.ballast).save_access(AccessList())
    assert rig.pieces == 1
    with pytest.raises(OSError, match="No space"):
        BallastedStorage(FullStorage(rig.ballast, -1), rig.ballast).save(catalog)

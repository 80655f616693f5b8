"""Mutations: the broker's protections, each switched off from outside, and the test that must then fail.

The product has no switch for any of this. A mutation replaces a function in a process of the tests
(``plugin``), or in every process of a real broker (``site/sitecustomize.py``).
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VARIABLE = "ODRADEK_MUTANT"


@dataclass(frozen=True, slots=True)
class Mutation:
    """``apply`` switches the protection off; each of ``tests`` (pytest's node ids) fails then."""

    apply: Callable[[], None]
    tests: tuple[str, ...]


def _nothing(*_: Any, **__: Any) -> None:
    return None


def sync_nothing() -> None:
    """fdatasync is not called; all else goes on as if it had been."""
    from partitions.tickets import SyncTicket

    SyncTicket.run = _nothing  # type: ignore[method-assign]


def sync_no_names() -> None:
    """Directories are not synced: a new file, or a rename, may be gone after a power cut."""
    from tests.support.simdisk import SimDisk

    SimDisk.fsync_directory = _nothing  # type: ignore[method-assign]


def replace_files_unsynced() -> None:
    """A small file is renamed into its place before its content is on the disk."""
    from partitions import files
    from partitions.checkpoint import save_checkpoint  # noqa: F401  # loaded, so that it is patched too

    class Unsynced:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return _nothing if name == "fdatasync" else getattr(self._real, name)

    real = files.replace_file

    def careless(given: Any, path: Any, content: bytes) -> None:
        real(Unsynced(given), path, content)

    _everywhere("replace_file", real, careless)


def acknowledge_before_the_sync() -> None:
    """acks=all is answered once the bytes are in the page cache."""
    from actors.partition import PartitionActor

    write = PartitionActor._write

    def impatient(actor: PartitionActor) -> list[Any]:
        effects = write(actor)
        effects += [waiting.reply for waiting in actor._undurable]
        actor._undurable.clear()
        return effects

    PartitionActor._write = impatient  # type: ignore[method-assign]


def acknowledge_commits_before_the_sync() -> None:
    """A committed offset is answered before it is durable."""
    from actors.effects import Reply
    from actors.journal import Journal

    write = Journal._write_round

    def impatient(journal: Journal, now: Any) -> list[Any]:
        effects = list(write(journal, now))
        if journal._in_flight is not None:
            effects += [Reply(held.to, held.reply) for held in journal._in_flight.held]
            journal._in_flight.held.clear()
        return effects

    Journal._write_round = impatient  # type: ignore[method-assign]


def recognize_no_retry() -> None:
    """A batch that comes again is written again."""
    from partitions.producers import Producers

    Producers.check = _nothing  # type: ignore[method-assign, assignment]


def let_old_producers_in() -> None:
    """A producer of an older epoch still writes."""
    from partitions import producers

    producers._check_new_epoch = _nothing


def believe_the_wall_clock() -> None:
    """A clock that jumped makes the log forget its producers."""
    from partitions import producers

    producers.PRODUCERS_KEPT = 0


def take_damaged_batches() -> None:
    """A batch that was damaged on its way is taken."""
    from actors import partition
    from odradek.protocol.batch import read_header

    partition.check_batch = read_header  # type: ignore[assignment]


def believe_every_batch_on_the_disk() -> None:
    """Recovery and reading compare no checksum."""
    from partitions import scan

    scan.checksum = lambda view: int.from_bytes(view[17:21], "big")


def keep_what_follows_a_torn_batch() -> None:
    """After a power cut, batches that nobody acknowledged stay behind a hole."""
    from partitions.recovery import Recovery

    Recovery._durable_bound = _nothing  # type: ignore[method-assign, assignment]


def forget_the_start_offset() -> None:
    """Files go before it is durable that the log starts behind them."""
    from partitions import log

    log.save_start_offset = _nothing


def lock_nothing() -> None:
    """Two processes may have one log, and two brokers one data directory."""
    fcntl.flock = _nothing  # type: ignore[assignment]


def let_old_members_commit() -> None:
    """A member of an epoch that has passed still commits."""
    from actors import committing

    class Never(Exception):
        """Nobody raises it."""

    committing.check_epoch = _nothing  # type: ignore[attr-defined]


def let_old_members_stay() -> None:
    """A heartbeat with an old epoch is taken for one of now."""
    from actors import members, membership

    _everywhere("check_heartbeat_epoch", getattr(members, "check_heartbeat_epoch", None), _nothing)
    assert membership is not None


def _everywhere(name: str, real: Any, fake: Any) -> None:
    """In every module that has imported it by name."""
    import sys

    found = False
    for module in list(sys.modules.values()):
        if getattr(module, name, None) is real and real is not None:
            setattr(module, name, fake)
            found = True
    if not found:
        raise RuntimeError(f"there is no {name} to replace: the mutation is out of date")


ORDEAL = "tests/simulation/test_ordeal.py::test_what_is_promised_holds_and_everything_comes_to_its_end"

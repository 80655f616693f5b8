"""Mutations: the broker's protections, each switched off from outside, and the test that must then fail.

The product has no switch for any of this. A mutation replaces a function in a process of the tests
(``plugin``), in every process of a real broker (``site/sitecustomize.py``), or in one test, which gives
its monkeypatch's setattr.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

VARIABLE = "ODRADEK_MUTANT"
Put = Callable[[Any, str, Any], None]
"""What replaces: of an object, the attribute of that name, by that."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """``apply`` switches the protection off; each of ``tests`` (pytest's node ids) fails then."""

    apply: Callable[[], None]
    tests: tuple[str, ...]


def _module(name: str) -> Any:
    """By its name: what is replaced in it is nobody's interface."""
    return importlib.import_module(name)


def _nothing(*_: Any, **__: Any) -> None:
    return None


def sync_nothing(put: Put = setattr) -> None:
    """fdatasync is not called; all else goes on as if it had been."""
    put(_module("partitions.tickets").SyncTicket, "run", _nothing)


def sync_no_names(put: Put = setattr) -> None:
    """Directories are not synced: a new file, or a rename, may be gone after a power cut."""
    put(_module("tests.support.simdisk").SimDisk, "fsync_directory", _nothing)


def replace_files_unsynced(put: Put = setattr) -> None:
    """A small file is renamed into its place before its content is on the disk."""
    _module("partitions.log")  # whoever calls it by name is loaded
    real = _module("partitions.files").replace_file

    class Unsynced:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return _nothing if name == "fdatasync" else getattr(self._real, name)

    def careless(given: Any, path: Any, content: bytes) -> None:
        real(Unsynced(given), path, content)

    _everywhere("replace_file", real, careless, put)


def acknowledge_before_the_sync(put: Put = setattr) -> None:
    """acks=all is answered once the bytes are in the page cache."""
    actor_class = _module("actors.partition").PartitionActor
    write = actor_class._write

    def impatient(actor: Any) -> list[Any]:
        effects: list[Any] = write(actor)
        effects += [waiting.reply for waiting in actor._undurable]
        actor._undurable.clear()
        return effects

    put(actor_class, "_write", impatient)


def acknowledge_commits_before_the_sync(put: Put = setattr) -> None:
    """A committed offset is answered before it is durable."""
    reply, journal_class = _module("actors.effects").Reply, _module("actors.journal").Journal
    write = journal_class._write_round

    def impatient(journal: Any, now: Any) -> list[Any]:
        effects = list(write(journal, now))
        if journal._in_flight is not None:
            effects += [reply(held.to, held.reply) for held in journal._in_flight.held]
            journal._in_flight.held.clear()
        return effects

    put(journal_class, "_write_round", impatient)


def recognize_no_retry(put: Put = setattr) -> None:
    """A batch that comes again is written again."""
    put(_module("partitions.producers").Producers, "check", _nothing)


def let_old_producers_in(put: Put = setattr) -> None:
    """A producer of an older epoch still writes."""
    put(_module("partitions.producers"), "_check_new_epoch", _nothing)


def believe_the_wall_clock(put: Put = setattr) -> None:
    """A clock that jumped makes the log forget its producers."""
    put(_module("partitions.producers"), "PRODUCERS_KEPT", 0)


def take_damaged_batches(put: Put = setattr) -> None:
    """A batch that was damaged on its way is taken."""
    put(_module("actors.partition"), "check_batch", _module("odradek.protocol.batch").read_header)


def believe_every_batch_on_the_disk(put: Put = setattr) -> None:
    """Recovery and reading compare no checksum."""
    put(_module("partitions.scan"), "checksum", lambda view: int.from_bytes(view[17:21], "big"))


def keep_what_follows_a_torn_batch(put: Put = setattr) -> None:
    """After a power cut, batches that nobody acknowledged stay behind a hole."""
    put(_module("partitions.recovery").Recovery, "_durable_bound", _nothing)


def forget_the_start_offset(put: Put = setattr) -> None:
    """Files go before it is durable that the log starts behind them."""
    put(_module("partitions.log"), "save_start_offset", _nothing)


def lock_nothing(put: Put = setattr) -> None:
    """Two processes may have one log, and two brokers one data directory."""
    put(_module("fcntl"), "flock", _nothing)


def let_old_members_commit(put: Put = setattr) -> None:
    """A member of an epoch that has passed, or that holds the partition no more, still commits."""
    committing = _module("actors.committing")
    put(committing, "_check_committer", _nothing)
    put(committing, "_check_owner", _nothing)


def let_old_members_stay(put: Put = setattr) -> None:
    """A heartbeat with an old epoch is taken for one of now."""
    put(_module("actors.membership"), "check_epoch", _nothing)


def _everywhere(name: str, real: Any, fake: Any, put: Put) -> None:
    """In every module that has imported it by name."""
    for module in list(sys.modules.values()):
        if getattr(module, name, None) is real:
            put(module, name, fake)


ORDEAL = "tests/simulation/test_ordeal.py::test_what_is_promised_holds_and_everything_comes_to_its_end"
CRASH = "tests/partitions/test_crash.py::test_power_cut_at_every_operation"

MUTATIONS: dict[str, Mutation] = {
    mutation.apply.__name__: mutation
    for mutation in (
        Mutation(sync_nothing, (CRASH, ORDEAL)),
        Mutation(sync_no_names, (CRASH,)),
        Mutation(replace_files_unsynced, (CRASH,)),
        Mutation(acknowledge_before_the_sync, (ORDEAL,)),
        Mutation(acknowledge_commits_before_the_sync, (ORDEAL,)),
        Mutation(recognize_no_retry, (ORDEAL, CRASH)),
        Mutation(let_old_producers_in, ("tests/partitions/test_log.py",)),
        Mutation(
            believe_the_wall_clock,
            ("tests/simulation/test_ordeal.py::test_what_failed_once_does_not_fail_again",),
        ),
        Mutation(take_damaged_batches, (ORDEAL,)),
        Mutation(
            believe_every_batch_on_the_disk,
            ("tests/partitions/test_damage.py", "tests/partitions/test_misplaced.py"),
        ),
        Mutation(keep_what_follows_a_torn_batch, (CRASH, "tests/partitions/test_cut.py")),
        Mutation(
            forget_the_start_offset,
            ("tests/partitions/test_retention.py::test_power_cut_at_every_operation_of_retention",),
        ),
        Mutation(
            lock_nothing,
            ("tests/partitions/test_log.py::test_a_second_process_is_refused_and_the_lock_ends_with_close",),
        ),
        Mutation(let_old_members_commit, ("tests/actors/test_coordinator_groups.py",)),
        Mutation(let_old_members_stay, ("tests/actors/test_coordinator_groups.py",)),
    )
}

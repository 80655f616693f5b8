"""The keeper of the ballast: gives some of it back before the disk is full, and makes it whole again.

A thread of its own, because a full or failing disk may take its time, and the supervisor has none. The
upper half of the ballast goes a piece at a time while the disk has next to nothing left: what a partition
or retention must write to go on is small. The lower half goes only to those who met a full disk and
cannot do without: the catalogue, the coordinator, the opening of a log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from partitions.ballast import PIECE_BYTES, Ballast
from supervisor.access import AccessList
from supervisor.catalog import Catalog
from supervisor.gatekeeper import AccessStorage
from supervisor.logs import EventLog
from supervisor.topics import Storage

CHECK_INTERVAL_S = 1.0
FREE_BYTES_HARD = PIECE_BYTES
"""With less than this left, a piece of the upper half is given back."""


def records_free_bytes_min(disk_free_bytes_min: int, ballast_bytes: int) -> int:
    """Below this records are refused: even with all ballast given back, they must not take its place."""
    return max(disk_free_bytes_min, ballast_bytes)


class BallastKeeper:
    """Watches one ballast; ``keep_free_bytes`` stay free when pieces are made."""

    def __init__(
        self, ballast: Ballast, free_bytes: Callable[[], int], keep_free_bytes: int, log: EventLog
    ) -> None:
        self._ballast = ballast
        self._free_bytes = free_bytes
        self._keep_free_bytes = keep_free_bytes
        self._log = log
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ballast", daemon=True)
        self._pieces_said: int | None = None
        self._complaint_said = ""
        self.reason: str | None = None
        """What ``status`` says of the supervisor: what of the ballast is missing; None where it is whole."""

    def start(self) -> None:
        """From here on the ballast is looked after, until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def check(self) -> None:
        """One look at the disk, and what follows from it."""
        self._attempt(self._balance)
        self._report()

    def _run(self) -> None:
        self._attempt(self._ballast.tidy)
        self.check()
        while self._ballast.pieces_max and not self._stopped.wait(CHECK_INTERVAL_S):
            self.check()

    def _balance(self) -> None:
        there = len(self._ballast.pieces())
        if there > self._ballast.pieces_max // 2 and self._free_bytes() < FREE_BYTES_HARD:
            self._ballast.give_back()
        elif there < self._ballast.pieces_max:
            self._ballast.fill(self._keep_free_bytes)

    def _attempt(self, work: Callable[[], None]) -> None:
        """A ballast that cannot be looked after is no reason to stop serving; the log says it once."""
        try:
            work()
            self._complaint_said = ""
        except OSError as error:
            complaint = f"{error.strerror}: {error.filename}" if error.filename else str(error)
            if complaint != self._complaint_said:
                self._complaint_said = complaint
                self._log.write("warning", "ballast cannot be kept", {"reason": complaint})

    def _report(self) -> None:
        try:
            there, free_bytes = len(self._ballast.pieces()), self._free_bytes()
        except OSError:
            return  # said by the attempt before this, or by the next
        before, self._pieces_said = self._pieces_said, there
        missing = self._ballast.pieces_max - there
        self.reason = (
            f"{missing} of {self._ballast.pieces_max} MiB of the ballast are missing: free disk space"
            if missing
            else None
        )
        if there == before or (before is None and not missing):
            return
        fields: dict[str, object] = {
            "bytes": there * PIECE_BYTES,
            "bytes_whole": self._ballast.pieces_max * PIECE_BYTES,
            "free_bytes": free_bytes,
        }
        if before is None:
            self._log.write("warning", "ballast not whole: the disk has too little space", fields)
        elif there < before:
            self._log.write("error", "disk full: ballast given back", fields)
        else:
            self._log.write("info", "ballast whole again" if not missing else "ballast partly back", fields)


class DurableStorage(Storage, AccessStorage, Protocol):
    """All that the supervisor keeps: the catalogue, and the list of who may do what."""


class BallastedStorage:
    """The data directory as a storage that gives ballast back where the disk is full, and tries again."""

    def __init__(self, storage: DurableStorage, ballast: Ballast) -> None:
        self._storage = storage
        self._ballast = ballast

    def save(self, catalog: Catalog) -> None:
        """Makes the catalogue durable. Raises OSError."""
        self._ballast.spend(lambda: self._storage.save(catalog))

    def save_access(self, access: AccessList) -> None:
        """Makes the list durable. Raises OSError."""
        self._ballast.spend(lambda: self._storage.save_access(access))

    def discard(self, topic: str, partitions: int) -> None:
        """Renames a deleted topic's directories, durably. Raises OSError."""
        self._ballast.spend(lambda: self._storage.discard(topic, partitions))

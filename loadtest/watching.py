"""Watching: what the broker's processes use while the load runs: CPU and memory of each."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import psutil  # type: ignore[import-untyped]

from loadtest.workload import WorkloadError

SAMPLE_INTERVAL_S: Final = 1.0
PROCESSES_PER_S_MAX: Final = 128
"""Of more processes each is looked at less often: looking must not be part of what is measured."""
MEMORY_COUNTS_MAX: Final = 32
"""The kernel takes some milliseconds to count the memory of one process. So a look counts that of so many,
those first that were counted longest ago; the others have what they had."""
ASK_TIMEOUT_S: Final = 5.0
TITLE_PREFIX: Final = "odradek: "


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One process at one moment; ``cpu_percent`` of one core."""

    name: str
    cpu_percent: float
    pss_bytes: int


class Watched(Protocol):
    """Something whose processes can be looked at."""

    def look(self) -> list[Usage]:
        """All processes now."""

    def close(self) -> None:
        """Look no more."""


class WatchedBroker:
    """A broker of ours: it tells by itself."""

    def __init__(self, bootstrap: str) -> None:
        from odradek import Admin  # noqa: PLC0415  # not needed for Kafka

        self._admin = Admin(bootstrap)

    def look(self) -> list[Usage]:
        """As Watched."""
        return [
            Usage(name=actor.name, cpu_percent=actor.cpu_percent or 0.0, pss_bytes=actor.pss_bytes or 0)
            for actor in self._admin.status()
        ]

    def close(self) -> None:
        """As Watched."""
        self._admin.close()


@dataclass(slots=True)
class _Known:
    """A process that was seen before, so that its CPU can be told."""

    process: psutil.Process
    pss_bytes: int = 0
    counted_at_look: int = -1

    def usage(self) -> Usage:
        """Raises NoSuchProcess where it has ended."""
        return Usage(
            name=f"{self.process.name().removeprefix(TITLE_PREFIX)}:{self.process.pid}",
            cpu_percent=self.process.cpu_percent(),
            pss_bytes=self.pss_bytes,
        )


class WatchedProcesses:
    """A process and all that it started, by the operating system; everybody's memory is counted at once."""

    def __init__(self, pid: int) -> None:
        try:
            self._root = psutil.Process(pid)
        except psutil.NoSuchProcess:
            raise WorkloadError(f"--watch-pid {pid}: there is no such process") from None
        self._known: dict[int, _Known] = {}
        self._looks = 0
        self._look(counts_max=None)

    def look(self) -> list[Usage]:
        """As Watched. The CPU of a process counts from the look before."""
        return self._look(counts_max=MEMORY_COUNTS_MAX)

    def _look(self, *, counts_max: int | None) -> list[Usage]:
        before, self._known = self._known, {}
        for process in self._tree():
            known = before.get(process.pid)
            if known is None or known.process != process:
                known = _Known(process)
            self._known[process.pid] = known
        self._count_memory(counts_max)
        found: list[Usage] = []
        for known in self._known.values():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                found.append(known.usage())
        return found

    def _count_memory(self, counts_max: int | None) -> None:
        self._looks += 1
        oldest_first = sorted(self._known.values(), key=lambda known: known.counted_at_look)
        for known in oldest_first[:counts_max]:
            known.counted_at_look = self._looks
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                known.pss_bytes = known.process.memory_full_info().pss

    def _tree(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield self._root
            yield from self._root.children(recursive=True)

    def close(self) -> None:
        """As Watched."""
        self._known.clear()


class Watcher:
    """Looks every SAMPLE_INTERVAL_S in a thread of its own, so that a slow answer stops nothing.

    Less often where there are many processes (``pause_s``). ``times_s`` has the second of each sample.
    """

    def __init__(self, watched: Watched | None) -> None:
        self._watched = watched
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.samples: list[list[Usage]] = []
        self.times_s: list[float] = []
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to look."""
        if self._watched is not None:
            self._thread = threading.Thread(target=self._run, args=(self._watched,), daemon=True)
            self._thread.start()

    def _run(self, watched: Watched) -> None:
        began_s = time.monotonic()
        while not self._stop.wait(pause_s(len(self.latest))):
            try:
                sample = watched.look()
            except Exception as error:
                # The load goes on without this column; the report says why.
                self.trouble = f"the broker's processes could not be looked at: {error}"
                return
            self.times_s.append(time.monotonic() - began_s)
            self.samples.append(sample)

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(ASK_TIMEOUT_S)
        if self._watched is not None:
            self._watched.close()

    @property
    def latest(self) -> list[Usage]:
        """The last look, or nothing."""
        return self.samples[-1] if self.samples else []


def pause_s(processes: int) -> float:
    """How long to wait after a look at so many."""
    return SAMPLE_INTERVAL_S * max(1.0, processes / PROCESSES_PER_S_MAX)

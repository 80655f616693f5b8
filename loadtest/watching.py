"""Watching: what the broker's processes use while the load runs: CPU and memory of each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec
import psutil  # type: ignore[import-untyped]

from loadtest.workload import WorkloadError

SAMPLE_INTERVAL_S: Final = 1.0
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


class WatchedProcesses:
    """A process and all that it started, by the operating system."""

    def __init__(self, pid: int) -> None:
        try:
            self._root = psutil.Process(pid)
        except psutil.NoSuchProcess:
            raise WorkloadError(f"--watch-pid {pid}: there is no such process") from None
        self._known: dict[int, psutil.Process] = {}
        self.look()

    def look(self) -> list[Usage]:
        """As Watched. The CPU of a process counts from the look before."""
        found: list[Usage] = []
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                known = self._known.setdefault(process.pid, process)
                found.append(
                    Usage(
                        name=f"{known.name().removeprefix(TITLE_PREFIX)}:{known.pid}",
                        cpu_percent=known.cpu_percent(),
                        pss_bytes=known.memory_full_info().pss,
                    )
                )
        return found

    def _tree(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield self._root
            yield from self._root.children(recursive=True)

    def close(self) -> None:
        """As Watched."""
        self._known.clear()


class Watcher:
    """Looks every SAMPLE_INTERVAL_S in a thread of its own, so that a slow answer stops nothing."""

    def __init__(self, watched: Watched | None) -> None:
        self._watched = watched
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.samples: list[list[Usage]] = []
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin to look."""
        if self._watched is not None:
            self._thread = threading.Thread(target=self._run, args=(self._watched,), daemon=True)
            self._thread.start()

    def _run(self, watched: Watched) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL_S):
            try:
                self.samples.append(watched.look())
            except Exception as error:
                # The load goes on without this column; the report says why.
                self.trouble = f"the broker's processes could not be looked at: {error}"
                return

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

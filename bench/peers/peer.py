"""Peer: a broker to compare with, and a process of one that runs."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]

from loadtest.workload import Target

READY_S_MAX = 150.0
STOP_S_MAX = 60.0
POLL_S = 0.02
LOG_LINES_SHOWN = 15


class PeerUnavailable(Exception):
    """The peer cannot be had here; the message says what is missing and how to get it."""


class PeerFailed(RuntimeError):
    """The peer did not start or did not stop; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a table must say of a peer, so that its numbers can be read.

    ``batch``: what makes a batch; ``source``: of its program; ``limit``: what in its client, rather than in
    the peer, bounds the numbers.
    """

    name: str
    version: str
    durability: str
    client: str
    batch: str
    source: str
    limit: str = ""


class Running(ABC):
    """One start of a peer on a data directory; a context manager."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def target(self) -> Target:
        """Where the load goes."""

    @abstractmethod
    def start(self) -> None:
        """Start it; returns when it takes connections."""

    def spawn(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start the process; its output goes to a file beside the data."""
        self.data.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.data
            )

    @property
    def _log_file(self) -> Path:
        return self.data.with_name(f"{self.data.name}.log")

    @property
    def pid(self) -> int:
        """Of the process that was started; what it started belongs to it."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self._process is not None and self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Raises PeerFailed where the process ends, or is not ready within READY_S_MAX."""
        give_up_at = time.monotonic() + READY_S_MAX
        while not ready():
            assert self._process is not None
            if self._process.poll() is not None:
                raise PeerFailed(self._story(f"ended with code {self._process.returncode}"))
            if time.monotonic() > give_up_at:
                raise PeerFailed(self._story(f"was not ready within {READY_S_MAX:g} s"))
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_S)

    def pss_bytes(self) -> int:
        """Of all its processes together."""
        root = psutil.Process(self.pid)
        total = 0
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def kill(self) -> None:
        """kill -9 of every process, all at once."""
        root = psutil.Process(self.pid)
        processes = [root, *root.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, STOP_S_MAX)
        self._process = None

    def stop(self) -> None:
        """End it in order."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise PeerFailed(self._story(f"did not end within {STOP_S_MAX:g} s")) from None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _story(self, what: str) -> str:
        lines = self._log_file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"{type(self).__name__} {what}", *(f"  {line}" for line in lines)])


class Peer(ABC):
    """A broker to compare with.

    ``main``: it takes part in everything; others of the same program only in what makes the difference.
    ``start_and_stop_s``: for the estimate of a run.
    """

    facts: Facts
    client: str
    main: bool = True
    start_and_stop_s: float = 2.0

    @abstractmethod
    def prepare(self) -> None:
        """Get its program, once. Raises PeerUnavailable."""

    @abstractmethod
    def running(self, data: Path) -> Running:
        """A start on this data directory, yet to be entered."""


def debian_version(package: str) -> str:
    """Of an installed package of Debian; "unknown" where another hand installed the program."""
    asked = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{asked.stdout} (Debian)" if asked.returncode == 0 and asked.stdout else "unknown"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0

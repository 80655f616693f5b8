"""BrokerProcess: a real broker on free ports in a directory of its own, for tests and benchmarks.

It is started as a user would start it (``python -m supervisor``), told to end by its own process id,
and what it logged is at hand when a test fails.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil  # type: ignore[import-untyped]

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
POLL_S = 0.01
LOG_TAIL_BYTES = 8_000


class BrokerFailed(AssertionError):
    """The broker did not do what the test needs; the message ends with its log."""


class BrokerProcess:
    """One broker. A context manager: starts on entry (or use ``start``), is gone after exit.

    ``data`` is kept by the caller where given, else made and removed here. ``settings`` become flags:
    ``BrokerProcess(heartbeat_timeout_s=1)``; True and False become ``--x`` and ``--no-x``.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        self._own = Path(tempfile.mkdtemp(prefix="odradek-test-"))
        self.data = data if data is not None else self._own / "data"
        self.ready_file = self._own / "ready.json"
        self.log_file = self._own / "broker.log"
        self.port = port
        self._environment = dict(environment or {})
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}

    # -- life ------------------------------------------------------------------------------------------

    def __enter__(self) -> BrokerProcess:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(f"--- log of the broker on {self.data} ---\n{self.log()}\n")
        self.close()

    def start(self, *, wait: bool = True, timeout_s: float = READY_TIMEOUT_S) -> BrokerProcess:
        """Starts the broker and waits until everything serves."""
        assert not self.running, "the broker runs already"
        self.ready_file.unlink(missing_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        if wait:
            self.wait_ready(timeout_s)
        return self

    def command(self) -> list[str]:
        """The command line of a start."""
        command = [sys.executable, "-m", "supervisor", "--data", str(self.data), "--port", str(self.port)]
        command += [
            "--kafka-port",
            "0",
            "--http-port",
            "0",
            "--ready-file",
            str(self.ready_file),
            "--log-json",
        ]
        for name, value in self._settings.items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                command.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                command += [f"--{flag}", str(value)]
        return command

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Returns when everything serves. Raises BrokerFailed where the broker ended, or is too slow."""
        deadline_s = time.monotonic() + timeout_s
        while not self.ready_file.exists():
            if not self.running:
                raise BrokerFailed(
                    f"the broker ended with {self._exit_code()} before it served\n{self.log()}"
                )
            if time.monotonic() > deadline_s:
                raise BrokerFailed(f"the broker was not ready within {timeout_s:g} s\n{self.log()}")
            _pause()
        self.ready = json.loads(self.ready_file.read_text())

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM; the exit code. Raises BrokerFailed where it does not end in time."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """kill -9 of the supervisor; its children end by themselves."""
        self.signal(signal.SIGKILL)
        self.wait(STOP_TIMEOUT_S)

    def restart(self) -> BrokerProcess:
        """Stops it in order where it runs, and starts it again on the same data."""
        if self.running:
            self.stop()
        return self.start()

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BrokerFailed(f"the broker did not end within {timeout_s:g} s\n{self.log()}") from None

    def close(self) -> None:
        """Ends it whatever its state, and removes what belongs to this object."""
        if self.running:
            tree = self.tree()
            self.signal(signal.SIGTERM)
            try:
                self.wait(STOP_TIMEOUT_S)
            except BrokerFailed:
                self.signal(signal.SIGKILL)
                self.wait(STOP_TIMEOUT_S)
            for process in psutil.wait_procs(tree, STOP_TIMEOUT_S)[1]:
                process.kill()
        shutil.rmtree(self._own, ignore_errors=True)

    # -- looking at it ---------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def bootstrap(self) -> str:
        """The first router's endpoint."""
        return str(self.ready["router"])

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def tree(self) -> list[psutil.Process]:
        """Every process below the supervisor, the fork server included."""
        try:
            return list(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def child(self, title: str) -> psutil.Process:
        """The process that ``ps`` shows as ``odradek: <title>``, such as ``partition events-0``."""
        for process in self.tree():
            if _title(process) == f"odradek: {title}":
                return process
        raise BrokerFailed(f"no process is called {title!r} among {[_title(each) for each in self.tree()]}")

    def titles(self) -> list[str]:
        """What ``ps`` shows of the broker's own processes."""
        titles = [_title(process) for process in self.tree()]
        return sorted(title for title in titles if title.startswith("odradek: "))

    def log(self) -> str:
        """The end of what the broker wrote."""
        return self.log_file.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Structured lines of the log, all of them or those of one event."""
        events = []
        for line in self.log_file.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):  # the last one may be under way
                event = json.loads(line)
                if name is None or event.get("event") == name:
                    events.append(event)
        return events

    def _exit_code(self) -> int | None:
        return self._process.returncode if self._process is not None else None


def wait_gone(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those of ``processes`` that still are there after so long."""
    return list(psutil.wait_procs(list(processes), timeout_s)[1])


def _title(process: psutil.Process) -> str:
    try:
        command = process.cmdline()
    except psutil.Error:
        return ""
    return " ".join(command).rstrip("\0 ") if command else ""


def _pause() -> None:
    threading.Event().wait(POLL_S)

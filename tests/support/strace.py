"""strace as a source of faults: at the n-th call of a kind, a process is killed, gets an error, or waits.

``when`` counts in each thread by itself. Attached to the fork server (``BrokerProcess``'s first child), it
concerns the processes that are started from then on, and all of them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

ATTACH_S = 40.0
POLL_S = 0.005
WRITES = "pwritev,pwritev2,pwrite64"
RENAMES = "rename,renameat,renameat2"
UNLINKS = "unlink,unlinkat"
SENDS = "sendto,sendmsg"


def strace_works() -> str | None:
    """None where strace may be used here, else why not."""
    if shutil.which("strace") is None:
        return "no strace on this machine: apt-get install strace"
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


_WHY_NOT = strace_works()
needs_strace = pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))


class Injection:
    """``fault`` (such as ``signal=KILL:when=3``) at each of ``calls`` of process ``pid`` and what it starts.

    A context manager: from entry, when every thread is traced (or only the first), to exit, when none is.
    """

    def __init__(self, pid: int, calls: str, fault: str, *, every_thread: bool = True) -> None:
        self._pid = pid
        self._calls = calls
        self._fault = fault
        self._every_thread = every_thread
        self._directory = Path(tempfile.mkdtemp(prefix="odradek-strace-"))
        self._strace: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Injection:
        self._strace = subprocess.Popen(
            [
                "strace",
                *(["-f"] if self._every_thread else []),
                "-o",
                str(self._directory / "calls"),
                "-p",
                str(self._pid),
                "-e",
                f"trace={self._calls}",
                "-e",
                "signal=none",
                "-e",
                f"inject={self._calls}:{self._fault}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + ATTACH_S
        while not self._attached() and self._strace.poll() is None:
            assert time.monotonic() < deadline_s, "strace does not attach"
            threading.Event().wait(POLL_S)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._strace is not None
        # Killed, not asked: the kernel then lets the process go on untraced, whatever strace is waiting for.
        self._strace.kill()
        self._strace.wait(ATTACH_S)
        shutil.rmtree(self._directory)

    def injected(self) -> int:
        """How often the fault has happened."""
        lines = (self._directory / "calls").read_text(errors="replace")
        return lines.count("(INJECTED)") + lines.count("(DELAYED)")

    def _attached(self) -> bool:
        """Whether each thread has a tracer, or the process is gone already."""
        try:
            tasks = Path(f"/proc/{self._pid}/task")
            threads = list(tasks.iterdir()) if self._every_thread else [tasks / str(self._pid)]
            states = [(thread / "status").read_text() for thread in threads]
        except (FileNotFoundError, ProcessLookupError):
            return self._strace is not None and self._strace.poll() is not None
        return all("TracerPid:\t0\n" not in state for state in states)

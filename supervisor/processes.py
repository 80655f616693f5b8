"""Processes: started by a fork server, ended for certain, reaped before anybody takes their place.

The fork server (``multiprocess``) has the heavy modules loaded; a process of it costs some milliseconds
and shares their pages. Its answer, the exit code, comes when it has reaped the process. Should the fork
server itself be killed, its children go on: their ends are then seen through their pidfds, and the next
start brings up a new fork server.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle
import multiprocess
from multiprocess import forkserver, resource_tracker
from multiprocess.popen_forkserver import Popen

from supervisor.limits import FILES_BESIDES, FILES_PER_PARTITION

PRELOADS = ["supervisor.crc32c_alone", "supervisor.preload"]
"""In this order: the first must come before all that it is for."""
_EXIT_CODE = struct.Struct("q")


class PlatformUnsupported(Exception):
    """The operating system lacks what the supervisor stands on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that was reaped; ``exit_code`` is negative for a signal, None where nobody could tell."""

    exit_code: int | None


class Process:
    """One started process."""

    def __init__(self, popen: Any) -> None:
        self.pid: int = popen.pid
        self._popen = popen
        self._forkserver_lives = True
        try:
            self._pidfd: int | None = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._pidfd = None  # it has been reaped already

    @property
    def fd(self) -> int:
        """Becomes readable when ``poll`` has something to say."""
        if self._forkserver_lives or self._pidfd is None:
            return int(self._popen.sentinel)
        return self._pidfd

    def kill(self) -> None:
        """kill -9; ``poll`` tells when it has worked."""
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def poll(self) -> Ended | None:
        """How the process ended; None while it runs. To be called when ``fd`` is readable."""
        if not self._forkserver_lives:
            return self._close(None)
        answer = os.read(self._popen.sentinel, _EXIT_CODE.size)
        if len(answer) == _EXIT_CODE.size:
            return self._close(_EXIT_CODE.unpack(answer)[0])
        self._forkserver_lives = False
        return self._close(None) if self._pidfd is None else None

    def _close(self, exit_code: int | None) -> Ended:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self._popen.finalizer()
        return Ended(exit_code)


class ProcessStarter:
    """Starts processes through one fork server."""

    def __init__(self) -> None:
        """Raises PlatformUnsupported."""
        if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
            raise PlatformUnsupported("the broker needs Linux 5.3 or newer: it has no pidfd_open here")
        # The fork server starts with `-c`; without this it would import from the current directory first.
        os.environ["PYTHONSAFEPATH"] = "1"
        _do_without_resource_tracker()
        self._context = multiprocess.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADS)

    def warm_up(self, *, partitions_max: int) -> None:
        """Brings the fork server up without waiting for it; it imports while this process does too."""
        _raise_file_limit(partitions_max)
        forkserver.ensure_running()

    def close(self) -> None:
        """Ends the fork server; its children end with this process, if they have not."""
        server = forkserver._forkserver
        if server._forkserver_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server._forkserver_pid, signal.SIGKILL)
            server._stop()

    def start(self, target: Callable[[Any], None], spec: object) -> Process:
        """A process that runs ``target(spec)``. Raises OSError or EOFError where none could be forked.

        cloudpickle takes any function there, a closure or one of ``__main__`` too. What it packs goes from
        this process to its own child over a private pipe and nowhere else.

        The popen object is made directly: ``multiprocess.Process.start`` polls every other child at each
        start and joins them all when the interpreter ends.
        """
        packed = cloudpickle.dumps((target, spec))
        return Process(Popen(self._context.Process(target=_enter, args=(packed,))))


def _enter(packed: bytes) -> None:
    target, spec = cloudpickle.loads(packed)
    target(spec)


def _raise_file_limit(partitions_max: int) -> None:
    """As many descriptors as the system allows; every process inherits the limit.

    An ipc listener that runs out of descriptors aborts its process.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        wanted = partitions_max * FILES_PER_PARTITION + FILES_BESIDES
        limit = max(soft, wanted) if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _do_without_resource_tracker() -> None:
    """Spare a process of 11 MB: it would look after shared memory and semaphores, and there are none.

    ``multiprocess`` starts one beside every fork server unless its pipe is open already.
    """
    resource_tracker._resource_tracker._fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

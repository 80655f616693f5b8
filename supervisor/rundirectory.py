"""The run directory: ipc sockets of one broker, and a journal of its processes.

Its place follows from the data directory alone, so that clients reconnect after a restart. It is of
mode 0700 and ours: whoever may connect to these sockets may read and write everything.

The journal names each process that was started. A supervisor that was killed -9 leaves processes that
end by themselves within moments, except those that are stopped or stuck; the next supervisor, which
holds the lock of the data directory, ends them before it starts their successors.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supervisor.privacy import OTHERS_MAY_ANYTHING, check_parent, check_private

INNER_PREFIX = "inner-"
"""What an inner socket is called, before the incarnation."""
_LONGEST_KIND = INNER_PREFIX + "9" * 9
SOCKET_PATH_BYTES_MAX = 107
"""What fits into sockaddr_un beside its final zero."""
JOURNAL_FILE_NAME = "processes"
JOURNAL_BYTES_MAX = 16 << 20
JOURNAL_GONE_MAX = 1_000
"""With more lines than this of processes that are gone, the journal is written afresh."""
ORPHAN_WAIT_MS = 10_000
_START_TIME_FIELD = 21
"""Place of a process's start time in /proc/<pid>/stat, counted from 0."""


class RunDirectoryUnusable(Exception):
    """The run directory cannot be used; the message says why and what to do."""


def run_directory_path(data: Path, user: int, runtime: str | None) -> Path:
    """Where the sockets of the broker on ``data`` (its real path) are; ``runtime`` is XDG_RUNTIME_DIR."""
    base = Path(runtime) / "odradek" if runtime else Path("/tmp") / f"odradek-{user}"  # noqa: S108  # checked below
    return base / hashlib.sha256(os.fsencode(data)).hexdigest()[:12]


def socket_name(address: str, kind: str) -> str:
    """The file of an actor's socket: a hash, because a topic's name alone may fill the path."""
    return f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.{kind}"


class RunDirectory:
    """One directory of sockets."""

    def __init__(self, path: Path) -> None:
        """Creates it where it is missing. Raises RunDirectoryUnusable, or NotPrivate."""
        self.path = path
        self._living: dict[int, int] = {}  # start time by pid
        self._journal_lines = 0
        longest = len(os.fsencode(path)) + 1 + len(socket_name("", _LONGEST_KIND))
        if longest > SOCKET_PATH_BYTES_MAX:
            raise RunDirectoryUnusable(
                f"socket paths in {path} would have {longest} bytes, and the system takes "
                f"{SOCKET_PATH_BYTES_MAX}: set XDG_RUNTIME_DIR to a directory with a shorter path"
            )
        for directory in (path.parent, path):
            _make_private(directory)
        check_parent("run directory", path.parent)

    def endpoint(self, address: str, kind: str) -> str:
        """The ipc endpoint of ``kind`` (direct, or inner with the incarnation) of an actor."""
        return f"ipc://{self.path / socket_name(address, kind)}"

    @property
    def control(self) -> str:
        """The supervisor's own endpoint."""
        return f"ipc://{self.path / 'control'}"

    def end_orphans(self) -> list[int]:
        """Kills what a former supervisor left, waits for its end, removes the sockets, begins a new journal.

        Returns the process ids. Raises RunDirectoryUnusable where one does not end.
        """
        journal = self.path / JOURNAL_FILE_NAME
        ended = []
        with contextlib.suppress(FileNotFoundError):
            content = journal.read_bytes()[-JOURNAL_BYTES_MAX:]
            ended = [orphan.pid for orphan in _read_journal(content) if _end(orphan)]
        journal.write_bytes(b"")
        for entry in self.path.iterdir():
            if entry != journal:
                with contextlib.suppress(OSError):  # nobody is left who listens there, so it does no harm
                    entry.unlink()
        return ended

    def remember(self, pid: int) -> None:
        """Puts a process that was just started into the journal."""
        started = start_time(pid)
        if started is None:
            return
        self._living[pid] = started
        with (self.path / JOURNAL_FILE_NAME).open("ab") as journal:
            journal.write(_journal_line(pid, started))
        self._journal_lines += 1
        if self._journal_lines - len(self._living) > JOURNAL_GONE_MAX:
            self._rewrite_journal()

    def forget(self, pid: int) -> None:
        """The process was reaped; the journal drops it when it is written afresh."""
        self._living.pop(pid, None)

    def unlink_sockets(self, address: str) -> None:
        """Removes every socket of an actor that will not come back, whichever of its processes made it."""
        prefix = socket_name(address, "").removesuffix(".")
        with contextlib.suppress(OSError):  # what cannot be removed does no harm
            for entry in self.path.iterdir():
                if entry.name.startswith(prefix):
                    entry.unlink(missing_ok=True)

    def _rewrite_journal(self) -> None:
        journal = self.path / JOURNAL_FILE_NAME
        fresh = journal.with_name(JOURNAL_FILE_NAME + ".tmp")
        fresh.write_bytes(b"".join(_journal_line(*each) for each in self._living.items()))
        fresh.replace(journal)
        self._journal_lines = len(self._living)

    def remove(self) -> None:
        """Takes the sockets and the directory away; what cannot be removed does no harm."""
        with contextlib.suppress(OSError):
            for entry in self.path.iterdir():
                entry.unlink()
            self.path.rmdir()


@dataclass(frozen=True, slots=True)
class _Orphan:
    pid: int
    started: int


def start_time(pid: int) -> int | None:
    """When the process began, in the kernel's ticks; with the pid it names one process for ever."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[_START_TIME_FIELD - 2])


def _journal_line(pid: int, started: int) -> bytes:
    return f"{pid} {started}\n".encode()


def _read_journal(content: bytes) -> Iterator[_Orphan]:
    for line in content.split(b"\n"):
        words = line.split()
        # A torn last line is the journal's only damage, and names a process that never served.
        if len(words) == 2 and all(word.isdigit() for word in words):
            yield _Orphan(int(words[0]), int(words[1]))


def _end(orphan: _Orphan) -> bool:
    """Kills the process and waits until it is gone; False where it was gone already."""
    try:
        descriptor = os.pidfd_open(orphan.pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at after the descriptor pins the process: the number may have been given away.
        if start_time(orphan.pid) != orphan.started:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        if not poller.poll(ORPHAN_WAIT_MS):
            raise RunDirectoryUnusable(
                f"process {orphan.pid} of a former broker does not end, though it was killed: it may be "
                "waiting for the disk"
            )
        return True
    finally:
        os.close(descriptor)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise RunDirectoryUnusable(
            f"the run directory {directory} cannot be made: {error.strerror}"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise RunDirectoryUnusable(f"{directory} is not a directory (a symbolic link is not taken)")
    check_private("run directory", directory, OTHERS_MAY_ANYTHING)

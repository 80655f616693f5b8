"""Files: every call that this package makes to the operating system.

The log is written against the protocol, so that the tests can put a simulated disk in its place,
crash it at any operation and look at what recovery makes of the rest. All methods raise OSError as
the system call does; file descriptors are plain integers.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from odradek.protocol.batch import Buffer

IOV_MAX = 1024
"""Linux takes so many buffers in one pwritev."""
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750


class Files(Protocol):
    """What a log may ask of a file system. Sizes and positions in bytes."""

    def open(self, path: Path, *, create: bool) -> int:
        """A descriptor for reading and writing; ``create`` makes an empty file where there is none."""

    def close(self, descriptor: int) -> None: ...

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], position: int) -> int:
        """Writes at most IOV_MAX buffers at ``position``; returns the bytes taken, maybe fewer."""

    def pread(self, descriptor: int, size: int, position: int) -> bytes: ...

    def fdatasync(self, descriptor: int) -> None: ...

    def fsync_directory(self, path: Path) -> None: ...

    def rename(self, source: Path, target: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def truncate(self, descriptor: int, size: int) -> None: ...

    def allocate(self, descriptor: int, position: int, size: int) -> None:
        """Reserves zeroed space and extends the file over it."""

    def forget_cached(self, descriptor: int, position: int) -> None:
        """Drops clean cached pages from ``position`` on: the next read shows what the disk really has."""

    def list_directory(self, path: Path) -> list[str]: ...

    def make_directory(self, path: Path) -> None:
        """Makes ``path`` and its parents where missing, and makes their names durable."""

    def size(self, path: Path) -> int: ...

    def free_bytes(self, path: Path) -> int:
        """What an ordinary user may still write to the file system of ``path``."""

    def lock(self, path: Path) -> int:
        """Takes the exclusive lock of the file at ``path``; BlockingIOError when another has it."""


class OsFiles:
    """The real file system."""

    def open(self, path: Path, *, create: bool) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return os.open(path, flags, FILE_MODE)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], position: int) -> int:
        return os.pwritev(descriptor, buffers, position)

    def pread(self, descriptor: int, size: int, position: int) -> bytes:
        return os.pread(descriptor, size, position)

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def fsync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def allocate(self, descriptor: int, position: int, size: int) -> None:
        os.posix_fallocate(descriptor, position, size)

    def forget_cached(self, descriptor: int, position: int) -> None:
        os.posix_fadvise(descriptor, position, 0, os.POSIX_FADV_DONTNEED)

    def list_directory(self, path: Path) -> list[str]:
        return [entry.name for entry in path.iterdir()]

    def make_directory(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            self.fsync_directory(folder.parent)

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def free_bytes(self, path: Path) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def lock(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


SPACE_ERRORS = frozenset({errno.ENOSPC, errno.EFBIG, errno.EDQUOT})
"""The disk, the file or the quota is full: nothing is broken, later writes may succeed."""


def write_all(files: Files, descriptor: int, buffers: list[Buffer], position: int, size: int) -> None:
    """Writes all ``buffers``, ``size`` bytes together, one behind the other from ``position`` on.

    A short write goes on with the rest: what stopped it shows as the OSError of the next call.
    """
    first, count, end = 0, len(buffers), position + size
    while first < count:
        group = buffers[first : first + IOV_MAX] if first or count > IOV_MAX else buffers
        written = files.pwritev(descriptor, group, position)
        position += written
        if position == end:
            return
        if written == 0:
            raise OSError(errno.ENOSPC, "the disk took none of the bytes")
        consumed, rest = _consume(group, written)
        first += consumed
        if rest is not None:
            buffers[first] = rest


def _consume(group: Sequence[Buffer], written: int) -> tuple[int, Buffer | None]:
    """How many whole buffers ``written`` bytes cover, and what is left of the one behind them."""
    for number, buffer in enumerate(group):
        if written < len(buffer):
            return number, memoryview(buffer)[written:] if written else None
        written -= len(buffer)
    return len(group), None


def replace_file(files: Files, path: Path, content: bytes) -> None:
    """Puts ``content`` in the place of ``path``, durably and whole: a crash leaves the old or the new."""
    temporary = path.with_name(path.name + ".tmp")
    descriptor = files.open(temporary, create=True)
    try:
        files.truncate(descriptor, 0)
        write_all(files, descriptor, [content], 0, len(content))
        files.fdatasync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(temporary, path)
    files.fsync_directory(path.parent)


def read_file(files: Files, path: Path) -> bytes | None:
    """The whole content; None where there is no such file."""
    try:
        descriptor = files.open(path, create=False)
    except FileNotFoundError:
        return None
    try:
        return files.pread(descriptor, files.size(path), 0)
    finally:
        files.close(descriptor)


class OpenFiles:
    """Descriptors of the files that are only read now and then: at most ``maximum``, the latest used."""

    def __init__(self, files: Files, maximum: int) -> None:
        self._files = files
        self._maximum = maximum
        self._descriptors: OrderedDict[Path, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._descriptors)

    def get(self, path: Path) -> int:
        """An open descriptor of ``path``, good until the next call."""
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            self._descriptors.move_to_end(path)
            return descriptor
        descriptor = self._descriptors[path] = self._files.open(path, create=False)
        while len(self._descriptors) > self._maximum:
            self._files.close(self._descriptors.popitem(last=False)[1])
        return descriptor

    def forget(self, path: Path) -> None:
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            self._files.close(descriptor)

    def close(self) -> None:
        while self._descriptors:
            self._files.close(self._descriptors.popitem()[1])

"""Files that cannot be harmed: one kind only reads, the other moves aside what it is told to remove.

Both are the ``Files`` of the log itself, so the log's own code runs over them: whatever that code asks
for, what these classes do not allow cannot happen.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from odradek.protocol.batch import Buffer
from partitions.files import DIRECTORY_MODE, OsFiles, write_all
from partitions.segment import INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX

CACHE_SUFFIXES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX)
COPY_BYTES = 1 << 20


class ReadOnlyFiles(OsFiles):
    """The real files, which may belong to a running broker: all that would change one raises OSError."""

    def open(self, path: Path, *, create: bool) -> int:
        if create:
            _refuse(path)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def size_of(self, descriptor: int) -> int:
        """Bytes of an open file, whatever has become of its name."""
        return os.fstat(descriptor).st_size

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], position: int) -> int:
        _refuse()

    def fdatasync(self, descriptor: int) -> None:
        _refuse()

    def fsync_directory(self, path: Path) -> None:
        _refuse(path)

    def rename(self, source: Path, target: Path) -> None:
        _refuse(source)

    def unlink(self, path: Path) -> None:
        _refuse(path)

    def truncate(self, descriptor: int, size: int) -> None:
        _refuse()

    def allocate(self, descriptor: int, position: int, size: int) -> None:
        _refuse()

    def forget_cached(self, descriptor: int, position: int) -> None:
        """The page cache is the broker's, too."""

    def make_directory(self, path: Path) -> None:
        _refuse(path)

    def lock(self, path: Path) -> int:
        _refuse(path)


class KeepingFiles(OsFiles):
    """The real files, except that nothing is lost: what is unlinked, or cut off a segment and is not
    zeros, goes to the directory ``aside`` first. Indexes hold nothing that the log does not: they may go.

    ``moved`` names what came into ``aside``, in order.
    """

    def __init__(self, aside: Path) -> None:
        self.aside = aside
        self.moved: list[str] = []
        self._paths: dict[int, Path] = {}

    def open(self, path: Path, *, create: bool) -> int:
        descriptor = super().open(path, create=create)
        self._paths[descriptor] = path
        return descriptor

    def close(self, descriptor: int) -> None:
        self._paths.pop(descriptor, None)
        super().close(descriptor)

    def unlink(self, path: Path) -> None:
        if path.suffix in CACHE_SUFFIXES:
            super().unlink(path)
        elif path.exists():
            self.set_aside(path)

    def truncate(self, descriptor: int, size: int) -> None:
        path = self._paths[descriptor]
        if path.suffix == LOG_SUFFIX:
            self._keep_end(path, descriptor, size)
        super().truncate(descriptor, size)

    def set_aside(self, path: Path) -> None:
        """Moves a file into ``aside`` under its name, durably."""
        target = self._free(path.name)
        self.rename(path, target)
        self.fsync_directory(path.parent)
        self.fsync_directory(self.aside)

    def _keep_end(self, path: Path, descriptor: int, size: int) -> None:
        """Copies what stands behind ``size`` in a segment. A batch may end with zeros: the copy has them,
        as a hole that takes no space."""
        file_size = self.size(path)
        end = size + used_bytes(self, descriptor, size, file_size)
        if end == size:
            return
        target = self._free(f"{path.name}.from-{size}")
        copy = super().open(target, create=True)
        try:
            for start in range(size, end, COPY_BYTES):
                content = self.pread(descriptor, min(COPY_BYTES, end - start), start)
                write_all(self, copy, [content], start - size, len(content))
            super().truncate(copy, file_size - size)
            self.fdatasync(copy)
        finally:
            super().close(copy)
        self.fsync_directory(self.aside)

    def _free(self, name: str) -> Path:
        """A path in ``aside`` that nothing has yet."""
        if not self.aside.exists():
            self.aside.mkdir(mode=DIRECTORY_MODE)
            self.fsync_directory(self.aside.parent)
        taken = set(self.list_directory(self.aside))
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}.{number}"
        self.moved.append(free)
        return self.aside / free


def used_bytes(files: OsFiles, descriptor: int, position: int, end: int) -> int:
    """How many bytes from ``position`` to ``end`` there are up to the last one that is not zero."""
    used, cursor = 0, position
    while cursor < end:
        content = files.pread(descriptor, min(COPY_BYTES, end - cursor), cursor)
        if not content:
            break
        stripped = len(content.rstrip(b"\0"))
        if stripped:
            used = cursor + stripped - position
        cursor += len(content)
    return used


def _refuse(path: Path | None = None) -> NoReturn:
    raise OSError(errno.EROFS, "this tool only reads", None if path is None else str(path))

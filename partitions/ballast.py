"""The ballast: space set aside while there is some, and given back by those who must not fail without it.

    odradek.ballast/00 01 02 ...   pieces of 1 MiB each, allocated, never written to
                    03.tmp         one that was being made when the power failed; it is removed

The coordinator's log, the catalogue and the opening of a log unlink a piece when the disk is full, and
try again. An unlink is one step however many processes do it at once, so pieces need no lock, and a
crash leaves pieces and nothing else.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from odradek.protocol.batch import Buffer
from partitions.files import Files

BALLAST_NAME = "odradek.ballast"
PIECE_BYTES = 1 << 20
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a piece given back may help against; a file that is too large by itself is not."""
_MAKING = ".tmp"
_T = TypeVar("_T")


class Ballast:
    """The pieces in ``directory``; ``size_bytes`` is what all of them are to have, 0 for no ballast."""

    def __init__(self, files: Files, directory: Path, size_bytes: int) -> None:
        self._files = files
        self._directory = directory
        self.pieces_max = -(-size_bytes // PIECE_BYTES)

    def pieces(self) -> list[str]:
        """The names of those that are there, in order. Raises OSError."""
        try:
            return sorted(name for name in self._files.list_directory(self._directory) if name.isdecimal())
        except FileNotFoundError:
            return []

    def tidy(self) -> None:
        """Once, before anybody needs it: removes what a crash left and what is too much. Raises OSError."""
        try:
            names = self._files.list_directory(self._directory)
        except FileNotFoundError:
            return
        for name in names:
            path = self._directory / name
            is_whole = name.isdecimal() and self._files.size(path) == PIECE_BYTES
            if not is_whole or int(name) >= self.pieces_max:
                self._files.unlink(path)

    def give_back(self) -> bool:
        """Frees one piece; whether there was one. Raises OSError."""
        names = self.pieces()
        if not names:
            return False
        self._files.unlink(self._directory / names[-1])
        return True

    def fill(self, keep_free_bytes: int) -> int:
        """Makes what is missing as long as so much stays free; how many pieces it made. Raises OSError."""
        there = set(self.pieces())
        made = 0
        for number in range(self.pieces_max):
            name = f"{number:04d}"
            if name in there:
                continue
            self._files.make_directory(self._directory)
            if self._files.free_bytes(self._directory) < keep_free_bytes + PIECE_BYTES:
                break
            self._make(name)
            made += 1
        if made:
            self._files.fsync_directory(self._directory)
        return made

    def _make(self, name: str) -> None:
        """A piece has its name only when all of its space is there."""
        making = self._directory / (name + _MAKING)
        descriptor = self._files.open(making, create=True)
        try:
            self._files.allocate(descriptor, 0, PIECE_BYTES)
        except OSError:
            self._files.unlink(making)
            raise
        finally:
            self._files.close(descriptor)
        self._files.rename(making, self._directory / name)

    def spend(self, work: Callable[[], _T]) -> _T:
        """What ``work`` returns: it is done again for each piece that there was when the disk was full.

        Raises the OSError of the last try. ``work`` must be good to begin anew.
        """
        for _ in range(self.pieces_max):
            try:
                return work()
            except OSError as error:
                if error.errno not in DISK_FULL or not self.give_back():
                    raise
        return work()


class BallastedFiles:
    """``Files`` whose writes and names have the ballast to fall back on.

    Space that is only reserved ahead (``allocate``) is not worth it: without, writing goes on. Nor are
    segments, unless ``for_segments``: a partition's records wait for space, while the small files beside
    them are what deleting, which makes space, has to write.
    """

    def __init__(self, files: Files, ballast: Ballast, *, for_segments: bool) -> None:
        self._files = files
        self._ballast = ballast
        self._for_segments = for_segments
        self._segments: set[int] = set()
        self.pread = files.pread
        self.fdatasync = files.fdatasync
        self.fsync_directory = files.fsync_directory
        self.unlink = files.unlink
        self.truncate = files.truncate
        self.allocate = files.allocate
        self.forget_cached = files.forget_cached
        self.list_directory = files.list_directory
        self.size = files.size
        self.free_bytes = files.free_bytes

    def open(self, path: Path, *, create: bool) -> int:
        if not self._for_segments and path.name[:1].isdecimal():
            descriptor = self._files.open(path, create=create)
            self._segments.add(descriptor)
            return descriptor
        return self._ballast.spend(lambda: self._files.open(path, create=create))

    def close(self, descriptor: int) -> None:
        self._segments.discard(descriptor)
        self._files.close(descriptor)

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], position: int) -> int:
        if descriptor in self._segments:
            return self._files.pwritev(descriptor, buffers, position)
        return self._ballast.spend(lambda: self._files.pwritev(descriptor, buffers, position))

    def rename(self, source: Path, target: Path) -> None:
        self._ballast.spend(lambda: self._files.rename(source, target))

    def make_directory(self, path: Path) -> None:
        self._ballast.spend(lambda: self._files.make_directory(path))

    def lock(self, path: Path) -> int:
        return self._ballast.spend(lambda: self._files.lock(path))

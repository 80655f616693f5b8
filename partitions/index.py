"""Indexes: where in a segment an offset or a timestamp is to be looked for.

Kafka's formats, big-endian; offsets are relative to the segment's base offset::

    .index      | offset i32 | position i32 |    the last offset of a batch, where the batch begins
    .timeindex  | timestamp i64 | offset i32 |   the largest timestamp so far, last offset of its batch

Both are caches. They are never synced and never believed: who follows an entry compares it with the
batch header that stands there, and has the index built anew where the two differ.
"""

from __future__ import annotations

import struct
from pathlib import Path

from partitions.files import Files, OpenFiles

OFFSET_ENTRY = struct.Struct(">ii")
TIME_ENTRY = struct.Struct(">qi")
FLUSH_ENTRIES = 512
"""So many new entries stay in memory at most before they are written."""
BLOCK_ENTRIES = 256
"""A search ends by reading this many neighbours at once."""

Entry = tuple[int, int]


class IndexFile:
    """A sorted file of fixed-size entries, with a tail in memory that is not written yet."""

    __slots__ = ("_entry", "_files", "_open_files", "_tail", "_written", "path")

    def __init__(self, path: Path, entry: struct.Struct, files: Files, open_files: OpenFiles) -> None:
        self.path = path
        self._entry = entry
        self._files = files
        self._open_files = open_files
        self._written = 0
        self._tail: list[Entry] = []

    def __len__(self) -> int:
        return self._written + len(self._tail)

    @property
    def unwritten(self) -> int:
        return len(self._tail)

    def load(self) -> bool:
        """Takes over the file as it is; False where there is none or its size is no multiple of an entry."""
        try:
            size = self._files.size(self.path)
        except OSError:
            return False
        self._written, rest = divmod(size, self._entry.size)
        return rest == 0

    def append(self, entry: Entry) -> None:
        self._tail.append(entry)

    def last(self) -> Entry | None:
        if self._tail:
            return self._tail[-1]
        entries = self._read(self._written - 1, self._written) if self._written else []
        return entries[0] if entries else None

    def find(self, key: int, field: int = 0) -> tuple[int, Entry] | None:
        """(number, entry) of the last entry whose ``field`` is at most ``key``."""
        if self._tail and self._tail[0][field] <= key:
            number = _last_at_most(self._tail, key, field)
            return self._written + number, self._tail[number]
        low, high = 0, self._written
        while high - low > BLOCK_ENTRIES:
            middle = (low + high) // 2
            entries = self._read(middle, middle + 1)
            if not entries:
                return None
            if entries[0][field] <= key:
                low = middle
            else:
                high = middle
        block = self._read(low, high)
        number = _last_at_most(block, key, field)
        return (low + number, block[number]) if number >= 0 else None

    def cut(self, count: int) -> None:
        """Keeps the first ``count`` entries. Those in the file lose their place to the next ones written."""
        if count >= self._written:
            del self._tail[count - self._written :]
            return
        self._tail.clear()
        self._written = count

    def write(self) -> None:
        """Writes the tail behind the entries of the file. A full disk leaves it in memory: it is a cache."""
        content = b"".join(self._entry.pack(*entry) for entry in self._tail)
        position = self._written * self._entry.size
        try:
            descriptor = self._files.open(self.path, create=True)
        except OSError:
            return
        try:
            self._files.truncate(descriptor, position)
            written = self._files.pwritev(descriptor, [content], position) if content else 0
        except OSError:
            return
        finally:
            self._files.close(descriptor)
        whole = written // self._entry.size
        self._written += whole
        del self._tail[:whole]

    def _read(self, first: int, end: int) -> list[Entry]:
        if end <= first:
            return []
        size = self._entry.size
        try:
            content = self._files.pread(self._open_files.get(self.path), (end - first) * size, first * size)
        except OSError:
            return []
        whole = len(content) // size * size
        return [(entry[0], entry[1]) for entry in self._entry.iter_unpack(content[:whole])]


def _last_at_most(entries: list[Entry], key: int, field: int) -> int:
    """The number of the last entry whose ``field`` is at most ``key``; -1 where there is none."""
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high) // 2
        if entries[middle][field] <= key:
            low = middle + 1
        else:
            high = middle
    return low - 1

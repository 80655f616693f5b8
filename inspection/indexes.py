"""Index checks: whether the entries of an index file speak the truth about the segment beside it.

The entries are read first and ticked off as a walk meets the batches they name, so that a check needs
memory for the index and not for the batches.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from inspection.files import ReadOnlyFiles
from inspection.walk import BrokenPlace
from odradek.protocol.batch import BatchHeader
from partitions.files import read_file
from partitions.index import OFFSET_ENTRY, TIME_ENTRY, Entry
from partitions.segment import INDEX_SUFFIX, TIME_INDEX_SUFFIX

OFFSET_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class WrongEntry:
    """Entry ``number`` (from 0) of the index file ``name`` is wrong. It tells of ``offset``.

    ``excess``: what stands there is less than an entry, at the end of the file.
    """

    name: str
    number: int
    position: int
    offset: int
    why: str
    excess: bool = False


@dataclass(frozen=True, slots=True)
class IndexContent:
    """The entries of an index file; ``excess_bytes`` are left behind the last whole one."""

    path: Path
    entry_bytes: int
    entries: list[Entry]
    excess_bytes: int


def read_offset_index(files: ReadOnlyFiles, stem: Path) -> IndexContent | None:
    """(relative offset, position) entries of the segment ``stem``; None where there is no file."""
    return _read(files, stem.with_suffix(INDEX_SUFFIX), OFFSET_ENTRY)


def read_time_index(files: ReadOnlyFiles, stem: Path) -> IndexContent | None:
    """(timestamp, relative offset) entries of the segment ``stem``; None where there is no file."""
    return _read(files, stem.with_suffix(TIME_INDEX_SUFFIX), TIME_ENTRY)


def _read(files: ReadOnlyFiles, path: Path, entry: struct.Struct) -> IndexContent | None:
    content = read_file(files, path)
    if content is None:
        return None
    whole = len(content) // entry.size * entry.size
    entries = [(found[0], found[1]) for found in entry.iter_unpack(content[:whole])]
    return IndexContent(path, entry.size, entries, len(content) - whole)


class IndexCheck:
    """Both indexes of one segment against its batches: ``see`` or ``pass_over`` what is there, in order, then
    ask for the ``wrong_entries``."""

    def __init__(self, base_offset: int, offsets: IndexContent | None, times: IndexContent | None) -> None:
        self._base_offset = base_offset
        self._offsets = offsets
        self._times = times
        self._at: dict[int, list[int]] = {}
        for number, (_, position) in enumerate(offsets.entries if offsets is not None else ()):
            self._at.setdefault(position, []).append(number)
        self._ending: dict[int, list[int]] = {}
        for number, (_, relative) in enumerate(times.entries if times is not None else ()):
            self._ending.setdefault(relative, []).append(number)
        self._largest = -1
        self._true_offsets: set[int] = set()
        self._true_times: set[int] = set()

    def see(self, position: int, header: BatchHeader) -> None:
        """The next batch of the segment stands at ``position``."""
        last_relative = header.last_offset - self._base_offset
        self._largest = max(self._largest, header.max_timestamp)
        if self._offsets is not None:
            for number in self._at.get(position, ()):
                if self._offsets.entries[number][0] == last_relative:
                    self._true_offsets.add(number)
        if self._times is not None:
            for number in self._ending.get(last_relative, ()):
                if self._times.entries[number][0] == header.max_timestamp == self._largest:
                    self._true_times.add(number)

    def pass_over(self, broken: BrokenPlace) -> None:
        """Nobody can say whether entries that name the broken place are right: they count as such."""
        for number, (_, position) in enumerate(self._offsets.entries if self._offsets is not None else ()):
            if broken.position <= position < broken.end_position:
                self._true_offsets.add(number)
        last = broken.last if broken.last is not None else OFFSET_MAX
        for number, (_, relative) in enumerate(self._times.entries if self._times is not None else ()):
            if broken.first <= self._base_offset + relative <= last:
                self._true_times.add(number)

    def wrong_entries(self) -> Iterator[WrongEntry]:
        """Entries that name no batch, or not in order."""
        if self._offsets is not None:
            yield from self._wrong(self._offsets, self._true_offsets, 0, "no batch with this last offset")
        if self._times is not None:
            yield from self._wrong(
                self._times, self._true_times, 1, "no batch brought this largest timestamp so far"
            )

    def _wrong(self, content: IndexContent, true: set[int], field: int, why: str) -> Iterator[WrongEntry]:
        size = content.entry_bytes
        unsorted = {
            number
            for number, (before, after) in enumerate(pairwise(content.entries), 1)
            if after[0] <= before[0] or after[1] < before[1]
        }
        for number, entry in enumerate(content.entries):
            if number in unsorted:
                reason = "it is not above the entry before it"
            elif number not in true:
                reason = f"{why} stands where it points"
            else:
                continue
            offset = self._base_offset + entry[field]
            yield WrongEntry(content.path.name, number, number * size, offset, reason)
        if content.excess_bytes:
            count = len(content.entries)
            why_excess = f"{content.excess_bytes} bytes are left behind the last whole entry"
            yield WrongEntry(
                content.path.name, count, count * size, self._base_offset, why_excess, excess=True
            )

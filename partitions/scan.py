"""Scanning: what a segment file really holds, batch by batch, and where it is broken.

Three ways to look, from trusting to suspicious:

* ``select`` follows batch headers in bytes that were read (the hot path of a fetch; no checksum);
* ``valid_batch`` checks one whole batch, its checksum included;
* ``resume_point`` looks behind a damaged place for the next batch that is certainly one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from odradek.protocol.batch import HEADER_BYTES, LENGTH_END, MAGIC, BatchHeader, Buffer, checksum, read_header
from partitions.files import Files

WINDOW_BYTES = 1 << 20
BATCH_BYTES_MAX = 64 << 20
"""No batch is larger: above every allowed max.message.bytes. A length beyond it is damage."""
BATCH_LENGTH_MIN = HEADER_BYTES - LENGTH_END
MAGIC_POSITION = 16
MAGIC_BYTE = bytes([MAGIC])
OFFSET_GAP_MAX = 2**31 - 1
"""Behind damage, a base offset further away than this is damage too (offsets in a segment are 31 bits)."""

_CHAIN = struct.Struct(">qiibIhi")


class Window:
    """A segment file seen through one read of WINDOW_BYTES at a time; ``end`` is the last position + 1."""

    def __init__(self, files: Files, descriptor: int, end: int) -> None:
        self._files = files
        self._descriptor = descriptor
        self.end = end
        self.bytes_read = 0
        self._start = 0
        self._content = b""

    def view(self, position: int, size: int) -> memoryview | None:
        """``size`` bytes at ``position``; None where the file ends before."""
        if position < 0 or position + size > self.end:
            return None
        start = position - self._start
        if start < 0 or start + size > len(self._content):
            wanted = min(max(size, WINDOW_BYTES), self.end - position)
            self._content = self._files.pread(self._descriptor, wanted, position)
            self._start, start = position, 0
            self.bytes_read += len(self._content)
            if len(self._content) < size:
                return None
        return memoryview(self._content)[start : start + size]


def header_at(window: Window, position: int) -> BatchHeader | None:
    """The header at ``position`` if it could be one: magic, length inside the file, counts."""
    view = window.view(position, HEADER_BYTES)
    if view is None:
        return None
    header = read_header(view)
    plausible = (
        header.magic == MAGIC
        and BATCH_LENGTH_MIN <= header.batch_length <= BATCH_BYTES_MAX
        and header.last_offset_delta >= 0
        and header.base_offset >= 0
        and position + header.size_bytes <= window.end
    )
    return header if plausible else None


def valid_batch(window: Window, position: int) -> BatchHeader | None:
    """The header of the batch at ``position`` if the whole batch is sound, its checksum included."""
    header = header_at(window, position)
    if header is None:
        return None
    view = window.view(position, header.size_bytes)
    return header if view is not None and checksum(view) == header.crc else None


class Resume(NamedTuple):
    """Where a damaged region ends: the log goes on with ``next_offset`` at ``position``."""

    position: int
    next_offset: int


def resume_point(window: Window, position: int, expected_offset: int) -> Resume | None:
    """The end of the damage that begins at ``position``, where ``expected_offset`` should stand.

    None where nothing sound follows in this file. A base offset is outside the checksum, so a sound
    batch under a wrong one is damage of just that batch, and behind damage a batch counts only if what
    follows it fits, or if nothing follows. One that nothing follows may be a copy that the disk put where
    it does not belong: it does not count where batches of lower offsets come behind it.
    """
    misplaced = valid_batch(window, position)
    if misplaced is not None:
        return Resume(position + misplaced.size_bytes, expected_offset + misplaced.last_offset_delta + 1)
    alone: Resume | None = None
    for candidate in _magic_positions(window, position + 1):
        header = header_at(window, candidate)
        if header is None or not 0 <= header.base_offset - expected_offset <= OFFSET_GAP_MAX:
            continue
        if valid_batch(window, candidate) is None:
            continue
        found = Resume(candidate, header.base_offset)
        following = valid_batch(window, candidate + header.size_bytes)
        if following is None:
            alone = alone or found
        elif following.base_offset == header.next_offset:
            return found if alone is None or found.next_offset < alone.next_offset else alone
    return alone


def holds_batch(window: Window, position: int) -> bool:
    """Whether a sound batch, whatever its offsets, begins at ``position`` or behind it."""
    if valid_batch(window, position) is not None:
        return True
    return any(
        valid_batch(window, candidate) is not None for candidate in _magic_positions(window, position + 1)
    )


def _magic_positions(window: Window, first: int) -> Iterator[int]:
    """Every position from ``first`` on where a batch may begin, by the magic byte of its header."""
    position = first
    while position + HEADER_BYTES <= window.end:
        size = min(WINDOW_BYTES, window.end - position)
        view = window.view(position, size)
        if view is None:
            return
        content = bytes(view)
        found = content.find(MAGIC_BYTE, MAGIC_POSITION)
        while found >= 0:
            yield position + found - MAGIC_POSITION
            found = content.find(MAGIC_BYTE, found + 1)
        position += size - MAGIC_POSITION if position + size < window.end else size


class Selection(NamedTuple):
    """What ``select`` found, as positions in its buffer.

    ``start`` to ``end`` are whole batches, from the one with the wanted offset on (empty where
    ``start`` is -1). The walk stopped at ``position``, where ``expected_offset`` stands; ``previous`` is
    the batch before it as (position, base offset). ``needed`` is how many bytes the batch at
    ``position`` has, where that is known and it is not whole; ``broken`` says that no batch stands there.
    """

    start: int
    end: int
    position: int
    expected_offset: int
    previous: tuple[int, int]
    needed: int
    broken: bool


NO_PREVIOUS = (-1, -1)


def select(buffer: Buffer, expected_offset: int, offset: int, limit_offset: int) -> Selection:
    """The whole batches of ``buffer`` with offsets from ``offset`` up to below ``limit_offset``.

    ``buffer`` begins with the batch of ``expected_offset``. Every batch has to begin with the offset
    behind the one before it.
    """
    position, size = 0, len(buffer)
    start, previous, needed, broken = -1, NO_PREVIOUS, HEADER_BYTES, False
    unpack = _CHAIN.unpack_from
    while size - position >= HEADER_BYTES:
        base, length, _epoch, magic, _crc, _attributes, delta = unpack(buffer, position)
        if base != expected_offset or magic != MAGIC or length < BATCH_LENGTH_MIN or delta < 0:
            broken = True
            break
        if base + delta >= limit_offset:
            needed = 0
            break
        if position + LENGTH_END + length > size:
            needed = LENGTH_END + length
            break
        if start < 0 and base + delta >= offset:
            start = position
        previous = (position, base)
        position += LENGTH_END + length
        expected_offset = base + delta + 1
    return Selection(start, position, position, expected_offset, previous, needed, broken)


@dataclass(frozen=True, slots=True)
class Damage:
    """Offsets ``first`` to ``last`` cannot be read; in the file of ``segment`` the bytes from
    ``position`` to ``end_position``. ``last`` is ``first - 1`` where only junk lies between two batches."""

    first: int
    last: int
    segment: int
    position: int
    end_position: int

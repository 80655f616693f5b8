"""A walk through one segment file: every batch, every broken place, and what stands at the end.

Unlike a recovery it decides nothing: it says what is there. Offsets may have gaps (compaction leaves
some); a gap is part of the batch behind it, and whether it may be is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inspection.files import ReadOnlyFiles, used_bytes
from odradek.protocol.batch import (
    COMPRESSIONS,
    DELETE_HORIZON_MASK,
    HEADER_BYTES,
    TIMESTAMP_TYPE_MASK,
    BatchHeader,
    checksum,
)
from partitions.scan import Window, header_at, resume_point, valid_batch


@dataclass(frozen=True, slots=True)
class FoundBatch:
    """A sound batch at ``position``, where ``expected_offset`` would have followed without a gap."""

    position: int
    header: BatchHeader
    expected_offset: int


@dataclass(frozen=True, slots=True)
class BrokenPlace:
    """Bytes ``position`` to ``end_position`` hold no batch that can be trusted.

    Lost are offsets ``first`` to ``last``; ``last`` is None where nothing sound follows in this file.
    ``header`` is the batch header that stands there, where one does.
    """

    position: int
    end_position: int
    first: int
    last: int | None
    why: str
    header: BatchHeader | None


Found = FoundBatch | BrokenPlace


class SegmentFile:
    """One segment file, open for reading. Its size is what it was when it was opened."""

    def __init__(self, files: ReadOnlyFiles, path: Path, base_offset: int) -> None:
        """Raises OSError, FileNotFoundError where the segment was deleted meanwhile."""
        self._files = files
        self._descriptor = files.open(path, create=False)
        self.path = path
        self.base_offset = base_offset
        self.file_size = files.size_of(self._descriptor)

    def close(self) -> None:
        self._files.close(self._descriptor)

    def read(self, position: int, size: int) -> bytes:
        return self._files.pread(self._descriptor, size, position)

    def walk(self, position: int = 0, expected_offset: int | None = None) -> Iterator[Found]:
        """From ``position`` on, where ``expected_offset`` should stand, up to the last byte that is used."""
        window = Window(self._files, self._descriptor, self.file_size)
        expected = self.base_offset if expected_offset is None else expected_offset
        used_end = -1  # not looked for yet
        while position < self.file_size:
            header = valid_batch(window, position)
            if header is not None and _in_order(window, position, header, expected):
                yield FoundBatch(position, header, expected)
                position, expected = position + header.size_bytes, header.next_offset
                continue
            if used_end < 0:
                used_end = position + used_bytes(self._files, self._descriptor, position, self.file_size)
            if position >= used_end:
                return
            broken = _broken(window, position, expected, used_end)
            yield broken
            if broken.last is None:
                return
            position, expected = broken.end_position, broken.last + 1


def _broken(window: Window, position: int, expected: int, used_end: int) -> BrokenPlace:
    why = _why(window, position, expected)
    header = header_at(window, position)
    resume = resume_point(window, position, expected)
    if resume is None:
        return BrokenPlace(position, used_end, expected, None, why, header)
    return BrokenPlace(position, resume.position, expected, resume.next_offset - 1, why, header)


@contextmanager
def open_segment(files: ReadOnlyFiles, path: Path, base_offset: int) -> Iterator[SegmentFile]:
    """The segment file, closed at the end. Raises OSError."""
    segment = SegmentFile(files, path, base_offset)
    try:
        yield segment
    finally:
        segment.close()


def codec_name(codec: int) -> str:
    """The codec of a batch by its number."""
    return COMPRESSIONS[codec] if codec < len(COMPRESSIONS) else f"unknown ({codec})"


def earliest_known(header: BatchHeader) -> int:
    """The earliest time (ms) of a batch's records that its header tells.

    The base timestamp says nothing of them where the broker stamped the batch, or compaction wrote there when
    its tombstones may go.
    """
    if header.attributes & (TIMESTAMP_TYPE_MASK | DELETE_HORIZON_MASK):
        return header.max_timestamp
    return header.base_timestamp


def _in_order(window: Window, position: int, header: BatchHeader, expected: int) -> bool:
    """Whether the sound batch stands where it belongs. Its base offset is outside the checksum: where it
    leaves a gap, the batch that follows has to agree."""
    if header.base_offset == expected:
        return True
    if header.base_offset < expected:
        return False
    following = valid_batch(window, position + header.size_bytes)
    return following is None or following.base_offset >= header.next_offset


def _why(window: Window, position: int, expected: int) -> str:
    """What is wrong at ``position``, as the end of a sentence."""
    header = header_at(window, position)
    if header is None:
        left = window.end - position
        return (
            f"the file ends after {left} bytes of a batch header"
            if left < HEADER_BYTES
            else "no batch header stands there, or the batch reaches beyond the file"
        )
    view = window.view(position, header.size_bytes)
    if view is None:
        return "the batch reaches beyond the file"
    actual = checksum(view)
    if actual != header.crc:
        return f"the checksum is {actual:#010x}, the batch header says {header.crc:#010x}"
    return f"a sound batch says that it begins at offset {header.base_offset}, expected was {expected}"

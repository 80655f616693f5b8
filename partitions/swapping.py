"""Swapping: a cleaned file takes the place of the segments that it was made of, as if at once.

    1. 00000000000000000000.log.cleaned is whole and synced, and its name is durable;
    2. the note ``odradek-swap`` is durable: from here on the swap has happened;
    3. the old files are renamed to .deleted, then the cleaned ones to the segment's own names;
    4. a checkpoint with the new segment is durable; the note is unlinked.

Before step 2 a start finds a leftover and unlinks it: the old segments stand. From step 2 on it does steps
3 and 4 again, as far as they are not done, with what the note says: nothing is read or guessed for it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import crc32c
import msgspec

from partitions.checkpoint import Checkpoint, SegmentEntry
from partitions.files import Files, read_file, write_all
from partitions.scan import Window, header_at
from partitions.segment import DELETED_SUFFIX, LOG_SUFFIX, NAME_DIGITS, SUFFIXES

FILE_NAME = "odradek-swap"
NEW_NAME = f"{FILE_NAME}.tmp"
CLEANED_SUFFIX = ".cleaned"
VERSION = 1
_CRC = struct.Struct(">I")


class Swap(msgspec.Struct, frozen=True):
    """``entry`` is the cleaned segment; ``sources`` are the base offsets of what it replaces, ascending.

    The first of them is the cleaned segment's own.
    """

    version: int
    owner: str
    entry: SegmentEntry
    sources: list[int]

    def covers(self, base_offset: int) -> bool:
        """Whether a segment of this base offset lies within the cleaned one."""
        return self.entry.base_offset <= base_offset < self.entry.next_offset


_encoder = msgspec.msgpack.Encoder()
_swaps = msgspec.msgpack.Decoder(Swap)


def segment_file(directory: Path, base_offset: int, suffix: str) -> Path:
    """The path of one of a segment's files."""
    return directory / f"{base_offset:0{NAME_DIGITS}d}{suffix}"


def cleaned_file(directory: Path, base_offset: int, suffix: str) -> Path:
    """Where the cleaned file is made."""
    path = segment_file(directory, base_offset, suffix)
    return path.with_name(path.name + CLEANED_SUFFIX)


def write_note(files: Files, directory: Path, swap: Swap) -> None:
    """The note, whole and synced, under a name that means nothing yet. Raises OSError."""
    content = _encoder.encode(swap)
    descriptor = files.open(directory / NEW_NAME, create=True)
    try:
        files.truncate(descriptor, 0)
        sealed = _CRC.pack(crc32c.crc32c(content)) + content
        write_all(files, descriptor, [sealed], 0, len(sealed))
        files.fdatasync(descriptor)
    finally:
        files.close(descriptor)


def commit_note(files: Files, directory: Path) -> None:
    """Step 2. Raises OSError: then nobody knows whether the swap has happened, before the next start."""
    files.rename(directory / NEW_NAME, directory / FILE_NAME)
    files.fsync_directory(directory)


def load_swap(files: Files, directory: Path, owner: str) -> Swap | None:
    """The note of a swap in this log; None where there is no sound one."""
    content = read_file(files, directory / FILE_NAME)
    if content is None or len(content) < _CRC.size:
        return None
    body = content[_CRC.size :]
    if _CRC.unpack_from(content)[0] != crc32c.crc32c(body):
        return None
    try:
        swap = _swaps.decode(body)
    except msgspec.MsgspecError:
        return None
    return swap if swap.version == VERSION and swap.owner == owner else None


def rename_files(files: Files, directory: Path, swap: Swap) -> list[Path]:
    """Step 3, as far as it is not done; the new names of the old files. Raises OSError."""
    if not _has_size(files, cleaned_file(directory, swap.entry.base_offset, LOG_SUFFIX), swap.entry.size):
        return []
    renamed = _rename_away(files, directory, swap.sources)
    for suffix in reversed(SUFFIXES):  # the log last: while its cleaned file is there, the swap is not done
        base_offset = swap.entry.base_offset
        with suppress(FileNotFoundError):
            files.rename(
                cleaned_file(directory, base_offset, suffix), segment_file(directory, base_offset, suffix)
            )
    return renamed


def finish_swap(files: Files, directory: Path, owner: str) -> Swap | None:
    """What a start does first; the swap that the checkpoint may not know of. Raises OSError."""
    swap = load_swap(files, directory, owner)
    if swap is None:
        return None
    renamed = rename_files(files, directory, swap)
    finished = is_finished(files, directory, swap)
    if finished and not renamed and _reaches_its_end(files, directory, swap):
        # Not every file system keeps renames in order: an old file may stand behind the cleaned one.
        renamed = _rename_away(files, directory, swap.sources[1:])
    if renamed:
        files.fsync_directory(directory)
    # Not finished: an old note that came back. What it made was deleted or cleaned again since.
    return swap if finished else None


def _rename_away(files: Files, directory: Path, base_offsets: Sequence[int]) -> list[Path]:
    """The segments' files get the suffix of deleted ones, the last segment's first; their new names."""
    renamed = []
    for base_offset in reversed(base_offsets):
        for suffix in SUFFIXES:
            path = segment_file(directory, base_offset, suffix)
            target = path.with_name(path.name + DELETED_SUFFIX)
            with suppress(FileNotFoundError):
                files.rename(path, target)
                renamed.append(target)
    return renamed


def _reaches_its_end(files: Files, directory: Path, swap: Swap) -> bool:
    """Whether the file in the cleaned one's place covers all of its offsets: a size alone proves little."""
    descriptor = files.open(segment_file(directory, swap.entry.base_offset, LOG_SUFFIX), create=False)
    try:
        window = Window(files, descriptor, swap.entry.size)
        position, expected = 0, swap.entry.base_offset
        while (header := header_at(window, position)) is not None and header.base_offset == expected:
            position, expected = position + header.size_bytes, header.next_offset
    finally:
        files.close(descriptor)
    return (position, expected) == (swap.entry.size, swap.entry.next_offset)


def is_finished(files: Files, directory: Path, swap: Swap) -> bool:
    """Whether the cleaned file stands in its place."""
    path = segment_file(directory, swap.entry.base_offset, LOG_SUFFIX)
    return _has_size(files, path, swap.entry.size)


def with_swap(checkpoint: Checkpoint, swap: Swap) -> Checkpoint:
    """The checkpoint as it would have been written behind the swap."""
    others = [entry for entry in checkpoint.segments if not swap.covers(entry.base_offset)]
    segments = sorted([*others, swap.entry], key=lambda entry: entry.base_offset)
    return msgspec.structs.replace(checkpoint, segments=segments)


def is_settled(checkpoint: Checkpoint, swap: Swap) -> bool:
    """Whether a start needs the note no more: the checkpoint knows nothing of the old segments."""
    return all(entry == swap.entry for entry in checkpoint.segments if swap.covers(entry.base_offset))


def _has_size(files: Files, path: Path, size: int) -> bool:
    try:
        return files.size(path) == size
    except FileNotFoundError:
        return False

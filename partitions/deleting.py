"""Deleting: whole segments below the start offset leave the directory.

In this order, so that a crash between any two steps loses nothing that is kept and revives nothing that
is gone: the start offset is durable; the files are renamed; the names are durable; later the files are
unlinked. A start finds renamed files by their suffix and unlinks them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress
from itertools import pairwise, takewhile
from pathlib import Path

from partitions.compaction import is_overdue
from partitions.files import Files
from partitions.retention import Kept, SegmentFacts, decide_retention, is_expired
from partitions.segment import DELETED_SUFFIX, Segment
from partitions.state import LogState


class Unlinking:
    """Gives the space of renamed files back: a job, because freeing a large file takes its time."""

    __slots__ = ("_files", "paths")
    bytes_per_s_max = None

    def __init__(self, files: Files, paths: list[Path]) -> None:
        self._files = files
        self.paths = paths

    def run(self) -> Iterator[int]:
        """Unlinks one file after the other; yields the bytes each had. Raises OSError."""
        for path in self.paths:
            try:
                size = self._files.size(path)
            except FileNotFoundError:
                continue
            self._files.unlink(path)
            yield size


def kept_by_retention(state: LogState, busy: Container[Segment], wall_ms: int | None) -> Kept:
    """What retention would keep now; ``busy`` segments are not durable. Changes nothing."""
    closed = [
        SegmentFacts(segment.next_offset, segment.size, segment.latest_ms)
        for segment in state.segments[:-1]
        if segment not in busy
    ]
    active_bytes = state.segments[-1].size
    return decide_retention(state.start_offset, closed, active_bytes, state.settings, wall_ms)


def is_due_to_close(state: LogState, wall_ms: int) -> bool:
    """Whether retention or compaction waits for the active segment, and all of it is durable."""
    active, settings = state.segments[-1], state.settings
    if active.size == 0 or active.next_offset > state.durable_offset:
        return False
    if settings.deletes and is_expired(active.latest_ms, settings, wall_ms):
        return True
    return settings.compacts and is_overdue(active.created_ms, settings, wall_ms)


def rename_segments_below_start(state: LogState, busy: Container[Segment], renamed: list[Path]) -> bool:
    """Takes the segments that lie wholly below the start offset out of the log; whether there were any.

    ``busy`` segments, which somebody writes or reads, stay, and all behind them: no gap comes between.
    ``renamed`` gets their files' new names, which are durable at the end. Raises OSError: then what is not
    renamed is still the log's, and the next call goes on with it.
    """
    below = takewhile(lambda pair: pair[1].base_offset <= state.start_offset, pairwise(state.segments))
    gone = list(takewhile(lambda segment: segment not in busy, (segment for segment, _ in below)))
    for segment in gone:
        segment.forget_readers()
        segment.close()
        for path in (segment.path, segment.index.path, segment.time_index.path):
            target = path.with_name(path.name + DELETED_SUFFIX)
            with suppress(FileNotFoundError):
                state.files.rename(path, target)
                renamed.append(target)
        state.segments.remove(segment)
    if gone:
        state.files.fsync_directory(state.directory)
        state.damages = [item for item in state.damages if item.last >= state.start_offset]
    return bool(gone)

"""Deleting: whole segments below the start offset leave the directory.

In this order, so that a crash between any two steps loses nothing that is kept and revives nothing that
is gone: the start offset is durable; the files are renamed; the names are durable; later the files are
unlinked. A start finds renamed files by their suffix and unlinks them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from partitions.files import Files
from partitions.segment import DELETED_SUFFIX, Segment
from partitions.state import LogState


class Unlinking:
    """Gives the space of renamed files back: a job, because freeing a large file takes its time."""

    __slots__ = ("_files", "paths")

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


def rename_segments_below_start(state: LogState, busy: Container[Segment]) -> list[Path]:
    """Takes the segments that lie wholly below the start offset out of the log; their files' new names.

    ``busy`` segments wait for a sync and stay. The names are durable at the end. Raises OSError.
    """
    gone = [
        segment
        for segment, following in pairwise(state.segments)
        if following.base_offset <= state.start_offset and segment not in busy
    ]
    renamed = []
    for segment in gone:
        state.segments.remove(segment)
        segment.forget_readers()
        segment.close()
        for path in (segment.path, segment.index.path, segment.time_index.path):
            target = path.with_name(path.name + DELETED_SUFFIX)
            with suppress(FileNotFoundError):
                state.files.rename(path, target)
                renamed.append(target)
    if gone:
        state.files.fsync_directory(state.directory)
        state.damages = [item for item in state.damages if item.last >= state.start_offset]
    return renamed

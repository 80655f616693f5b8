"""Deleting: whole segments below the start offset leave the directory."""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from itertools import pairwise

from partitions.segment import DELETED_SUFFIX, Segment
from partitions.state import LogState


def delete_segments_below_start(state: LogState, busy: Container[Segment]) -> bool:
    """Renames, then unlinks: a crash between the two leaves names that the next start cleans up.

    ``busy`` segments wait for a sync and stay. False where there was nothing to delete. Raises OSError.
    """
    gone = [
        segment
        for segment, following in pairwise(state.segments)
        if following.base_offset <= state.start_offset and segment not in busy
    ]
    if not gone:
        return False
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
    state.files.fsync_directory(state.directory)
    for target in renamed:
        state.files.unlink(target)
    state.damages = [item for item in state.damages if item.last >= state.start_offset]
    return True

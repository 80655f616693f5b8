"""Compaction, the decisions: when a log is cleaned, how far, and which segments become one. Pure.

    segments   |  clean  |  clean  |  dirty  |  dirty  | young | active |
               start               cleaned_offset      end of what may be cleaned

Rules:

1. Only closed, durable segments are cleaned, oldest first, and none behind one whose latest record is
   younger than ``min.compaction.lag.ms``.
2. It is time once the dirty part is more than ``min.cleanable.dirty.ratio`` of all that may be cleaned, or
   the oldest dirty segment is older than ``max.compaction.lag.ms``.
3. Neighbours that fit into one segment together become one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from partitions.segment import RELATIVE_OFFSET_MAX, Segment
from partitions.settings import LogSettings

GROUP_SEGMENTS_MAX = 16
"""So many segments become one at most: taking their place is one turn's work."""


class Span(NamedTuple):
    """What one pass is about: the first ``segments``, of which those from ``dirty_from`` on are dirty."""

    segments: int
    dirty_from: int


def decide_compaction(
    closed: Sequence[Segment], cleaned_offset: int, settings: LogSettings, wall_ms: int
) -> Span | None:
    """What may be cleaned and is worth it; ``closed`` are the durable closed segments, oldest first.

    All below ``cleaned_offset`` was cleaned before. None where it is not time.
    """
    count = 0
    for segment in closed:
        lag_ms = settings.min_compaction_lag_ms
        if lag_ms and segment.latest_ms > wall_ms - lag_ms:
            break
        count += 1
    dirty_from = next((n for n in range(count) if closed[n].next_offset > cleaned_offset), count)
    dirty_bytes = sum(segment.size for segment in closed[dirty_from:count])
    if not dirty_bytes:
        return None
    all_bytes = dirty_bytes + sum(segment.size for segment in closed[:dirty_from])
    is_late = is_overdue(closed[dirty_from].created_ms, settings, wall_ms)
    if is_late or dirty_bytes > settings.min_cleanable_dirty_ratio * all_bytes:
        return Span(count, dirty_from)
    return None


def is_overdue(created_ms: int, settings: LogSettings, wall_ms: int) -> bool:
    """Whether records of a segment begun at ``created_ms`` have waited for compaction for too long."""
    return wall_ms - created_ms > settings.max_compaction_lag_ms


def group_segments(segments: Sequence[Segment], segment_bytes_max: int) -> Iterator[list[Segment]]:
    """The segments in groups, each of which fits into one file."""
    group: list[Segment] = []
    for segment in segments:
        if group and not _fits(group, segment, segment_bytes_max):
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def _fits(group: Sequence[Segment], segment: Segment, segment_bytes_max: int) -> bool:
    return (
        len(group) < GROUP_SEGMENTS_MAX
        and sum(item.size for item in group) + segment.size <= segment_bytes_max
        and segment.next_offset - 1 - group[0].base_offset <= RELATIVE_OFFSET_MAX
        and segment.base_offset == group[-1].next_offset
    )

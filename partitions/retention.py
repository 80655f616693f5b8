"""Retention: how much of a log has been kept long enough. Pure: facts in, a start offset out.

Rules:

1. Only whole segments go, the oldest first, and only while they are durable and closed.
2. By time: a segment goes when its latest record is older than ``retention.ms``. The timestamps are the
   producers', so one record that claims to be of tomorrow keeps its segment, and all behind it, until then.
3. By size: segments go as long as what stays is still ``retention.bytes`` or more.
4. Where ``cleanup.policy`` is without ``delete`` nothing goes.
5. A clock may be wrong. One pass lets age take EXPIRED_SEGMENTS_MAX segments at most; what a wrong clock
   can do before somebody looks is bounded by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from partitions.settings import LogSettings

EXPIRED_SEGMENTS_MAX = 16
"""How many segments one pass may take for their age."""
KEEP = -1
"""The value of retention.ms and retention.bytes that keeps for ever."""


class SegmentFacts(NamedTuple):
    """What retention looks at: offsets, bytes, and the time (ms) of the latest record.

    ``latest_ms`` is when the segment was begun where its records bear no time.
    """

    next_offset: int
    size_bytes: int
    latest_ms: int


class Kept(NamedTuple):
    """From where on a log is kept, and what goes for which reason."""

    start_offset: int
    expired_segments: int
    oversize_segments: int


def decide_retention(
    start_offset: int,
    closed: Sequence[SegmentFacts],
    active_bytes: int,
    settings: LogSettings,
    wall_ms: int | None,
) -> Kept:
    """Where the log may begin; ``closed`` are the durable closed segments, oldest first.

    ``wall_ms`` is the time of day; None where it is not to be trusted, then age takes nothing.
    """
    if not settings.deletes:
        return Kept(start_offset, 0, 0)
    expired = 0 if wall_ms is None else _expired_count(closed, settings.retention_ms, wall_ms)
    oversize = _oversize_count(closed[expired:], active_bytes, settings.retention_bytes)
    gone = expired + oversize
    if not gone:
        return Kept(start_offset, 0, 0)
    return Kept(max(start_offset, closed[gone - 1].next_offset), expired, oversize)


def is_expired(latest_ms: int, settings: LogSettings, wall_ms: int) -> bool:
    """Whether records as late as ``latest_ms`` have been kept long enough."""
    return settings.retention_ms != KEEP and wall_ms - latest_ms > settings.retention_ms


def _expired_count(closed: Sequence[SegmentFacts], retention_ms: int, wall_ms: int) -> int:
    if retention_ms == KEEP:
        return 0
    count = 0
    for segment in closed[:EXPIRED_SEGMENTS_MAX]:
        if wall_ms - segment.latest_ms <= retention_ms:
            break
        count += 1
    return count


def _oversize_count(closed: Sequence[SegmentFacts], active_bytes: int, retention_bytes: int) -> int:
    if retention_bytes == KEEP:
        return 0
    left = active_bytes + sum(segment.size_bytes for segment in closed)
    count = 0
    for segment in closed:
        left -= segment.size_bytes
        if left < retention_bytes:
            break
        count += 1
    return count

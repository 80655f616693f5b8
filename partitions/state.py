"""The state of a log that its parts share: where it begins and ends, and what it is made of.

start_offset <= durable_offset <= end_offset
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from partitions.checkpoint import DamageEntry, SegmentEntry
from partitions.errors import LogFailed
from partitions.files import Files, OpenFiles
from partitions.scan import Damage
from partitions.segment import Segment
from partitions.settings import LogSettings


@dataclass(slots=True)
class LogState:
    """``segments`` by base offset, never none, the last is the active one; ``damages`` by first offset.

    ``failure`` says why the log takes no more writes; None while it does. ``checkpoint_due`` asks for one
    with the next sync.
    """

    directory: Path
    settings: LogSettings
    files: Files
    open_files: OpenFiles
    segments: list[Segment]
    damages: list[Damage]
    start_offset: int
    durable_offset: int
    end_offset: int
    failure: str | None = None
    checkpoint_due: bool = False

    def new_segment(self, base_offset: int) -> Segment:
        """A segment of this log in memory; its file is made when it is written to."""
        return Segment(self.directory, base_offset, self.files, self.open_files)

    def durable_end(self) -> Segment:
        """The segment in which the durable end is."""
        return next(item for item in reversed(self.segments) if item.base_offset <= self.durable_offset)

    def segment_entries(self) -> list[SegmentEntry]:
        """The segments as a checkpoint has them."""
        return [segment.entry() for segment in self.segments]

    def damage_entries(self) -> list[DamageEntry]:
        """The damages as a checkpoint has them."""
        return [
            DamageEntry(item.first, item.last, item.segment, item.position, item.end_position)
            for item in self.damages
        ]

    def fail(self, reason: str) -> LogFailed:
        """From now on the log takes nothing; returns the error to raise."""
        if self.failure is None:
            self.failure = f"{self.directory}: {reason}; the partition stops until it is opened anew"
        return LogFailed(self.failure)


def base_offset_of(segment: Segment) -> int:
    """For bisection."""
    return segment.base_offset


def first_of(damage: Damage) -> int:
    """For bisection and sorting."""
    return damage.first

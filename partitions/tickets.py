"""Tickets: what one sync covers, to be carried to another thread and back."""

from __future__ import annotations

from pathlib import Path

from partitions.checkpoint import Checkpoint
from partitions.files import Files
from partitions.segment import MaxTimestamp, Segment


class SyncTicket:
    """What one sync covers. ``run`` may be called from any thread and touches nothing of the log."""

    __slots__ = ("_descriptors", "_directory", "_files", "checkpoint", "end_offset", "reach", "segments")

    def __init__(
        self,
        files: Files,
        directory: Path | None,
        segments: list[Segment],
        end_offset: int,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._files = files
        self._directory = directory
        self._descriptors = [segment.open_writer() for segment in segments]
        self.segments = segments
        self.reach: list[tuple[int, MaxTimestamp]] = [(item.size, item.max_timestamp) for item in segments]
        self.end_offset = end_offset
        self.checkpoint = checkpoint

    def run(self) -> None:
        """Blocks until the disk has it. Raises OSError, which is final: hand it to ``sync_done``."""
        for descriptor in self._descriptors:
            self._files.fdatasync(descriptor)
        if self._directory is not None:
            self._files.fsync_directory(self._directory)

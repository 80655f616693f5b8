"""Disk pressure: a partition stops taking records before the disk is full, so that the rest can go on.

What is left below the limit is for those who need little and must not fail: committed offsets, the
catalogue of topics, checkpoints, and the deleting that makes room again. Reading needs nothing.
"""

from __future__ import annotations

from actors.actor import Moment
from actors.effects import Effect
from actors.effects import Log as LogLine
from odradek.protocol.errors import KafkaStorageError
from partitions.errors import StorageFull
from partitions.log import Log

CHECK_INTERVAL_S = 1.0
CHECK_BYTES = 16 << 20
"""The file system is asked again after so long, or so many bytes."""


class DiskPressure:
    """Watches the disk of one log; of it ``free_bytes_min`` are to stay free, 0 watches nothing."""

    def __init__(self, log: Log, free_bytes_min: int) -> None:
        self._log = log
        self._free_bytes_min = free_bytes_min
        self._free_bytes = 0
        self._checked_s = float("-inf")
        self._taken_bytes = 0
        self._said = False
        self.is_high = False

    def check(self, size_bytes: int, now: Moment) -> None:
        """To be called before so many bytes are taken. Raises StorageFull, which a producer may retry."""
        if not self._free_bytes_min:
            return
        self._taken_bytes += size_bytes
        if now.monotonic_s - self._checked_s >= CHECK_INTERVAL_S or self._taken_bytes >= CHECK_BYTES:
            self._ask(now)
        if self.is_high:
            raise StorageFull(
                f"the disk has {self._free_bytes} bytes left, and the broker's disk_free_bytes_min keeps "
                f"{self._free_bytes_min} free: free disk space, or lower a topic's retention, and send again"
            )

    def forget(self) -> None:
        """A write found no space, so what was known is old: the next ``check`` asks."""
        self._checked_s = float("-inf")

    def report(self) -> list[Effect]:
        """A line for the process's log where the pressure has come or gone."""
        if self.is_high == self._said:
            return []
        self._said = self.is_high
        event = "disk nearly full: records are refused" if self.is_high else "disk has space again"
        fields: dict[str, object] = {"free_bytes": self._free_bytes, "free_bytes_min": self._free_bytes_min}
        return [LogLine(event, fields)]

    def _ask(self, now: Moment) -> None:
        self._checked_s, self._taken_bytes = now.monotonic_s, 0
        try:
            self._free_bytes = self._log.free_bytes()
        except KafkaStorageError:
            # A file system that does not tell cannot be watched; the write itself will say what is wrong.
            self.is_high = False
            return
        self.is_high = self._free_bytes < self._free_bytes_min

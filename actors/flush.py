"""Flush: when what was written is made durable.

A topic with flush.messages of 1, the default, has every group synced at once and answered after it. A topic
with more trades durability for speed: it answers after the write, and syncs when so many messages wait or
the oldest has waited for flush.ms. What readers see is durable in either case.
"""

from __future__ import annotations

from actors.actor import Moment
from partitions.log import Log


class Flush:
    """Counts what waits for a sync of one log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._messages = 0
        self._oldest_s = 0.0

    @property
    def is_late(self) -> bool:
        """Whether the topic answers before it syncs."""
        return self._log.settings.flush_messages > 1

    def appended(self, messages: int, now: Moment) -> None:
        """So many more wait."""
        if not self._messages:
            self._oldest_s = now.monotonic_s
        self._messages += messages

    def begun(self) -> None:
        """A sync of all that waited has begun."""
        self._messages = 0

    def is_due(self, now: Moment) -> bool:
        """Whether the next sync is to begin; also where nothing was appended, but files have changed."""
        if not self._messages or self._messages >= self._log.settings.flush_messages:
            return True
        return now.monotonic_s >= self._due_s()

    def deadline(self) -> float | None:
        """The monotonic second at which what waits has waited long enough."""
        return self._due_s() if self._messages else None

    def _due_s(self) -> float:
        return self._oldest_s + self._log.settings.flush_ms / 1000

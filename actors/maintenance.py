"""Maintenance: what a partition does for itself, now and then, without being asked.

A pass applies retention; in a topic that is compacted it is looked now and then whether a compaction is worth
it. Deciding is cheap and done here; giving space back and compacting take time and become jobs that run away
from the loop. Rules:

1. One pass at a time, one job at a time. A compaction is a job for each segment that it makes, so that others
   come in between.
2. The time of day may be wrong. Where it moved by more than CLOCK_JUMP_MS_MAX against the monotonic clock
   since it was last looked at, age deletes nothing for CLOCK_HOLD_S: time to look, and to set it right.
   Nothing is compacted then, either: how long a deletion was there to be seen is measured by that clock.
3. What fails is said and tried again with the next pass; it never stops the partition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from actors.actor import Moment, Worked
from actors.effects import Effect, Job, Work
from actors.effects import Log as LogLine
from odradek.protocol.errors import OdradekError
from partitions.log import Log

if TYPE_CHECKING:
    from partitions.cleaning import Cleaning  # loads the codec

CLOCK_JUMP_MS_MAX = 60_000
CLOCK_HOLD_S = 3_600.0
CLEANING_CHECK_S = 15.0
"""Kafka's log.cleaner.backoff.ms: so often it is looked whether there is enough to compact."""
ROLLED_PASS_S = 1.0
"""A segment that was closed to be deleted is looked at again after so long: it is durable then."""


class Maintenance:
    """Keeps one log in order. ``interval_s`` lies between two passes; compaction leaves ``free_bytes_min`` on
    the disk."""

    def __init__(self, log: Log, interval_s: float, free_bytes_min: int = 0) -> None:
        self._log = log
        self._interval_s = interval_s
        self._free_bytes_min = free_bytes_min
        self._check_interval_s = min(CLEANING_CHECK_S, interval_s)
        self._check_due_s = float("-inf")
        self._cleaning: Cleaning | None = None
        self._pass_due_s: float | None = None
        self._last: Moment | None = None
        self._held_until_s = float("-inf")
        self._waiting: deque[tuple[float, Job]] = deque()
        self._working: Job | None = None

    def deadline(self) -> float | None:
        """The monotonic second of the next pass or of the next job that waits for its time."""
        due = [] if self._pass_due_s is None else [self._pass_due_s]
        if self._pass_due_s is not None and self._log.settings.compacts and not self._cleaning_runs:
            due.append(self._check_due_s)
        if self._waiting and self._working is None:
            due.append(self._waiting[0][0])
        return min(due, default=None)

    def settle(self, now: Moment) -> list[Effect]:
        """A pass if one is due, and the next job."""
        effects: list[Effect] = []
        if self._pass_due_s is None:
            self._pass_due_s = now.monotonic_s + self._interval_s
            self._check_due_s = now.monotonic_s + self._check_interval_s
            self._last = now
        elif now.monotonic_s >= self._pass_due_s and self._log.failure is None:
            self._pass_due_s = now.monotonic_s + self._interval_s
            effects += self._pass(now)
        effects += self._plan_cleaning(now)
        self._take_unlinking(now)
        return effects + self._next_job(now)

    def worked(self, worked: Worked) -> list[Effect]:
        """A job came to its end."""
        assert worked.job is self._working
        self._working = None
        effects: list[Effect] = []
        if worked.job is self._cleaning:
            effects += self._cleaned(worked.error)
        elif worked.error is not None:
            effects.append(LogLine("maintenance failed", {"error": str(worked.error)}))
        return effects

    # -- compaction

    @property
    def _cleaning_runs(self) -> bool:
        return self._cleaning is not None and self._working is self._cleaning

    def _plan_cleaning(self, now: Moment) -> list[Effect]:
        """A compaction where one is due; none goes on where the topic's policy has changed."""
        if self._cleaning is not None and not self._cleaning_runs and not self._log.settings.compacts:
            self._log.give_up_cleaning()
            self._cleaning = None
        if self._cleaning_runs or now.monotonic_s < self._check_due_s:
            return []
        self._check_due_s = now.monotonic_s + self._check_interval_s
        if self._cleaning is not None:
            self._log.checkpoint()  # it waits for one that could not be written
            return []
        effects = self._watch_clock(now)
        if now.monotonic_s >= self._held_until_s:
            self._cleaning = self._log.plan_cleaning(now.wall_ms, self._free_bytes_min)
        return effects

    def _cleaned(self, error: OSError | None) -> list[Effect]:
        """A run of the compaction has come to its end: its segment takes its place, or it is over."""
        cleaning = self._cleaning
        assert cleaning is not None
        try:
            under_way = self._log.cleaning_done(cleaning, error)
        except OdradekError as failed:
            self._cleaning = None
            return [LogLine("compaction failed", {"error": failed.message})]
        if under_way:
            return []
        self._cleaning = None
        if error is not None:
            return [LogLine("compaction failed", {"error": str(error)})]
        if cleaning.broken is not None:
            return [LogLine("compaction met damage and waits for its repair", cleaning.broken._asdict())]
        self._check_due_s = float("-inf")  # there may have been more keys than one pass has memory for
        return [LogLine("compacted", asdict(cleaning.report))]

    def _take_unlinking(self, now: Moment) -> None:
        """What was renamed gives its space back after the topic's delay."""
        unlinking = self._log.take_unlinking()
        if unlinking is not None:
            due_s = now.monotonic_s + self._log.settings.file_delete_delay_ms / 1000
            self._waiting.append((due_s, unlinking))

    def hurry(self, now: Moment) -> None:
        """Space is short: no job waits for its time any longer."""
        self._waiting = deque((min(due_s, now.monotonic_s), job) for due_s, job in self._waiting)

    def _next_job(self, now: Moment) -> list[Effect]:
        if self._working is not None:
            return []
        if self._waiting and self._waiting[0][0] <= now.monotonic_s:
            self._working = self._waiting.popleft()[1]
        elif self._cleaning is not None and self._log.cleaning_may_go_on:
            self._working = self._cleaning
        return [Work(self._working)] if self._working is not None else []

    def _pass(self, now: Moment) -> list[Effect]:
        effects = self._watch_clock(now)
        trusted = now.monotonic_s >= self._held_until_s
        try:
            if trusted and self._log.roll_expired(now.wall_ms):
                self._pass_due_s = now.monotonic_s + min(ROLLED_PASS_S, self._interval_s)
            return [*effects, *self._retain(now.wall_ms if trusted else None)]
        except OdradekError as error:
            return [*effects, LogLine("retention failed", {"error": error.message})]

    def _retain(self, wall_ms: int | None) -> Sequence[Effect]:
        before = self._log.start_offset
        kept = self._log.retention(wall_ms)
        if kept.start_offset == before:
            return ()
        self._log.advance_start(kept.start_offset, unlink_later=True)
        fields: dict[str, object] = {
            "from_offset": before,
            "start_offset": kept.start_offset,
            "expired_segments": kept.expired_segments,
            "oversize_segments": kept.oversize_segments,
        }
        return (LogLine("old segments deleted", fields),)

    def _watch_clock(self, now: Moment) -> list[Effect]:
        last, self._last = self._last, now
        assert last is not None
        jump_ms = now.wall_ms - last.wall_ms - round((now.monotonic_s - last.monotonic_s) * 1000)
        if abs(jump_ms) <= CLOCK_JUMP_MS_MAX:
            return []
        self._held_until_s = now.monotonic_s + CLOCK_HOLD_S
        return [LogLine("the time of day jumped", {"by_ms": jump_ms, "no_expiry_for_s": CLOCK_HOLD_S})]

"""Offsets of groups that nobody uses are forgotten after a while, a bounded number in each turn.

Rule 1. Only a group without members loses offsets.
Rule 2. An offset expires when both its commit and the end of its group's last member lie longer back
        than ``offsets.retention.minutes``; a group expires with the last of its offsets.
Rule 3. A clock that jumps forward while the coordinator runs expires nothing: the time that counts is
        never further on than the coordinator's own steady clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from actors.actor import Moment
from actors.ledger import Entry, GroupKey, OffsetKey
from actors.state import CoordinatorState

MINUTE_MS = 60_000
CHECK_INTERVAL_S = 600.0
"""Kafka's offsets.retention.check.interval.ms. The first check comes that long after the start."""
EXPIRED_PER_TURN_MAX = 1000
EXAMINED_PER_TURN_MAX = 5000
"""Groups and offsets that one turn looks at."""


class SteadyClock:
    """The time of day, as far as it goes along with the monotonic clock since the start."""

    def __init__(self, now: Moment) -> None:
        self._start = now

    def wall_ms(self, now: Moment) -> int:
        """The earlier one of what the clock says and of what it should say."""
        elapsed_ms = int((now.monotonic_s - self._start.monotonic_s) * 1000)
        return min(now.wall_ms, self._start.wall_ms + elapsed_ms)


class Expiry:
    """When to look for expired offsets, and how far the present look has come."""

    def __init__(
        self, state: CoordinatorState, retention_ms: int, has_classic_members: Callable[[str], bool]
    ) -> None:
        self._state = state
        self._has_classic_members = has_classic_members
        self._retention_ms = retention_ms
        self._clock: SteadyClock | None = None
        self._pass: Iterator[Entry | None] | None = None
        self._due_s: float | None = None

    def due_s(self) -> float | None:
        """When ``turn`` is to be called again."""
        return self._due_s

    def turn(self, now: Moment, stage: Callable[[list[Entry]], None]) -> int:
        """Stage one turn's worth of what has expired; how many entries that were, mostly none."""
        if self._clock is None or self._due_s is None:
            self._clock = SteadyClock(now)
            self._due_s = now.monotonic_s + CHECK_INTERVAL_S
        if now.monotonic_s < self._due_s:
            return 0
        if self._pass is None:
            self._pass = self._look(self._clock.wall_ms(now) - self._retention_ms)
        expired = 0
        for examined, entry in enumerate(self._pass, 1):
            if entry is not None:
                stage([entry])
                expired += 1
            if examined >= EXAMINED_PER_TURN_MAX or expired >= EXPIRED_PER_TURN_MAX:
                return expired
        self._pass = None
        self._due_s = now.monotonic_s + CHECK_INTERVAL_S
        return expired

    def _look(self, before_ms: int) -> Iterator[Entry | None]:
        """For each thing that is looked at its tombstone, or None; all may change in between."""
        for name in list(self._state.groups):
            yield None
            offsets = self._state.offsets.of_group(name)
            for place in list(offsets) if self._may_expire(name, before_ms) else ():
                committed = offsets.get(place)
                is_old = committed is not None and committed.committed_at_ms <= before_ms
                expires = is_old and self._may_expire(name, before_ms)
                yield Entry(OffsetKey(name, *place), None) if expires else None
            if self._may_expire(name, before_ms) and not self._state.offsets.of_group(name):
                yield Entry(GroupKey(name), None)

    def _may_expire(self, name: str, before_ms: int) -> bool:
        group = self._state.groups.get(name)
        if group is None or group.members or self._has_classic_members(name):
            return False
        return group.head.empty_since_ms <= before_ms

"""Fetches that wait: each until there is enough for it, or until its time is over."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from actors.effects import Sender
from odradek.protocol.messages import Fetch

PARKED_FETCHES_MAX = 10_000


@dataclass(slots=True)
class Parked:
    """A fetch that waits. Looking again is worth it once ``worthwhile_bytes`` have become durable."""

    sender: Sender
    fetch: Fetch
    worthwhile_bytes: int
    done: bool = False


class Parking:
    """The fetches that wait at one partition."""

    def __init__(self) -> None:
        self._parked: list[Parked] = []
        self._deadlines: list[tuple[float, int, Parked]] = []
        self._count = 0

    def park(self, parked: Parked, deadline_s: float) -> Parked | None:
        """Let a fetch wait. Where too many do, the one that has waited longest must be answered at once.

        So nobody can keep others out by waiting: an early answer is always allowed.
        """
        self._parked.append(parked)
        self._count += 1
        heapq.heappush(self._deadlines, (deadline_s, self._count, parked))
        if len(self._parked) <= PARKED_FETCHES_MAX:
            return None
        oldest = self._parked.pop(0)
        oldest.done = True
        return oldest

    def release(self, durable_bytes: int, answer: Callable[[Parked], bool]) -> None:
        """Try to answer all for whom ``durable_bytes`` may be enough; ``answer`` tells whether they were."""
        for parked in self._parked:
            parked.done = durable_bytes >= parked.worthwhile_bytes and answer(parked)
        self._parked = [parked for parked in self._parked if not parked.done]

    def expired(self, now_s: float) -> list[Parked]:
        """Those whose time is over; they wait no longer."""
        expired: list[Parked] = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            parked = heapq.heappop(self._deadlines)[2]
            if not parked.done:
                parked.done = True
                expired.append(parked)
        if expired:
            self._parked = [parked for parked in self._parked if not parked.done]
        return expired

    def deadline(self) -> float | None:
        """The monotonic second at which the next one's time is over."""
        while self._deadlines and self._deadlines[0][2].done:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def clear(self) -> list[Parked]:
        """All of them; nobody waits any more."""
        parked, self._parked = self._parked, []
        self._deadlines.clear()
        return parked

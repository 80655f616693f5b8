"""Watches: one question to each partition that anybody waits for, however many wait and however often.

A fetch that finds nothing waits here. A partition is asked once to say when its high watermark moves; all
that wait for it share the answer, and a client that asks again meanwhile needs no further read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from actors.actor import Answer, Moment
from actors.effects import Effect
from actors.kafka.handling import Ask, Wait, Watched
from actors.messages import Watch, WatchReply, partition_address
from actors.pending import Waiter
from odradek.protocol.errors import OdradekError

WATCH_S = 30.0
"""How long a partition may keep a watch; then it is asked again, if somebody still waits."""
WATCH_GRACE_S = 5.0
STALE_MAX = 1_000
"""Deadlines of waits that are over already which are kept beside those that count."""

Place = tuple[str, int]
_NO_WAIT = (0, Wait(0.0))


class Waiting(Protocol):
    """Somebody who waits; the same object is removed, woken or overdue."""

    def __hash__(self) -> int:
        """Waiters are told apart by identity."""


@dataclass(slots=True)
class _State:
    """One watched partition. ``asked_offset`` stands in the watch that is on its way."""

    asked_offset: int
    log_start_offset: int
    waiting: dict[Any, int] = field(default_factory=dict)


class Watches:
    """Who waits for which partitions, and until when."""

    def __init__(
        self,
        forward: Callable[[Ask, Waiter], Effect],
        wake: Callable[[Any], Sequence[Effect]],
    ) -> None:
        self._forward = forward
        self._wake = wake
        self._states: dict[Place, _State] = {}
        self._waits: dict[Any, tuple[int, Wait]] = {}
        self._waiters: dict[int, Any] = {}
        """By the number of the wait: the deadlines know only that, and keep nobody who has been answered."""
        self._deadlines: list[tuple[float, int]] = []
        self._count = 0

    def quiet_at(self, place: Place) -> tuple[int, int] | None:
        """(high watermark, log start offset) of a partition of which we would hear if that had moved."""
        state = self._states.get(place)
        return (state.asked_offset, state.log_start_offset) if state is not None else None

    def add(self, waiter: Any, wait: Wait) -> list[Effect]:
        """Let somebody wait. Who watches a partition that cannot be asked is woken at once."""
        self._count += 1
        self._waits[waiter] = self._count, wait
        self._waiters[self._count] = waiter
        self._note_deadline(wait.until_s)
        effects: list[Effect] = []
        try:
            for watched in wait.watched:
                effects += self._watch(waiter, watched)
        except OdradekError:
            return [*effects, *self._woken(waiter)]
        return effects

    def _note_deadline(self, until_s: float) -> None:
        heapq.heappush(self._deadlines, (until_s, self._count))
        if len(self._deadlines) > len(self._waiters) + STALE_MAX:
            self._deadlines = [each for each in self._deadlines if each[1] in self._waiters]
            heapq.heapify(self._deadlines)

    def _watch(self, waiter: Any, watched: Watched) -> list[Effect]:
        place = watched.topic, watched.partition
        state = self._states.get(place)
        if state is not None:
            state.waiting[waiter] = watched.offset
            return []
        state = _State(watched.offset, watched.log_start_offset, {waiter: watched.offset})
        effect = self._ask(place, watched.offset, state)
        self._states[place] = state
        return [effect]

    def _ask(self, place: Place, offset: int, state: _State) -> Effect:
        topic, partition = place
        state.asked_offset = offset
        watch = Watch(topic=topic, partition=partition, offset=offset, max_wait_ms=int(WATCH_S * 1000))
        ask = Ask(partition_address(topic, partition), watch, timeout_s=WATCH_S + WATCH_GRACE_S)
        return self._forward(ask, _Watcher(self, place, state))

    def remove(self, waiter: Any) -> None:
        """Nobody waits there any more; watches on their way stay, for those who ask again."""
        number, wait = self._waits.pop(waiter, _NO_WAIT)
        self._waiters.pop(number, None)
        for watched in wait.watched:
            state = self._states.get((watched.topic, watched.partition))
            if state is not None:
                state.waiting.pop(waiter, None)

    def due(self, now: Moment) -> list[Effect]:
        """Wake those whose time is over."""
        effects: list[Effect] = []
        while self._deadlines and self._deadlines[0][0] <= now.monotonic_s:
            waiter = self._waiters.get(heapq.heappop(self._deadlines)[1])
            if waiter is not None:
                effects += self._woken(waiter)
        return effects

    def deadline(self) -> float | None:
        """When the next one's time is over."""
        while self._deadlines and self._deadlines[0][1] not in self._waiters:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def _woken(self, waiter: Any) -> Sequence[Effect]:
        self.remove(waiter)
        return self._wake(waiter)

    def moved(self, place: Place, state: _State, reply: WatchReply) -> list[Effect]:
        """A partition said where its high watermark is: wake those who are behind, watch for the others."""
        assert isinstance(reply.high_watermark, int)
        assert isinstance(reply.log_start_offset, int)
        del self._states[place]
        behind: list[Any] = []
        others: dict[Any, int] = {}
        for waiter, offset in state.waiting.items():
            if offset < reply.high_watermark:
                behind.append(waiter)
            else:
                others[waiter] = offset
        effects: list[Effect] = []
        if others:
            again = _State(reply.high_watermark, reply.log_start_offset, others)
            try:
                effects.append(self._ask(place, reply.high_watermark, again))
                self._states[place] = again
            except OdradekError:
                behind += others
        for waiter in behind:
            effects += self._woken(waiter)
        return effects

    def lost(self, place: Place, state: _State) -> list[Effect]:
        """The partition cannot be watched: who waits for it looks again, and is told why."""
        if self._states.get(place) is state:
            del self._states[place]
        return [effect for waiter in list(state.waiting) for effect in self._woken(waiter)]


@dataclass(frozen=True, slots=True)
class _Watcher:
    """The waiter of one watch."""

    watches: Watches
    place: Place
    state: _State

    def answered(self, answer: Answer) -> Sequence[Effect]:
        """The high watermark has moved, or the watch is over."""
        if isinstance(answer.reply, WatchReply) and answer.reply.error is None:
            return self.watches.moved(self.place, self.state, answer.reply)
        return self.watches.lost(self.place, self.state)

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        """No reply will come."""
        return self.watches.lost(self.place, self.state)

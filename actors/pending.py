"""What a router or a gateway asked and has not been answered yet: bounded, and with an end for each.

A waiter says what to do with the answer, or with the error that came instead. Deadlines are kept in
slots of SLOT_S, each once, so that a request that was answered in time leaves no more than its empty slot.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Protocol

import msgspec

from actors.actor import Answer, Undeliverable
from actors.effects import Effect
from actors.messages import COORDINATOR
from odradek.protocol.errors import (
    CoordinatorNotAvailable,
    LeaderNotAvailable,
    NetworkException,
    OdradekError,
    RequestTimedOut,
    ThrottlingQuotaExceeded,
)

REQUESTS_IN_FLIGHT_MAX = 100_000
BYTES_IN_FLIGHT_MAX = 256 << 20
SLOT_S = 0.1


class Waiter(Protocol):
    """What happens when an answer comes, or does not."""

    def answered(self, answer: Answer) -> Sequence[Effect]:
        """The other actor replied; its reply may carry an error."""

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        """No reply will come."""


class Pending(msgspec.Struct, frozen=True, eq=False):
    """One request on its way. ``writes`` tells a lost write, whose outcome is unknown, from a lost read."""

    waiter: Waiter
    address: str
    writes: bool
    size_bytes: int
    slot: int


class PendingTable:
    """Tokens to waiters."""

    def __init__(
        self,
        requests_max: int = REQUESTS_IN_FLIGHT_MAX,
        bytes_max: int = BYTES_IN_FLIGHT_MAX,
    ) -> None:
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self._pending: dict[int, Pending] = {}
        self._slots: dict[int, set[int]] = {}
        self._slot_order: list[int] = []
        self._last_token = 0
        self.bytes_in_flight = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(
        self, waiter: Waiter, address: str, deadline_s: float, *, writes: bool = False, size_bytes: int = 0
    ) -> int:
        """A new token. Raises ThrottlingQuotaExceeded where too much is in flight."""
        if len(self._pending) >= self._requests_max:
            raise ThrottlingQuotaExceeded(f"{len(self._pending)} requests are in flight here already")
        if self.bytes_in_flight + size_bytes > self._bytes_max and self.bytes_in_flight:
            raise ThrottlingQuotaExceeded(f"{self.bytes_in_flight} bytes are in flight here already")
        self._last_token += 1
        slot = math.ceil(deadline_s / SLOT_S)
        tokens = self._slots.get(slot)
        if tokens is None:
            tokens = self._slots[slot] = set()
            heapq.heappush(self._slot_order, slot)
        tokens.add(self._last_token)
        self._pending[self._last_token] = Pending(waiter, address, writes, size_bytes, slot)
        self.bytes_in_flight += size_bytes
        return self._last_token

    def take(self, token: int) -> Pending | None:
        """The request of this token, which is then no longer pending; None for one that ended before."""
        pending = self._pending.pop(token, None)
        if pending is None:
            return None
        self.bytes_in_flight -= pending.size_bytes
        self._slots[pending.slot].discard(token)
        return pending

    def deliver(self, message: Answer | Undeliverable) -> Sequence[Effect]:
        """What follows from the end of a request; nothing for one that ended before."""
        pending = self.take(message.token)
        if pending is None:
            return ()
        if isinstance(message, Answer):
            return pending.waiter.answered(message)
        return pending.waiter.failed(message.error)

    def take_address(self, addresses: set[str]) -> list[Pending]:
        """Every request that was on its way to one of these addresses."""
        tokens = [token for token, pending in self._pending.items() if pending.address in addresses]
        return [pending for token in tokens if (pending := self.take(token)) is not None]

    def lose(self, addresses: set[str]) -> list[Effect]:
        """What follows from the end of these actors: nothing that was on its way to them will be answered."""
        effects: list[Effect] = []
        for pending in self.take_address(addresses):
            effects += pending.waiter.failed(lost_error(pending.address, writes=pending.writes))
        return effects

    def deadline(self) -> float | None:
        """The monotonic second of the next time-out."""
        while self._slot_order and not self._slots[self._slot_order[0]]:
            del self._slots[heapq.heappop(self._slot_order)]
        return self._slot_order[0] * SLOT_S if self._slot_order else None

    def expire(self, now_s: float) -> list[Effect]:
        """What follows from the time-outs that have passed."""
        effects: list[Effect] = []
        if not self._slot_order or self._slot_order[0] * SLOT_S > now_s:
            return effects
        while (deadline_s := self.deadline()) is not None and deadline_s <= now_s:
            for token in sorted(self._slots[self._slot_order[0]]):
                pending = self.take(token)
                if pending is not None:
                    error = RequestTimedOut(f"{pending.address} has not answered in time")
                    effects += pending.waiter.failed(error)
        return effects

    def clear(self) -> list[Pending]:
        """Everything, taken."""
        return [pending for token in list(self._pending) if (pending := self.take(token)) is not None]


def lost_error(address: str, *, writes: bool) -> OdradekError:
    """What became of a request to an actor that ended before it answered."""
    if address == COORDINATOR and not writes:
        return CoordinatorNotAvailable("the coordinator ended before it answered; try again")
    if writes:
        return NetworkException(f"{address} ended before it answered; whether it wrote is unknown")
    return LeaderNotAvailable(f"{address} ended before it answered; try again")

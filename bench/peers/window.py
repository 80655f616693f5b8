"""Window: how many records are on their way; who sends more waits until some are settled."""

from __future__ import annotations

import threading
from collections.abc import Callable

from loadtest.clients import FLUSH_S_MAX, Settled


class Window:
    """At most ``most`` records, or one call with more; safe from any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pending = 0
        self._trouble: BaseException | None = None
        self._changed = threading.Condition()

    def enter(self, count: int, settled: Settled) -> Settled:
        """Wait for room for so many; what is returned gives it back and passes on. Raises as ``empty``."""
        with self._changed:
            self._wait_for(lambda: not self._pending or self._pending + count <= self._most)
            self._pending += count

        def leave(count: int, acknowledged: bool) -> None:
            settled(count, acknowledged)
            with self._changed:
                self._pending -= count
                self._changed.notify_all()

        return leave

    def fail(self, error: BaseException) -> None:
        """Nothing more will be settled; whoever waits, or comes, gets the error."""
        with self._changed:
            self._trouble = error
            self._changed.notify_all()

    def empty(self) -> None:
        """Wait until all is settled. Raises TimeoutError, and what ``fail`` was told."""
        with self._changed:
            self._wait_for(lambda: not self._pending)

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        if not self._changed.wait_for(lambda: self._trouble is not None or ready(), FLUSH_S_MAX):
            raise TimeoutError(f"no answer within {FLUSH_S_MAX:g} s, {self._pending} records wait for one")
        if self._trouble is not None:
            raise self._trouble

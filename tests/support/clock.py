"""FakeClock: time that stands still until a test moves it."""

from __future__ import annotations

from actors.actor import Moment

START_S = 1_000.0
START_MS = 1_700_000_000_000


class FakeClock:
    """Both clocks, moved together."""

    def __init__(self) -> None:
        self._now_s = START_S

    def now(self) -> Moment:
        return Moment(self._now_s, START_MS + round((self._now_s - START_S) * 1000))

    def advance(self, seconds: float) -> Moment:
        """Move on by ``seconds``; returns the new moment."""
        self._now_s += seconds
        return self.now()

    def advance_to(self, monotonic_s: float) -> None:
        self._now_s = max(self._now_s, monotonic_s)

"""When a child that ended is started again, and when it is given up. Pure; time is an argument.

Rule 1. A crash is the end of a child that had served; a failed boot is the end of one that had not.
Rule 2. The first restart after a crash is immediate; each next one within the window waits twice as long.
Rule 3. More than ``crashes_max`` crashes within the window, or ``boot_failures_max`` failed boots in a
        row, and the child is given up: what fails that often fails for a reason that a person must see.
Rule 4. An essential child, one without which the broker ends, is given up only before it has served for
        the first time. Afterwards it waits ``delay_max_s`` instead: a broker that serves partly serves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

BOOT_DELAY_S = 0.25
"""A child that could not start waits at least so long: the reason may need a moment to go away."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Bounds of patience; times in seconds."""

    delay_min_s: float = 0.05
    delay_max_s: float = 10.0
    crashes_max: int = 10
    window_s: float = 60.0
    boot_failures_max: int = 5

    def delay_s(self, failures: int) -> float:
        """The wait before the restart that follows failure number ``failures`` (from 1)."""
        if failures <= 1:
            return 0.0
        doublings = min(failures - 2, 64)
        return min(self.delay_max_s, self.delay_min_s * 2.0**doublings)


@dataclass(frozen=True, slots=True)
class Retry:
    """Start it again after ``delay_s``."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start it again; ``reason`` is a sentence for people."""

    reason: str


class RestartHistory:
    """What one child has done so far, and what follows from it."""

    def __init__(self, policy: RestartPolicy, *, essential: bool = False) -> None:
        self._policy = policy
        self._essential = essential
        self._has_served = False
        self._crashes_s: deque[float] = deque(maxlen=policy.crashes_max + 1)
        self._boot_failures = 0

    def served(self) -> None:
        """The child began to serve: earlier failed boots no longer count."""
        self._boot_failures = 0
        self._has_served = True

    @property
    def is_lasting(self) -> bool:
        """Whether it is never given up any more."""
        return self._essential and self._has_served

    def crashed(self, now_s: float) -> Retry | GiveUp:
        """A child that had served ended without being told to."""
        self._crashes_s.append(now_s)
        while self._crashes_s[0] <= now_s - self._policy.window_s:
            self._crashes_s.popleft()
        count = len(self._crashes_s)
        if count > self._policy.crashes_max:
            return self._too_often(f"it crashed {count} times within {self._policy.window_s:g} s")
        return Retry(self._policy.delay_s(count))

    def failed_to_boot(self) -> Retry | GiveUp:
        """A child ended before it served."""
        self._boot_failures += 1
        if self._boot_failures > self._policy.boot_failures_max:
            return self._too_often(f"it could not start, {self._boot_failures} times in a row")
        return Retry(max(BOOT_DELAY_S, self._policy.delay_s(self._boot_failures)))

    def _too_often(self, reason: str) -> Retry | GiveUp:
        return Retry(self._policy.delay_max_s) if self.is_lasting else GiveUp(reason)

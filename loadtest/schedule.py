"""Schedule: when each record of one producer should be sent. Open loop: a stall does not move what is due.

So the latency of a record that had to wait because the system stood still counts from when it should have
been sent, and no stall hides from the percentiles (what is called coordinated omission).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Records at a steady rate from ``start_ns`` to ``end_ns``; producers take turns within one period."""

    start_ns: int
    end_ns: int
    period_ns: float
    shift_ns: float = 0.0

    @classmethod
    def of(cls, rate: float, producers: int, index: int, start_ns: int, duration_s: float) -> Schedule:
        """The share of one producer in ``rate`` records per second of all."""
        period_ns = producers * 1e9 / rate
        return cls(start_ns, start_ns + int(duration_s * 1e9), period_ns, index * 1e9 / rate)

    @property
    def count(self) -> int:
        """How many records it has."""
        length_ns = self.end_ns - self.start_ns - self.shift_ns
        return max(0, math.ceil(length_ns / self.period_ns))

    def due_ns(self, number: int) -> int:
        """When record ``number`` should be sent."""
        return int(self.start_ns + self.shift_ns + number * self.period_ns)

    def due_count(self, now_ns: int) -> int:
        """How many should have been sent by now."""
        if now_ns < self.start_ns + self.shift_ns:
            return 0
        return min(self.count, int((now_ns - self.start_ns - self.shift_ns) / self.period_ns) + 1)

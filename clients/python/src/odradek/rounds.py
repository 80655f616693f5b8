"""Rounds: small batches of many partitions leave together, and the next ones fill until these are back.

A partition's batch may leave as soon as none of its partition is under way. That is right for a few
partitions; where keys spread over a thousand, every batch would have two or three records, and what a batch
costs would be paid for each of these. So once FLYING_MAX batches that are not full are on their way, further
ones wait and fill; when most are back, all that wait leave as the next round. A full batch never waits here.
"""

from __future__ import annotations

import time
from typing import Final

from odradek.batches import Batch
from odradek.queues import PartitionQueue

FLYING_MAX: Final = 32
"""So many small batches leave one by one; beyond it they leave in rounds."""
STRAGGLERS_MAX: Final = 8
"""So few of a round hold up the next one no longer."""
ROUND_S_MAX: Final = 0.1
"""Nor does a round for longer than this: a partition that does not answer is its own affair."""


class Rounds:
    """Which small batches are on their way, and whose wait. Used in the I/O thread only."""

    def __init__(self) -> None:
        self._flying: set[Batch] = set()
        self._waiting: dict[PartitionQueue, None] = {}
        self._began_at = 0.0
        self._beginning = False

    @property
    def has_waiting(self) -> bool:
        """Whether a next round is wanted."""
        return bool(self._waiting)

    def admits(self, queue: PartitionQueue) -> bool:
        """Whether its open batch may leave now; where not, the next round has it."""
        if self._beginning or (not self._waiting and len(self._flying) < FLYING_MAX):
            return True
        self._waiting[queue] = None
        return False

    def left(self, batch: Batch) -> None:
        """A small batch is on its way."""
        if not self._flying:
            self._began_at = time.monotonic()
        self._flying.add(batch)

    def landed(self, batch: Batch) -> None:
        """It is no more, however that came."""
        self._flying.discard(batch)

    def wait_s(self) -> float:
        """How long the next round has to wait at most; 0 when it may begin."""
        if len(self._flying) <= STRAGGLERS_MAX:
            return 0.0
        return max(0.0, self._began_at + ROUND_S_MAX - time.monotonic())

    def begin(self) -> list[PartitionQueue]:
        """The next round: every queue that waits, each to be dispatched before ``begun`` is called."""
        waiting, self._waiting = list(self._waiting), {}
        # Stragglers count no more: a partition that is gone must not hold up a round each time.
        self._flying.clear()
        self._beginning = True
        return waiting

    def begun(self) -> None:
        """All of the round have left."""
        self._beginning = False

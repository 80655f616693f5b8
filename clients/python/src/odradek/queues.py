"""PartitionQueue: the batches of one partition, from the one that gathers to those on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn

from odradek.batches import Batch
from odradek.connection import Timer
from odradek.protocol.errors import OdradekError
from odradek.session import Backoff

LONE_FLYING_MAX: Final = 3
"""While so few batches are on their way, each of one record, the next one need not wait for them: records
come hardly faster than they are acknowledged. A faster producer gathers: more batches would cost more."""


def no_open_batch(_: object) -> NoReturn:
    """What ``write`` is while no batch is open: as if its writer had ended."""
    raise StopIteration


class PartitionQueue:
    """One partition's batches: ``open`` gathers, ``pending`` is full and waits, ``sent`` is on its way."""

    __slots__ = (
        "asked_at",
        "backoff",
        "burnt",
        "bytes_max",
        "deadline_timer",
        "endpoint",
        "identity",
        "last_error",
        "leader_epoch",
        "linger_timer",
        "next_sequence",
        "notified",
        "open",
        "partition",
        "pending",
        "retry_timer",
        "sent",
        "topic",
        "write",
    )

    def __init__(self, topic: str, partition: int, bytes_max: int, backoff: Backoff) -> None:
        self.topic = topic
        self.partition = partition
        self.bytes_max = bytes_max
        self.backoff = backoff
        self.open: Batch | None = None
        self.write: Callable[[Any], Any] = no_open_batch
        self.pending: deque[Batch] = deque()
        self.sent: list[Batch] = []
        self.identity: tuple[int, int] | None = None
        self.burnt: tuple[int, int] | None = None
        self.next_sequence = 0
        self.notified = False
        self.endpoint: str | None = None
        self.leader_epoch = -1
        self.asked_at = 0.0
        self.last_error: OdradekError | None = None
        self.linger_timer: Timer | None = None
        self.retry_timer: Timer | None = None
        self.deadline_timer: Timer | None = None

    @property
    def busy(self) -> bool:
        """Whether anything waits or is on its way."""
        return bool(self.sent or self.pending or self.open is not None)

    @property
    def open_may_leave(self) -> bool:
        """Whether the open batch need not wait for those that are on their way."""
        sent = self.sent
        return not sent or (len(sent) < LONE_FLYING_MAX and all(batch.count == 1 for batch in sent))

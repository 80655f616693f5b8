"""Accumulator: the records of a producer that are not on their way yet, and the bytes that all of them take.

Users' threads open, fill and seal batches here; the I/O thread takes them away and gives their bytes back.
``lock`` guards all of it but ``write`` of an open batch, which guards itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from odradek.batches import Batch, Clock
from odradek.options import RECORD_BYTES_MAX, ProducerOptions
from odradek.protocol.errors import MessageTooLarge, RequestTimedOut
from odradek.protocol.messages import TopicMetadata
from odradek.queues import PartitionQueue, no_open_batch
from odradek.session import ClientClosed, Session

BATCH_BYTES_SHARE_MIN: Final = 16 * 1024
"""Many partitions share the buffer; a batch is never promised less of it than this."""
BATCHES_PER_BUFFER: Final = 8
"""No open batch takes more than this part of the buffer, so that sealed ones find room beside it."""
LARGE_BATCHES_SHARE: Final = 4
"""Of a topic with many partitions few have an open batch, unless keys spread over them: the first ones may
be large as long as all that are open have less than this part of the buffer, a quarter."""
STICKY_PARTITIONS: Final = 8
STICKY_ROUNDS: Final = 32
"""Records without a key go to so many partitions of a large topic in turns, so often, then to the next ones:
each has several batches under way, which one sync makes durable, and few connections are in use."""


class BufferExhausted(RequestTimedOut):
    """The producer's buffer stayed full for as long as a send may wait; the record was not taken."""


class WouldBlock(Exception):
    """A send that may not wait would have to."""


class Accumulator:
    """Every topic's queues, their open batches, and the buffer's account.

    ``press`` and ``dispatch`` are called in the I/O thread: send open batches too, and send one queue's.
    """

    def __init__(
        self,
        session: Session,
        options: ProducerOptions,
        clock: Clock,
        *,
        press: Callable[[], None],
        dispatch: Callable[[PartitionQueue], None],
    ) -> None:
        self._session = session
        self._options = options
        self._clock = clock
        self._press = press
        self._dispatch = dispatch
        self.lock = threading.Lock()
        self._room = threading.Condition(self.lock)
        self._waiting = 0
        self.used_bytes = 0
        self.closed = False
        self.sticky: dict[str, Callable[[Any], Any]] = {}
        """``write`` of the open batch for records without a key, by topic."""
        self.queues: dict[str, list[PartitionQueue]] = {}
        """The queue of each partition, by topic; grows in place, never shrinks."""
        self._sticky_moves: dict[str, int] = {}
        self._queue_count = 0
        self._open_bytes = 0
        self._failed_count = 0
        self._failed_first: Batch | None = None
        session.on_topic = self._learn

    # -- topics ----------------------------------------------------------------------------------

    def topic(self, name: str, *, wait: bool) -> list[PartitionQueue]:
        """The queues of a topic that is looked up, or made, where it is not known."""
        if not isinstance(name, str):
            raise TypeError(f"topic is a str, not {type(name).__name__}")
        self.check_open()
        if not wait and name not in self.queues:
            raise WouldBlock
        timeout_s = max(0.001, self._options.block_ms_max / 1000)
        known = self._session.topic(name, create=self._options.create_topics, timeout_s=timeout_s)
        with self.lock:
            queues = self.queues.setdefault(name, [])
            self._grow(name, len(known.partitions))
        return queues

    def _learn(self, topic: TopicMetadata) -> None:
        """A topic was looked up again: it may have new partitions, and keys hash over all of them."""
        with self.lock:
            if topic.name in self.queues:
                self._grow(topic.name, len(topic.partitions))

    def _grow(self, name: str, count: int) -> None:
        queues = self.queues[name]
        for number in range(len(queues), count):
            self._queue_count += 1
            queues.append(
                PartitionQueue(name, number, self._options.batch_bytes_max, self._session.backoff())
            )

    def sticky_queue(self, topic: str) -> PartitionQueue:
        """Where records without a key go for now."""
        queues = self.queues[topic]
        moves = self._sticky_moves.get(topic)
        if moves is None:
            moves = self._sticky_moves[topic] = first_move(len(queues))
        return queues[sticky_partition(moves, len(queues))]

    def move_sticky(self, topic: str) -> PartitionQueue:
        """Let the next records without a key go elsewhere."""
        self._sticky_moves[topic] = self._sticky_moves.get(topic, 0) + 1
        return self.sticky_queue(topic)

    def all_queues(self) -> list[PartitionQueue]:
        """Every queue of every topic."""
        with self.lock:
            return [queue for queues in self.queues.values() for queue in queues]

    def batches(self) -> list[Batch]:
        """Every batch that is not acknowledged, whole (a batch that was split stands for its parts)."""
        found = []
        for queue in self.all_queues():
            with self.lock:
                found += [batch for batch in (*queue.sent, *queue.pending) if not batch.done]
                if queue.open is not None:
                    found.append(queue.open)
        return found

    def unacknowledged(self) -> int:
        """How many records are not acknowledged; open batches are sealed to be counted."""
        for queue in self.all_queues():
            with self.lock:
                self._close_open(queue)
        return sum(batch.count for batch in self.batches())

    # -- batches; the lock is held ---------------------------------------------------------------

    def open(self, queue: PartitionQueue, record_bytes: int, *, wait: bool, bulk: bool = False) -> Batch:
        """The queue's open batch: a new one, ``bulk`` or not, as soon as the buffer has room for it."""
        self.check_open()
        if record_bytes > RECORD_BYTES_MAX or record_bytes > self._options.buffer_bytes_max:
            limit = min(RECORD_BYTES_MAX, self._options.buffer_bytes_max)
            raise MessageTooLarge(f"the record has about {record_bytes} bytes, at most {limit} can be sent")
        share = self._options.buffer_bytes_max // (BATCHES_PER_BUFFER * max(1, self._queue_count // 4))
        large = self._options.buffer_bytes_max // LARGE_BATCHES_SHARE - self._open_bytes
        share = max(share, large // BATCHES_PER_BUFFER, BATCH_BYTES_SHARE_MIN)
        share = min(share, self._options.buffer_bytes_max)
        bytes_max = min(queue.bytes_max, share)
        reserved = max(bytes_max, record_bytes)
        if self.used_bytes + reserved > self._options.buffer_bytes_max:
            self._wait_for_room(queue, reserved, wait=wait)
            if queue.open is not None:
                return queue.open  # another thread was faster
        now = time.monotonic()
        batch = Batch(
            queue.topic,
            queue.partition,
            self.lock,
            bytes_max=bytes_max,
            compression=self._options.compression,
            opened_at=now,
            deadline=now + self._options.delivery_timeout_ms / 1000,
            clock=self._clock,
            bulk=bulk,
        )
        batch.reserved_bytes = reserved
        self.used_bytes += reserved
        self._open_bytes += reserved
        self._clock.read()
        queue.open = batch
        queue.write = batch.write
        return batch

    def _wait_for_room(self, queue: PartitionQueue, reserved: int, *, wait: bool) -> None:
        if not wait:
            raise WouldBlock
        deadline = time.monotonic() + self._options.block_ms_max / 1000
        while queue.open is None and self.used_bytes + reserved > self._options.buffer_bytes_max:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise BufferExhausted(
                    f"{self.used_bytes} of {self._options.buffer_bytes_max} bytes of the buffer stayed used "
                    f"for {self._options.block_ms_max:g} ms; the record was not taken. "
                    "The broker is slower than the producer, or does not answer"
                )
            # What fills the buffer must not wait for its linger time while a sender waits for room.
            self._session.network.call(self._press)
            self._waiting += 1
            try:
                self._room.wait(left_s)
            finally:
                self._waiting -= 1
            self.check_open()

    def check_open(self) -> None:
        """Raise ClientClosed or ClientForked where no record can be taken."""
        if self.closed:
            raise ClientClosed("this producer is closed; make a new one")
        self._session.check_usable()

    def notify(self, queue: PartitionQueue, *, opened: bool) -> None:
        """Tell the I/O thread of a batch that it may send now; of others it will learn by itself."""
        if opened and not queue.notified and (queue.open_may_leave or self._options.linger_ms):
            queue.notified = True
            self._session.network.call(self._dispatch, queue)

    def seal(self, queue: PartitionQueue) -> None:
        """Close the open batch; it waits for its turn."""
        batch = queue.open
        if batch is None:
            return
        queue.open = None
        self._open_bytes -= batch.reserved_bytes
        queue.write = no_open_batch
        if self.sticky.get(queue.topic) is batch.write:
            del self.sticky[queue.topic]
        batch.seal()
        queue.pending.append(batch)
        if not queue.notified and len(queue.sent) < self._options.in_flight_max:
            queue.notified = True
            self._session.network.call(self._dispatch, queue)

    # -- what the I/O thread calls -------------------------------------------------------------

    def seal_next(self, queue: PartitionQueue) -> Batch | None:
        """The next batch to send, from here on in ``sent``: it must never be in no list at all."""
        with self.lock:
            if not queue.pending:
                self._close_open(queue)
            if not queue.pending:
                return None
            batch = queue.pending.popleft()
            queue.sent.append(batch)
            return batch

    def seal_all(self, queue: PartitionQueue) -> list[Batch]:
        """Everything that waits, from here on in ``sent``."""
        with self.lock:
            self._close_open(queue)
            waiting = list(queue.pending)
            queue.pending.clear()
            queue.sent += waiting
            return waiting

    def _close_open(self, queue: PartitionQueue) -> None:
        """Seal the open batch and let the next records without a key go elsewhere."""
        batch = queue.open
        if batch is None or batch.empty:
            return
        if self.sticky.get(queue.topic) is batch.write:
            self.move_sticky(queue.topic)
        queue.notified = True  # the caller is the one who would be notified
        self.seal(queue)
        queue.notified = False

    def release(self, batch: Batch, size_bytes: int) -> None:
        """Give bytes of the buffer back."""
        with self.lock:
            batch.reserved_bytes -= size_bytes
            self.used_bytes -= size_bytes
            if self._waiting:
                self._room.notify_all()

    def note_failure(self, batch: Batch) -> None:
        """A batch has failed; ``take_failure`` tells of it."""
        with self.lock:
            self._failed_count += batch.count
            if self._failed_first is None or self._failed_first.observed:
                self._failed_first = batch

    def take_failure(self) -> tuple[int, Batch | None]:
        """How many records failed since the last call, and the first batch of them."""
        with self.lock:
            first, count = self._failed_first, self._failed_count
            self._failed_first, self._failed_count = None, 0
        return count, first

    def end(self) -> None:
        """Take nothing more; whoever waits for room is told so."""
        with self.lock:
            self.closed = True
            self._room.notify_all()

    def forget_parent(self) -> None:
        """In a forked child: the lock may be held for ever, so nothing must be found without asking."""
        self.lock = threading.Lock()
        self._room = threading.Condition(self.lock)
        self.sticky.clear()
        self.queues.clear()


def first_move(partitions: int) -> int:
    """Where a producer begins: of a large topic anywhere, so that several producers do not meet."""
    windows = -(-partitions // STICKY_PARTITIONS)
    return random.randrange(windows) * STICKY_PARTITIONS * STICKY_ROUNDS if is_large(partitions) else 0  # noqa: S311


def is_large(partitions: int) -> bool:
    """Whether records without a key go to some of the partitions at a time."""
    return partitions > 2 * STICKY_PARTITIONS


def sticky_partition(moves: int, partitions: int) -> int:
    """The partition after so many moves: each in its turn, or each of a few that lie far apart."""
    if not is_large(partitions):
        return moves % partitions
    # Far from each other, because consumers that share a topic have neighbouring partitions each.
    windows = -(-partitions // STICKY_PARTITIONS)
    window = moves // (STICKY_PARTITIONS * STICKY_ROUNDS) % windows
    return (window + moves % STICKY_PARTITIONS * windows) % partitions

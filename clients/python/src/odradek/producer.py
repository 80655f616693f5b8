"""Producer: records go in one by one or many at a time and leave in large batches.

The path of one record is short on purpose: one lock, the compiled encoder, one small handle. A thread is
woken only by the record that opens a batch, the clock is read by that one too.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from odradek.delivery import (
    NO_HEADERS,
    Batch,
    Clock,
    Deliveries,
    Delivery,
    Item,
    RecordMetadata,
    Run,
    Span,
    wait_all,
)
from odradek.options import (
    BATCH_BYTES_DEFAULT,
    IN_FLIGHT_IDEMPOTENT_MAX,
    RECORD_BYTES_MAX,
    Acks,
    Bootstrap,
    Compression,
    ProducerOptions,
    SessionOptions,
)
from odradek.protocol.errors import (
    MessageTooLarge,
    OdradekError,
    RequestTimedOut,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import INT64_MAX
from odradek.protocol.partitioning import partition_for_key
from odradek.sender import PartitionQueue, Sender
from odradek.session import ClientClosed, Session

__all__ = ["BufferExhausted", "Deliveries", "Delivery", "Headers", "Producer", "RecordMetadata"]

Data: TypeAlias = bytes | str
Headers: TypeAlias = Mapping[str, Data | None] | Iterable[tuple[str, Data | None]]

logger = logging.getLogger("odradek")

RECORDS_PER_HOLD: Final = 2_048
"""How many records ``send_many`` encodes before it lets others have the lock."""
BATCH_BYTES_SHARE_MIN: Final = 16 * 1024
"""Many partitions share the buffer; a batch is never promised less of it than this."""
BATCHES_PER_BUFFER: Final = 8
"""No open batch takes more than this part of the buffer, so that sealed ones find room beside it."""
RECORD_OVERHEAD_BYTES: Final = 128
_BYTES_OR_NONE = {bytes, type(None)}


class BufferExhausted(RequestTimedOut):
    """The producer's buffer stayed full for as long as a send may wait; the record was not taken."""


class _WouldBlock(Exception):
    """A send that may not wait would have to."""


class _TopicQueues:
    """The queues of a topic's partitions, and the one where records without a key go for now."""

    __slots__ = ("name", "queues", "sticky")

    def __init__(self, name: str) -> None:
        self.name = name
        self.queues: list[PartitionQueue] = []
        self.sticky = 0


class Producer:
    """Sends records; safe to share between threads; a context manager that flushes and closes.

    Args:
        bootstrap: "tcp://127.0.0.1:5559", "127.0.0.1:5559", or several of them.
        acks: "all": acknowledged once it is on disk; 1: once it is written; 0: never acknowledged.
        compression: "none", "gzip", "snappy", "lz4" or "zstd".
        linger_ms: how long a batch waits for more records. With 0 a record leaves at once while
            nothing is on its way to its partition, and batches fill while something is.
        batch_bytes_max: a batch is sent when it has this many bytes.
        buffer_bytes_max: bound of what is sent and not acknowledged; beyond it ``send`` waits.
        delivery_timeout_ms: a record is acknowledged or has failed within this time.
        block_ms_max: how long ``send`` may wait, for room in the buffer or to learn of a topic.
        idempotent: retries write no record twice and keep the order.
        in_flight_max: batches on their way to one partition, 1 to 5.
        create_topics: let the broker make a topic that does not exist, where it allows that.
        client_id, request_timeout_ms, connect_timeout_ms, retry_backoff_ms, retry_backoff_max_ms,
            metadata_age_max_ms, direct: see odradek.options.SessionOptions.

    Raises InvalidConfig for an option that cannot be.
    """

    def __init__(
        self,
        bootstrap: Bootstrap = "tcp://127.0.0.1:5559",
        *,
        acks: Acks = "all",
        compression: Compression = "none",
        linger_ms: float = 0,
        batch_bytes_max: int = BATCH_BYTES_DEFAULT,
        buffer_bytes_max: int = 64 << 20,
        delivery_timeout_ms: float = 120_000,
        block_ms_max: float = 60_000,
        idempotent: bool = True,
        in_flight_max: int = IN_FLIGHT_IDEMPOTENT_MAX,
        create_topics: bool = True,
        client_id: str | None = None,
        request_timeout_ms: float = 10_000,
        connect_timeout_ms: float = 3_000,
        retry_backoff_ms: float = 20,
        retry_backoff_max_ms: float = 1_000,
        metadata_age_max_ms: float = 300_000,
        direct: bool = True,
    ) -> None:
        self.options = ProducerOptions(
            acks=acks,
            compression=compression,
            linger_ms=linger_ms,
            batch_bytes_max=batch_bytes_max,
            buffer_bytes_max=buffer_bytes_max,
            delivery_timeout_ms=delivery_timeout_ms,
            block_ms_max=block_ms_max,
            idempotent=idempotent,
            in_flight_max=in_flight_max,
            create_topics=create_topics,
        )
        session_options = SessionOptions(
            client_id=client_id,
            request_timeout_ms=request_timeout_ms,
            connect_timeout_ms=connect_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
            retry_backoff_max_ms=retry_backoff_max_ms,
            metadata_age_max_ms=metadata_age_max_ms,
            direct=direct,
        )
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._used_bytes = 0
        self._waiting = 0
        # ``write`` of the open batch for records without a key, by topic.
        self._sticky: dict[str, Callable[[Any], Any]] = {}
        self._topics: dict[str, _TopicQueues] = {}
        self._queue_count = 0
        self._failed_count = 0
        self._failed_first: Batch | None = None
        self._closed = False
        self._clock = Clock()
        self._session = Session(bootstrap, session_options, "producer")
        self._sender = Sender(
            self._session,
            self.options,
            self._clock,
            seal=self._seal_next,
            seal_all=self._seal_all,
            release=self._release,
            failed=self._note_failure,
        )
        self._session.network.on_stop = self._sender.fail_all
        _producers.add(self)

    # -- sending -------------------------------------------------------------------------------

    def send(
        self,
        topic: str,
        value: Data | None,
        *,
        key: Data | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp: int | None = None,
    ) -> Delivery:
        """Take one record; it leaves soon. Waits only where the buffer is full or the topic is new.

        Args:
            topic: its name.
            value: bytes, or str for its UTF-8; None is a tombstone.
            key: bytes or str; records of one key go to one partition, in order.
            partition: None for the key's, or without a key the producer's choice.
            headers: (name, value) pairs or a mapping.
            timestamp: milliseconds since 1970; None for now.

        Returns a handle: ``.result(timeout)`` or ``await`` gives the record's RecordMetadata.
        Raises TypeError for what is neither bytes nor str, BufferExhausted, MessageTooLarge,
        UnknownTopicOrPartition, InvalidTopic.
        """
        if key is None and partition is None and headers is None and timestamp is None:
            try:
                delivery: Delivery | None = self._sticky[topic](value)
                if delivery is not None:
                    return delivery
            except (KeyError, StopIteration, ValueError):
                pass  # no batch is open, or another thread is at it: the long way finds out
        return self._send(topic, value, key, partition, headers, timestamp, wait=True)

    def try_send(
        self,
        topic: str,
        value: Data | None,
        key: Data | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp: int | None = None,
    ) -> Delivery | None:
        """``send`` that never waits: None where it would have to, and nothing is taken then."""
        try:
            return self._send(topic, value, key, partition, headers, timestamp, wait=False)
        except _WouldBlock:
            return None

    def send_many(
        self,
        topic: str,
        values: Iterable[Data | None],
        *,
        keys: Iterable[Data | None] | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp: int | None = None,
    ) -> Deliveries:
        """Take many records, in order; several times as fast as a loop of ``send``.

        Args:
            topic: its name.
            values: of each record: bytes, str or None.
            keys: as many as there are values, or None for no keys.
            partition: None for the keys', or without keys the producer's choice.
            headers: the same for every record.
            timestamp: the same for every record, in milliseconds; None for now.

        Returns a lazy sequence of handles; ``.results(timeout)`` waits for all of them.
        Raises as ``send``; the values before the one that raised are on their way.
        """
        if isinstance(values, bytes | str | Mapping):
            raise TypeError(f"values is an iterable of values, not one {type(values).__name__}; use send()")
        shared_headers = _as_headers(headers)
        if keys is not None:
            return self._send_keyed(topic, values, keys, partition, shared_headers, timestamp)
        return self._send_unkeyed(topic, values, partition, shared_headers, timestamp)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything sent before is acknowledged.

        Args:
            timeout: seconds; None waits until the delivery timeouts have decided.

        Raises RequestTimedOut if that is not enough, or else the first error of a record whose handle
        nobody has asked: no loss goes unnoticed.
        """
        self._session.check_usable()
        self._flush(timeout)
        self._raise_unobserved()

    def partitions_for(self, topic: str) -> int:
        """How many partitions a topic has; it is looked up, or made, if it is not known."""
        return len(self._topic(topic, wait=True).queues)

    def close(self, timeout: float | None = None) -> None:
        """Flush, then end the thread and its sockets. Closing again does nothing.

        Args:
            timeout: seconds for the flush; what is not acknowledged by then fails. None waits.

        Raises as ``flush``.
        """
        if self._closed or not self._session.network.usable_here:
            self._closed = True
            return
        try:
            self._flush(timeout)
        finally:
            self._closed = True
            self._session.close(5.0)
            with self._lock:
                self._room.notify_all()
        self._raise_unobserved()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except OdradekError as lost:
            error.add_note(f"besides, closing the producer: {lost}")

    # -- one record ----------------------------------------------------------------------------

    def _send(
        self,
        topic: str,
        value: Data | None,
        key: Data | None,
        partition: int | None,
        headers: Headers | None,
        timestamp: int | None,
        *,
        wait: bool,
    ) -> Delivery:
        data = _as_bytes(value, "value")
        key_data = _as_bytes(key, "key")
        header_list = _as_headers(headers)
        if timestamp is not None:
            _check_timestamp(timestamp)
        queues = self._topics.get(topic) or self._topic(topic, wait=wait)
        queue = self._choose(queues, key_data, partition)
        size_bytes = _size(key_data, data, header_list)
        item = Item(data, key_data, header_list, timestamp)
        with self._lock:
            while True:
                batch = queue.open or self._open(queue, size_bytes, wait=wait)
                delivery = batch.put(item)
                if isinstance(delivery, Delivery):
                    if key_data is None and partition is None:
                        self._sticky[topic] = batch.write
                    self._notify(queue, opened=delivery._index == 0)
                    return delivery
                self._seal(queue)
                if key_data is None and partition is None:
                    queue = self._next_sticky(queues)

    def _choose(self, queues: _TopicQueues, key: bytes | None, partition: int | None) -> PartitionQueue:
        if partition is not None:
            if isinstance(partition, bool) or not isinstance(partition, int):
                raise TypeError(f"partition is an int or None, not {type(partition).__name__}")
            if not 0 <= partition < len(queues.queues):
                self._session.network.call(self._session.refresh, queues.name)
                raise UnknownTopicOrPartition(
                    f"topic {queues.name!r} has partitions 0 to {len(queues.queues) - 1}, not {partition}"
                )
            return queues.queues[partition]
        if key is not None:
            return queues.queues[partition_for_key(key, len(queues.queues))]
        return queues.queues[queues.sticky % len(queues.queues)]

    def _next_sticky(self, queues: _TopicQueues) -> PartitionQueue:
        queues.sticky = (queues.sticky + 1) % len(queues.queues)
        return queues.queues[queues.sticky]

    # -- many records --------------------------------------------------------------------------

    def _send_unkeyed(
        self,
        topic: str,
        values: Iterable[Data | None],
        partition: int | None,
        headers: list[tuple[str, bytes | None]],
        timestamp: int | None,
    ) -> Deliveries:
        if timestamp is not None:
            _check_timestamp(timestamp)
        queues = self._topics.get(topic) or self._topic(topic, wait=True)
        spans: list[Span] = []
        iterator = iter(values)
        taken = 0
        while chunk := list(itertools.islice(iterator, RECORDS_PER_HOLD)):
            if not set(map(type, chunk)) <= _BYTES_OR_NONE:
                chunk = [_as_bytes(value, f"values[{taken + at}]") for at, value in enumerate(chunk)]
            position = 0
            while position < len(chunk):
                queue = self._choose(queues, None, partition)
                with self._lock:
                    position += self._fill(queue, chunk, position, headers, timestamp, spans)
                    if position < len(chunk):
                        self._seal(queue)
                        if partition is None:
                            self._next_sticky(queues)
            taken += len(chunk)
        return Deliveries(spans)

    def _fill(
        self,
        queue: PartitionQueue,
        chunk: Sequence[Any],
        position: int,
        headers: list[tuple[str, bytes | None]],
        timestamp: int | None,
        spans: list[Span],
    ) -> int:
        """Encode values into the open batch until it is full; how many. The lock is held."""
        batch = queue.open or self._open(queue, _size(None, chunk[position], headers), wait=True)
        span = batch.put(Run(chunk, position, headers, timestamp))
        if not isinstance(span, Span):
            return 0
        self._notify(queue, opened=span.first_index == 0)
        before = spans[-1] if spans else None
        if before is not None and before.continues(span):
            before.count += span.count
        else:
            spans.append(span)
        return span.count

    def _send_keyed(
        self,
        topic: str,
        values: Iterable[Data | None],
        keys: Iterable[Data | None],
        partition: int | None,
        headers: list[tuple[str, bytes | None]],
        timestamp: int | None,
    ) -> Deliveries:
        spans: list[Span] = []
        missing = object()
        for value, key in itertools.zip_longest(values, keys, fillvalue=missing):
            if value is missing or key is missing:
                shorter = "values" if value is missing else "keys"
                raise ValueError(
                    f"there are fewer {shorter} than {'keys' if value is missing else 'values'}: "
                    f"{len(spans)}; the records before are on their way"
                )
            delivery: Any = self._send(topic, value, key, partition, headers or None, timestamp, wait=True)  # type: ignore[arg-type]
            spans.append(Span(delivery._batch, delivery._index, 1, delivery.timestamp))
        return Deliveries(spans)

    # -- batches and the buffer; the lock is held ----------------------------------------------

    def _open(self, queue: PartitionQueue, record_bytes: int, *, wait: bool) -> Batch:
        """The queue's open batch: a new one as soon as the buffer has room for it."""
        self._check_open()
        if record_bytes > RECORD_BYTES_MAX or record_bytes > self.options.buffer_bytes_max:
            limit = min(RECORD_BYTES_MAX, self.options.buffer_bytes_max)
            raise MessageTooLarge(f"the record has about {record_bytes} bytes, at most {limit} can be sent")
        share = self.options.buffer_bytes_max // (BATCHES_PER_BUFFER * max(1, self._queue_count // 4))
        share = min(max(share, BATCH_BYTES_SHARE_MIN), self.options.buffer_bytes_max)
        bytes_max = min(queue.bytes_max, share)
        reserved = max(bytes_max, record_bytes)
        if self._used_bytes + reserved > self.options.buffer_bytes_max:
            self._wait_for_room(queue, reserved, wait=wait)
            if queue.open is not None:
                return queue.open  # another thread was faster
        now = time.monotonic()
        batch = Batch(
            queue.topic,
            queue.partition,
            self._lock,
            bytes_max=bytes_max,
            compression=self.options.compression,
            opened_at=now,
            deadline=now + self.options.delivery_timeout_ms / 1000,
            clock=self._clock,
        )
        batch.reserved_bytes = reserved
        self._used_bytes += reserved
        self._clock.read()
        queue.open = batch
        return batch

    def _wait_for_room(self, queue: PartitionQueue, reserved: int, *, wait: bool) -> None:
        if not wait:
            raise _WouldBlock
        deadline = time.monotonic() + self.options.block_ms_max / 1000
        while queue.open is None and self._used_bytes + reserved > self.options.buffer_bytes_max:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise BufferExhausted(
                    f"{self._used_bytes} of {self.options.buffer_bytes_max} bytes of the buffer stayed used "
                    f"for {self.options.block_ms_max:g} ms; the record was not taken. "
                    "The broker is slower than the producer, or does not answer"
                )
            # What fills the buffer must not wait for its linger time while a sender waits for room.
            self._session.network.call(self._press)
            self._waiting += 1
            try:
                self._room.wait(left_s)
            finally:
                self._waiting -= 1
            self._check_open()

    def _press(self) -> None:
        """In the I/O thread: send open batches too, because a sender waits for their room."""
        self._sender.flushing += 1
        self._sender.dispatch_all(self._queues())
        self._sender.flushing -= 1

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("this producer is closed; make a new one")
        self._session.check_usable()

    def _notify(self, queue: PartitionQueue, *, opened: bool) -> None:
        """Tell the I/O thread of a batch that it may send now; of others it will learn by itself."""
        if opened and not queue.notified and (not queue.sent or self.options.linger_ms):
            queue.notified = True
            self._session.network.call(self._sender.dispatch, queue)

    def _seal(self, queue: PartitionQueue) -> None:
        batch = queue.open
        if batch is None:
            return
        queue.open = None
        if self._sticky.get(queue.topic) is batch.write:
            del self._sticky[queue.topic]
        batch.seal()
        queue.pending.append(batch)
        if not queue.notified and len(queue.sent) < self.options.in_flight_max:
            queue.notified = True
            self._session.network.call(self._sender.dispatch, queue)

    # -- what the I/O thread calls -------------------------------------------------------------

    def _seal_next(self, queue: PartitionQueue) -> Batch | None:
        """The next batch to send, from here on in ``sent``: it must never be in no list at all."""
        with self._lock:
            if not queue.pending:
                self._close_open(queue)
            if not queue.pending:
                return None
            batch = queue.pending.popleft()
            queue.sent.append(batch)
            return batch

    def _seal_all(self, queue: PartitionQueue) -> list[Batch]:
        with self._lock:
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
        topic = self._topics[queue.topic]
        if self._sticky.get(queue.topic) is batch.write:
            self._next_sticky(topic)
        queue.notified = True  # the caller is the one who would be notified
        self._seal(queue)
        queue.notified = False

    def _release(self, batch: Batch, size_bytes: int) -> None:
        with self._lock:
            batch.reserved_bytes -= size_bytes
            self._used_bytes -= size_bytes
            if self._waiting:
                self._room.notify_all()

    def _note_failure(self, batch: Batch) -> None:
        with self._lock:
            self._failed_count += batch.count
            if self._failed_first is None or self._failed_first.observed:
                self._failed_first = batch

    # -- topics, flushing ----------------------------------------------------------------------

    def _topic(self, name: str, *, wait: bool) -> _TopicQueues:
        if not isinstance(name, str):
            raise TypeError(f"topic is a str, not {type(name).__name__}")
        if not self._closed and self._session.network.usable_here and not wait and name not in self._topics:
            raise _WouldBlock
        self._check_open()
        known = self._session.topic(
            name, create=self.options.create_topics, timeout_s=max(0.001, self.options.block_ms_max / 1000)
        )
        with self._lock:
            queues = self._topics.setdefault(name, _TopicQueues(name))
            self._grow(queues, len(known.partitions))
        return queues

    def _grow(self, queues: _TopicQueues, count: int) -> None:
        for number in range(len(queues.queues), count):
            self._queue_count += 1
            queues.queues.append(
                PartitionQueue(queues.name, number, self.options.batch_bytes_max, self._session.backoff())
            )

    def _queues(self) -> list[PartitionQueue]:
        with self._lock:
            return [queue for topic in self._topics.values() for queue in topic.queues]

    def _batches(self) -> list[Batch]:
        """Every batch that is not acknowledged, whole (a batch that was split stands for its parts)."""
        with self._lock:
            found = []
            for topic in self._topics.values():
                for queue in topic.queues:
                    found += [batch for batch in (*queue.sent, *queue.pending) if not batch.done]
                    if queue.open is not None:
                        found.append(queue.open)
            return found

    def _unacknowledged(self) -> int:
        with self._lock:
            for topic in self._topics.values():
                for queue in topic.queues:
                    self._close_open(queue)
        return sum(batch.count for batch in self._batches())

    def _flush(self, timeout_s: float | None) -> None:
        batches = self._batches()
        if not batches:
            return
        self._session.network.call(self._begin_flush)
        try:
            wait_all(batches, timeout_s)
        finally:
            self._session.network.call(self._end_flush)

    def _begin_flush(self) -> None:
        self._sender.flushing += 1
        self._sender.dispatch_all(self._queues())

    def _end_flush(self) -> None:
        self._sender.flushing -= 1

    def _raise_unobserved(self) -> None:
        with self._lock:
            first, count = self._failed_first, self._failed_count
            self._failed_first, self._failed_count = None, 0
        if first is not None and not first.observed and first.error is not None:
            first.observed = True
            raise type(first.error)(
                f"{count} records were not acknowledged; the first: {first.error.message}"
            )

    def _forked(self) -> None:
        """In a forked child: locks may be held for ever, so nothing must be found without asking."""
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._sticky = {}
        self._topics = {}


_producers: weakref.WeakSet[Producer] = weakref.WeakSet()


def _after_fork() -> None:
    for producer in list(_producers):
        producer._forked()


@atexit.register
def _warn_at_exit() -> None:
    """A program that ends without close() is told what it may have lost."""
    for producer in list(_producers):
        unacknowledged = producer._unacknowledged()
        if unacknowledged and not producer._closed and producer._session.network.usable_here:
            story = (
                f"the program ends with {unacknowledged} records that are not acknowledged; "
                "use the Producer as a context manager, or call close()"
            )
            logger.warning(story)
            warnings.warn(story, ResourceWarning, stacklevel=1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _as_bytes(data: Data | None, what: str) -> bytes | None:
    if data is None or type(data) is bytes:
        return data
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes):
        return bytes(data)
    hint = (
        "bytes(...) makes it so"
        if isinstance(data, bytearray | memoryview)
        else "encode it first, as JSON perhaps"
    )
    raise TypeError(f"{what} is bytes, str or None, not {type(data).__name__}; {hint}")


def _as_headers(headers: Headers | None) -> list[tuple[str, bytes | None]]:
    if headers is None:
        return NO_HEADERS
    if isinstance(headers, str | bytes):
        raise TypeError("headers are (name, value) pairs or a mapping, not one string")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    checked: list[tuple[str, bytes | None]] = []
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"a header is a (name, value) pair, not {pair!r:.80}")
        name, value = pair
        if not isinstance(name, str):
            raise TypeError(f"the name of a header is a str, not {type(name).__name__}")
        checked.append((name, _as_bytes(value, f"header {name!r}")))
    return checked


def _check_timestamp(timestamp: object) -> None:
    if isinstance(timestamp, bool) or not isinstance(timestamp, int):
        raise TypeError(f"timestamp is whole milliseconds since 1970, not {type(timestamp).__name__}")
    if not 0 <= timestamp <= INT64_MAX:
        raise ValueError(f"timestamp is 0 to {INT64_MAX} milliseconds since 1970, not {timestamp}")


def _size(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> int:
    """At most this many bytes in a batch."""
    size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
    for name, data in headers:
        size += 4 * len(name) + len(data or b"") + 10
    return size

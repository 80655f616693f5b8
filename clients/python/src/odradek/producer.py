"""Producer: records go in one by one or many at a time and leave in large batches.

The path of one record is short on purpose: no lock, the compiled encoder, one small handle. A thread is
woken only by the record that opens a batch, the clock is read by that one too.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from odradek.accumulator import Accumulator, BufferExhausted, WouldBlock
from odradek.arguments import Data, Headers, as_bytes, as_headers, check_timestamp, record_bytes_max
from odradek.batches import NO_HEADERS, Clock, Item, Run
from odradek.delivery import Deliveries, Delivery, RecordMetadata, Scatter, Singles, Span, extend, wait_all
from odradek.options import (
    BATCH_BYTES_DEFAULT,
    IN_FLIGHT_IDEMPOTENT_MAX,
    Acks,
    Bootstrap,
    Compression,
    ProducerOptions,
    SessionOptions,
)
from odradek.protocol.errors import OdradekError, UnknownTopicOrPartition
from odradek.protocol.partitioning import positive_hash
from odradek.queues import PartitionQueue
from odradek.security import Curve
from odradek.sender import Sender
from odradek.session import Session

__all__ = ["BufferExhausted", "Data", "Deliveries", "Delivery", "Headers", "Producer", "RecordMetadata"]

logger = logging.getLogger("odradek")

RECORDS_PER_HOLD: Final = 2_048
"""How many records ``send_many`` encodes before it lets others have the lock."""
BULK_RECORDS_MIN: Final = 32
"""A call with so many values for one partition begins a batch that is made for many at once."""
RECORDS_PER_PART_MIN: Final = 5
"""Where keys leave fewer for each partition, to put them there one by one costs less than to sort them."""
Part = Span | Scatter | Singles
_BYTES_OR_NONE = {bytes, type(None)}
_NO_KEY: Final = object()
_TAKEN_BEFORE: Final = "the records before are on their way"


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
            metadata_age_max_ms, direct, security: see odradek.options.SessionOptions.

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
        security: Curve | None = None,
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
            security=security,
        )
        self._clock = Clock()
        self._session = Session(bootstrap, session_options, "producer")
        self._accumulator = Accumulator(
            self._session, self.options, self._clock, press=self._press, dispatch=self._dispatch
        )
        # For the path of every record: an attribute of ``self`` costs half as much as one of its parts.
        self._sticky = self._accumulator.sticky
        self._queues = self._accumulator.queues
        self._sender = Sender(
            self._session,
            self.options,
            self._clock,
            seal=self._accumulator.seal_next,
            seal_all=self._accumulator.seal_all,
            release=self._accumulator.release,
            failed=self._accumulator.note_failure,
        )
        self._session.network.on_stop = self._sender.fail_all
        _producers.add(self)

    # -- sending -------------------------------------------------------------------------------

    def send(
        self,
        topic: str,
        value: Data | None,
        # These go by name. There is no bare ``*`` before them because it costs each call a tenth: CPython
        # gives the fast way of calling only to functions without keyword-only arguments.
        key: Data | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp: int | None = None,
    ) -> Delivery:
        """Take one record; it leaves soon. Waits only where the buffer is full or the topic is new.

        Args:
            topic: its name.
            value: bytes or another buffer, which is copied, or str for its UTF-8; None is a tombstone.
            key: as the value; records of one key go to one partition, in order.
            partition: None for the key's, or without a key the producer's choice.
            headers: (name, value) pairs or a mapping.
            timestamp: milliseconds since 1970; None for now.

        Returns a handle: ``.result(timeout)`` or ``await`` gives the record's RecordMetadata.
        Raises TypeError for what is neither a buffer nor a str, BufferExhausted, MessageTooLarge,
        UnknownTopicOrPartition, InvalidTopic.
        """
        if partition is None and headers is None and timestamp is None:
            try:
                delivery = self._sticky[topic](value) if key is None else self._send_keyed(topic, value, key)
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
        except WouldBlock:
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
            values: of each record, as in ``send``.
            keys: as many as there are values, or None for no keys.
            partition: None for the keys', or without keys the producer's choice.
            headers: the same for every record.
            timestamp: the same for every record, in milliseconds; None for now.

        Returns a lazy sequence of handles; ``.results(timeout)`` waits for all of them.
        Raises as ``send``; of the values before the one that raised, some are on their way.
        """
        if isinstance(values, bytes | str | Mapping):
            raise TypeError(f"values is an iterable of values, not one {type(values).__name__}; use send()")
        if timestamp is not None:
            check_timestamp(timestamp)
        header_list = as_headers(headers)
        queues = self._queues.get(topic) or self._accumulator.topic(topic, wait=True)
        if partition is not None:
            self._explicit(queues, topic, partition)
        spans: list[Part] = []
        taken = 0
        values = iter(values)
        keys = None if keys is None else iter(keys)
        while chunk := list(itertools.islice(values, RECORDS_PER_HOLD)):
            chunk_keys = None if keys is None else list(itertools.islice(keys, len(chunk)))
            run = _checked_run(chunk, chunk_keys, taken, header_list, timestamp)
            if keys is None or partition is not None:
                self._take_run(topic, run, partition, spans)
            else:
                self._scatter_run(topic, run, spans)
            taken += len(run.values)
            if len(run.values) < len(chunk):
                raise ValueError(f"there are fewer keys than values: {taken}; {_TAKEN_BEFORE}")
        if keys is not None and next(keys, _NO_KEY) is not _NO_KEY:
            raise ValueError(f"there are fewer values than keys: {taken}; {_TAKEN_BEFORE}")
        return Deliveries(spans)

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
        return len(self._accumulator.topic(topic, wait=True))

    def close(self, timeout: float | None = None) -> None:
        """Flush, then end the thread and its sockets. Closing again does nothing.

        Args:
            timeout: seconds for the flush; what is not acknowledged by then fails. None waits.

        Raises as ``flush``.
        """
        if self._accumulator.closed or not self._session.network.usable_here:
            self._accumulator.closed = True
            return
        try:
            self._flush(timeout)
        finally:
            self._accumulator.closed = True
            self._session.close(5.0)
            self._accumulator.end()
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

    def _send_keyed(self, topic: str, value: Data | None, key: Data) -> Delivery | None:
        """Into the open batch of the key's partition; None where the long way must look at it."""
        if type(key) is str:
            key = key.encode()
        if type(value) is str:
            value = value.encode()
        if type(key) is not bytes or type(value) is not bytes:
            return None
        queues = self._queues[topic]
        queue = queues[positive_hash(key) % len(queues)]
        return queue.write((value, key, NO_HEADERS, None))  # type: ignore[no-any-return]

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
        data = as_bytes(value, "value")
        key_data = as_bytes(key, "key")
        header_list = as_headers(headers)
        if timestamp is not None:
            check_timestamp(timestamp)
        queues = self._queues.get(topic) or self._accumulator.topic(topic, wait=wait)
        item = (data, key_data, header_list, timestamp)
        if partition is not None:
            queue = self._explicit(queues, topic, partition)
        elif key_data is not None:
            queue = queues[positive_hash(key_data) % len(queues)]
        else:
            return self._send_sticky(topic, item, wait=wait)
        return self._put_open(queue, item, wait=wait)

    def _put_open(self, queue: PartitionQueue, item: Item, *, wait: bool) -> Delivery:
        """Into the open batch of a queue, or the next one."""
        try:
            delivery: Delivery | None = queue.write(item)
        except (StopIteration, ValueError):
            delivery = None
        while delivery is None:
            with self._accumulator.lock:
                delivery = self._put(queue, item, wait=wait)
        return delivery

    def _send_sticky(self, topic: str, item: Item, *, wait: bool) -> Delivery:
        try:
            delivery: Delivery | None = self._sticky[topic](item)
            if delivery is not None:
                return delivery
        except (KeyError, StopIteration, ValueError):
            pass  # as in ``send``
        while True:
            with self._accumulator.lock:
                queue = self._accumulator.sticky_queue(topic)
                delivery = self._put(queue, item, wait=wait)
                if delivery is not None:
                    if queue.open is not None:
                        self._sticky[topic] = queue.open.write
                    return delivery
                self._accumulator.move_sticky(topic)

    def _put(self, queue: PartitionQueue, item: Item, *, wait: bool) -> Delivery | None:
        """Into the open batch; None where it was full, and is sealed now. The lock is held."""
        value, key, headers, _ = item
        batch = queue.open or self._accumulator.open(queue, record_bytes_max(key, value, headers), wait=wait)
        delivery = batch.put(item)
        if isinstance(delivery, Delivery):
            self._accumulator.notify(queue, opened=delivery._placed.offset == 0)
            return delivery
        self._accumulator.seal(queue)
        return None

    def _explicit(self, queues: list[PartitionQueue], topic: str, partition: int) -> PartitionQueue:
        if isinstance(partition, bool) or not isinstance(partition, int):
            raise TypeError(f"partition is an int or None, not {type(partition).__name__}")
        if not 0 <= partition < len(queues):
            self._session.network.call(self._session.refresh, topic)
            raise UnknownTopicOrPartition(
                f"topic {topic!r} has partitions 0 to {len(queues) - 1}, not {partition}"
            )
        return queues[partition]

    # -- many records --------------------------------------------------------------------------

    def _take_run(self, topic: str, run: Run, partition: int | None, spans: list[Part]) -> None:
        """Encode a run into one partition after the other, or into the one that is given."""
        queues = self._queues[topic]
        while run.position < len(run.values):
            if type(run.values[run.position]) not in _BYTES_OR_NONE:
                done, rest = run.values[: run.position], run.values[run.position :]
                run.values = [*done, *_all_bytes(rest, "values", run.taken + run.position)]
            with self._accumulator.lock:
                queue = self._accumulator.sticky_queue(topic) if partition is None else queues[partition]
                self._fill(queue, run, spans)
                if run.position < len(run.values):
                    self._accumulator.seal(queue)
                    if partition is None:
                        self._accumulator.move_sticky(topic)

    def _fill(self, queue: PartitionQueue, run: Run, spans: list[Any]) -> None:
        """Encode what fits into the open batch. The lock is held."""
        position = run.position
        key = None if run.keys is None else run.keys[position]
        size_bytes = record_bytes_max(key, run.values[position], run.headers)
        bulk = run.plain and len(run.values) - position >= BULK_RECORDS_MIN
        batch = queue.open or self._accumulator.open(queue, size_bytes, wait=True, bulk=bulk)
        span = batch.put(run)
        if isinstance(span, Span):
            run.position += span.count
            self._accumulator.notify(queue, opened=span.first_index == 0)
            extend(spans, span)

    def _scatter_run(self, topic: str, run: Run, spans: list[Part]) -> None:
        """Encode a run into the partitions of its keys."""
        assert run.keys is not None
        partition_count = len(self._queues[topic])
        if partition_count == 1:
            self._take_run(topic, run, 0, spans)
            return
        places = self._places(topic, run.keys, partition_count)
        if len(places) < RECORDS_PER_PART_MIN * len(set(places)):
            spans.append(Singles(self._put_each(topic, run, places)))
            return
        found: dict[int, list[Span]] = {}
        for place, part in _parts(places, run).items():
            found[place] = []
            self._take_run(topic, part, place, found[place])  # type: ignore[arg-type]
        spans.append(Scatter(places, found))

    def _put_each(self, topic: str, run: Run, places: list[int]) -> list[Delivery]:
        """Encode the records of a run one by one."""
        assert run.keys is not None
        queues, headers, timestamp = self._queues[topic], run.headers, run.timestamp
        deliveries: list[Delivery] = []
        for place, value, key in zip(places, run.values, run.keys, strict=True):
            deliveries.append(self._put_open(queues[place], (value, key, headers, timestamp), wait=True))
        return deliveries

    def _places(self, topic: str, keys: Sequence[bytes | None], partition_count: int) -> list[int]:
        """The partition of each key; one for all that are None."""
        if None not in keys:
            return [found % partition_count for found in map(positive_hash, keys)]  # type: ignore[arg-type]
        with self._accumulator.lock:
            sticky = self._accumulator.sticky_queue(topic).partition
        return [sticky if key is None else positive_hash(key) % partition_count for key in keys]

    # -- flushing ------------------------------------------------------------------------------

    def _flush(self, timeout_s: float | None) -> None:
        batches = self._accumulator.batches()
        if not batches:
            return
        self._session.network.call(self._begin_flush)
        try:
            wait_all(batches, timeout_s)
        finally:
            self._session.network.call(self._end_flush)

    def _begin_flush(self) -> None:
        self._sender.flushing += 1
        self._sender.dispatch_all(self._accumulator.all_queues())

    def _end_flush(self) -> None:
        self._sender.flushing -= 1

    def _raise_unobserved(self) -> None:
        count, first = self._accumulator.take_failure()
        if first is not None and not first.observed and first.error is not None:
            first.observed = True
            records = "record was" if count == 1 else "records were"
            raise type(first.error)(f"{count} {records} not acknowledged; the first: {first.error.message}")

    def _press(self) -> None:
        self._begin_flush()
        self._end_flush()

    def _dispatch(self, queue: PartitionQueue) -> None:
        self._sender.dispatch(queue)


_producers: weakref.WeakSet[Producer] = weakref.WeakSet()


def _after_fork() -> None:
    for producer in list(_producers):
        producer._accumulator.forget_parent()


@atexit.register
def _warn_at_exit() -> None:
    """A program that ends without close() is told what it may have lost."""
    for producer in list(_producers):
        unacknowledged = producer._accumulator.unacknowledged()
        if unacknowledged and not producer._accumulator.closed and producer._session.network.usable_here:
            story = (
                f"the program ends with {unacknowledged} records that are not acknowledged; "
                "use the Producer as a context manager, or call close()"
            )
            logger.warning(story)
            warnings.warn(story, ResourceWarning, stacklevel=1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _checked_run(
    values: Sequence[Any],
    keys: Sequence[Any] | None,
    taken: int,
    headers: list[tuple[str, bytes | None]],
    timestamp: int | None,
) -> Run:
    """Values and keys as bytes, as many as there are of both; values alone as they are.

    To look at each of those would cost a tenth of sending it: the codec refuses what is no buffer.
    """
    if keys is not None:
        values = _all_bytes(values[: len(keys)], "values", taken)
        keys = _all_bytes(keys, "keys", taken)
    return Run(values, keys, 0, headers, timestamp, taken)


def _all_bytes(data: Sequence[Any], what: str, taken: int) -> Sequence[Any]:
    if set(map(type, data)) <= _BYTES_OR_NONE:
        return data
    return [as_bytes(each, f"{what}[{taken + at}]") for at, each in enumerate(data)]


def _parts(places: list[int], run: Run) -> dict[int, Run]:
    """A run, divided by the partition of each record, in order."""
    assert run.keys is not None
    parts = {place: Run([], [], 0, run.headers, run.timestamp) for place in set(places)}
    add_value = {place: part.values.append for place, part in parts.items()}  # type: ignore[attr-defined]
    add_key = {place: part.keys.append for place, part in parts.items()}  # type: ignore[union-attr]
    for place, value, key in zip(places, run.values, run.keys, strict=True):
        add_value[place](value)
        add_key[place](key)
    return parts

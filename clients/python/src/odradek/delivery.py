"""Delivery: what became of a record that was sent.

A record's handle is two numbers beside its batch, not a future of its own: whoever waits, waits for the
batch. So a million records in flight are a million small structs that the garbage collector never visits.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, count, islice, repeat
from typing import Any, TypeAlias, overload

import msgspec

from odradek.protocol.batch import HEADER_BYTES
from odradek.protocol.errors import OdradekError, RequestTimedOut
from odradek.protocol.records import new_builder

logger = logging.getLogger("odradek")

UNKNOWN_OFFSET = -1
"""The offset of a record that was sent with acks=0: nobody said where it went."""


class RecordMetadata(msgspec.Struct, frozen=True, gc=False):
    """Where a record is: its topic, partition and offset, and its timestamp in milliseconds.

    ``offset`` is -1 with ``acks=0``.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int


class Clock:
    """Milliseconds since 1970, read once for many records."""

    __slots__ = ("now_ms",)

    def __init__(self) -> None:
        self.now_ms = 0
        self.read()

    def read(self) -> None:
        """Look at the real clock."""
        self.now_ms = time.time_ns() // 1_000_000


class Run(msgspec.Struct, gc=False, eq=False):
    """Many values for a batch's writer, from ``position`` on; as many as fit are taken."""

    values: Sequence[Any]
    keys: Sequence[Any] | None
    position: int
    headers: list[tuple[str, bytes | None]]
    timestamp: int | None


Item: TypeAlias = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int | None]
"""(value, key, headers, timestamp) of one record for a batch's writer; None for the clock's time."""
NO_HEADERS: list[tuple[str, bytes | None]] = []
Writer: TypeAlias = Generator["Delivery | Span | None", "bytes | Item | Run", None]


class Batch:
    """Records on their way to one partition together.

    While it is open, ``write`` takes bytes, an Item or a Run and gives a Delivery, a Span, or None when
    the batch is full. It is the ``send`` of a generator, and the generator is also the batch's lock: while
    one thread is in it, another gets ValueError; once it is closed, StopIteration. That costs a quarter of
    what a Lock costs, and this is the path of every record.
    """

    __slots__ = (
        "_callbacks",
        "_event",
        "_waiters",
        "_writer",
        "attempt",
        "base_offset",
        "base_sequence",
        "builder",
        "children",
        "count",
        "deadline",
        "done",
        "error",
        "flying",
        "identity",
        "lock",
        "maybe_done",
        "observed",
        "opened_at",
        "parent",
        "partition",
        "payload",
        "reserved_bytes",
        "sent_at",
        "ticket",
        "topic",
        "write",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        lock: threading.Lock,
        *,
        bytes_max: int,
        compression: str,
        opened_at: float,
        deadline: float,
        clock: Clock,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.builder = new_builder(bytes_max, compression=compression)
        self.count = 0
        self.opened_at = opened_at
        self.deadline = deadline
        self.reserved_bytes = 0
        self.payload: bytearray | None = None
        self.identity: tuple[int, int] | None = None
        self.base_sequence = -1
        self.attempt = 0
        self.flying = False
        self.sent_at = 0.0
        self.ticket: tuple[str, int] | None = None
        self.maybe_done = False
        self.done = False
        self.observed = False
        self.base_offset = UNKNOWN_OFFSET
        self.error: OdradekError | None = None
        self.parent: Batch | None = None
        self.children: list[tuple[int, Batch]] = []
        self.lock = lock
        self._event: threading.Event | None = None
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._callbacks: list[Callable[[], object]] = []
        self._writer: Writer | None = self._take_records(clock)
        next(self._writer)
        self.write: Callable[[Any], Any] = self._writer.send

    def _take_records(self, clock: Clock) -> Writer:
        assert self.builder is not None
        append = self.builder.append
        index = 0
        result: Delivery | Span | None = None
        try:
            while True:
                item = yield result
                if type(item) is bytes:
                    stamp = clock.now_ms
                    if append(index, stamp, None, item, NO_HEADERS) is None:
                        result = None
                    else:
                        result = Delivery(self, index, stamp)
                        index += 1
                elif type(item) is tuple:
                    value, key, headers, timestamp = item
                    stamp = clock.now_ms if timestamp is None else timestamp
                    if append(index, stamp, key, value, headers) is None:
                        result = None
                    else:
                        result = Delivery(self, index, stamp)
                        index += 1
                elif type(item) is Run:
                    result = self._take_run(append, index, item, clock.now_ms)
                    index += 0 if result is None else result.count
                else:
                    result = None  # not for here: the long way says what is wrong with it
        finally:
            self.count = index

    def _take_run(self, append: Any, index: int, run: Run, clock_ms: int) -> Span | None:
        stamp = clock_ms if run.timestamp is None else run.timestamp
        last = None
        # map() calls the encoder from C; the loop only has to notice that the batch is full.
        for metadata in map(
            append,
            count(index),
            repeat(stamp),
            repeat(None) if run.keys is None else islice(run.keys, run.position, None),
            islice(run.values, run.position, None),
            repeat(run.headers),
        ):
            if metadata is None:
                break
            last = metadata
        return None if last is None else Span(self, index, last.offset + 1 - index, stamp)

    @property
    def empty(self) -> bool:
        """Whether an open batch has no record."""
        return self.builder is not None and self.builder.size() <= HEADER_BYTES

    def put(self, item: bytes | Item | Run) -> Delivery | Span | None:
        """``write``, after whoever is at it; None where the batch is full or closed."""
        while True:
            try:
                return self.write(item)  # type: ignore[no-any-return]
            except StopIteration:
                return None
            except ValueError:
                if self._writer is None or inspect.getgeneratorstate(self._writer) == inspect.GEN_CLOSED:
                    raise
                time.sleep(0)  # the other thread needs the interpreter to get out of there

    def seal(self) -> None:
        """Take no more records. From here on ``count`` holds."""
        while self._writer is not None:
            try:
                self._writer.close()
                self._writer = None
            except ValueError:
                time.sleep(0)

    def finish(self, base_offset: int, error: OdradekError | None) -> None:
        """The outcome of every record of the batch. Only the first call counts."""
        with self.lock:
            if self.done:
                return
            self.base_offset = base_offset
            self.error = error
            self.done = True
            event, waiters, callbacks = self._event, self._waiters, self._callbacks
            self._event, self._waiters, self._callbacks = None, [], []
            self.payload = None
        if event is not None:
            event.set()
        _wake_loops(waiters)
        for callback in callbacks:
            try:
                callback()
            except Exception:
                logger.exception("a callback of a delivery failed")

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until the outcome is known; False if it is not by then."""
        if self.done:
            return True
        with self.lock:
            if self.done:
                return True
            if self._event is None:
                self._event = threading.Event()
            event = self._event
        return event.wait(timeout_s)

    def future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future of ``loop`` that is done when the batch is. Batches wake a loop once, not per record."""
        future: asyncio.Future[None] = loop.create_future()
        with self.lock:
            if not self.done:
                self._waiters.append((loop, future))
                return future
        future.set_result(None)
        return future

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call back from the I/O thread when the outcome is known; at once if it is."""
        with self.lock:
            if not self.done:
                self._callbacks.append(callback)
                return
        callback()

    def outcome_of(self, index: int) -> tuple[int, OdradekError | None]:
        """(offset, None) or (-1, error) of one record of a batch that is done."""
        self.observed = True
        if self.children:
            first, child = [entry for entry in self.children if entry[0] <= index][-1]
            return child.outcome_of(index - first)
        if self.error is not None:
            return UNKNOWN_OFFSET, self.error
        return (self.base_offset + index if self.base_offset >= 0 else UNKNOWN_OFFSET), None


def _wake_loops(waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for loop, future in waiters:
        by_loop.setdefault(loop, []).append(future)
    for loop, futures in by_loop.items():
        # A closed loop has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Delivery(msgspec.Struct, gc=False, eq=False):
    """The handle of one record that was sent: ``result()`` waits, ``await delivery`` does too."""

    _batch: Batch
    _index: int
    timestamp: int
    """The record's, in milliseconds since 1970."""

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Where the record is, once the broker has acknowledged it.

        Args:
            timeout: seconds; None waits until the delivery timeout has decided.

        Raises the error that the record met, or RequestTimedOut if neither is known within ``timeout``;
        the record is still being tried then.
        """
        if not self._batch.wait(timeout):
            raise RequestTimedOut(
                f"not acknowledged within {timeout:g} s; it is still being tried, ask again later"
            )
        return self._metadata()

    def exception(self, timeout: float | None = None) -> OdradekError | None:
        """The error that the record met, or None where it is safe; waits as ``result`` does."""
        if not self._batch.wait(timeout):
            raise RequestTimedOut(f"not decided within {timeout:g} s; it is still being tried")
        return self._batch.outcome_of(self._index)[1]

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._batch.done

    def add_done_callback(self, callback: Callable[[Delivery], object]) -> None:
        """Call ``callback(delivery)`` when the outcome is known, from the I/O thread: it must not wait."""
        self._batch.when_done(lambda: callback(self))

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        if not self._batch.done:
            yield from self._batch.future(asyncio.get_running_loop()).__await__()
        return self._metadata()

    def _metadata(self) -> RecordMetadata:
        offset, error = self._batch.outcome_of(self._index)
        if error is not None:
            raise error
        return RecordMetadata(self._batch.topic, self._batch.partition, offset, self.timestamp)


class Span(msgspec.Struct, gc=False, eq=False):
    """Neighbours among many records that went into one batch."""

    batch: Batch
    first_index: int
    count: int
    timestamp: int

    def continues(self, other: Span) -> bool:
        """Whether ``other`` comes right after this one."""
        return (
            self.batch is other.batch
            and self.timestamp == other.timestamp
            and self.first_index + self.count == other.first_index
        )

    def batches(self) -> list[Batch]:
        """Where its records are."""
        return [self.batch]

    def delivery(self, position: int) -> Delivery:
        """The handle of one of them."""
        return Delivery(self.batch, self.first_index + position, self.timestamp)

    def deliveries(self) -> Iterator[Delivery]:
        """The handles of all, in order."""
        for index in range(self.first_index, self.first_index + self.count):
            yield Delivery(self.batch, index, self.timestamp)


def extend(spans: list[Any], span: Span) -> None:
    """Append a span, to the last one where it continues that."""
    last = spans[-1] if spans else None
    if isinstance(last, Span) and last.continues(span):
        last.count += span.count
    else:
        spans.append(span)


class Scatter:
    """Neighbours among many records that their keys sent to several partitions."""

    __slots__ = ("_places", "_spans", "count")

    def __init__(self, places: list[int], spans: dict[int, list[Span]]) -> None:
        """``places`` has the partition of each record, ``spans`` each partition's records in order."""
        self._places = places
        self._spans = spans
        self.count = len(places)

    def batches(self) -> list[Batch]:
        """Where its records are."""
        return [span.batch for spans in self._spans.values() for span in spans]

    def delivery(self, position: int) -> Delivery:
        """The handle of one of them."""
        place = self._places[position]
        rank = self._places[:position].count(place)
        return next(islice(self._handles(place), rank, None))

    def deliveries(self) -> Iterator[Delivery]:
        """The handles of all, in order."""
        handles = {place: self._handles(place) for place in self._spans}
        for place in self._places:
            yield next(handles[place])

    def _handles(self, place: int) -> Iterator[Delivery]:
        return chain.from_iterable(span.deliveries() for span in self._spans[place])


class Deliveries(Sequence[Delivery]):
    """The handles of many records in the order they were given, made only when they are asked for."""

    __slots__ = ("_count", "_spans", "_starts")

    def __init__(self, spans: Sequence[Span | Scatter]) -> None:
        self._spans = spans
        self._starts: list[int] = []
        self._count = 0
        for span in spans:
            self._starts.append(self._count)
            self._count += span.count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Delivery: ...
    @overload
    def __getitem__(self, index: slice) -> list[Delivery]: ...
    def __getitem__(self, index: int | slice) -> Delivery | list[Delivery]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self._count))]
        position = index + self._count if index < 0 else index
        if not 0 <= position < self._count:
            raise IndexError(f"there are {self._count} deliveries, {index} is none of them")
        found = bisect_right(self._starts, position) - 1
        return self._spans[found].delivery(position - self._starts[found])

    def __iter__(self) -> Iterator[Delivery]:
        return chain.from_iterable(span.deliveries() for span in self._spans)

    def done(self) -> bool:
        """Whether every outcome is known."""
        return all(batch.done for batch in self._batches())

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every record is acknowledged; raises the first error, or RequestTimedOut."""
        wait_all(self._batches(), timeout)
        self._raise_first_error()

    def results(self, timeout: float | None = None) -> list[RecordMetadata]:
        """Where each record is, in order. Raises as ``wait``; ask each handle to tell them apart."""
        self.wait(timeout)
        return [delivery._metadata() for delivery in self]

    def __await__(self) -> Generator[Any, None, list[RecordMetadata]]:
        loop = asyncio.get_running_loop()
        for batch in self._batches():
            if not batch.done:
                yield from batch.future(loop).__await__()
        self._raise_first_error()
        return [delivery._metadata() for delivery in self]

    def _raise_first_error(self) -> None:
        for batch in self._batches():
            batch.observed = True
            if batch.error is not None:
                raise batch.error

    def _batches(self) -> list[Batch]:
        return [batch for span in self._spans for batch in span.batches()]


def wait_all(batches: Sequence[Batch], timeout_s: float | None) -> None:
    """Wait for every batch within one time limit; raises RequestTimedOut."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    for batch in batches:
        left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        if not batch.wait(left_s):
            raise RequestTimedOut(f"not all acknowledged within {timeout_s:g} s; they are still being tried")

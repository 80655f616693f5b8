"""Batch: records on their way to one partition together, from the first that is written to the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import msgspec

from odradek.delivery import UNKNOWN_OFFSET, Delivery, Span
from odradek.protocol.batch import HEADER_BYTES
from odradek.protocol.bulk import BulkBuilder
from odradek.protocol.errors import OdradekError
from odradek.protocol.records import new_builder

logger = logging.getLogger("odradek")


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
    """Many values for a batch's writer, from ``position`` on; as many as fit are taken.

    ``taken`` came before them in the same call: of one that cannot be sent the user learns which it was.
    """

    values: Sequence[Any]
    keys: Sequence[Any] | None
    position: int
    headers: list[tuple[str, bytes | None]]
    timestamp: int | None
    taken: int = 0

    @property
    def plain(self) -> bool:
        """Whether there are values alone."""
        return self.keys is None and not self.headers


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
        "append_time",
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
        bulk: bool = False,
    ) -> None:
        """``bulk``: many records are about to come at once."""
        self.topic = topic
        self.partition = partition
        build = BulkBuilder if bulk else new_builder
        self.builder = build(bytes_max, compression=compression)
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
        self.append_time: int | None = None
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
        builder: Any = self.builder
        append = builder.append
        handle, no_headers = Delivery, NO_HEADERS  # a local costs less than a global
        index = 0
        try:
            item = yield None
            while True:
                try:
                    # Values alone go the shortest way, unchecked: what is no buffer, the codec refuses.
                    while placed := append(index, clock.now_ms, None, item, no_headers):
                        index += 1
                        item = yield handle(self, placed)
                    return  # full: StopIteration sends the record the long way, which opens another batch
                except (TypeError, BufferError):
                    pass
                while type(item) is not bytes:
                    result: Delivery | Span | None = None  # for what is not for here, too
                    if type(item) is tuple:
                        value, key, headers, timestamp = item
                        stamp = clock.now_ms if timestamp is None else timestamp
                        if (placed := append(index, stamp, key, value, headers)) is None:
                            return
                        result = handle(self, placed)
                        index += 1
                    elif type(item) is Run:
                        result = self._take_run(builder, index, item, clock.now_ms)
                        index += 0 if result is None else result.count
                    item = yield result
        finally:
            self.count = index

    def _take_run(self, builder: Any, index: int, run: Run, clock_ms: int) -> Span | None:
        """As many as fit, or up to a value that is no buffer: the long way looks at that one."""
        stamp = clock_ms if run.timestamp is None else run.timestamp
        if run.plain and type(builder) is BulkBuilder:
            count = builder.extend(index, stamp, run.values, run.position)
            return Span(self, index, count, stamp) if count else None
        append, first, headers = builder.append, index, run.headers
        values = islice(run.values, run.position, None)
        with contextlib.suppress(TypeError, BufferError):
            if run.keys is None:
                for value in values:
                    if append(index, stamp, None, value, headers) is None:
                        break
                    index += 1
            else:
                for key, value in zip(islice(run.keys, run.position, None), values, strict=True):
                    if append(index, stamp, key, value, headers) is None:
                        break
                    index += 1
        return Span(self, first, index - first, stamp) if index > first else None

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

    def finish(self, base_offset: int, error: OdradekError | None, append_time: int | None = None) -> None:
        """The outcome of every record of the batch. Only the first call counts.

        ``append_time``: the broker's timestamp in place of the records' own, in ms; None: they keep theirs.
        """
        with self.lock:
            if self.done:
                return
            self.base_offset = base_offset
            self.append_time = append_time
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

    def append_time_of(self, index: int) -> int | None:
        """The timestamp that the broker gave one record; None where the record has its own."""
        if self.children:
            first, child = [entry for entry in self.children if entry[0] <= index][-1]
            return child.append_time_of(index - first)
        return self.append_time


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

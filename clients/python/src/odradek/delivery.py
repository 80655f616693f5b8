"""Delivery: what became of a record that was sent.

A record's handle is its batch and the codec's word for its place in there, not a future of its own: whoever
waits, waits for the batch. So a million records in flight are a million small structs that the garbage
collector never visits.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Protocol, overload

import msgspec

from odradek.protocol.errors import OdradekError, RequestTimedOut

if TYPE_CHECKING:
    from odradek.batches import Batch

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


class Placed(Protocol):
    """Where a record stands in its batch; the codec makes such an object for each that it encodes."""

    @property
    def offset(self) -> int:
        """Counted from the batch's first record."""

    @property
    def timestamp(self) -> int:
        """In milliseconds since 1970."""


class Place(msgspec.Struct, gc=False, eq=False):
    """A Placed of our own, where the codec's is gone."""

    offset: int
    timestamp: int


class Delivery(msgspec.Struct, gc=False, eq=False):
    """The handle of one record that was sent: ``result()`` waits, ``await delivery`` does too."""

    _batch: Batch
    _placed: Placed

    @property
    def timestamp(self) -> int:
        """The record's, in milliseconds since 1970; the broker's, once it said that the topic takes that."""
        appended = self._batch.append_time_of(self._placed.offset)
        return self._placed.timestamp if appended is None else appended

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
        return self._batch.outcome_of(self._placed.offset)[1]

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
        offset, error = self._batch.outcome_of(self._placed.offset)
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
        return Delivery(self.batch, Place(self.first_index + position, self.timestamp))

    def deliveries(self) -> Iterator[Delivery]:
        """The handles of all, in order."""
        for index in range(self.first_index, self.first_index + self.count):
            yield Delivery(self.batch, Place(index, self.timestamp))


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


class Singles:
    """Neighbours among many records that were put into their batches one by one."""

    __slots__ = ("_deliveries", "count")

    def __init__(self, deliveries: list[Delivery]) -> None:
        self._deliveries = deliveries
        self.count = len(deliveries)

    def batches(self) -> list[Batch]:
        """Where its records are, each once."""
        return list({delivery._batch: None for delivery in self._deliveries})

    def delivery(self, position: int) -> Delivery:
        """The handle of one of them."""
        return self._deliveries[position]

    def deliveries(self) -> Iterator[Delivery]:
        """The handles of all, in order."""
        return iter(self._deliveries)


class Deliveries(Sequence[Delivery]):
    """The handles of many records in the order they were given, made only when they are asked for."""

    __slots__ = ("_count", "_spans", "_starts")

    def __init__(self, spans: Sequence[Span | Scatter | Singles]) -> None:
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

"""Single records to batches: what reaches a router in one turn for one partition becomes one batch.

A receipt is the promise to tell one client about one record, whichever batch it travels in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from actors.acks import Acks
from actors.actor import Answer
from actors.effects import Effect, Reply, Sender
from odradek.protocol.errors import MessageTooLarge, OdradekError, error_from_wire
from odradek.protocol.messages import ProduceReply, failure
from odradek.protocol.records import RecordToWrite, lone_batch_bytes, new_builder


class Receipt(Protocol):
    """Tells a client what became of one record; the effect is None while others are still open."""

    def written(self, partition: int, offset: int, timestamp: int) -> Effect | None:
        """The record has an offset, and is as durable as its producer asked."""

    def failed(self, partition: int, error: OdradekError) -> Effect | None:
        """The record was not appended, or nobody knows."""


@dataclass(frozen=True, slots=True)
class SilentReceipt:
    """acks=0: nobody is told."""

    def written(self, partition: int, offset: int, timestamp: int) -> Effect | None:
        return None

    def failed(self, partition: int, error: OdradekError) -> Effect | None:
        return None


@dataclass(frozen=True, slots=True)
class SingleReceipt:
    """One record in a request of its own."""

    sender: Sender
    topic: str

    def written(self, partition: int, offset: int, timestamp: int) -> Effect | None:
        reply = ProduceReply(topic=self.topic, partition=partition, offset=offset, timestamp=timestamp)
        return Reply(self.sender, reply)

    def failed(self, partition: int, error: OdradekError) -> Effect | None:
        return Reply(self.sender, failure(error))


@dataclass(slots=True)
class ManyProgress:
    """A request of many records: answered once, when the last of them is known."""

    sender: Sender
    topic: str
    open: int
    offsets: list[tuple[int | None, int | None]]
    errors: dict[int, OdradekError] = field(default_factory=dict)

    def close_one(self) -> Effect | None:
        self.open -= 1
        if self.open:
            return None
        errors = {index: error.wire() for index, error in sorted(self.errors.items())}
        return Reply(self.sender, ProduceReply(topic=self.topic, offsets=self.offsets, errors=errors))


@dataclass(frozen=True, slots=True)
class ManyReceipt:
    """One of many records in one request."""

    progress: ManyProgress
    index: int

    def written(self, partition: int, offset: int, timestamp: int) -> Effect | None:
        self.progress.offsets[self.index] = partition, offset
        return self.progress.close_one()

    def failed(self, partition: int, error: OdradekError) -> Effect | None:
        self.progress.offsets[self.index] = partition, None
        self.progress.errors[self.index] = error
        return self.progress.close_one()


class Destination(NamedTuple):
    """Records of one destination may share a batch: they wait for the same, and as long."""

    topic: str
    partition: int
    acks: Acks
    timeout_ms: int | None = None


class Gathered(NamedTuple):
    """A record and who is to be told."""

    record: RecordToWrite
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class BatchWaiter:
    """Tells each record's client what the partition said of their batch."""

    destination: Destination
    gathered: Sequence[Gathered]

    def answered(self, answer: Answer) -> Sequence[Effect]:
        reply = answer.reply
        if reply.error is not None:
            return self.failed(error_from_wire(reply.error))
        if not isinstance(reply, ProduceReply) or not isinstance(reply.offset, int):
            raise TypeError(f"a partition answered a produce with {reply!r}")
        partition, base_offset = self.destination.partition, reply.offset
        stamped = reply.log_append_time if isinstance(reply.log_append_time, int) else None
        effects = (
            receipt.written(partition, base_offset + index, record.timestamp if stamped is None else stamped)
            for index, (record, receipt) in enumerate(self.gathered)
        )
        return [effect for effect in effects if effect is not None]

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        effects = (receipt.failed(self.destination.partition, error) for _, receipt in self.gathered)
        return [effect for effect in effects if effect is not None]


class Place(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Run:
    """Records of one destination that came one after the other."""

    destination: Destination
    batch_bytes_max: int
    records: list[Gathered]


class Gatherer:
    """What this turn has gathered. Records of one place keep the order in which they came."""

    def __init__(self) -> None:
        self._runs: dict[Place, list[Run]] = {}

    def add(
        self, destination: Destination, record: RecordToWrite, receipt: Receipt, batch_bytes_max: int
    ) -> None:
        """Keep a record for the flush. Raises MessageTooLarge for one that no batch of its topic can hold."""
        size_bytes = lone_batch_bytes(record, batch_bytes_max)
        if size_bytes > batch_bytes_max:
            raise MessageTooLarge(
                f"a batch of this record alone has {size_bytes} bytes, "
                f"max.message.bytes of {destination.topic!r} is {batch_bytes_max}"
            )
        runs = self._runs.setdefault(Place(destination.topic, destination.partition), [])
        if not runs or runs[-1].destination != destination:
            runs.append(Run(destination, batch_bytes_max, []))
        runs[-1].records.append(Gathered(record, receipt))

    def flush(self, place: Place | None = None) -> Iterator[tuple[bytes, BatchWaiter]]:
        """Every batch that the gathered records make, of one place or of all, and who waits for it."""
        if place is None:
            taken, self._runs = self._runs, {}
        else:
            taken = {place: self._runs.pop(place, [])}
        for runs in taken.values():
            for run in runs:
                yield from _batches(run)


def _batches(run: Run) -> Iterator[tuple[bytes, BatchWaiter]]:
    start = 0
    builder = new_builder(run.batch_bytes_max)
    for position, (record, _) in enumerate(run.records):
        if builder.append(position - start, *record) is None:
            yield bytes(builder.build()), BatchWaiter(run.destination, run.records[start:position])
            start, builder = position, new_builder(run.batch_bytes_max)
            builder.append(0, *record)
    yield bytes(builder.build()), BatchWaiter(run.destination, run.records[start:])

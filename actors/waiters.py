"""What a router does with the answers that need no more than themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from actors.actor import Answer
from actors.demands import Rights
from actors.effects import Effect, Reply, Sender
from actors.operations import Operation, ResourceType
from odradek.protocol.batch import Buffer
from odradek.protocol.errors import OdradekError, TopicAlreadyExists, error_from_wire
from odradek.protocol.messages import (
    Blob,
    CreateTopicsReply,
    FetchedRecord,
    FetchReply,
    GroupListReply,
    failure,
)
from odradek.protocol.records import DecodedRecord, decode_batches

RECORDS_REPLY_BYTES_MAX = 8 << 20
RECORDS_REPLY_RECORDS_MAX = 10_000
"""A reply of single records ends here, however much the fetch asked for: each is a frame and an object."""
RECORD_OVERHEAD_BYTES = 100


@dataclass(frozen=True, slots=True)
class PassOn:
    """The answer as it is, to the client."""

    sender: Sender

    def answered(self, answer: Answer) -> Sequence[Effect]:
        return (Reply(self.sender, answer.reply, answer.payload),)

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        return (Reply(self.sender, failure(error)),)


@dataclass(frozen=True, slots=True)
class VisibleGroups:
    """The list of groups, without those that the client may not see."""

    sender: Sender
    rights: Rights

    def answered(self, answer: Answer) -> Sequence[Effect]:
        reply = answer.reply
        if isinstance(reply, GroupListReply) and isinstance(reply.groups, list):
            see = Operation.DESCRIBE
            if not self.rights.may(see, ResourceType.CLUSTER):
                reply.groups = [
                    each for each in reply.groups if self.rights.may(see, ResourceType.GROUP, each.group)
                ]
        return (Reply(self.sender, reply),)

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        return (Reply(self.sender, failure(error)),)


@dataclass(frozen=True, slots=True)
class NobodyWaits:
    """acks=0: whatever the answer is, nobody is told."""

    def answered(self, answer: Answer) -> Sequence[Effect]:
        return ()

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        return ()


@dataclass(frozen=True, slots=True)
class FetchedRecords:
    """Batches taken apart for a client that reads single records."""

    sender: Sender
    from_offset: int

    def answered(self, answer: Answer) -> Sequence[Effect]:
        reply = answer.reply
        if not isinstance(reply, FetchReply):
            raise TypeError(f"a partition answered a fetch with {reply!r}")
        return (Reply(self.sender, *as_records(reply, answer.payload, self.from_offset)),)

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        return (Reply(self.sender, failure(error)),)


@dataclass(frozen=True, slots=True)
class TopicCreated:
    """``ended`` hears None when the topic exists, else why it does not."""

    ended: Callable[[OdradekError | None], Sequence[Effect]]

    def answered(self, answer: Answer) -> Sequence[Effect]:
        reply = answer.reply
        error = reply.error
        if error is None and isinstance(reply, CreateTopicsReply) and reply.topics:
            error = reply.topics[0].error
        if error is None or error.code == TopicAlreadyExists.code:
            return self.ended(None)
        return self.ended(error_from_wire(error))

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        return self.ended(error)


def as_records(
    reply: FetchReply, payload: Sequence[Buffer], from_offset: int
) -> tuple[FetchReply, Sequence[Buffer]]:
    """A reply of batches as one of records: one payload frame for each, from an offset on."""
    if reply.error is not None:
        return reply, ()
    try:
        records = _bounded(record for batches in payload for record in decode_batches(batches, from_offset))
    except OdradekError as error:
        reply.error = error.wire()
        return reply, ()
    reply.records = [_described(record) for record in records]
    return reply, [record.value or b"" for record in records]


def _bounded(records: Iterable[DecodedRecord]) -> list[DecodedRecord]:
    """At least one, and no more than a reply should carry; the client goes on behind the last."""
    taken: list[DecodedRecord] = []
    size_bytes = 0
    for record in records:
        size_bytes += len(record.key or b"") + len(record.value or b"") + RECORD_OVERHEAD_BYTES
        if taken and (size_bytes > RECORDS_REPLY_BYTES_MAX or len(taken) >= RECORDS_REPLY_RECORDS_MAX):
            break
        taken.append(record)
    return taken


def _described(record: DecodedRecord) -> FetchedRecord:
    return FetchedRecord(
        offset=record.offset,
        timestamp=record.timestamp,
        key=None if record.key is None else Blob(record.key),
        headers=[(name, None if value is None else Blob(value)) for name, value in record.headers],
        null=record.value is None,
    )

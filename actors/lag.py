"""How far a group is behind: the coordinator's description joined with each partition's end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.actor import Answer
from actors.effects import Effect, Forward, Reply, Sender
from odradek.protocol.errors import OdradekError
from odradek.protocol.messages import GroupDescribeReply, GroupOffset, ListOffsetsReply, failure

AskLatest = Callable[[str, int, "EndWaiter"], Forward]
"""Asks a partition for its end. Raises OdradekError where nobody serves it."""


@dataclass(slots=True)
class Describing:
    """A description that waits for the ends of its partitions."""

    sender: Sender
    reply: GroupDescribeReply
    open: int

    def close_one(self) -> Sequence[Effect]:
        self.open -= 1
        return (Reply(self.sender, self.reply),) if self.open == 0 else ()


@dataclass(frozen=True, slots=True)
class EndWaiter:
    """Fills one partition's end; an unknown end leaves its lag unknown."""

    describing: Describing
    offset: GroupOffset

    def answered(self, answer: Answer) -> Sequence[Effect]:
        reply = answer.reply
        if isinstance(reply, ListOffsetsReply) and isinstance(reply.offset, int):
            self.offset.end_offset = reply.offset
            if self.offset.offset >= 0:
                self.offset.lag = max(0, reply.offset - self.offset.offset)
        return self.describing.close_one()

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        return self.describing.close_one()


@dataclass(frozen=True, slots=True)
class LagWaiter:
    """Takes the coordinator's description and asks every partition in it for its end."""

    sender: Sender
    ask_latest: AskLatest

    def answered(self, answer: Answer) -> Sequence[Effect]:
        reply = answer.reply
        if not isinstance(reply, GroupDescribeReply) or not isinstance(reply.offsets, list):
            return (Reply(self.sender, reply),)
        describing = Describing(self.sender, reply, len(reply.offsets) + 1)
        effects: list[Effect] = []
        for offset in reply.offsets:
            waiter = EndWaiter(describing, offset)
            try:
                effects.append(self.ask_latest(offset.topic, offset.partition, waiter))
            except OdradekError as error:
                effects += waiter.failed(error)
        # The one too many is closed here, after every partition was asked.
        return [*effects, *describing.close_one()]

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        return (Reply(self.sender, failure(error)),)

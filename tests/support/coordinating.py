"""A coordinator with its log and clock, driven one request at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import TypeVar

from actors.actor import Envelope, Synced
from actors.coordinator import CoordinatorActor, CoordinatorOptions
from actors.effects import Effect, Fail, Log, Reply, Sync
from actors.messages import PartitionRoute, Routes, TopicRoute
from odradek.protocol.messages import (
    CommitOffset,
    GroupHeartbeat,
    GroupHeartbeatReply,
    OffsetCommit,
    OffsetCommitReply,
    OffsetFetch,
    OffsetFetchReply,
    Request,
    TopicPartitions,
)
from odradek.protocol.messages import Reply as ReplyMessage
from tests.support.fakes import FakeClock, FakeLog, sender

ReplyT = TypeVar("ReplyT", bound=ReplyMessage)
Held = dict[str, list[int]]


def routes(topics: Mapping[str, int], ids: Mapping[str, str] | None = None) -> Routes:
    """A routing table of topics with so many partitions; a topic's id is its name unless ``ids`` has it."""
    return Routes(
        version=1,
        cluster_id="cluster",
        routers=[],
        coordinator=None,
        topics=[
            TopicRoute(
                name=name,
                topic_id=(ids or {}).get(name, f"id-of-{name}"),
                partitions=[PartitionRoute(partition=number) for number in range(partitions)],
            )
            for name, partitions in topics.items()
        ],
    )


def as_owned(held: Held | None) -> list[TopicPartitions] | None:
    if held is None:
        return None
    return [TopicPartitions(topic=topic, partitions=numbers) for topic, numbers in held.items()]


def as_held(assignment: Sequence[TopicPartitions]) -> Held:
    return {item.topic: item.partitions for item in assignment}


class Coordinating:
    """The coordinator under test. ``ask`` runs one request until its reply, the sync included."""

    def __init__(self, log: FakeLog | None = None, topics: Mapping[str, int] | None = None) -> None:
        self.clock = FakeClock()
        self.log = log if log is not None else FakeLog()
        self.topics = dict(topics if topics is not None else {"events": 4})
        self.topic_ids: Mapping[str, str] = {}
        self.syncs: list[Sync] = []
        self.lines: list[Log] = []
        self.failures: list[Fail] = []
        self.replies: dict[object, ReplyMessage] = {}
        self._ids = count(1)
        self._numbers = count(1)
        self.start(self.log)

    def start(self, log: FakeLog) -> None:
        """A new process over a log: this one is gone."""
        self.log = log
        self.syncs.clear()
        options = CoordinatorOptions(new_id=lambda: f"made-{next(self._ids)}")
        self.actor = CoordinatorActor(log, options)
        self.tell_topics(self.topics)

    def crash(self, *, kept: int = 0) -> None:
        """kill -9, then a new process; ``kept`` written batches happened to reach the disk."""
        self.start(self.log.after_crash(kept=kept))

    def tell_topics(self, topics: Mapping[str, int], ids: Mapping[str, str] | None = None) -> None:
        """``ids`` hold from then on, too."""
        self.topics = dict(topics)
        self.topic_ids = {**self.topic_ids, **(ids or {})}
        self.send(routes(topics, self.topic_ids))
        self.run()

    def send(self, request: Request) -> int:
        """Let the actor receive a request; its number finds the reply in ``replies``."""
        number = next(self._numbers)
        self.perform(self.actor.receive(Envelope(sender(number), request), self.clock.now()))
        return number

    def settle(self) -> None:
        self.perform(self.actor.settle(self.clock.now()))

    def finish_sync(self, error: OSError | None = None) -> None:
        """The oldest sync comes back."""
        ticket = self.syncs.pop(0).ticket
        self.perform(self.actor.receive(Synced(ticket, error), self.clock.now()))

    def run(self) -> None:
        """Settle and sync until nothing is under way."""
        self.settle()
        while self.syncs:
            self.finish_sync(self.log.fail_syncs)
            self.settle()

    def perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                assert effect.to.id not in self.replies, "one request, one reply"
                self.replies[effect.to.id] = effect.reply
            elif isinstance(effect, Sync):
                self.syncs.append(effect)
                assert len(self.syncs) == 1, "one sync at a time"
            elif isinstance(effect, Log):
                self.lines.append(effect)
            elif isinstance(effect, Fail):
                self.failures.append(effect)
            else:
                raise AssertionError(f"unexpected {effect}")

    def ask(self, request: Request, kind: type[ReplyT]) -> ReplyT:
        """The reply to a request that is expected to work."""
        reply = self.ask_any(request)
        assert reply.error is None, reply.error
        assert isinstance(reply, kind)
        return reply

    def ask_any(self, request: Request) -> ReplyMessage:
        number = self.send(request)
        self.run()
        return self.replies[number]

    def error_of(self, request: Request) -> str:
        """The name of the error that a request gets."""
        reply = self.ask_any(request)
        assert reply.error is not None, f"{request} worked: {reply}"
        return reply.error.name

    def pass_time(self, seconds: float) -> None:
        """Let time go by, and call the actor whenever it wants to be called, as the host does."""
        end = self.clock.monotonic_s + seconds
        for _ in range(10_000):
            deadline = self.actor.deadline()
            if deadline is None or deadline > end:
                self.clock.advance(end - self.clock.monotonic_s)
                return
            self.clock.advance(max(deadline - self.clock.monotonic_s, 0.0))
            self.run()
        raise AssertionError("the actor asks to be called without end")

    # -- requests ------------------------------------------------------------------------------------

    def beat(
        self,
        member: str | None,
        epoch: int,
        owned: Held | None = None,
        group: str = "group",
        **fields: object,
    ) -> GroupHeartbeatReply:
        return self.ask(heartbeat(member, epoch, owned, group, **fields), GroupHeartbeatReply)

    def join(
        self, member: str | None, topics: Sequence[str] = ("events",), **fields: object
    ) -> GroupHeartbeatReply:
        return self.beat(member, 0, {}, "group", topics=list(topics), **fields)

    def commit(
        self,
        offsets: Mapping[int, int],
        member: str | None = None,
        epoch: int | None = None,
        group: str = "group",
    ) -> OffsetCommitReply:
        return self.ask(commit(offsets, member, epoch, group), OffsetCommitReply)

    def committed(self, group: str = "group") -> dict[tuple[str, int], int]:
        reply = self.ask(OffsetFetch(group=group), OffsetFetchReply)
        assert isinstance(reply.offsets, list)
        return {(found.topic, found.partition): found.offset for found in reply.offsets}


def heartbeat(
    member: str | None, epoch: int, owned: Held | None = None, group: str = "group", **fields: object
) -> GroupHeartbeat:
    return GroupHeartbeat(
        group=group,
        member_id=member,
        member_epoch=epoch,
        owned=as_owned(owned),
        **fields,  # type: ignore[arg-type]
    )


def commit(
    offsets: Mapping[int, int], member: str | None = None, epoch: int | None = None, group: str = "group"
) -> OffsetCommit:
    """Offsets of the topic ``events``, by partition."""
    return OffsetCommit(
        group=group,
        member_id=member,
        member_epoch=epoch,
        offsets=[
            CommitOffset(topic="events", partition=number, offset=offset)
            for number, offset in offsets.items()
        ],
    )


class FakeMember:
    """A client that keeps to the rules: takes what it is assigned, lets go of the rest, says so."""

    def __init__(
        self,
        coordinating: Coordinating,
        member_id: str,
        topics: Sequence[str] = ("events",),
        **fields: object,
    ) -> None:
        self.coordinating = coordinating
        self.id = member_id
        self.joining = {"topics": list(topics), **fields}
        self.epoch = 0
        self.held: Held = {}
        self.interval_ms = 0

    def request(self) -> GroupHeartbeat:
        fields = self.joining if self.epoch == 0 else {}
        return heartbeat(self.id, self.epoch, self.held, "group", **fields)

    def beat(self) -> ReplyMessage:
        reply = self.coordinating.ask_any(self.request())
        self.hear(reply)
        return reply

    def hear(self, reply: ReplyMessage) -> None:
        if reply.error is not None:
            if reply.error.name in ("FENCED_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID"):
                self.epoch, self.held = 0, {}
            return
        assert isinstance(reply, GroupHeartbeatReply)
        assert isinstance(reply.member_epoch, int)
        assert isinstance(reply.heartbeat_interval_ms, int)
        self.epoch, self.interval_ms = reply.member_epoch, reply.heartbeat_interval_ms
        if isinstance(reply.assignment, list):
            self.held = as_held(reply.assignment)

    def slots(self) -> set[tuple[str, int]]:
        return {(topic, number) for topic, numbers in self.held.items() for number in numbers}

"""Membership: a consumer's place in its group, kept by heartbeats from the I/O thread.

The coordinator says what the member may hold (``target``); the user's thread looks at it (``news``), lets
go and takes up, and reports what it holds (``own``). A partition that is being let go is reported until its
positions are committed, so its next owner begins where this one ended; one that is being taken up is
reported from ``news`` on: should the coordinator want it back meanwhile, nobody else has it before this
member has let go of it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import Final, NamedTuple

from odradek.connection import Outcome, Timer
from odradek.fetcher import TopicPartition
from odradek.options import ConsumerOptions
from odradek.protocol.errors import (
    FencedMemberEpoch,
    OdradekError,
    StaleMemberEpoch,
    UnknownMemberId,
)
from odradek.protocol.messages import GroupHeartbeat, TopicPartitions
from odradek.session import Session

logger = logging.getLogger("odradek")

JOIN_EPOCH: Final = 0
LEAVE_EPOCH: Final = -1
LEAVE_STATIC_EPOCH: Final = -2
"""A member with an instance id keeps its partitions until it is back or its session is over."""
HEARTBEAT_S_DEFAULT: Final = 3.0
HEARTBEAT_S_MIN: Final = 0.01


def grouped(partitions: set[TopicPartition]) -> list[TopicPartitions]:
    """The same partitions by topic, as messages carry them."""
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        topics.setdefault(topic, []).append(partition)
    return [TopicPartitions(topic=topic, partitions=numbers) for topic, numbers in topics.items()]


class Subscription(NamedTuple):
    """What a member wants to read: topics by name, and those that a regular expression matches."""

    topics: list[str]
    pattern: str | None


class News(NamedTuple):
    """What the user's thread has to do about its partitions."""

    error: OdradekError | None
    """What keeps the member from its group; it is tried again."""
    lost: bool
    life: int
    target: set[TopicPartition]


class Attention:
    """What a reading loop looks at between two records.

    ``raised``: something happened that the loop must not overlook; ``group``: the membership has news;
    ``raised_at``: since when the loop could have seen it, by time.monotonic.
    """

    __slots__ = ("group", "raised", "raised_at")

    def __init__(self) -> None:
        self.group = False
        self.raised = False
        self.raised_at = 0.0

    def call(self) -> None:
        """The membership has news: at each heartbeat, and at each change."""
        self.group = True
        if not self.raised:
            self.raised_at = time.monotonic()
        self.raised = True


class Membership:
    """One member of one group.

    ``changed`` guards ``epoch``, ``target``, ``lost``, ``life``, ``error`` and what is being taken up.
    """

    def __init__(
        self,
        session: Session,
        group: str,
        subscription: Subscription,
        options: ConsumerOptions,
        changed: threading.Condition,
        attention: Attention,
    ) -> None:
        self._session = session
        self._options = options
        self._changed = changed
        self.group = group
        self._subscription = subscription
        self.member_id = str(uuid.uuid4())
        self.epoch = JOIN_EPOCH
        self.target: set[TopicPartition] = set()
        self.lost = False
        """The coordinator has given this member's partitions away."""
        self.life = 0
        """Rises when the partitions are lost: a report from before says nothing about the life after it."""
        self.error: OdradekError | None = None
        self.polled_at = time.monotonic()
        self._attention = attention
        self._owned: set[TopicPartition] = set()
        self._coming: set[TopicPartition] = set()
        self._interval_s = HEARTBEAT_S_DEFAULT
        self._backoff = session.backoff()
        self._beating = False
        self._again = False
        self._away = False
        self._ended = False
        self._timer: Timer | None = None

    # -- from the user's thread ----------------------------------------------------------------

    def news(self, held: set[TopicPartition]) -> News:
        """What has come of the group since; from now on what is to be taken up counts as owned."""
        with self._changed:
            error, self.error = self.error, None
            self._coming = set() if self.lost else self.target - held
            return News(error, self.lost, self.life, set(self.target))

    # -- from the user's thread, by network.call -----------------------------------------------

    def beat(self) -> None:
        """Send a heartbeat now, or right after the one that is on its way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._beating:
            self._again = True
        elif not self._ended and not self._away:
            self._send()

    def own(self, partitions: set[TopicPartition], coming: set[TopicPartition], life: int) -> None:
        """The member now holds exactly these and takes up those; the coordinator is told at once."""
        with self._changed:
            if life != self.life:
                return
            self._owned, self._coming = partitions, coming
        self.beat()

    def come_back(self) -> None:
        """The user polls again after too long a silence: join anew."""
        if self._away:
            self._away = False
            self._owned = set()
            self.beat()

    def end(self) -> None:
        """No more heartbeats."""
        self._ended = True

    # -- in the I/O thread ---------------------------------------------------------------------

    def _send(self) -> None:
        self._beating = True
        self._session.submit(self._request(self.epoch), self._answered)

    def _request(self, epoch: int) -> GroupHeartbeat:
        return GroupHeartbeat(
            group=self.group,
            member_id=self.member_id,
            member_epoch=epoch,
            topics=self._subscription.topics,
            topic_pattern=self._subscription.pattern,
            assignor=self._options.assignor,
            instance_id=self._options.instance_id,
            rebalance_timeout_ms=int(self._options.poll_interval_ms_max),
            owned=grouped(self._owned | self._coming),
        )

    def leave_request(self) -> GroupHeartbeat:
        """The heartbeat that says good-bye."""
        static = self._options.instance_id is not None
        return GroupHeartbeat(
            group=self.group,
            member_id=self.member_id,
            member_epoch=LEAVE_STATIC_EPOCH if static else LEAVE_EPOCH,
            instance_id=self._options.instance_id,
        )

    def _answered(self, outcome: Outcome) -> None:
        self._beating = False
        if self._ended or self._away:
            return
        if outcome.error is not None:
            delay_s = self._refused(outcome.error)
        else:
            self._accepted(outcome)
            delay_s = self._interval_s
        again, self._again = self._again, False
        self._timer = self._session.network.call_later(0 if again else delay_s, self._on_time)

    def _accepted(self, outcome: Outcome) -> None:
        reply = outcome.reply
        self._backoff.reset()
        with self._changed:
            if isinstance(reply.member_id, str):
                self.member_id = reply.member_id
            self.epoch = reply.member_epoch
            self.error = None
            if isinstance(reply.heartbeat_interval_ms, int):
                self._interval_s = max(reply.heartbeat_interval_ms / 1000, HEARTBEAT_S_MIN)
            if isinstance(reply.assignment, list):
                self.target = {
                    TopicPartition(item.topic, number)
                    for item in reply.assignment
                    for number in item.partitions
                }
            self._attention.call()
            self._changed.notify_all()

    def _refused(self, error: OdradekError) -> float:
        """Deal with an error; the seconds until the next heartbeat."""
        if isinstance(error, UnknownMemberId | FencedMemberEpoch | StaleMemberEpoch):
            logger.warning("group %s: member %s joins again: %s", self.group, self.member_id, error)
            self._lose()
            return self._backoff.next_s()
        if error.retriable:
            logger.debug("group %s: heartbeat: %s", self.group, error)
            return min(self._backoff.next_s(), self._interval_s)
        with self._changed:
            self.error = error
            self._attention.call()
            self._changed.notify_all()
        return self._backoff.next_s()

    def _lose(self) -> None:
        with self._changed:
            self._owned, self._coming = set(), set()
            self.epoch = JOIN_EPOCH
            self.target = set()
            self.lost = True
            self.life += 1
            self._attention.call()
            self._changed.notify_all()

    def _on_time(self) -> None:
        self._timer = None
        self._attention.call()
        # A loop inside a batch looks up only when it is called, so its silence counts from then on.
        heard_at = max(self.polled_at, self._attention.raised_at)
        silent_s = time.monotonic() - heard_at
        if silent_s * 1000 <= self._options.poll_interval_ms_max:
            self.beat()
            return
        logger.warning(
            "group %s: no record was asked for in %.1f s, and poll_interval_ms_max (Kafka's "
            "max.poll.interval.ms) is %g: this member's partitions go to the others until it asks again, "
            "and what it has not committed will be read again. Take fewer records at a time, or raise "
            "poll_interval_ms_max above the longest time that your handler needs",
            self.group,
            silent_s,
            self._options.poll_interval_ms_max,
        )
        self._away = True
        self._session.submit(self.leave_request(), lambda _: None)
        self._lose()

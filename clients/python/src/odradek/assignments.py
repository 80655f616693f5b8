"""Assignments: which partitions a consumer reads, and why: told to, all of its topics, or its group's share.

Here it takes them up and lets go of them, with the user's callbacks, and keeps its positions in its group.
All of it happens in the user's own thread, between two records.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from odradek.commits import Commits
from odradek.fetcher import PartitionReader, TopicPartition
from odradek.membership import Membership, News, Subscription
from odradek.options import ConsumerOptions
from odradek.positions import Positions
from odradek.protocol.errors import (
    InvalidGroupId,
    OdradekError,
    OffsetOutOfRange,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import TopicMetadata
from odradek.protocol.names import check_group_name, check_topic_name
from odradek.session import ClientClosed, Session

logger = logging.getLogger("odradek")

COMMIT_TIMEOUT_S: Final = 10.0
LOOK_UP_S_MIN: Final = 0.25
"""How often, at most, the age of what is known of the topics is looked at."""

AssignmentCallback: TypeAlias = Callable[[list[TopicPartition]], object]


class Wanted(NamedTuple):
    """What a consumer was made to read: topics, a pattern, or neither to be told by ``assign``."""

    group: str | None
    topics: list[str] | None
    pattern: str | None

    @property
    def subscribed(self) -> bool:
        return self.topics is not None or self.pattern is not None


def check_wanted(group: str | None, topics: Iterable[str] | None, pattern: str | None) -> Wanted:
    """Raises InvalidGroupId, InvalidTopic, TypeError or ValueError for what cannot be read."""
    return Wanted(
        None if group is None else check_group_name(group),
        None if topics is None else _topic_names(topics),
        None if pattern is None else _pattern(pattern, group),
    )


class Callbacks(NamedTuple):
    """What the user wants to be called with; ``on_lost`` is ``on_revoked`` where he gave none."""

    on_assigned: AssignmentCallback | None
    on_revoked: AssignmentCallback | None
    on_lost: AssignmentCallback | None


class Assignments(Positions):
    """The part of a consumer that knows which partitions are its own, and its group."""

    def __init__(
        self, session: Session, options: ConsumerOptions, wanted: Wanted, callbacks: Callbacks
    ) -> None:
        super().__init__(session, options)
        self.group = wanted.group
        self._wanted = wanted
        self._callbacks = callbacks
        self._closed = False
        self._started = False
        self._commit_at = time.monotonic() + options.auto_commit_interval_ms / 1000
        self._look_up_at = 0.0
        self._membership: Membership | None = None
        self._commits = None if self.group is None else Commits(session, self.group, self._changed)
        if self.group is None and wanted.topics is not None:
            session.on_topic = self._learn

    # -- what is read --------------------------------------------------------------------------

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these, outside of any rebalancing; a group only keeps the committed offsets.

        Raises UnknownTopicOrPartition; ValueError where topics are subscribed to.
        """
        if self._wanted.subscribed:
            raise ValueError(
                "this consumer has subscribed to topics; assign() is for one made without topics"
            )
        wanted = {TopicPartition(*partition) for partition in partitions}
        for topic, number in wanted:
            count = self._partition_count(topic)
            if not 0 <= number < count:
                raise UnknownTopicOrPartition(
                    f"topic {topic!r} has partitions 0 to {count - 1}, not {number}"
                )
        self._session.check_usable()
        self._started = True
        self._drop(set(self._readers) - wanted)
        added = wanted - set(self._readers)
        self._add(added, self._locate(added))

    def _partition_count(self, topic: str) -> int:
        timeout_s = self._session.request_timeout_s
        return len(self._session.topic(topic, create=False, timeout_s=timeout_s).partitions)

    def _begin(self) -> None:
        if self._closed:
            raise ClientClosed("this consumer is closed; make a new one")
        if self._started:
            return
        self._session.check_usable()
        if not self._wanted.subscribed:
            raise ValueError("nothing to read: give topics to Consumer(), or call assign()")
        topics = self._wanted.topics or []
        if self.group is None:
            wanted = {
                TopicPartition(topic, number)
                for topic in topics
                for number in range(self._partition_count(topic))
            }
            self._add(wanted, self._locate(wanted))
        else:
            self._join(self.group, Subscription(topics, self._wanted.pattern))
        self._started = True

    def _join(self, group: str, subscription: Subscription) -> None:
        membership = Membership(
            self._session, group, subscription, self.options, self._changed, self._attention
        )
        assert self._commits is not None
        self._membership = self._commits.membership = membership
        self._session.network.call(membership.beat)

    def _drop(self, partitions: set[TopicPartition]) -> None:
        with self._changed:
            for partition in partitions:
                self._readers.pop(partition).dropped = True
                if self._commits is not None:
                    self._commits.forget(partition)
            readers = list(self._readers.values())
        self._session.network.call(self._fetcher.replace, readers)

    def _add(self, partitions: set[TopicPartition], positions: dict[TopicPartition, int]) -> None:
        with self._changed:
            for partition in sorted(partitions):
                self._readers[partition] = PartitionReader(
                    partition, positions[partition], self._session.backoff()
                )
            readers = list(self._readers.values())
        try:
            if self._callbacks.on_assigned is not None and partitions:
                self._callbacks.on_assigned(sorted(partitions))
        finally:
            self._session.network.call(self._fetcher.replace, readers)

    def _locate(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        """Where to begin: at the committed offset, else where ``auto_offset_reset`` says."""
        positions = {} if self._commits is None else self._commits.fetch(partitions)
        found = {key: offset for key, offset in positions.items() if offset is not None}
        for partition, committed in found.items():
            if self._commits is not None:
                self._commits.note(partition, committed)
        unknown = sorted(partitions - found.keys())
        if unknown and self.options.auto_offset_reset == "none":
            raise OffsetOutOfRange(
                f"{unknown[0].topic}-{unknown[0].partition} has no committed offset, and "
                "auto_offset_reset='none' says to begin nowhere else"
            )
        return found | self._list_offsets(unknown, self.options.auto_offset_reset)

    # -- what has to be done between two records -----------------------------------------------

    @property
    def needs_care(self) -> bool:
        """Whether the group has news for the next call."""
        return self._attention.group

    def take_care(self) -> set[TopicPartition]:
        """Do what waits, without reading; the assignment after it. For wrappers that read ahead."""
        self._housekeep()
        return set(self._readers)

    def _housekeep(self) -> None:
        self._begin()
        self._session.check_usable()
        attention = self._attention
        attention.raised = False
        membership = self._membership
        if membership is not None:
            membership.polled_at = time.monotonic()
            if attention.group:
                attention.group = False
                self._reconcile(membership)
        elif self._wanted.topics is not None:
            self._look_for_partitions(self._wanted.topics)
        if self._commits is not None and self.options.enable_auto_commit:
            self._commit_now_and_then(self._commits)

    def _commit_now_and_then(self, commits: Commits) -> None:
        now = time.monotonic()
        if now >= self._commit_at:
            self._commit_at = now + self.options.auto_commit_interval_ms / 1000
            commits.store_later(commits.missing(self._positions(self._readers)))

    def _look_for_partitions(self, topics: list[str]) -> None:
        """Read partitions that topics were given since: from their start, so that nothing is missed."""
        now = time.monotonic()
        if now >= self._look_up_at:
            self._look_up_at = now + LOOK_UP_S_MIN
            self._session.network.call(self._session.refresh_old, topics)
        if not self._attention.group:
            return
        known = [self._session.known_topic(topic) for topic in topics]
        added = {
            TopicPartition(topic.name, number)
            for topic in known
            if topic is not None
            for number in range(len(topic.partitions))
        } - set(self._readers)
        positions = self._list_offsets(sorted(added), "earliest")
        self._attention.group = False
        if added:
            self._add(added, positions)

    def _learn(self, topic: TopicMetadata) -> None:
        with self._changed:
            known = sum(1 for key in self._readers if key.topic == topic.name)
            if self._started and len(topic.partitions) > known:
                self._attention.call()
                self._changed.notify_all()

    def _reconcile(self, membership: Membership) -> None:
        """Let go of what was taken away, take up what was given, and say so."""
        held = set(self._readers)
        news = membership.news(held)
        if news.error is not None:
            raise news.error
        if news.lost:
            self._give_up(membership, held)
            return
        moving, coming = held - news.target, news.target - held
        if moving:
            try:
                self._release(moving, commit=self.options.enable_auto_commit)
            finally:
                # The next owner of what moved waits for this.
                self._report(membership, news, coming)
        if coming:
            try:
                self._add(coming, self._locate(coming))
            finally:
                self._report(membership, news, set())

    def _report(self, membership: Membership, news: News, coming: set[TopicPartition]) -> None:
        self._session.network.call(membership.own, set(self._readers), coming, news.life)

    def _give_up(self, membership: Membership, held: set[TopicPartition]) -> None:
        """The partitions are another's already: forget them, and join anew."""
        try:
            if held and self._callbacks.on_lost is not None:
                self._callbacks.on_lost(sorted(held))
        finally:
            self._drop(held)
            with self._changed:
                membership.lost = False  # not sooner: until here nothing of it may be committed
            self._session.network.call(membership.come_back)
            self._attention.call()  # what it has been given meanwhile is looked at next time

    def _release(self, partitions: set[TopicPartition], *, commit: bool) -> None:
        try:
            if self._callbacks.on_revoked is not None:
                self._callbacks.on_revoked(sorted(partitions))
        finally:
            self._commit_last(partitions, commit=commit)
            self._drop(partitions)

    def _commit_last(self, partitions: set[TopicPartition], *, commit: bool) -> None:
        if commit and self._commits is not None:
            try:
                self._commits.store(self._commits.missing(self._positions(partitions)), COMMIT_TIMEOUT_S)
            except OdradekError as error:
                logger.warning(
                    "group %s: positions of partitions that move away were not committed, their next "
                    "owner will see some records again: %s",
                    self.group,
                    error,
                )

    # -- committing ----------------------------------------------------------------------------

    def commit(
        self, offsets: Mapping[TopicPartition, int] | None = None, *, wait: bool = True
    ) -> dict[TopicPartition, int]:
        """Store positions in the group: durable when this returns, or later without ``wait``.

        Args:
            offsets: the next offset to read, by partition; None for exactly what was handed out.
            wait: False returns at once; an error is logged then.

        Returns what is committed. Raises InvalidGroupId without a group, StaleMemberEpoch,
        UnknownMemberId or FencedMemberEpoch where the partitions have moved on to another member.
        """
        commits = self._require_commits()
        if self._closed:
            raise ClientClosed("this consumer is closed; make a new one")
        wanted = self._positions(self._readers) if offsets is None else _checked_offsets(offsets)
        if wait:
            commits.store(wanted, self._session.request_timeout_s)
        else:
            commits.store_later(wanted)
        return dict(wanted)

    def committed(self, *partitions: TopicPartition) -> dict[TopicPartition, int | None]:
        """The group's committed offset of each (or of all assigned), None where there is none."""
        commits = self._require_commits()
        return commits.fetch({TopicPartition(*each) for each in partitions or self.assignment()})

    def _require_commits(self) -> Commits:
        if self._commits is None:
            raise InvalidGroupId("this consumer has no group to commit to; give one to Consumer(group=...)")
        return self._commits

    def _positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {key: self._held.get(key, self._readers[key].position) for key in partitions}


def _topic_names(topics: Iterable[str]) -> list[str]:
    if isinstance(topics, str):
        raise TypeError(f"topics is a list of names; write topics=[{topics!r}]")
    names = list(dict.fromkeys(topics))
    if not names:
        raise ValueError("topics is empty; name at least one, or leave it out and call assign()")
    for name in names:
        check_topic_name(name)
    return names


def _pattern(pattern: str, group: str | None) -> str:
    """The coordinator knows which topics match, and reads the expression itself."""
    if not isinstance(pattern, str) or not pattern:
        raise ValueError(f"topics_pattern is a regular expression such as 'events\\..*', not {pattern!r}")
    if group is None:
        raise ValueError("topics_pattern is for members of a group; give one to Consumer(group=...)")
    return pattern


def _checked_offsets(offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    checked = {}
    for partition, offset in offsets.items():
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise ValueError(f"an offset is a whole number of at least 0, not {offset!r}")
        checked[TopicPartition(*partition)] = offset
    return checked

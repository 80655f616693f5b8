"""Requests about committed offsets: who may commit, what is stored, what is found, what is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from actors.actor import Moment
from actors.classic import NO_GENERATION
from actors.classic_requests import ClassicRequests
from actors.consumer_protocol import PROTOCOL_TYPE, subscribed_topics
from actors.groups import NEW_HEAD, Group
from actors.journal import Journal
from actors.ledger import Entry, GroupKey, GroupType, OffsetKey
from actors.members import EPOCH_LEAVE
from actors.membership import find_member
from actors.messages import ClassicCommit, OffsetDelete, OffsetDeleteReply
from actors.offsets import commit, fetch, orphans
from actors.state import CoordinatorState
from actors.topics import Topics
from odradek.protocol.errors import (
    GroupSubscribedToTopic,
    IllegalGeneration,
    InvalidRequest,
    NonEmptyGroup,
    OdradekError,
    StaleMemberEpoch,
    UnknownMemberId,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import (
    CommitOffset,
    CommittedOffsetResult,
    OffsetCommit,
    OffsetCommitReply,
    OffsetFetch,
    OffsetFetchReply,
    Reply,
)
from odradek.protocol.names import check_group_name


class OffsetRequests:
    """The coordinator's handlers for ``offset_commit``, ``offset_fetch`` and their like of Kafka's clients.

    ``known_topics`` gives the topics, or raises CoordinatorNotAvailable before they are known.
    """

    def __init__(
        self,
        state: CoordinatorState,
        journal: Journal,
        classic: ClassicRequests,
        known_topics: Callable[[], Topics],
    ) -> None:
        self._state = state
        self._journal = journal
        self._classic = classic
        self._known_topics = known_topics

    def commit(self, request: OffsetCommit, now: Moment) -> Reply:
        """Each offset stands or falls on its own; who may not commit at all gets one error."""
        topics = self._known_topics()
        group = self._state.group_or_new(check_group_name(request.group))
        if self._classic.has_members(group.name):
            generation = NO_GENERATION if request.member_epoch is None else request.member_epoch
            self._classic.check_commit(group.name, request.member_id, generation, None, now)
        else:
            _check_committer(group, request)
        return self._commit_all(group, request, topics, GroupType.CONSUMER, now)

    def commit_classic(self, request: ClassicCommit, now: Moment) -> Reply:
        """The same for Kafka's clients: ``member_epoch`` is a generation, or a consumer group's epoch."""
        topics = self._known_topics()
        group = self._state.group_or_new(check_group_name(request.group))
        generation = NO_GENERATION if request.member_epoch is None else request.member_epoch
        if group.members:
            _check_committer(group, request)
        elif group.name in self._state.groups or self._classic.has_members(group.name):
            self._classic.check_commit(group.name, request.member_id, generation, request.instance_id, now)
        elif generation > NO_GENERATION:
            raise IllegalGeneration(f"there is no group {group.name!r} with a generation {generation}")
        return self._commit_all(group, request, topics, GroupType.CLASSIC, now)

    def _commit_all(
        self, group: Group, request: OffsetCommit, topics: Topics, kind: GroupType, now: Moment
    ) -> Reply:
        mark, is_new = self._journal.mark(), group.name not in self._state.groups
        if is_new:
            head = msgspec.structs.replace(NEW_HEAD, empty_since_ms=now.wall_ms, type=kind)
            self._journal.stage([Entry(GroupKey(group.name), head)])
        results = [self._commit_one(group, request, asked, topics, now.wall_ms) for asked in request.offsets]
        if is_new and all(result.error is not None for result in results):
            self._journal.rollback(mark)  # nothing makes it a group
        return OffsetCommitReply(offsets=results)

    def _commit_one(
        self, group: Group, request: OffsetCommit, asked: CommitOffset, topics: Topics, wall_ms: int
    ) -> CommittedOffsetResult:
        try:
            _check_owner(group, request.member_id, asked)
            _check_topic(group, topics, asked)
            self._journal.stage([commit(self._state.offsets, topics, group.name, asked, wall_ms)])
        except OdradekError as error:
            return CommittedOffsetResult(topic=asked.topic, partition=asked.partition, error=error.wire())
        return CommittedOffsetResult(topic=asked.topic, partition=asked.partition)

    def fetch(self, request: OffsetFetch, _now: Moment) -> Reply:
        """What a group has committed."""
        committed = self._state.offsets.of_group(check_group_name(request.group))
        return OffsetFetchReply(offsets=fetch(committed, self._known_topics(), request.topics))

    def delete(self, request: OffsetDelete, _now: Moment) -> Reply:
        """Forget offsets of topics that nobody in the group reads. Raises GroupIdNotFound, NonEmptyGroup."""
        group = self._state.group(check_group_name(request.group))
        subscribed = self._subscribed(group)
        committed = self._state.offsets.of_group(group.name)
        results: list[CommittedOffsetResult] = []
        for item in request.topics:
            for number in item.partitions:
                result = CommittedOffsetResult(topic=item.topic, partition=number)
                if item.topic in subscribed:
                    result.error = GroupSubscribedToTopic(
                        f"members of group {group.name!r} read topic {item.topic!r}"
                    ).wire()
                elif (item.topic, number) in committed:
                    self._journal.stage([Entry(OffsetKey(group.name, item.topic, number), None)])
                results.append(result)
        return OffsetDeleteReply(offsets=results)

    def _subscribed(self, group: Group) -> set[str]:
        """The topics that members read; NonEmptyGroup where only they know."""
        live = self._classic.group(group.name)
        if live is None:
            return {topic for topic, _ in group.owners} | set(group.head.partitions)
        if live.protocol_type != PROTOCOL_TYPE:
            raise NonEmptyGroup(f"group {group.name!r} has members, and what they use is not known")
        return {
            topic
            for member in live.members.values()
            for known in member.image.protocols
            for topic in subscribed_topics(known.metadata)
        }

    def orphans(self) -> Iterable[Entry]:
        """What forgets the offsets of topics that are gone."""
        return orphans(self._state.offsets, self._known_topics())


def _check_committer(group: Group, request: OffsetCommit) -> None:
    """A member with its own epoch, or an administrator while there are no members."""
    if request.member_id is None:
        if request.member_epoch not in (None, EPOCH_LEAVE):
            raise InvalidRequest(f"member_epoch {request.member_epoch} needs a member_id")
        if group.members:
            raise UnknownMemberId(
                f"group {group.name!r} has members; only they may commit (member_id and member_epoch)"
            )
        return
    if request.member_epoch is None:
        raise InvalidRequest(f"member_id {request.member_id[:64]!r} needs its member_epoch")
    epoch = find_member(group, request.member_id).standing.epoch
    if request.member_epoch != epoch:
        raise StaleMemberEpoch(
            f"member {request.member_id} has epoch {epoch}, the commit says {request.member_epoch}; "
            "heartbeat, then commit what is still held"
        )


def _check_topic(group: Group, topics: Topics, asked: CommitOffset) -> None:
    """A member's position in a topic that is gone means nothing in the one of the same name."""
    topic, known_id = topics.get(asked.topic), group.head.topic_ids.get(asked.topic)
    if group.members and topic is not None and known_id not in (None, topic.topic_id):
        raise UnknownTopicOrPartition(
            f"topic {asked.topic!r} was deleted and made again since this member was given its partitions; "
            "let go of them and begin anew with what the next heartbeats assign"
        )


def _check_owner(group: Group, member_id: str | None, asked: CommitOffset) -> None:
    """A late commit for a partition that moved on would take its new holder's position back."""
    owner = group.owners.get((asked.topic, asked.partition), member_id)
    if owner != member_id:
        raise StaleMemberEpoch(
            f"{asked.topic}-{asked.partition} is held by member {owner}, not by {member_id} any more"
        )

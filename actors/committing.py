"""Requests about committed offsets: who may commit, what is stored, what is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from actors.actor import Moment
from actors.groups import NEW_HEAD, Group
from actors.journal import Journal
from actors.ledger import Entry, GroupKey
from actors.members import EPOCH_LEAVE
from actors.membership import find_member
from actors.offsets import commit, fetch, orphans
from actors.state import CoordinatorState
from actors.topics import Topics
from odradek.protocol.errors import InvalidRequest, OdradekError, StaleMemberEpoch, UnknownMemberId
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
    """The coordinator's handlers for ``offset_commit`` and ``offset_fetch``.

    ``known_topics`` gives the topics, or raises CoordinatorNotAvailable before they are known.
    """

    def __init__(self, state: CoordinatorState, journal: Journal, known_topics: Callable[[], Topics]) -> None:
        self._state = state
        self._journal = journal
        self._known_topics = known_topics

    def commit(self, request: OffsetCommit, now: Moment) -> Reply:
        """Each offset stands or falls on its own; who may not commit at all gets one error."""
        topics = self._known_topics()
        group = self._state.group_or_new(check_group_name(request.group))
        _check_committer(group, request)
        if group.name not in self._state.groups:
            head = msgspec.structs.replace(NEW_HEAD, empty_since_ms=now.wall_ms)
            self._journal.stage([Entry(GroupKey(group.name), head)])
        return OffsetCommitReply(
            offsets=[
                self._commit_one(group, request, asked, topics, now.wall_ms) for asked in request.offsets
            ]
        )

    def _commit_one(
        self, group: Group, request: OffsetCommit, asked: CommitOffset, topics: Topics, wall_ms: int
    ) -> CommittedOffsetResult:
        try:
            _check_owner(group, request.member_id, asked)
            self._journal.stage([commit(self._state.offsets, topics, group.name, asked, wall_ms)])
        except OdradekError as error:
            return CommittedOffsetResult(topic=asked.topic, partition=asked.partition, error=error.wire())
        return CommittedOffsetResult(topic=asked.topic, partition=asked.partition)

    def fetch(self, request: OffsetFetch, _now: Moment) -> Reply:
        """What a group has committed."""
        committed = self._state.offsets.of_group(check_group_name(request.group))
        return OffsetFetchReply(offsets=fetch(committed, self._known_topics(), request.topics))

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


def _check_owner(group: Group, member_id: str | None, asked: CommitOffset) -> None:
    """A late commit for a partition that moved on would take its new holder's position back."""
    owner = group.owners.get((asked.topic, asked.partition), member_id)
    if owner != member_id:
        raise StaleMemberEpoch(
            f"{asked.topic}-{asked.partition} is held by member {owner}, not by {member_id} any more"
        )

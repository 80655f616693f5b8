"""The coordinator: consumer groups, committed offsets and producer ids, all kept in its own log.

One handler for each request, named like it: it looks at the state, stages entries in the journal and
says what to reply. Whether and when the reply leaves is the journal's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from actors.actor import Envelope, Message, Moment, Synced
from actors.assignment import NO_PARTITIONS, PartitionSet
from actors.effects import Effect, Log
from actors.groups import NEW_HEAD, Group
from actors.journal import CoordinatorLog, Journal
from actors.ledger import (
    CommittedOffset,
    Entry,
    GroupHead,
    GroupKey,
    Key,
    MemberKey,
    MemberProfile,
    OffsetKey,
    ProducerIdBlock,
    ProducerIdsKey,
    StandingKey,
    TargetKey,
    Value,
    by_topic,
)
from actors.members import EPOCH_JOIN, EPOCH_LEAVE, EPOCH_PAUSE, MemberState, Standing
from actors.membership import admit, check_text, find_member, leave, leave_for_a_while, reconcile, refresh
from actors.messages import Routes
from actors.offsets import NO_OFFSET, Offsets, commit, fetch, orphans
from actors.producer_ids import ProducerIds
from actors.sessions import MemberName, Session, Sessions
from actors.topics import Topics, topics_of
from odradek.protocol.errors import (
    CoordinatorNotAvailable,
    GroupIdNotFound,
    InvalidRequest,
    NonEmptyGroup,
    OdradekError,
    PolicyViolation,
    StaleMemberEpoch,
    ThrottlingQuotaExceeded,
    UnknownMemberId,
)
from odradek.protocol.messages import (
    CommitOffset,
    CommittedOffsetResult,
    GroupDelete,
    GroupDeleteReply,
    GroupDescribe,
    GroupDescribeReply,
    GroupHeartbeat,
    GroupHeartbeatReply,
    GroupList,
    GroupListing,
    GroupListReply,
    GroupMember,
    GroupOffset,
    InitProducerId,
    InitProducerIdReply,
    OffsetCommit,
    OffsetCommitReply,
    OffsetFetch,
    OffsetFetchReply,
    Ping,
    PingReply,
    Reply,
    Request,
    TopicPartitions,
    api_name,
    failure,
)
from odradek.protocol.names import check_group_name

GROUPS_MAX = 10_000
MAINTENANCE_RETRY_S = 1.0
"""How long until what the topics' changes call for is tried again, where it could not be written."""
LATENESS_MAX_S = 5.0
"""Called later than this, the coordinator itself was held up, and takes nobody's silence for death."""

_OF_A_GROUP = (GroupKey, MemberKey, TargetKey, StandingKey)
"""Keys of entries that make a group where there is none, unless they delete."""
_READS = (OffsetFetch, GroupList, GroupDescribe)
"""Requests that change nothing."""


@dataclass(frozen=True, slots=True)
class CoordinatorOptions:
    """``new_id`` makes the member ids of those that bring none; it must never repeat itself."""

    new_id: Callable[[], str]
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 1_000
    reconcile_interval_ms: int = 100
    """The heartbeat interval of a member that is on its way to a new assignment."""


class CoordinatorState:
    """All that the log says, and the one way in which an entry changes it."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.offsets = Offsets()
        self.producer_ids = ProducerIds()

    def replay(self, entry: Entry) -> Value | None:
        """Apply one entry, live, in recovery and in reverse; returns the value that it replaced."""
        key = entry.key
        if entry.value is None and isinstance(key, _OF_A_GROUP) and key.group not in self.groups:
            return None
        return _REPLAYERS[type(key)](self, key, entry.value)

    def group(self, name: str) -> Group:
        """The group of that name. Raises GroupIdNotFound."""
        group = self.groups.get(name)
        if group is None:
            raise GroupIdNotFound(f"there is no group {name!r}")
        return group

    def group_or_new(self, name: str) -> Group:
        """The group of that name, or one that is not (yet) among the groups."""
        return self.groups.get(name) or Group(name)

    def _replay_offset(self, key: OffsetKey, value: CommittedOffset | None) -> Value | None:
        return self.offsets.replay(key, value)

    def _replay_head(self, key: GroupKey, value: GroupHead | None) -> Value | None:
        known = key.group in self.groups
        before = self._entered(key.group).replay_head(value)
        if value is None:
            del self.groups[key.group]
        return before if known else None

    def _replay_profile(self, key: MemberKey, value: MemberProfile | None) -> Value | None:
        return self._entered(key.group).replay_profile(key.member_id, value)

    def _replay_target(self, key: TargetKey, value: PartitionSet | None) -> Value | None:
        return self._entered(key.group).replay_target(key.member_id, value)

    def _replay_standing(self, key: StandingKey, value: Standing | None) -> Value | None:
        return self._entered(key.group).replay_standing(key.member_id, value)

    def _replay_producer_ids(self, _key: ProducerIdsKey, value: ProducerIdBlock | None) -> Value | None:
        return self.producer_ids.replay(value)

    def _entered(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))


_REPLAYERS: dict[type[Key], Callable[[CoordinatorState, Any, Any], Value | None]] = {
    OffsetKey: CoordinatorState._replay_offset,
    GroupKey: CoordinatorState._replay_head,
    MemberKey: CoordinatorState._replay_profile,
    TargetKey: CoordinatorState._replay_target,
    StandingKey: CoordinatorState._replay_standing,
    ProducerIdsKey: CoordinatorState._replay_producer_ids,
}


class CoordinatorActor:
    """The actor over one log. The constructor replays the log, so that a new one knows all there is.

    ``progress`` is called now and then while it does: a long recovery should not look like a hang.
    Raises CorruptMessage or KafkaStorageError where the log cannot be read as a whole.
    """

    def __init__(
        self,
        log: CoordinatorLog,
        options: CoordinatorOptions,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._options = options
        self._state = CoordinatorState()
        self._journal = Journal(log, self._state.replay)
        self.entries_recovered = self._journal.recover(progress)
        self._sessions = Sessions()
        self._sessions_started = False
        self._topics: Topics | None = None
        self._maintenance_due_s: float | None = None
        self._handlers: dict[type[Request], Callable[[Any, Moment], Reply]] = {
            Ping: self._ping,
            GroupHeartbeat: self._group_heartbeat,
            OffsetCommit: self._offset_commit,
            OffsetFetch: self._offset_fetch,
            GroupList: self._group_list,
            GroupDescribe: self._group_describe,
            GroupDelete: self._group_delete,
            InitProducerId: self._init_producer_id,
        }

    # -- the actor -----------------------------------------------------------------------------------

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        """Decide one request, or release the replies that a sync covers."""
        self._start_sessions(now)
        if isinstance(message, Synced):
            return self._journal.synced(message)
        if not isinstance(message, Envelope):
            return []
        if isinstance(message.request, Routes):
            return self._routes(message.request, now)
        return self._answer(message, now)

    def settle(self, now: Moment) -> Sequence[Effect]:
        """Expel whose time is up, follow the topics, write what gathered."""
        self._start_sessions(now)
        self._maintain(now)
        return [*self._expel_the_late(now), *self._journal.settle(now)]

    def deadline(self) -> float | None:
        """When a member's time is up at the earliest."""
        if not self._sessions_started:
            return 0.0 if self._state.groups else None
        dues = [due for due in (self._sessions.next_due_s(), self._maintenance_due_s) if due is not None]
        return min(dues, default=None)

    def stop(self, now: Moment) -> Sequence[Effect]:
        """Everything accepted is durable and answered; what comes after gets no answer."""
        return self._journal.stop(now)

    def _answer(self, envelope: Envelope, now: Moment) -> Sequence[Effect]:
        request = envelope.request
        handler = self._handlers.get(type(request))
        mark = self._journal.mark()
        try:
            if handler is None:
                raise InvalidRequest(f"the coordinator does not serve {api_name(type(request))!r}")
            if self._journal.is_full:
                raise ThrottlingQuotaExceeded("too many requests wait for the coordinator's disk")
            reply = handler(request, now)
        except OdradekError as error:
            self._journal.rollback(mark)
            reply = failure(error)
        return self._journal.answer(envelope.sender, reply, self._read_again(request, now))

    def _read_again(self, request: Request, now: Moment) -> Callable[[], Reply] | None:
        """How to answer a read once more, after what it saw was undone."""
        if not isinstance(request, _READS):
            return None

        def read() -> Reply:
            try:
                return self._handlers[type(request)](request, now)
            except OdradekError as error:
                return failure(error)

        return read

    # -- time and topics -----------------------------------------------------------------------------

    def _start_sessions(self, now: Moment) -> None:
        """After a start every member has a whole session, and a whole rebalance time-out."""
        if self._sessions_started:
            return
        self._sessions_started = True
        for group in self._state.groups.values():
            for member_id, member in group.members.items():
                name = MemberName(group.name, member_id)
                self._sessions.touch(name, self._session_end_s(now), None)
                if member.standing.state is MemberState.UNREVOKED:
                    self._start_revocation(group, member_id, now)

    def _session_end_s(self, now: Moment) -> float:
        return now.monotonic_s + self._options.session_timeout_ms / 1000

    def _start_revocation(self, group: Group, member_id: str, now: Moment) -> None:
        timeout_s = group.profile(member_id).rebalance_timeout_ms / 1000
        self._sessions.start_revocation(MemberName(group.name, member_id), now.monotonic_s + timeout_s)

    def _expel_the_late(self, now: Moment) -> Sequence[Effect]:
        first_due_s = self._sessions.next_due_s()
        if first_due_s is not None and now.monotonic_s - first_due_s > LATENESS_MAX_S:
            self._sessions.prolong(self._session_end_s(now))
        effects: list[Effect] = []
        for name, session in self._sessions.due(now.monotonic_s):
            group = self._state.groups.get(name.group)
            if group is not None and name.member_id in group.members:
                effects.append(self._expel(group, name, session, now))
            elif self._journal.is_idle:
                # Only then: an expulsion that is not durable yet may still be undone.
                self._sessions.forget(name)
        return effects

    def _expel(self, group: Group, name: MemberName, session: Session, now: Moment) -> Effect:
        """A member's time is up. Should the write fail, the member is there again and named again."""
        self._journal.stage(leave(group, name.member_id))
        self._give_new_target(group)
        why = "session_timeout" if session.expires_s <= now.monotonic_s else "rebalance_timeout"
        fields: dict[str, object] = {"group": name.group, "member_id": name.member_id, "reason": why}
        return Log("member_expelled", fields)

    def _routes(self, routes: Routes, now: Moment) -> Sequence[Effect]:
        topics = topics_of(routes)
        if topics != self._topics:
            self._topics = topics
            self._maintenance_due_s = now.monotonic_s
            self._maintain(now)
        return []

    def _maintain(self, now: Moment) -> None:
        """After the topics changed: new targets, and no offsets of topics that are gone.

        It is done once more a little later, in case what it wrote was undone, until it finds nothing
        to do.
        """
        if self._maintenance_due_s is None or now.monotonic_s < self._maintenance_due_s:
            return
        mark = self._journal.mark()
        for group in self._state.groups.values():
            self._give_new_target(group)
        self._journal.stage(orphans(self._state.offsets, self._known_topics()))
        wrote = self._journal.mark() > mark
        self._maintenance_due_s = now.monotonic_s + MAINTENANCE_RETRY_S if wrote else None

    def _known_topics(self) -> Topics:
        if self._topics is None:
            raise CoordinatorNotAvailable("the coordinator was not told of the topics yet; try again")
        return self._topics

    def _give_new_target(self, group: Group) -> None:
        if self._topics is not None:
            self._journal.stage(refresh(group, self._topics))

    # -- groups --------------------------------------------------------------------------------------

    def _ping(self, _request: Ping, _now: Moment) -> Reply:
        return PingReply()

    def _group_heartbeat(self, request: GroupHeartbeat, now: Moment) -> Reply:
        """Join, stay or leave. The order of the steps is that of KIP-848's coordinator."""
        self._known_topics()
        group = self._state.group_or_new(check_group_name(request.group))
        member_id = self._member_id(request)
        if request.member_epoch in (EPOCH_LEAVE, EPOCH_PAUSE):
            return self._depart(group, member_id, request.member_epoch)
        rejoined = request.member_epoch == EPOCH_JOIN
        owned = _owned(request)
        self._check_room(group)
        self._journal.stage(admit(group, member_id, request, owned))
        group = self._state.group(group.name)
        if group.head.epoch != group.head.target_epoch:
            self._give_new_target(group)
        held = NO_PARTITIONS if rejoined else owned
        step = reconcile(group, member_id, held, rejoined=rejoined)
        self._journal.stage(step)
        session = self._sessions.touch(MemberName(group.name, member_id), self._session_end_s(now), held)
        self._time_revocation(group, member_id, bool(step), now)
        return self._heartbeat_reply(group, member_id, request, session)

    def _member_id(self, request: GroupHeartbeat) -> str:
        if request.member_id is not None:
            return check_text(request.member_id, "member_id")
        if request.member_epoch != EPOCH_JOIN:
            raise InvalidRequest(f"member_epoch {request.member_epoch} needs a member_id; 0 joins without")
        return self._options.new_id()

    def _check_room(self, group: Group) -> None:
        if group.name not in self._state.groups and len(self._state.groups) >= GROUPS_MAX:
            raise PolicyViolation(f"there are {GROUPS_MAX} groups already; delete those that are not used")

    def _depart(self, group: Group, member_id: str, epoch: int) -> Reply:
        if epoch == EPOCH_PAUSE:
            self._journal.stage(leave_for_a_while(group, member_id))
        else:
            self._journal.stage(leave(group, member_id))
            self._give_new_target(group)
        return GroupHeartbeatReply(
            member_id=member_id, member_epoch=epoch, heartbeat_interval_ms=0, assignment=None
        )

    def _time_revocation(self, group: Group, member_id: str, changed: bool, now: Moment) -> None:
        if group.members[member_id].standing.state is not MemberState.UNREVOKED:
            self._sessions.end_revocation(MemberName(group.name, member_id))
        elif changed:
            self._start_revocation(group, member_id, now)

    def _heartbeat_reply(
        self, group: Group, member_id: str, request: GroupHeartbeat, session: Session
    ) -> GroupHeartbeatReply:
        """The assignment goes out whenever the member does not say that it holds just that."""
        standing = group.members[member_id].standing
        options = self._options
        is_known = request.member_epoch != EPOCH_JOIN and session.owned == standing.assigned
        return GroupHeartbeatReply(
            member_id=member_id,
            member_epoch=standing.epoch,
            heartbeat_interval_ms=(
                options.heartbeat_interval_ms
                if group.is_settled(member_id)
                else options.reconcile_interval_ms
            ),
            assignment=None if is_known else _topic_partitions(standing.assigned),
        )

    def _group_list(self, _request: GroupList, _now: Moment) -> Reply:
        return GroupListReply(
            groups=[
                GroupListing(group=name, state=group.state(), members=len(group.members))
                for name, group in sorted(self._state.groups.items())
            ]
        )

    def _group_describe(self, request: GroupDescribe, _now: Moment) -> Reply:
        group = self._state.group(check_group_name(request.group))
        return GroupDescribeReply(
            group=group.name,
            state=group.state(),
            type="consumer",
            epoch=group.head.epoch,
            assignor=group.head.assignor,
            members=[_described(group, member_id) for member_id in sorted(group.members)],
            offsets=self._described_offsets(group),
        )

    def _described_offsets(self, group: Group) -> list[GroupOffset]:
        """Of every partition that is held or has a committed offset; the ends are for the router."""
        committed = self._state.offsets.of_group(group.name)
        described: list[GroupOffset] = []
        for topic, partition in sorted(committed.keys() | group.owners.keys()):
            found = committed.get((topic, partition))
            described.append(
                GroupOffset(
                    topic=topic,
                    partition=partition,
                    offset=NO_OFFSET if found is None else found.offset,
                    metadata=None if found is None else found.metadata,
                    committed_at_ms=None if found is None else found.committed_at_ms,
                    member_id=group.owners.get((topic, partition)),
                )
            )
        return described

    def _group_delete(self, request: GroupDelete, _now: Moment) -> Reply:
        group = self._state.group(check_group_name(request.group))
        if group.members:
            raise NonEmptyGroup(
                f"group {group.name!r} has {len(group.members)} members; they must leave first"
            )
        offsets = self._state.offsets.of_group(group.name)
        self._journal.stage([Entry(OffsetKey(group.name, *place), None) for place in offsets])
        self._journal.stage([Entry(GroupKey(group.name), None)])
        return GroupDeleteReply()

    # -- offsets and producers -----------------------------------------------------------------------

    def _offset_commit(self, request: OffsetCommit, now: Moment) -> Reply:
        """Each offset stands or falls on its own; who may not commit at all gets one error."""
        topics = self._known_topics()
        group = self._state.group_or_new(check_group_name(request.group))
        self._check_committer(group, request)
        self._check_room(group)
        if group.name not in self._state.groups:
            self._journal.stage([Entry(GroupKey(group.name), NEW_HEAD)])
        return OffsetCommitReply(
            offsets=[
                self._commit_one(group, request, asked, topics, now.wall_ms) for asked in request.offsets
            ]
        )

    def _check_committer(self, group: Group, request: OffsetCommit) -> None:
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

    def _commit_one(
        self, group: Group, request: OffsetCommit, asked: CommitOffset, topics: Topics, wall_ms: int
    ) -> CommittedOffsetResult:
        try:
            self._check_owner(group, request.member_id, asked)
            self._journal.stage([commit(self._state.offsets, topics, group.name, asked, wall_ms)])
        except OdradekError as error:
            return CommittedOffsetResult(topic=asked.topic, partition=asked.partition, error=error.wire())
        return CommittedOffsetResult(topic=asked.topic, partition=asked.partition)

    def _check_owner(self, group: Group, member_id: str | None, asked: CommitOffset) -> None:
        """A late commit for a partition that moved on would take its new holder's position back."""
        owner = group.owners.get((asked.topic, asked.partition), member_id)
        if owner != member_id:
            raise StaleMemberEpoch(
                f"{asked.topic}-{asked.partition} is held by member {owner}, not by {member_id} any more"
            )

    def _offset_fetch(self, request: OffsetFetch, _now: Moment) -> Reply:
        committed = self._state.offsets.of_group(check_group_name(request.group))
        return OffsetFetchReply(offsets=fetch(committed, self._known_topics(), request.topics))

    def _init_producer_id(self, _request: InitProducerId, _now: Moment) -> Reply:
        ids = self._state.producer_ids
        self._journal.stage(ids.new_block())
        return InitProducerIdReply(producer_id=ids.take(), producer_epoch=0)


def _owned(request: GroupHeartbeat) -> PartitionSet | None:
    if request.owned is None:
        return None
    return frozenset((item.topic, number) for item in request.owned for number in item.partitions)


def _topic_partitions(partitions: PartitionSet) -> list[TopicPartitions]:
    return [
        TopicPartitions(topic=topic, partitions=numbers) for topic, numbers in by_topic(partitions).items()
    ]


def _described(group: Group, member_id: str) -> GroupMember:
    standing, profile = group.members[member_id].standing, group.profile(member_id)
    return GroupMember(
        member_id=member_id,
        member_epoch=standing.epoch,
        state=standing.state.value,
        client_id=profile.client_id,
        instance_id=profile.instance_id,
        topics=list(profile.topics),
        assignment=_topic_partitions(standing.held),
    )

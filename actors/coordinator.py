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
from actors.classic import INITIAL_DELAY_S, ClassicGroup
from actors.classic_requests import (
    CLASSIC_REQUESTS,
    SESSION_TIMEOUT_MS_MIN,
    ClassicOptions,
    ClassicRequests,
)
from actors.committing import OffsetRequests
from actors.describing import describe_for_kafka, describe_group, list_groups, topic_partitions
from actors.effects import Effect, Log
from actors.expiry import MINUTE_MS, Expiry
from actors.group_states import GroupStep, check_step, next_group_state
from actors.groups import Group
from actors.journal import CoordinatorLog, Journal
from actors.ledger import Entry, GroupKey, GroupType, OffsetKey
from actors.members import EPOCH_JOIN, EPOCH_LEAVE, EPOCH_PAUSE, MemberState
from actors.membership import (
    admit,
    check_text,
    holds_what_is_gone,
    leave,
    leave_for_a_while,
    reconcile,
    refresh,
)
from actors.messages import ClassicCommit, ClassicDescribe, OffsetDelete, Routes
from actors.sessions import LATENESS_MAX_S, MemberName, Session, Sessions
from actors.state import CoordinatorState
from actors.topics import Topics, TopicTable, topics_of
from odradek.protocol.errors import (
    CoordinatorNotAvailable,
    InvalidRequest,
    NonEmptyGroup,
    OdradekError,
    ThrottlingQuotaExceeded,
)
from odradek.protocol.messages import (
    GroupDelete,
    GroupDeleteReply,
    GroupDescribe,
    GroupHeartbeat,
    GroupHeartbeatReply,
    GroupList,
    InitProducerId,
    InitProducerIdReply,
    OffsetCommit,
    OffsetFetch,
    Ping,
    PingReply,
    Reply,
    Request,
    api_name,
    failure,
)
from odradek.protocol.names import check_group_name

MAINTENANCE_RETRY_S = 1.0
"""How long until what the topics' changes call for is tried again, where it could not be written."""
HEARTBEAT_INTERVAL_MS_MIN = 250
HEARTBEAT_SPACING_MS = 1
"""All members together send one heartbeat in so long at most, as far as the interval's option allows."""

_READS = (OffsetFetch, GroupList, GroupDescribe, ClassicDescribe)
"""Requests that change nothing."""


@dataclass(frozen=True, slots=True)
class CoordinatorOptions:
    """``new_id`` makes the member ids of those that bring none; it must never repeat itself."""

    new_id: Callable[[], str]
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 1_000
    reconcile_interval_ms: int = 100
    """The heartbeat interval of a member that is on its way to a new assignment."""
    offsets_retention_minutes: int = 7 * 24 * 60
    """Kafka's offsets.retention.minutes: how long a group that nobody uses keeps its offsets."""
    classic_initial_delay_s: float = INITIAL_DELAY_S
    classic_session_timeout_ms_min: int = SESSION_TIMEOUT_MS_MIN


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
        self._journal = Journal(log, self._state)
        self.entries_recovered = self._journal.recover(progress)
        self._sessions = Sessions()
        self._sessions_started = False
        self._table: TopicTable | None = None
        self._maintenance_due_s: float | None = None
        classic_options = ClassicOptions(
            options.new_id, options.classic_initial_delay_s, options.classic_session_timeout_ms_min
        )
        self._classic = ClassicRequests(self._state, self._journal, classic_options)
        retention_ms = options.offsets_retention_minutes * MINUTE_MS
        self._expiry = Expiry(self._state, retention_ms, self._classic.has_members)
        self._offset_requests = OffsetRequests(self._state, self._journal, self._classic, self._known_topics)
        self._handlers: dict[type[Request], Callable[[Any, Moment], Reply]] = {
            Ping: self._ping,
            GroupHeartbeat: self._group_heartbeat,
            OffsetCommit: self._offset_requests.commit,
            OffsetFetch: self._offset_requests.fetch,
            GroupList: self._group_list,
            GroupDescribe: self._group_describe,
            GroupDelete: self._group_delete,
            InitProducerId: self._init_producer_id,
            ClassicCommit: self._offset_requests.commit_classic,
            ClassicDescribe: self._classic_describe,
            OffsetDelete: self._offset_requests.delete,
        }

    # -- the actor -----------------------------------------------------------------------------------

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        """Decide one request, or release the replies that a sync covers."""
        self._start_sessions(now)
        if isinstance(message, Synced):
            return [*self._journal.synced(message), *self._classic.recover(now)]
        if not isinstance(message, Envelope):
            return []
        if isinstance(message.request, Routes):
            return self._routes(message.request, now)
        if isinstance(message.request, CLASSIC_REQUESTS):
            return self._classic.receive(message, now)
        return self._answer(message, now)

    def settle(self, now: Moment) -> Sequence[Effect]:
        """Expel whose time is up, follow the topics, write what gathered."""
        self._start_sessions(now)
        self._maintain(now)
        return [
            *self._expel_the_late(now),
            *self._classic.settle(now),
            *self._expire(now),
            *self._journal.settle(now),
            *self._classic.recover(now),
        ]

    def deadline(self) -> float | None:
        """When a member's time is up at the earliest, or something else is to be looked after."""
        if not self._sessions_started:
            return 0.0 if self._state.groups else None
        expiry_due_s = None if self._journal.is_writing else self._expiry.due_s()
        sessions_due_s = (self._sessions.next_due_s(), self._classic.deadline())
        looked_at = (*sessions_due_s, self._maintenance_due_s, expiry_due_s)
        dues = [due for due in looked_at if due is not None]
        return min(dues, default=None)

    def stop(self, now: Moment) -> Sequence[Effect]:
        """Everything accepted is durable and answered; what comes after gets no answer."""
        return [*self._classic.stop(), *self._journal.stop(now)]

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
        self._classic.start(now)
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
                if self._is_late(group, name, session, now):
                    effects.append(self._expel(group, name, session, now))
            elif self._journal.is_idle:
                # Only then: an expulsion that is not durable yet may still be undone.
                self._sessions.forget(name)
        return effects

    def _is_late(self, group: Group, name: MemberName, session: Session, now: Moment) -> bool:
        """A static member that left while it had to let go has let go; only its session counts."""
        revokes = group.members[name.member_id].standing.state is MemberState.UNREVOKED
        return revokes or session.expires_s <= now.monotonic_s

    def _expel(self, group: Group, name: MemberName, session: Session, now: Moment) -> Effect:
        """A member's time is up. Should the write fail, the member is there again and named again."""
        self._stage(group, leave(group, name.member_id, now.wall_ms))
        self._give_new_target(group)
        why = "session_timeout" if session.expires_s <= now.monotonic_s else "rebalance_timeout"
        fields: dict[str, object] = {"group": name.group, "member_id": name.member_id, "reason": why}
        return Log("member_expelled", fields)

    def _routes(self, routes: Routes, now: Moment) -> Sequence[Effect]:
        topics = topics_of(routes)
        if self._table is None or topics != self._table.topics:
            self._table = TopicTable(topics, self._table)
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
            if group.head.type is GroupType.CONSUMER:
                self._give_new_target(group)
        self._journal.stage(self._offset_requests.orphans())
        wrote = self._journal.mark() > mark
        self._maintenance_due_s = now.monotonic_s + MAINTENANCE_RETRY_S if wrote else None

    def _known_topics(self) -> Topics:
        if self._table is None:
            raise CoordinatorNotAvailable("the coordinator was not told of the topics yet; try again")
        return self._table.topics

    def _give_new_target(self, group: Group) -> None:
        if self._table is not None:
            self._stage(group, refresh(group, self._table))

    def _stage(self, group: Group, entries: list[Entry]) -> None:
        """Stage what changes a group, and hold its next state against the table of states."""
        if not entries:
            return
        before = group.picture()
        self._journal.stage(entries)
        check_step(group.name, before, self._state.groups[group.name].picture())

    def _expire(self, now: Moment) -> Sequence[Effect]:
        """Forget what nobody asked for in a long time."""
        if self._journal.is_writing:
            return []
        count = self._expiry.turn(now, self._journal.stage)
        return [Log("offsets_expired", {"entries": count})] if count else []

    # -- groups --------------------------------------------------------------------------------------

    def _ping(self, _request: Ping, _now: Moment) -> Reply:
        return PingReply()

    def _group_heartbeat(self, request: GroupHeartbeat, now: Moment) -> Reply:
        """Join, stay or leave. The order of the steps is that of KIP-848's coordinator."""
        self._known_topics()
        group = self._state.group_or_new(check_group_name(request.group))
        self._classic.refuse_consumer(group.name)
        member_id = self._member_id(request)
        if request.member_epoch in (EPOCH_LEAVE, EPOCH_PAUSE):
            return self._depart(group, member_id, request.member_epoch, now)
        rejoined = request.member_epoch == EPOCH_JOIN
        owned = _owned(request)
        self._stage(group, admit(group, member_id, request, owned))
        group = self._state.group(group.name)
        if group.head.epoch != group.head.target_epoch:
            self._give_new_target(group)
        held = NO_PARTITIONS if rejoined else owned
        step = reconcile(group, member_id, held, rejoined=rejoined)
        self._stage(group, step)
        if step and holds_what_is_gone(group):
            self._give_new_target(group)
        session = self._sessions.touch(MemberName(group.name, member_id), self._session_end_s(now), held)
        self._time_revocation(group, member_id, bool(step), now)
        return self._heartbeat_reply(group, member_id, request, session)

    def _member_id(self, request: GroupHeartbeat) -> str:
        if request.member_id is not None:
            return check_text(request.member_id, "member_id")
        if request.member_epoch != EPOCH_JOIN:
            raise InvalidRequest(f"member_epoch {request.member_epoch} needs a member_id; 0 joins without")
        return self._options.new_id()

    def _depart(self, group: Group, member_id: str, epoch: int, now: Moment) -> Reply:
        if epoch == EPOCH_PAUSE:
            self._stage(group, leave_for_a_while(group, member_id))
        else:
            self._stage(group, leave(group, member_id, now.wall_ms))
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
                self._settled_interval_ms() if group.is_settled(member_id) else options.reconcile_interval_ms
            ),
            assignment=None if is_known else topic_partitions(standing.assigned),
        )

    def _settled_interval_ms(self) -> int:
        """The fewer members there are in all groups, the sooner each hears of a change."""
        members_ms = HEARTBEAT_SPACING_MS * len(self._sessions)
        return min(self._options.heartbeat_interval_ms, max(HEARTBEAT_INTERVAL_MS_MIN, members_ms))

    def _group_list(self, _request: GroupList, _now: Moment) -> Reply:
        return list_groups(self._state, self._classic)

    def _group_describe(self, request: GroupDescribe, _now: Moment) -> Reply:
        group, live = self._group(request.group)
        return describe_group(group, live, self._state.offsets.of_group(group.name))

    def _classic_describe(self, request: ClassicDescribe, _now: Moment) -> Reply:
        return describe_for_kafka(*self._group(request.group))

    def _group(self, name: str) -> tuple[Group, ClassicGroup | None]:
        """A group, and its classic members' side of it. Raises GroupIdNotFound."""
        live = self._classic.group(check_group_name(name))
        return (self._state.group(name) if live is None else self._state.group_or_new(name)), live

    def _group_delete(self, request: GroupDelete, _now: Moment) -> Reply:
        group, live = self._group(request.group)
        members = len(group.members if live is None else live.members)
        if members:
            raise NonEmptyGroup(f"group {group.name!r} has {members} members; they must leave first")
        next_group_state(group.state, GroupStep.DELETE)
        self._classic.forget(group.name)
        offsets = self._state.offsets.of_group(group.name)
        self._journal.stage([Entry(OffsetKey(group.name, *place), None) for place in offsets])
        self._journal.stage([Entry(GroupKey(group.name), None)])
        return GroupDeleteReply()

    # -- producers -----------------------------------------------------------------------------------

    def _init_producer_id(self, _request: InitProducerId, _now: Moment) -> Reply:
        ids = self._state.producer_ids
        self._journal.stage(ids.new_block())
        return InitProducerIdReply(producer_id=ids.take(), producer_epoch=0)


def _owned(request: GroupHeartbeat) -> PartitionSet | None:
    if request.owned is None:
        return None
    return frozenset((item.topic, number) for item in request.owned for number in item.partitions)

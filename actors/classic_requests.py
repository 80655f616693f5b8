"""The coordinator's side of classic groups: requests wait here, and leave when what they say is durable.

Rule 1. A group that lives has a ``ClassicGroup``; what must survive a crash of it is kept in the log, and
        every answer waits behind what was staged before it, as all replies of the coordinator do.
Rule 2. Where a write failed, or the group was deleted or became one of the other kind, the head in the state
        is not the one that was staged last here. Then the group is what the log says, as after a crash:
        whoever waits is told to find the coordinator again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from actors.actor import Envelope, Moment
from actors.classic import ClassicGroup
from actors.classic_keeping import entries_to_keep, revive
from actors.classic_members import REBALANCE_TIMEOUT_MS_MAX, Answer, Joined, Synced, Token
from actors.deadlines import Deadlines
from actors.effects import Effect, Log, Reply, Sender
from actors.groups import Group
from actors.journal import Journal
from actors.ledger import GroupHead
from actors.membership import check_text
from actors.messages import (
    ClassicHeartbeat,
    ClassicHeartbeatReply,
    ClassicJoin,
    ClassicJoinReply,
    ClassicLeave,
    ClassicLeaver,
    ClassicLeaveReply,
    ClassicSync,
    ClassicSyncReply,
)
from actors.sessions import LATENESS_MAX_S
from actors.state import GROUPS_MAX, CoordinatorState
from odradek.protocol.errors import (
    CoordinatorNotAvailable,
    GroupIdNotFound,
    GroupMaxSizeReached,
    InconsistentGroupProtocol,
    InvalidRequest,
    InvalidSessionTimeout,
    OdradekError,
    PolicyViolation,
    ThrottlingQuotaExceeded,
    UnknownMemberId,
)
from odradek.protocol.messages import Reply as ReplyMessage
from odradek.protocol.messages import Request, failure
from odradek.protocol.names import check_group_name

CLASSIC_REQUESTS: tuple[type[Request], ...] = (ClassicJoin, ClassicSync, ClassicHeartbeat, ClassicLeave)
SESSION_TIMEOUT_MS_MIN = 6_000
SESSION_TIMEOUT_MS_MAX = 1_800_000
"""Kafka's group.min.session.timeout.ms and group.max.session.timeout.ms."""
METADATA_BYTES_MAX = 128 << 10
"""What one member may tell its leader."""
ASSIGNMENT_BYTES_MAX = 384 << 10
"""What a leader may tell one member. With the above, a member fits into an entry of the journal."""
GROUP_BYTES_MAX = 32 << 20
"""Both, of all members of one group: what its leader learns must fit into a frame."""
CLASSIC_BYTES_MAX = 256 << 20
"""Both, of all members of all groups together."""
PROTOCOLS_PER_MEMBER_MAX = 50
ID_PREFIX_CHARACTERS_MAX = 48
"""Of a client id or an instance id, which a new member's id begins with, as Kafka's do."""


@dataclass(frozen=True, slots=True)
class ClassicOptions:
    """``new_id`` makes the unique part of member ids."""

    new_id: Callable[[], str]
    initial_delay_s: float
    session_timeout_ms_min: int = SESSION_TIMEOUT_MS_MIN


@dataclass(slots=True)
class _Live:
    """A group, the head that was staged of it last, and how many of its changes that one knows."""

    group: ClassicGroup
    head: GroupHead | None
    changes: int = 0
    size_bytes: int = 0


_Due = list[tuple[Token, ReplyMessage]]
"""Replies, to whom."""


class ClassicRequests:
    """Every classic group that lives, and what waits for it."""

    def __init__(self, state: CoordinatorState, journal: Journal, options: ClassicOptions) -> None:
        self._state = state
        self._journal = journal
        self._options = options
        self._live: dict[str, _Live] = {}
        self._waiting: dict[Token, Sender] = {}
        self._tokens = count(1)
        self._deadlines = Deadlines()
        self._size_bytes = 0
        self._failures_seen = 0

    # -- questions of others -------------------------------------------------------------------------

    def group(self, name: str) -> ClassicGroup | None:
        """The group as it lives; None where nobody is in it."""
        live = self._live.get(name)
        return None if live is None or not live.group.members else live.group

    def has_members(self, name: str) -> bool:
        """Whether anybody is in a classic group of this name, or about to be."""
        return self.group(name) is not None

    @property
    def names(self) -> list[str]:
        """Groups that somebody is in, or about to be; some may not be kept yet."""
        return [name for name, live in self._live.items() if live.group.members]

    def refuse_consumer(self, name: str) -> None:
        """Raises GroupIdNotFound, as Kafka does, where a member of the other kind cannot come in."""
        if self.has_members(name):
            raise GroupIdNotFound(
                f"group {name!r} is a classic group (its members use Kafka's JoinGroup), not a consumer "
                "group; it changes over when they have left"
            )

    def check_commit(
        self, name: str, member_id: str | None, generation: int, instance_id: str | None, now: Moment
    ) -> None:
        """Who may commit to a group that is classic, or empty. Raises as ``ClassicGroup.check_commit``."""
        group = self.group(name) or ClassicGroup(name)
        group.check_commit(member_id, generation, instance_id, now.monotonic_s)

    def forget(self, name: str) -> None:
        """The group is about to be deleted. Raises InvalidTransition where it has members."""
        live = self._live.pop(name, None)
        if live is not None:
            live.group.delete()

    # -- requests ------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope, now: Moment) -> Sequence[Effect]:
        """Decide one of CLASSIC_REQUESTS."""
        request: Any = envelope.request
        effects = self._resume(request.group, now)
        token = next(self._tokens)
        self._waiting[token] = envelope.sender
        try:
            if self._journal.is_full:
                raise ThrottlingQuotaExceeded("too many requests wait for the coordinator's disk")
            due = self._decide(token, request, now)
        except OdradekError as error:
            due = [(token, failure(error))]
        # These only move deadlines further away, and with a thousand members they are many.
        is_quiet = isinstance(request, ClassicHeartbeat) or (isinstance(request, ClassicSync) and not due)
        return [*effects, *self._finish(request.group, due, now, is_quiet=is_quiet)]

    def _decide(self, token: Token, request: Request, now: Moment) -> _Due:
        match request:
            case ClassicJoin():
                return self._join(token, request, now)
            case ClassicSync():
                return self._sync(token, request, now)
            case ClassicHeartbeat():
                self._found(request.group).heartbeat(request, now.monotonic_s)
                return [(token, ClassicHeartbeatReply())]
            case ClassicLeave():
                return self._leave(token, request, now)
        raise InvalidRequest(f"{type(request).__name__} is not about classic groups")

    def _found(self, name: str) -> ClassicGroup:
        live = self._live.get(name)
        if live is None:
            raise UnknownMemberId(f"group {name!r} has no classic members; join it again without an id")
        return live.group

    def _found_or_new(self, name: str, now: Moment) -> ClassicGroup:
        live = self._live.get(name)
        if live is not None:
            return live.group
        kept = self._state.group_or_new(name)
        if kept.members:
            raise InconsistentGroupProtocol(
                f"group {name!r} has members of the {kept.head.type.value} protocol, which the coordinator "
                "assigns; it changes over when they have left"
            )
        is_kept = name in self._state.groups
        if not is_kept and len(self._state.groups.keys() | self._live.keys()) >= GROUPS_MAX:
            raise PolicyViolation(f"there are {GROUPS_MAX} groups already; delete those that are not used")
        group = revive(kept, self._options.initial_delay_s, now.monotonic_s)
        self._live[name] = _Live(group, kept.head if is_kept else None)
        return group

    def _join(self, token: Token, request: ClassicJoin, now: Moment) -> _Due:
        check_group_name(request.group)
        size_bytes = check_join(request, self._options.session_timeout_ms_min)
        group = self._found_or_new(request.group, now)
        self._check_room(group, size_bytes)
        called = request.instance_id or request.client_id or "member"
        new_id = f"{called[:ID_PREFIX_CHARACTERS_MAX]}-{self._options.new_id()}"
        return _replies(group, group.join(token, request, new_id, now.monotonic_s))

    def _sync(self, token: Token, request: ClassicSync, now: Moment) -> _Due:
        group = self._found(request.group)
        self._check_room(group, check_assignments(request))
        return _replies(group, group.sync(token, request, now.monotonic_s))

    def _check_room(self, group: ClassicGroup, size_bytes: int) -> None:
        if group.size_bytes + size_bytes > GROUP_BYTES_MAX:
            raise GroupMaxSizeReached(
                f"the members of group {group.name!r} hold {group.size_bytes} of {GROUP_BYTES_MAX} bytes "
                "already"
            )
        if self._size_bytes + size_bytes > CLASSIC_BYTES_MAX:
            raise PolicyViolation(
                f"the members of all classic groups hold {self._size_bytes} of {CLASSIC_BYTES_MAX} bytes "
                "already"
            )

    def _leave(self, token: Token, request: ClassicLeave, now: Moment) -> _Due:
        group = self._found(request.group)
        answers: list[Answer] = []
        left: list[ClassicLeaver] = []
        for leaver in request.members:
            error = None
            try:
                answers += group.leave(leaver, now.monotonic_s)
            except OdradekError as raised:
                error = raised.wire()
            left.append(
                ClassicLeaver(member_id=leaver.member_id, instance_id=leaver.instance_id, error=error)
            )
        return [*_replies(group, answers), (token, ClassicLeaveReply(members=left))]

    # -- what is kept, and what is answered ----------------------------------------------------------

    def _finish(self, name: str, due: _Due, now: Moment, *, is_quiet: bool = False) -> list[Effect]:
        """Stage what changed; the replies leave when that is durable."""
        mark = self._journal.mark()
        try:
            self._keep(name, now)
        except OdradekError as error:
            self._journal.rollback(mark)
            due = [(token, failure(error)) for token, _ in due]
        live = self._live.get(name)
        if live is not None and not is_quiet:
            self._deadlines.want(name, live.group.deadline())
        return [*self._answer(due), *self._resume(name, now)]

    def _keep(self, name: str, now: Moment) -> None:
        live = self._live.get(name)
        if live is None:
            return
        group = live.group
        self._size_bytes += group.size_bytes - live.size_bytes
        live.size_bytes = group.size_bytes
        if group.changes != live.changes:
            kept = self._state.groups.get(name) or Group(name)
            self._journal.stage(entries_to_keep(kept, group, now.wall_ms))
            live.head, live.changes = self._state.groups[name].head, group.changes
        if group.is_deserted:
            del self._live[name]

    def _answer(self, due: _Due) -> list[Effect]:
        effects: list[Effect] = []
        for token, reply in due:
            effects += self._journal.answer(self._waiting.pop(token), reply, None)
        return effects

    def _resume(self, name: str, now: Moment) -> list[Effect]:
        """Where the log does not say what was staged here, the group is what the log says."""
        effects: list[Effect] = []
        live, kept = self._live.get(name), self._state.groups.get(name)
        head = None if kept is None else kept.head
        if live is not None and (live.head is not head or live.changes != live.group.changes):
            del self._live[name]
            self._size_bytes -= live.size_bytes
            lost = CoordinatorNotAvailable(f"what group {name!r} agreed on was not kept; join it again")
            effects = self._answer([(token, failure(lost)) for token in live.group.waiting()])
        if name not in self._live and kept is not None and kept.classic_members:
            group = self._found_or_new(name, now)
            self._keep(name, now)
            self._deadlines.want(name, group.deadline())
        return effects

    # -- time ----------------------------------------------------------------------------------------

    def stop(self) -> list[Effect]:
        """The last call: who waits for others is told to find the coordinator again."""
        stopping = CoordinatorNotAvailable("the coordinator is stopping; try again")
        waiting, self._waiting = self._waiting, {}
        return [Reply(sender, failure(stopping)) for sender in waiting.values()]

    def start(self, now: Moment) -> None:
        """After a start every member that was kept has a whole session."""
        for name in self._state.groups:
            self._resume(name, now)

    def settle(self, now: Moment) -> list[Effect]:
        """Expel whose time is up, close barriers whose time is up."""
        effects: list[Effect] = []
        first_s = self._deadlines.first_s()
        if first_s is not None and now.monotonic_s - first_s > LATENESS_MAX_S:
            # The coordinator itself was held up, and takes nobody's silence for death.
            for live in self._live.values():
                live.group.prolong(now.monotonic_s)
        for name in self._deadlines.take(now.monotonic_s):
            effects += self._tick(name, now)
        return effects

    def recover(self, now: Moment) -> list[Effect]:
        """To be called behind the journal: go back from what could not be written."""
        if self._journal.failures == self._failures_seen:
            return []
        self._failures_seen = self._journal.failures
        effects: list[Effect] = []
        for name in sorted({*self._live, *self._state.groups}):
            effects += self._resume(name, now)
        return effects

    def deadline(self) -> float | None:
        """When ``settle`` must be called."""
        return self._deadlines.first_s()

    def _tick(self, name: str, now: Moment) -> list[Effect]:
        effects = self._resume(name, now)
        live = self._live.get(name)
        if live is None:
            return effects
        before = dict(live.group.members)
        due = _replies(live.group, live.group.tick(now.monotonic_s))
        for member_id in before.keys() - live.group.members.keys():
            why = "session_timeout" if before[member_id].expires_s <= now.monotonic_s else "rebalance_timeout"
            fields: dict[str, object] = {"group": name, "member_id": member_id, "reason": why}
            effects.append(Log("member_expelled", fields))
        return [*effects, *self._finish(name, due, now)]


def check_join(request: ClassicJoin, session_timeout_ms_min: int) -> int:
    """How many bytes a member wants to be kept.

    Raises InvalidSessionTimeout, InvalidRequest or PolicyViolation.
    """
    if not session_timeout_ms_min <= request.session_timeout_ms <= SESSION_TIMEOUT_MS_MAX:
        raise InvalidSessionTimeout(
            f"session.timeout.ms is {session_timeout_ms_min} to {SESSION_TIMEOUT_MS_MAX}, "
            f"not {request.session_timeout_ms}"
        )
    if not 1 <= request.rebalance_timeout_ms <= REBALANCE_TIMEOUT_MS_MAX:
        raise InvalidRequest(
            f"the rebalance time-out (max.poll.interval.ms) is 1 to {REBALANCE_TIMEOUT_MS_MAX} ms, "
            f"not {request.rebalance_timeout_ms}"
        )
    named = [
        (request.member_id, "member_id"),
        (request.instance_id, "group.instance.id"),
        (request.client_id, "client_id"),
        (request.client_host, "client_host"),
        *((known.name, "a protocol's name") for known in request.protocols[: PROTOCOLS_PER_MEMBER_MAX + 1]),
    ]
    for text, what in named:
        if text is not None:
            check_text(text, what)
    size_bytes = sum(len(known.metadata) for known in request.protocols)
    if size_bytes > METADATA_BYTES_MAX or len(request.protocols) > PROTOCOLS_PER_MEMBER_MAX:
        raise PolicyViolation(
            f"a member has {PROTOCOLS_PER_MEMBER_MAX} protocols with {METADATA_BYTES_MAX} bytes in all at "
            f"most, not {len(request.protocols)} with {size_bytes}"
        )
    return size_bytes


def check_assignments(request: ClassicSync) -> int:
    """How many bytes a leader wants to be kept. Raises PolicyViolation."""
    sizes = [len(assignment) for assignment in request.assignments.values()]
    if max(sizes, default=0) > ASSIGNMENT_BYTES_MAX:
        raise PolicyViolation(f"an assignment has {ASSIGNMENT_BYTES_MAX} bytes at most, not {max(sizes)}")
    return sum(sizes)


def _replies(group: ClassicGroup, answers: Sequence[Answer]) -> _Due:
    return [(answer.to, _reply(group, answer.result)) for answer in answers]


def _reply(group: ClassicGroup, result: Joined | Synced | OdradekError) -> ReplyMessage:
    if isinstance(result, OdradekError):
        return failure(result)
    protocol_type = group.protocol_type or ""
    if isinstance(result, Synced):
        return ClassicSyncReply(
            protocol_type=protocol_type, protocol=result.protocol, assignment=result.assignment
        )
    return ClassicJoinReply(
        generation=result.generation,
        protocol_type=protocol_type,
        protocol=result.protocol,
        leader=result.leader,
        member_id=result.member_id,
        members=list(result.members),
        skip_assignment=result.skip_assignment,
    )

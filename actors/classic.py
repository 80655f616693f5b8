"""A group of Kafka's classic protocol: members meet at two barriers, and one of them assigns.

Rule 1. Join barrier: a rebalance waits until every member has joined again, or the longest rebalance
        time-out is over; who has not joined by then is out (a static member only with its session).
Rule 2. Sync barrier: the leader brings the assignments of all; nobody is answered before it did. It has
        the same time-out, and the same exception.
Rule 3. A generation begins when the join barrier closes. What comes with another one is refused.

Pure: time comes as an argument, requests wait under a token that the caller chose, and every method
returns the answers that are due. ``image`` is what must be durable before those answers leave.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from actors.membership import MEMBERS_PER_GROUP_MAX
from actors.transitions import look_up
from odradek.protocol.errors import (
    FencedInstanceId,
    GroupMaxSizeReached,
    IllegalGeneration,
    InconsistentGroupProtocol,
    MemberIdRequired,
    OdradekError,
    RebalanceInProgress,
    UnknownMemberId,
)

INITIAL_DELAY_S = 3.0
"""How long the first rebalance of an empty group waits for more members: Kafka's
group.initial.rebalance.delay.ms."""
NO_GENERATION = -1
"""Of an administrator's commit, and of a member that has not joined."""


class ClassicState(enum.Enum):
    """Kafka's words."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class ClassicStep(enum.Enum):
    """What can happen to a classic group."""

    REBALANCE = "rebalance"  # members must join (again)
    JOINED = "all_joined"  # the join barrier closes: a new generation
    SYNCED = "leader_synced"  # the sync barrier closes: everybody has an assignment
    VACATE = "vacate"  # nobody joined, or the last one left
    DELETE = "delete"  # deleted, expired, or about to become a consumer group


CLASSIC_TRANSITIONS: dict[tuple[ClassicState, ClassicStep], ClassicState] = {
    (ClassicState.EMPTY, ClassicStep.REBALANCE): ClassicState.PREPARING,
    (ClassicState.EMPTY, ClassicStep.DELETE): ClassicState.DEAD,
    (ClassicState.PREPARING, ClassicStep.JOINED): ClassicState.COMPLETING,
    (ClassicState.PREPARING, ClassicStep.VACATE): ClassicState.EMPTY,
    (ClassicState.COMPLETING, ClassicStep.REBALANCE): ClassicState.PREPARING,
    (ClassicState.COMPLETING, ClassicStep.SYNCED): ClassicState.STABLE,
    (ClassicState.STABLE, ClassicStep.REBALANCE): ClassicState.PREPARING,
}
"""Every transition there is. A pair without an entry raises InvalidTransition."""

Token = int
"""Names a request that waits; the caller's."""


class Protocol(msgspec.Struct, frozen=True):
    """A way to assign that a member knows, and what it tells the leader about itself for it."""

    name: str
    metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class JoinAsk:
    """A JoinGroup request. ``member_id`` None: none yet."""

    member_id: str | None
    protocol_type: str
    protocols: tuple[Protocol, ...]
    session_timeout_ms: int
    rebalance_timeout_ms: int
    instance_id: str | None = None
    client_id: str | None = None


class JoinedMember(NamedTuple):
    """What the leader learns of each."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a join; ``members`` only for the leader."""

    generation: int
    protocol: str
    leader: str
    member_id: str
    members: tuple[JoinedMember, ...] = ()


@dataclass(frozen=True, slots=True)
class Synced:
    """The answer to a sync."""

    protocol: str
    assignment: bytes


class Answer(NamedTuple):
    """What the request that waits under ``to`` gets."""

    to: Token
    result: Joined | Synced | OdradekError


class MemberImage(msgspec.Struct, frozen=True):
    """A member as it is kept."""

    member_id: str
    protocols: tuple[Protocol, ...]
    session_timeout_ms: int
    rebalance_timeout_ms: int
    instance_id: str | None = None
    client_id: str | None = None
    assignment: bytes = b""


class ClassicImage(msgspec.Struct, frozen=True):
    """All of a group that must survive a crash."""

    generation: int
    protocol_type: str | None
    protocol: str | None
    leader: str | None
    members: tuple[MemberImage, ...] = ()


@dataclass(slots=True)
class _Member:
    """One member; ``join`` and ``sync`` are requests of it that wait."""

    image: MemberImage
    expires_s: float
    join: Token | None = None
    sync: Token | None = None

    @property
    def id(self) -> str:
        return self.image.member_id

    def touch(self, now_s: float) -> None:
        self.expires_s = now_s + self.image.session_timeout_ms / 1000

    def metadata(self, protocol: str) -> bytes:
        return next(known.metadata for known in self.image.protocols if known.name == protocol)


@dataclass(slots=True)
class ClassicGroup:
    """One group; see the module. Methods raise the OdradekError that the asking request gets at once."""

    name: str
    state: ClassicState = ClassicState.EMPTY
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    members: dict[str, _Member] = field(default_factory=dict)
    _promised: dict[str, float] = field(default_factory=dict)
    """Member ids that were given out and have not joined yet, and until when they may."""
    _open_until_s: float = math.inf
    """When the join barrier, or the sync barrier, closes for who has not come."""
    _not_before_s: float = -math.inf
    """The first rebalance waits at least until then."""

    # -- requests ------------------------------------------------------------------------------------

    def join(self, to: Token, ask: JoinAsk, new_id: str, now_s: float) -> list[Answer]:
        """A member joins, or joins again. Raises MemberIdRequired (with ``new_id`` as its message),
        UnknownMemberId, FencedInstanceId, InconsistentGroupProtocol, GroupMaxSizeReached."""
        self._check_protocols(ask)
        if ask.instance_id is not None:
            twin = self._with_instance(ask.instance_id)
            if twin is not None and ask.member_id is None:
                return self._replace(twin, to, ask, new_id, now_s)
            if twin is not None and twin.id != ask.member_id:
                raise FencedInstanceId(f"instance {ask.instance_id!r} is member {twin.id} now")
        if ask.member_id is None:
            return self._first_join(to, ask, new_id, now_s)
        member = self.members.get(ask.member_id)
        if member is None:
            if self._promised.pop(ask.member_id, None) is None:
                raise self._stranger(ask.member_id)
            return self._enter(to, ask, ask.member_id, now_s)
        return self._join_again(member, to, ask, now_s)

    def _first_join(self, to: Token, ask: JoinAsk, new_id: str, now_s: float) -> list[Answer]:
        if len(self.members) + len(self._promised) >= MEMBERS_PER_GROUP_MAX:
            raise GroupMaxSizeReached(f"group {self.name!r} has {MEMBERS_PER_GROUP_MAX} members already")
        if ask.instance_id is not None:
            return self._enter(to, ask, new_id, now_s)
        self._promised[new_id] = now_s + ask.session_timeout_ms / 1000
        raise MemberIdRequired(new_id)

    def _enter(self, to: Token, ask: JoinAsk, member_id: str, now_s: float) -> list[Answer]:
        if not self.members:
            self._not_before_s = now_s + min(INITIAL_DELAY_S, ask.rebalance_timeout_ms / 1000)
            self.protocol_type = ask.protocol_type
        member = self.members[member_id] = _Member(_image_of(ask, member_id), now_s)
        return self._park_join(member, to, now_s)

    def _join_again(self, member: _Member, to: Token, ask: JoinAsk, now_s: float) -> list[Answer]:
        unchanged = member.image.protocols == ask.protocols
        member.image = _image_of(ask, member.id, member.image.assignment)
        settled = self.state is ClassicState.COMPLETING or (
            self.state is ClassicState.STABLE and member.id != self.leader
        )
        if settled and unchanged:
            member.touch(now_s)
            return [Answer(to, self._joined(member))]
        return self._park_join(member, to, now_s)

    def _replace(self, twin: _Member, to: Token, ask: JoinAsk, new_id: str, now_s: float) -> list[Answer]:
        """A static member is back under another id. Where it says the same, nobody else notices."""
        unchanged = twin.image.protocols == ask.protocols
        del self.members[twin.id]
        image = _image_of(ask, new_id, twin.image.assignment)
        member = self.members[new_id] = _Member(image, now_s)
        if self.leader == twin.id:
            self.leader = new_id
        fenced = FencedInstanceId(f"instance {ask.instance_id!r} is member {new_id} now")
        answers = [Answer(token, fenced) for token in (twin.join, twin.sync) if token is not None]
        if self.state is ClassicState.STABLE and unchanged:
            member.touch(now_s)
            return [*answers, Answer(to, self._joined(member))]
        return [*answers, *self._park_join(member, to, now_s)]

    def _park_join(self, member: _Member, to: Token, now_s: float) -> list[Answer]:
        answers = []
        if member.join is not None:
            answers.append(Answer(member.join, RebalanceInProgress("a later join took this one's place")))
        member.join = to
        member.touch(now_s)
        if self.state is not ClassicState.PREPARING:
            answers += self._rebalance(now_s)
        return answers + self._close_join_barrier(now_s)

    def sync(
        self, to: Token, member_id: str, generation: int, assignments: Mapping[str, bytes], now_s: float
    ) -> list[Answer]:
        """A member waits for its assignment; the leader brings all. Raises UnknownMemberId,
        IllegalGeneration, RebalanceInProgress."""
        member = self._member(member_id, generation)
        member.touch(now_s)
        if self.state is ClassicState.PREPARING:
            raise RebalanceInProgress(f"group {self.name!r} is rebalancing; join it again")
        if self.state is ClassicState.STABLE:
            return [Answer(to, self._synced(member))]
        answers = []
        if member.sync is not None:
            answers.append(Answer(member.sync, RebalanceInProgress("a later sync took this one's place")))
        member.sync = to
        if member_id != self.leader:
            return answers
        for each in self.members.values():
            each.image = msgspec.structs.replace(each.image, assignment=assignments.get(each.id, b""))
        self._step(ClassicStep.SYNCED)
        return answers + self._answer_syncs(now_s)

    def _answer_syncs(self, now_s: float) -> list[Answer]:
        answers = []
        for member in self.members.values():
            if member.sync is not None:
                answers.append(Answer(member.sync, self._synced(member)))
                member.sync = None
                member.touch(now_s)
        return answers

    def heartbeat(self, member_id: str, generation: int, now_s: float) -> None:
        """A member lives. Raises UnknownMemberId, IllegalGeneration, or RebalanceInProgress: join again."""
        member = self._member(member_id, generation)
        member.touch(now_s)
        if self.state is ClassicState.PREPARING:
            raise RebalanceInProgress(f"group {self.name!r} is rebalancing; join it again")

    def leave(self, member_id: str, now_s: float) -> list[Answer]:
        """A member goes, of its own will. Raises UnknownMemberId."""
        if self._promised.pop(member_id, None) is not None:
            return []
        if member_id not in self.members:
            raise self._stranger(member_id)
        return self._remove([member_id], now_s)

    def check_commit(self, member_id: str | None, generation: int) -> None:
        """Who may commit: a member of this generation, or an administrator while nobody is in.

        Raises UnknownMemberId, IllegalGeneration, RebalanceInProgress.
        """
        if member_id is None and generation == NO_GENERATION:
            if self.members:
                raise UnknownMemberId(f"group {self.name!r} has members; only they may commit")
            return
        self._member(member_id or "", generation)
        if self.state is ClassicState.COMPLETING:
            raise RebalanceInProgress(f"group {self.name!r} waits for its leader's assignment")

    def delete(self) -> None:
        """The group is no more. Raises InvalidTransition where it has members."""
        self._step(ClassicStep.DELETE)

    # -- time ----------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When ``tick`` must be called, in monotonic seconds."""
        due_s = [*self._promised.values(), *(member.expires_s for member in self._expiring())]
        if self.state in (ClassicState.PREPARING, ClassicState.COMPLETING):
            due_s.append(self._open_until_s)
        if self.state is ClassicState.PREPARING and self._all_joined():
            due_s.append(self._not_before_s)
        return min(due_s, default=None)

    def tick(self, now_s: float) -> list[Answer]:
        """Whose time is up is out; a barrier whose time is up closes."""
        for member_id in [each for each, until_s in self._promised.items() if until_s <= now_s]:
            del self._promised[member_id]
        late = [member.id for member in self._expiring() if member.expires_s <= now_s]
        if self.state is ClassicState.COMPLETING and now_s >= self._open_until_s:
            self._open_until_s = math.inf
            absent = [each for each in self.members.values() if each.sync is None]
            late += [each.id for each in absent if each.image.instance_id is None and each.id not in late]
        return self._remove(late, now_s) if late else self._close_join_barrier(now_s)

    def _expiring(self) -> list[_Member]:
        """Who waits for an answer is not expected to say anything."""
        return [each for each in self.members.values() if each.join is None and each.sync is None]

    # -- the barriers --------------------------------------------------------------------------------

    def _rebalance(self, now_s: float) -> list[Answer]:
        self._step(ClassicStep.REBALANCE)
        timeout_ms = max(member.image.rebalance_timeout_ms for member in self.members.values())
        self._open_until_s = now_s + timeout_ms / 1000
        waiting = [member for member in self.members.values() if member.sync is not None]
        answers = []
        for member in waiting:
            assert member.sync is not None
            answers.append(Answer(member.sync, RebalanceInProgress(f"group {self.name!r} is rebalancing")))
            member.sync = None
            member.touch(now_s)
        return answers

    def _all_joined(self) -> bool:
        return not self._promised and all(member.join is not None for member in self.members.values())

    def _close_join_barrier(self, now_s: float) -> list[Answer]:
        """Nothing, unless all are there or the time is up."""
        if self.state is not ClassicState.PREPARING:
            return []
        if now_s < self._open_until_s and (not self._all_joined() or now_s < self._not_before_s):
            return []
        for member in list(self.members.values()):
            if member.join is None and member.image.instance_id is None:
                del self.members[member.id]
        joined = [member for member in self.members.values() if member.join is not None]
        if not joined:
            return self._vacate() if not self.members else self._wait_longer(now_s)
        return self._begin_generation(joined, now_s)

    def _wait_longer(self, now_s: float) -> list[Answer]:
        """Only static members are left, and none has come yet: until their sessions end."""
        self._open_until_s = min(member.expires_s for member in self.members.values())
        return []

    def _begin_generation(self, joined: Sequence[_Member], now_s: float) -> list[Answer]:
        self._step(ClassicStep.JOINED)
        self.generation += 1
        self.protocol = self._chosen_protocol()
        if self.leader not in {member.id for member in joined}:
            self.leader = joined[0].id
        self._open_until_s = now_s + max(m.image.rebalance_timeout_ms for m in self.members.values()) / 1000
        answers = []
        for member in joined:
            assert member.join is not None
            answers.append(Answer(member.join, self._joined(member)))
            member.join = None
            member.touch(now_s)
        return answers

    def _chosen_protocol(self) -> str:
        """Of those that all know, the one that most members prefer; the first by name of several."""
        common = self._common_protocols()
        votes = Counter(
            next(known.name for known in member.image.protocols if known.name in common)
            for member in self.members.values()
        )
        return min(votes, key=lambda name: (-votes[name], name))

    def _remove(self, member_ids: Sequence[str], now_s: float) -> list[Answer]:
        answers = []
        for member_id in member_ids:
            member = self.members.pop(member_id)
            tokens = [token for token in (member.join, member.sync) if token is not None]
            answers += [Answer(token, self._stranger(member_id)) for token in tokens]
        if self.state in (ClassicState.STABLE, ClassicState.COMPLETING):
            if self.members:
                answers += self._rebalance(now_s)
            else:
                self._step(ClassicStep.REBALANCE)
        if not self.members and self.state is ClassicState.PREPARING:
            return answers + self._vacate()
        return answers + self._close_join_barrier(now_s)

    def _vacate(self) -> list[Answer]:
        self._step(ClassicStep.VACATE)
        self.generation += 1
        self.leader = self.protocol = None
        self._open_until_s, self._not_before_s = math.inf, -math.inf
        return []

    def _step(self, step: ClassicStep) -> None:
        self.state = look_up("a classic group", CLASSIC_TRANSITIONS, self.state, step)

    # -- questions -----------------------------------------------------------------------------------

    def _check_protocols(self, ask: JoinAsk) -> None:
        names = {known.name for known in ask.protocols}
        if not names:
            raise InconsistentGroupProtocol("a member that joins names at least one protocol")
        others = [member for member in self.members.values() if member.id != ask.member_id]
        if others and ask.protocol_type != self.protocol_type:
            raise InconsistentGroupProtocol(
                f"group {self.name!r} has members of type {self.protocol_type!r}, not {ask.protocol_type!r}"
            )
        for member in others:
            names &= {known.name for known in member.image.protocols}
        if not names:
            raise InconsistentGroupProtocol(f"group {self.name!r} has no protocol that all its members know")

    def _common_protocols(self) -> set[str]:
        return set.intersection(
            *({known.name for known in member.image.protocols} for member in self.members.values())
        )

    def _with_instance(self, instance_id: str) -> _Member | None:
        return next(
            (member for member in self.members.values() if member.image.instance_id == instance_id), None
        )

    def _member(self, member_id: str, generation: int) -> _Member:
        member = self.members.get(member_id)
        if member is None:
            raise self._stranger(member_id)
        if generation != self.generation:
            raise IllegalGeneration(
                f"group {self.name!r} is in generation {self.generation}, the request says {generation}"
            )
        return member

    def _stranger(self, member_id: str) -> UnknownMemberId:
        return UnknownMemberId(f"group {self.name!r} has no member {member_id}; join it again without an id")

    def _joined(self, member: _Member) -> Joined:
        protocol, leader = self.protocol or "", self.leader or ""
        if member.id != leader:
            return Joined(self.generation, protocol, leader, member.id)
        members = tuple(
            JoinedMember(each.id, each.image.instance_id, each.metadata(protocol))
            for each in self.members.values()
        )
        return Joined(self.generation, protocol, leader, member.id, members)

    def _synced(self, member: _Member) -> Synced:
        return Synced(self.protocol or "", member.image.assignment)

    # -- what is kept --------------------------------------------------------------------------------

    def image(self) -> ClassicImage:
        """To be stored whenever a generation becomes stable or the group empty, before its answers leave."""
        members = tuple(member.image for member in self.members.values())
        return ClassicImage(self.generation, self.protocol_type, self.protocol, self.leader, members)

    @classmethod
    def restored(cls, name: str, image: ClassicImage, now_s: float) -> ClassicGroup:
        """The group after a restart: stable or empty, and a whole session for everybody."""
        group = cls(name, generation=image.generation, protocol_type=image.protocol_type)
        group.protocol, group.leader = image.protocol, image.leader
        for stored in image.members:
            member = group.members[stored.member_id] = _Member(stored, now_s)
            member.touch(now_s)
        if group.members:
            group.state = ClassicState.STABLE
        return group


def _image_of(ask: JoinAsk, member_id: str, assignment: bytes = b"") -> MemberImage:
    return MemberImage(
        member_id=member_id,
        protocols=ask.protocols,
        session_timeout_ms=ask.session_timeout_ms,
        rebalance_timeout_ms=ask.rebalance_timeout_ms,
        instance_id=ask.instance_id,
        client_id=ask.client_id,
        assignment=assignment,
    )

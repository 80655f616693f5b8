"""A group of Kafka's classic protocol: members meet at two barriers, and one of them assigns.

Rule 1. Join barrier: a rebalance waits until every member has joined again, or the longest rebalance
        time-out is over; who has not joined by then is out (a static member only with its session).
Rule 2. Sync barrier: the leader brings the assignments of all; nobody is answered before it did. It has
        the same time-out; who has not come by then is out, a static member too: one that lives and
        assigns nothing would hold up the others for as long as it lives.
Rule 3. A generation begins when the join barrier closes. What comes with another one is refused.

Pure: time comes as an argument, requests wait under a token that the caller chose, and every method
returns the answers that are due. What must be durable before those answers leave has changed whenever
``changes`` has.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from actors.classic_members import (
    Answer,
    ClassicMember,
    Joined,
    MemberImage,
    Roster,
    Synced,
    Token,
    image_of,
)
from actors.classic_states import CLASSIC_TRANSITIONS, ClassicState, ClassicStep
from actors.consumer_protocol import reads_the_same
from actors.membership import MEMBERS_PER_GROUP_MAX
from actors.messages import ClassicJoin, ClassicJoined, ClassicLeaver, ClassicMemberRequest, ClassicSync
from actors.transitions import look_up
from odradek.protocol.errors import (
    FencedInstanceId,
    GroupMaxSizeReached,
    IllegalGeneration,
    InconsistentGroupProtocol,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMemberId,
)

INITIAL_DELAY_S = 3.0
"""How long the first rebalance of an empty group waits for more members after the one that came last:
Kafka's group.initial.rebalance.delay.ms."""
NO_GENERATION = -1
"""Of an administrator's commit, and of a member that has not joined."""


class ClassicGroup:
    """One group; see the module. Methods raise the OdradekError that the asking request gets at once."""

    def __init__(self, name: str, generation: int = 0, initial_delay_s: float = INITIAL_DELAY_S) -> None:
        self.name = name
        self.state = ClassicState.EMPTY
        self.generation = generation
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader: str | None = None
        self.changes = 0
        """Rises with every change of what must be kept."""
        self._roster = Roster()
        self._initial_delay_s = initial_delay_s
        self._promised: dict[str, float] = {}
        """Member ids that were given out and have not joined yet, and until when they may."""
        self._open_until_s = math.inf
        """When the join barrier, or the sync barrier, closes for who has not come."""
        self._not_before_s = -math.inf
        """The first rebalance waits at least until then, or until its barrier closes for all."""

    @property
    def members(self) -> dict[str, ClassicMember]:
        """All that are in, by id."""
        return self._roster.members

    @property
    def is_deserted(self) -> bool:
        """Whether there is neither a member nor anybody who was promised to become one."""
        return not self.members and not self._promised

    @property
    def size_bytes(self) -> int:
        """What members and leaders sent, as far as it is kept."""
        return self._roster.size_bytes

    # -- requests ------------------------------------------------------------------------------------

    def join(self, to: Token, request: ClassicJoin, new_id: str, now_s: float) -> list[Answer]:
        """A member joins, or joins again. Raises MemberIdRequired (with ``new_id`` as its message),
        UnknownMemberId, FencedInstanceId, InconsistentGroupProtocol, GroupMaxSizeReached."""
        twin = None if request.instance_id is None else self._roster.with_instance(request.instance_id)
        self._check_protocols(request, without=request.member_id or (twin.id if twin is not None else None))
        if request.member_id is None:
            if twin is not None:
                return self._replace(twin, to, request, new_id, now_s)
            return self._first_join(to, request, new_id, now_s)
        if twin is not None and twin.id != request.member_id:
            raise FencedInstanceId(f"instance {request.instance_id!r} is member {twin.id} now")
        member = self.members.get(request.member_id)
        if member is not None and (request.instance_id is None or twin is not None):
            return self._join_again(member, to, request, now_s)
        if request.instance_id is None and self._promised.pop(request.member_id, None) is not None:
            return self._enter(to, request, request.member_id, now_s)
        raise self._stranger(request.member_id)

    def _first_join(self, to: Token, request: ClassicJoin, new_id: str, now_s: float) -> list[Answer]:
        if len(self.members) + len(self._promised) >= MEMBERS_PER_GROUP_MAX:
            raise GroupMaxSizeReached(f"group {self.name!r} has {MEMBERS_PER_GROUP_MAX} members already")
        if request.instance_id is not None or not request.id_first:
            return self._enter(to, request, new_id, now_s)
        self._promised[new_id] = now_s + request.session_timeout_ms / 1000
        raise MemberIdRequired(new_id)

    def _enter(self, to: Token, request: ClassicJoin, member_id: str, now_s: float) -> list[Answer]:
        if not self.members:
            self.protocol_type = request.protocol_type
        if not self.members or now_s < self._not_before_s:
            self._not_before_s = now_s + self._initial_delay_s
        member = self._roster.put(ClassicMember(member_id, image_of(request), now_s))
        return self._park_join(member, to, now_s)

    def _join_again(
        self, member: ClassicMember, to: Token, request: ClassicJoin, now_s: float
    ) -> list[Answer]:
        unchanged = member.image.protocols == tuple(request.protocols)
        self._roster.change(member, image_of(request, member.image))
        settled = self.state is ClassicState.COMPLETING or (
            self.state is ClassicState.STABLE and member.id != self.leader
        )
        if settled and unchanged:
            member.touch(now_s)
            return [Answer(to, self._joined(member))]
        return self._park_join(member, to, now_s)

    def _replace(
        self, twin: ClassicMember, to: Token, request: ClassicJoin, new_id: str, now_s: float
    ) -> list[Answer]:
        """A static member is back under another id. Where it wants the same, nobody else notices."""
        self._roster.take(twin.id)
        member = self._roster.put(ClassicMember(new_id, image_of(request, twin.image), now_s))
        if self.leader == twin.id:
            self.leader = new_id
        fenced = FencedInstanceId(f"instance {request.instance_id!r} is member {new_id} now")
        answers = [Answer(token, fenced) for token in (twin.join, twin.sync) if token is not None]
        if self.state is ClassicState.STABLE and self._wants_the_same(twin.image, member.image):
            self.changes += 1
            member.touch(now_s)
            joined = self._joined(member)
            if self.leader == new_id and request.may_skip:
                joined = replace(joined, skip_assignment=True)
            elif self.leader == new_id:
                # One that cannot be told to assign nothing would assign by what it does not know yet.
                joined = replace(joined, leader=twin.id, members=())
            return [*answers, Answer(to, joined)]
        return [*answers, *self._park_join(member, to, now_s)]

    def _wants_the_same(self, before: MemberImage, after: MemberImage) -> bool:
        """Whether the group's assignment still fits a static member that is back."""
        protocol = self.protocol or ""
        if self._chosen_protocol() != protocol or self.protocol_type is None:
            return False
        return reads_the_same(self.protocol_type, before.metadata(protocol), after.metadata(protocol))

    def _park_join(self, member: ClassicMember, to: Token, now_s: float) -> list[Answer]:
        answers = []
        if member.join is not None:
            answers.append(Answer(member.join, RebalanceInProgress("a later join took this one's place")))
        member.join = to
        member.touch(now_s)
        if self.state is not ClassicState.PREPARING:
            answers += self._rebalance(now_s)
        return answers + self._close_join_barrier(now_s)

    def sync(self, to: Token, request: ClassicSync, now_s: float) -> list[Answer]:
        """A member waits for its assignment; the leader brings all. Raises UnknownMemberId,
        FencedInstanceId, IllegalGeneration, InconsistentGroupProtocol, RebalanceInProgress."""
        member = self._member(request.member_id, request.generation, request.instance_id)
        self._check_agreed(request)
        member.touch(now_s)
        if self.state is ClassicState.PREPARING:
            raise RebalanceInProgress(f"group {self.name!r} is rebalancing; join it again")
        if self.state is ClassicState.STABLE:
            return [Answer(to, Synced(self.protocol or "", member.image.assignment))]
        answers = []
        if member.sync is not None:
            answers.append(Answer(member.sync, RebalanceInProgress("a later sync took this one's place")))
        member.sync = to
        if member.id != self.leader:
            return answers
        for each in self.members.values():
            assignment = request.assignments.get(each.id, b"")
            self._roster.change(each, msgspec.structs.replace(each.image, assignment=assignment))
        self._step(ClassicStep.SYNCED)
        self.changes += 1
        return answers + self._answer_syncs(now_s)

    def _answer_syncs(self, now_s: float) -> list[Answer]:
        answers = []
        for member in self.members.values():
            if member.sync is not None:
                answers.append(Answer(member.sync, Synced(self.protocol or "", member.image.assignment)))
                member.sync = None
                member.touch(now_s)
        return answers

    def heartbeat(self, request: ClassicMemberRequest, now_s: float) -> None:
        """A member lives. Raises UnknownMemberId, FencedInstanceId, IllegalGeneration, or
        RebalanceInProgress: join again."""
        member = self._member(request.member_id, request.generation, request.instance_id)
        member.touch(now_s)
        if self.state is ClassicState.PREPARING:
            raise RebalanceInProgress(f"group {self.name!r} is rebalancing; join it again")

    def leave(self, leaver: ClassicLeaver, now_s: float) -> list[Answer]:
        """A member goes, or an administrator has a static one go. Raises UnknownMemberId,
        FencedInstanceId."""
        member_id = leaver.member_id
        if leaver.instance_id is not None:
            member_id = self._instance(leaver.instance_id, member_id).id
        if member_id is not None and self._promised.pop(member_id, None) is not None:
            return self._close_join_barrier(now_s)
        if member_id not in self.members:
            raise self._stranger(member_id)
        return self._remove([member_id], now_s)

    def check_commit(
        self, member_id: str | None, generation: int, instance_id: str | None, now_s: float
    ) -> None:
        """Who may commit: a member of this generation, or an administrator while nobody is in.

        Raises UnknownMemberId, FencedInstanceId, IllegalGeneration, RebalanceInProgress.
        """
        if generation <= NO_GENERATION and not self.members:
            return  # whatever it calls itself
        if member_id is None and instance_id is None and generation <= NO_GENERATION:
            raise UnknownMemberId(f"group {self.name!r} has members; only they may commit")
        member = self._member(member_id, generation, instance_id)
        if self.state is ClassicState.COMPLETING:
            raise RebalanceInProgress(f"group {self.name!r} waits for its leader's assignment")
        member.touch(now_s)

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
            late += [each.id for each in self.members.values() if each.sync is None and each.id not in late]
        return self._remove(late, now_s) if late else self._close_join_barrier(now_s)

    def prolong(self, now_s: float) -> None:
        """Nobody could be heard for a while: every session, and every barrier, has its whole time again."""
        for member in self.members.values():
            member.touch(now_s)
        if self._open_until_s < math.inf and self.members:
            self._open_until_s = now_s + self._longest_rebalance_s()

    def _expiring(self) -> Iterable[ClassicMember]:
        return (each for each in self.members.values() if not each.is_waiting)

    # -- the barriers --------------------------------------------------------------------------------

    def _longest_rebalance_s(self) -> float:
        return max(member.rebalance_timeout_s for member in self.members.values())

    def _rebalance(self, now_s: float) -> list[Answer]:
        self._step(ClassicStep.REBALANCE)
        self._open_until_s = now_s + self._longest_rebalance_s()
        answers = []
        for member in self.members.values():
            if member.sync is not None:
                rebalancing = RebalanceInProgress(f"group {self.name!r} is rebalancing")
                answers.append(Answer(member.sync, rebalancing))
                member.sync = None
                member.touch(now_s)
        return answers

    def _all_joined(self) -> bool:
        return not self._promised and all(member.join is not None for member in self.members.values())

    def _close_join_barrier(self, now_s: float) -> list[Answer]:
        """Nothing, unless all are there or the time is up."""
        if self.state is not ClassicState.PREPARING:
            return []
        if now_s < self._open_until_s and not (self._all_joined() and now_s >= self._not_before_s):
            return []
        for member in list(self.members.values()):
            if member.join is None and member.image.instance_id is None:
                self._roster.take(member.id)
        joined = [member for member in self.members.values() if member.join is not None]
        if not joined:
            return self._vacate() if not self.members else self._wait_longer()
        return self._begin_generation(joined, now_s)

    def _wait_longer(self) -> list[Answer]:
        """Only static members are left, and none has come yet: until their sessions end."""
        self._open_until_s = min(member.expires_s for member in self.members.values())
        return []

    def _begin_generation(self, joined: Sequence[ClassicMember], now_s: float) -> list[Answer]:
        self._step(ClassicStep.JOINED)
        self.changes += 1
        self.generation += 1
        self.protocol = self._chosen_protocol()
        if self.leader not in {member.id for member in joined}:
            self.leader = joined[0].id
        self._open_until_s = now_s + self._longest_rebalance_s()
        answers = []
        for member in joined:
            assert member.join is not None
            answers.append(Answer(member.join, self._joined(member)))
            member.join = None
            member.touch(now_s)
        return answers

    def _chosen_protocol(self) -> str:
        """Of those that all know, the one that most members prefer; the first by name of several."""
        common = self._roster.common_protocols() or set()
        votes = Counter(
            next(known.name for known in member.image.protocols if known.name in common)
            for member in self.members.values()
        )
        return min(votes, key=lambda name: (-votes[name], name))

    def _remove(self, member_ids: Sequence[str], now_s: float) -> list[Answer]:
        answers = []
        for member_id in member_ids:
            member = self._roster.take(member_id)
            assert member is not None
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
        self.changes += 1
        self.generation += 1
        self.leader = self.protocol = None
        self._open_until_s, self._not_before_s = math.inf, -math.inf
        return []

    def _step(self, step: ClassicStep) -> None:
        self.state = look_up("a classic group", CLASSIC_TRANSITIONS, self.state, step)

    # -- questions -----------------------------------------------------------------------------------

    def _check_protocols(self, request: ClassicJoin, without: str | None) -> None:
        """A member goes by what the others know, not by what it once said itself."""
        names = {known.name for known in request.protocols}
        if not names or not request.protocol_type:
            raise InconsistentGroupProtocol("a member that joins names its type and at least one protocol")
        common = self._roster.common_protocols(without)
        if common is None:
            return
        if request.protocol_type != self.protocol_type:
            raise InconsistentGroupProtocol(
                f"group {self.name!r} has members of type {self.protocol_type!r}, "
                f"not {request.protocol_type!r}"
            )
        if not names & common:
            raise InconsistentGroupProtocol(f"group {self.name!r} has no protocol that all its members know")

    def _check_agreed(self, request: ClassicSync) -> None:
        said = (request.protocol_type or self.protocol_type, request.protocol or self.protocol)
        if said != (self.protocol_type, self.protocol):
            raise InconsistentGroupProtocol(
                f"group {self.name!r} goes by {self.protocol_type!r} and {self.protocol!r}, not by {said}"
            )

    def _instance(self, instance_id: str, member_id: str | None) -> ClassicMember:
        """The static member of that name. Raises UnknownMemberId, or FencedInstanceId for its old self."""
        member = self._roster.with_instance(instance_id)
        if member is None:
            raise UnknownMemberId(f"group {self.name!r} has no instance {instance_id!r}; join it again")
        if member_id not in (None, member.id):
            raise FencedInstanceId(f"instance {instance_id!r} is member {member.id} now")
        return member

    def _member(self, member_id: str | None, generation: int, instance_id: str | None) -> ClassicMember:
        if instance_id is not None:
            self._instance(instance_id, member_id or "")
        member = self.members.get(member_id or "")
        if member is None:
            raise self._stranger(member_id)
        if generation != self.generation:
            raise IllegalGeneration(
                f"group {self.name!r} is in generation {self.generation}, the request says {generation}"
            )
        return member

    def _stranger(self, member_id: str | None) -> UnknownMemberId:
        return UnknownMemberId(f"group {self.name!r} has no member {member_id}; join it again without an id")

    def _joined(self, member: ClassicMember) -> Joined:
        protocol, leader = self.protocol or "", self.leader or ""
        if member.id != leader:
            return Joined(self.generation, protocol, leader, member.id)
        members = tuple(
            ClassicJoined(each.id, each.image.instance_id, each.image.metadata(protocol))
            for each in self.members.values()
        )
        return Joined(self.generation, protocol, leader, member.id, members)

    # -- after a restart -----------------------------------------------------------------------------

    def restore(self, members: Mapping[str, MemberImage], *, settled: bool, now_s: float) -> None:
        """Take up the members that were kept, with a whole session for each.

        ``settled``: they have the assignments of this generation; else they must join again.
        """
        for member_id, image in members.items():
            self._roster.put(ClassicMember(member_id, image, now_s)).touch(now_s)
        if not members:
            return
        self.state = ClassicState.STABLE
        if not settled:
            self._rebalance(now_s)

    def waiting(self) -> list[Token]:
        """Every request that waits here."""
        tokens = ((member.join, member.sync) for member in self.members.values())
        return [token for pair in tokens for token in pair if token is not None]

"""Classic groups: transcripts of both barriers, and what always holds."""

from __future__ import annotations

from itertools import count, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.classic import INITIAL_DELAY_S, NO_GENERATION, ClassicGroup
from actors.classic_members import Answer, Joined, Synced
from actors.classic_states import CLASSIC_TRANSITIONS, ClassicState, ClassicStep
from actors.consumer_protocol import subscription
from actors.messages import ClassicHeartbeat, ClassicJoin, ClassicLeaver, ClassicSync
from actors.messages import ClassicProtocol as Protocol
from actors.transitions import InvalidTransition, look_up
from odradek.protocol.errors import (
    FencedInstanceId,
    IllegalGeneration,
    InconsistentGroupProtocol,
    MemberIdRequired,
    OdradekError,
    RebalanceInProgress,
    UnknownMemberId,
)

SESSION_S, REBALANCE_S = 10.0, 60.0
RANGE = (Protocol("range", b"r"),)


def ask(
    member_id: str | None = None,
    protocols: tuple[Protocol, ...] = RANGE,
    instance_id: str | None = None,
    kind: str = "consumer",
    id_first: bool = True,
) -> ClassicJoin:
    return ClassicJoin(
        group="g",
        member_id=member_id,
        protocol_type=kind,
        protocols=list(protocols),
        session_timeout_ms=int(SESSION_S * 1000),
        rebalance_timeout_ms=int(REBALANCE_S * 1000),
        instance_id=instance_id,
        id_first=id_first,
    )


def word(name: str, generation: int, instance_id: str | None = None) -> ClassicHeartbeat:
    return ClassicHeartbeat(group="g", member_id=name, generation=generation, instance_id=instance_id)


class Table:
    """A group, a clock, and all answers by token; no token is answered twice."""

    def __init__(self) -> None:
        self.group = ClassicGroup("g")
        self.now_s = 100.0
        self.tokens = count(1)
        self.answers: dict[int, Joined | Synced | OdradekError] = {}

    def state(self) -> ClassicState:
        return self.group.state

    def take(self, answers: list[Answer]) -> None:
        for to, result in answers:
            assert to not in self.answers, "answered twice"
            self.answers[to] = result

    def enter(self, name: str, **fields: object) -> int:
        """A dynamic member's two joins; the token of the second."""
        with pytest.raises(MemberIdRequired, match=name):
            self.group.join(next(self.tokens), ask(None, **fields), name, self.now_s)  # type: ignore[arg-type]
        return self.join(name, "", **fields)

    def join(self, name: str | None, new_id: str = "", **fields: object) -> int:
        token = next(self.tokens)
        self.take(self.group.join(token, ask(name, **fields), new_id, self.now_s))  # type: ignore[arg-type]
        return token

    def sync(self, name: str, generation: int, assignments: dict[str, bytes] | None = None) -> int:
        token = next(self.tokens)
        request = ClassicSync(group="g", member_id=name, generation=generation, assignments=assignments or {})
        self.take(self.group.sync(token, request, self.now_s))
        return token

    def beat(self, name: str, generation: int, instance_id: str | None = None) -> None:
        self.group.heartbeat(word(name, generation, instance_id), self.now_s)

    def leave(self, name: str | None, instance_id: str | None = None) -> None:
        self.take(self.group.leave(ClassicLeaver(member_id=name, instance_id=instance_id), self.now_s))

    def check_commit(self, name: str | None, generation: int, instance_id: str | None = None) -> None:
        self.group.check_commit(name, generation, instance_id, self.now_s)

    def wait(self, seconds: float) -> None:
        """Let time go by, and call the group whenever it wants to be called."""
        end_s = self.now_s + seconds
        for _ in range(1000):
            due_s = self.group.deadline()
            if due_s is None or due_s > end_s:
                self.now_s = end_s
                return
            self.now_s = max(self.now_s, due_s)
            self.take(self.group.tick(self.now_s))
        raise AssertionError("the group asks to be called without end")

    def joined(self, token: int) -> Joined:
        answer = self.answers[token]
        assert isinstance(answer, Joined), answer
        return answer

    def assignment(self, token: int) -> bytes:
        answer = self.answers[token]
        assert isinstance(answer, Synced), answer
        return answer.assignment

    def settle(self, *names: str) -> None:
        """A stable group of these members, the first one being its leader."""
        for name in names:
            self.enter(name)
        self.wait(INITIAL_DELAY_S)
        for name in reversed(names):
            self.sync(name, self.group.generation, {each: each.encode() for each in names})
        assert self.state() is ClassicState.STABLE


@pytest.mark.parametrize(("state", "step"), sorted(product(ClassicState, ClassicStep), key=str))
def test_every_pair_is_in_the_table_or_an_error_that_names_both(
    state: ClassicState, step: ClassicStep
) -> None:
    if (state, step) in CLASSIC_TRANSITIONS:
        return
    with pytest.raises(InvalidTransition) as raised:
        look_up("a classic group", CLASSIC_TRANSITIONS, state, step)
    assert state.value in str(raised.value)
    assert step.value in str(raised.value)


def test_two_members_meet_at_both_barriers() -> None:
    t = Table()
    a, b = t.enter("a"), t.enter("b")
    assert t.state() is ClassicState.PREPARING
    t.wait(INITIAL_DELAY_S - 0.1)
    assert t.answers == {}
    t.wait(0.2)
    assert t.joined(b) == Joined(1, "range", "a", "b")
    assert [member.member_id for member in t.joined(a).members] == ["a", "b"]
    assert t.state() is ClassicState.COMPLETING
    with pytest.raises(RebalanceInProgress):
        t.check_commit("a", 1)
    follower = t.sync("b", 1)
    assert follower not in t.answers
    leader = t.sync("a", 1, {"a": b"0", "b": b"1"})
    assert (t.assignment(leader), t.assignment(follower)) == (b"0", b"1")
    assert t.state() is ClassicState.STABLE
    t.beat("a", 1)
    t.check_commit("b", 1)
    assert t.assignment(t.sync("b", 1)) == b"1", "asked again after a lost reply"


def test_a_third_member_makes_the_others_join_again() -> None:
    t = Table()
    t.settle("a", "b")
    c = t.enter("c")
    with pytest.raises(RebalanceInProgress):
        t.beat("a", 1)
    with pytest.raises(RebalanceInProgress):
        t.sync("a", 1)
    t.join("a")
    assert c not in t.answers
    b = t.join("b")
    assert t.joined(b) == Joined(2, "range", "a", "b")
    assert t.joined(c).generation == 2
    for stale in (1, 3):
        with pytest.raises(IllegalGeneration):
            t.beat("a", stale)
        with pytest.raises(IllegalGeneration):
            t.check_commit("a", stale)


def test_who_does_not_join_again_in_time_is_out() -> None:
    t = Table()
    t.settle("a", "b")
    c = t.enter("c")
    for _ in range(7):
        t.wait(9)
        if "a" in t.group.members:
            with pytest.raises(RebalanceInProgress):
                t.beat("a", 1)
    assert t.joined(c).leader == "c"
    assert set(t.group.members) == {"c"}
    with pytest.raises(UnknownMemberId):
        t.beat("a", 1)


def test_a_leader_that_never_syncs_is_out() -> None:
    t = Table()
    t.enter("a")
    t.enter("b")
    t.wait(INITIAL_DELAY_S)
    follower = t.sync("b", 1)
    t.wait(SESSION_S + 1)
    assert isinstance(t.answers[follower], RebalanceInProgress)
    again = t.join("b")
    assert t.joined(again) == Joined(2, "range", "b", "b", t.joined(again).members)


def test_leaving_and_silence() -> None:
    t = Table()
    t.settle("a", "b")
    t.leave("a")
    assert t.state() is ClassicState.PREPARING
    b = t.join("b")
    t.sync("b", t.joined(b).generation, {"b": b"all"})
    t.wait(SESSION_S + 1)
    assert (t.state(), t.group.members) == (ClassicState.EMPTY, {})
    t.check_commit(None, NO_GENERATION)
    with pytest.raises(UnknownMemberId):
        t.leave("b")
    t.group.delete()
    assert t.state() is ClassicState.DEAD


def test_only_an_empty_group_can_be_deleted() -> None:
    t = Table()
    t.settle("a")
    with pytest.raises(InvalidTransition, match=r"Stable.*delete"):
        t.group.delete()
    with pytest.raises(UnknownMemberId):
        t.check_commit(None, NO_GENERATION)


def test_a_static_member_is_back_without_a_rebalance_and_its_old_self_is_fenced() -> None:
    t = Table()
    first = t.join(None, "s1", instance_id="one")
    t.enter("b")
    t.wait(INITIAL_DELAY_S)
    assert t.joined(first).leader == "s1"
    t.sync("b", 1)
    t.sync("s1", 1, {"s1": b"x", "b": b"y"})
    back = t.join(None, "s2", instance_id="one")
    assert (t.joined(back).generation, t.joined(back).leader) == (1, "s1"), "it need assign nothing"
    assert (t.group.leader, t.joined(back).members) == ("s2", ())
    assert t.assignment(t.sync("s2", 1)) == b"x"
    assert t.state() is ClassicState.STABLE
    with pytest.raises(UnknownMemberId):
        t.beat("s1", 1)
    with pytest.raises(FencedInstanceId):
        t.join("s1", instance_id="one")


def test_a_static_leader_that_lives_and_assigns_nothing_is_out_with_the_sync_barrier() -> None:
    """Its heartbeats keep its session: with that exception the others would wait for as long as it beats."""
    t = Table()
    first = t.join(None, "s1", instance_id="one")
    t.enter("b")
    t.wait(INITIAL_DELAY_S)
    assert t.joined(first).leader == "s1"
    waiting = t.sync("b", 1)
    beats = 0
    while waiting not in t.answers and beats < 4 * REBALANCE_S / SESSION_S:
        t.wait(SESSION_S / 2)
        if "s1" in t.group.members:
            t.beat("s1", 1, "one")
            beats += 1
    assert isinstance(t.answers[waiting], RebalanceInProgress)
    assert set(t.group.members) == {"b"}
    assert beats >= REBALANCE_S / SESSION_S, "it had the whole time-out"
    again = t.join("b")
    assert (t.joined(again).generation, t.joined(again).leader) == (2, "b")


def test_the_protocol_is_one_that_all_know_and_most_prefer() -> None:
    t = Table()
    names = {"a": ("x", "y"), "b": ("y", "x"), "c": ("y", "z", "x")}
    tokens = [t.enter(name, protocols=tuple(map(Protocol, known))) for name, known in names.items()]
    with pytest.raises(InconsistentGroupProtocol, match="all its members know"):
        t.join(None, protocols=(Protocol("z"),))
    with pytest.raises(InconsistentGroupProtocol, match="type"):
        t.join(None, kind="connect")
    with pytest.raises(InconsistentGroupProtocol, match="at least one"):
        t.join(None, protocols=())
    t.wait(INITIAL_DELAY_S)
    assert {t.joined(token).protocol for token in tokens} == {"y"}


def test_an_id_that_was_given_out_and_never_used_is_forgotten() -> None:
    t = Table()
    with pytest.raises(MemberIdRequired):
        t.group.join(1, ask(), "a", t.now_s)
    t.wait(SESSION_S + 1)
    with pytest.raises(UnknownMemberId):
        t.join("a")
    assert t.group.deadline() is None


def test_what_was_kept_comes_back_stable() -> None:
    t = Table()
    t.settle("a", "b")
    kept = {name: member.image for name, member in t.group.members.items()}
    group = ClassicGroup("g", 1)
    group.leader, group.protocol = "a", "range"
    group.restore(kept, settled=True, now_s=t.now_s)
    assert group.state is ClassicState.STABLE
    group.heartbeat(word("b", 1), t.now_s)
    again = ClassicSync(group="g", member_id="b", generation=1, protocol="range")
    assert group.sync(1, again, t.now_s) == [Answer(1, Synced("range", b"b"))]
    again.protocol = "sticky"
    with pytest.raises(InconsistentGroupProtocol, match="goes by"):
        group.sync(2, again, t.now_s)
    unsettled = ClassicGroup("g", 2)
    unsettled.restore(kept, settled=False, now_s=t.now_s)
    assert unsettled.state is ClassicState.PREPARING
    with pytest.raises(RebalanceInProgress):
        unsettled.heartbeat(word("b", 2), t.now_s)
    empty = ClassicGroup("g", 3)
    empty.restore({}, settled=True, now_s=0.0)
    assert empty.state is ClassicState.EMPTY


def test_while_members_keep_coming_the_first_rebalance_waits_on() -> None:
    t = Table()
    a = t.enter("a")
    t.wait(INITIAL_DELAY_S - 1)
    b = t.enter("b")
    t.wait(INITIAL_DELAY_S - 0.1)
    assert t.answers == {}, "one came, more may"
    t.wait(0.2)
    assert (t.joined(a).generation, t.joined(b).generation) == (1, 1)


def test_the_first_rebalance_waits_no_longer_than_the_rebalance_time_out() -> None:
    t = Table()
    tokens = []
    for number in range(60):
        tokens.append(t.enter(f"m{number}"))
        t.wait(INITIAL_DELAY_S / 2)
        if tokens[0] in t.answers:
            break
    assert t.now_s == pytest.approx(100 + REBALANCE_S, abs=INITIAL_DELAY_S)


def test_an_old_client_that_knows_nothing_of_ids_given_first_is_in_at_once() -> None:
    t = Table()
    token = next(t.tokens)
    t.take(t.group.join(token, ask(None, id_first=False), "old", t.now_s))
    t.wait(INITIAL_DELAY_S)
    assert t.joined(token).member_id == "old"


@pytest.mark.parametrize(
    ("back", "state"),
    [
        (Protocol("range", subscription(["events"])), ClassicState.STABLE),
        (Protocol("range", subscription(["events"]) + b"what it held"), ClassicState.STABLE),
        (Protocol("range", subscription(["events", "more"])), ClassicState.PREPARING),
        (Protocol("sticky", subscription(["events"])), ClassicState.PREPARING),
    ],
)
def test_a_static_member_that_wants_something_else_makes_a_rebalance(
    back: Protocol, state: ClassicState
) -> None:
    t = Table()
    both = (Protocol("range", subscription(["events"])), Protocol("sticky", subscription(["events"])))
    first = t.join(None, "s1", instance_id="one", protocols=both)
    t.join(None, "b", instance_id="two", protocols=both)
    t.wait(INITIAL_DELAY_S)
    assert t.joined(first).protocol == "range"
    t.sync("b", 1)
    t.sync("s1", 1, {"s1": b"x", "b": b"y"})
    t.join(None, "s2", instance_id="one", protocols=(back,))
    assert t.state() is state


def test_an_instance_id_must_be_its_members_own() -> None:
    t = Table()
    t.join(None, "s1", instance_id="one")
    t.wait(INITIAL_DELAY_S)
    t.sync("s1", 1, {"s1": b"x"})
    t.beat("s1", 1, "one")
    with pytest.raises(UnknownMemberId, match="no instance"):
        t.beat("s1", 1, "two")
    with pytest.raises(FencedInstanceId):
        t.check_commit("zombie", 1, "one")
    with pytest.raises(FencedInstanceId):
        t.leave("zombie", "one")
    with pytest.raises(UnknownMemberId):
        t.join("s1", instance_id="two")
    t.leave(None, "one")
    assert t.state() is ClassicState.EMPTY, "an administrator needs no member id"


def test_a_group_that_nobody_could_be_heard_of_has_its_time_again() -> None:
    t = Table()
    t.settle("a")
    t.now_s += SESSION_S + 5
    t.group.prolong(t.now_s)
    t.take(t.group.tick(t.now_s))
    t.beat("a", 1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_members_do_everyone_is_answered_once_and_the_group_settles(data: st.DataObject) -> None:
    """Generations only rise, one member leads, and no barrier stays closed for ever."""
    t = Table()
    ids = count(1)
    waiting: set[int] = set()
    generation = 0
    for _ in range(data.draw(st.integers(1, 25))):
        known = [*t.group.members, *t.group._promised]
        name = data.draw(st.sampled_from([*known, "stranger"]))
        deed = data.draw(st.sampled_from(["new", "static", "join", "sync", "leave", "beat", "wait"]))
        try:
            match deed:
                case "new":
                    t.group.join(next(t.tokens), ask(), f"m{next(ids)}", t.now_s)
                case "static":
                    waiting.add(t.join(None, f"m{next(ids)}", instance_id=data.draw(st.sampled_from("xy"))))
                case "join":
                    member = t.group.members.get(name)
                    waiting.add(t.join(name, instance_id=member.image.instance_id if member else None))
                case "sync":
                    waiting.add(t.sync(name, t.group.generation))
                case "leave":
                    t.leave(name)
                case "beat":
                    t.beat(name, t.group.generation)
                case "wait":
                    t.wait(data.draw(st.sampled_from([1.0, 4.0, 11.0])))
        except OdradekError as error:
            assert not isinstance(error, InvalidTransition), error
        assert t.group.generation >= generation
        generation = t.group.generation
        assert (t.state() is ClassicState.EMPTY) == (not t.group.members)
        if t.state() in (ClassicState.COMPLETING, ClassicState.STABLE):
            assert t.group.leader in t.group.members or t.state() is ClassicState.COMPLETING
    t.wait(4 * (REBALANCE_S + SESSION_S))
    assert t.state() is ClassicState.EMPTY, "nobody says anything any more"
    assert waiting <= t.answers.keys()
    assert t.group.deadline() is None

"""The transition table and each step of one member towards its target."""

from __future__ import annotations

from itertools import product

import pytest

from actors.assignment import NO_PARTITIONS, PartitionSet
from actors.groups import Group, TwoOwners
from actors.members import (
    EPOCH_PAUSE,
    TRANSITIONS,
    MemberState,
    Standing,
    Step,
    advance,
    check_epoch,
    next_state,
    pause,
    resume,
)
from actors.sessions import MemberName, Sessions
from actors.transitions import InvalidTransition
from odradek.protocol.errors import FencedMemberEpoch

STABLE, UNREVOKED, UNRELEASED = MemberState.STABLE, MemberState.UNREVOKED, MemberState.UNRELEASED


def slots(*numbers: int) -> PartitionSet:
    return frozenset(("t", number) for number in numbers)


def step(
    standing: Standing,
    target: PartitionSet,
    epoch: int,
    owned: PartitionSet | None = None,
    *,
    taken: PartitionSet = NO_PARTITIONS,
    rejoined: bool = False,
) -> Standing:
    return advance(
        standing, target, epoch, owned=owned, rejoined=rejoined, is_free=lambda slot: slot not in taken
    )


@pytest.mark.parametrize(("state", "taken"), sorted(product(MemberState, Step), key=str))
def test_every_pair_is_in_the_table_or_an_error_that_names_both(state: MemberState, taken: Step) -> None:
    if (state, taken) in TRANSITIONS:
        assert next_state(state, taken) is TRANSITIONS[state, taken]
        return
    with pytest.raises(InvalidTransition) as raised:
        next_state(state, taken)
    assert state.value in str(raised.value)
    assert taken.value in str(raised.value)


def test_nobody_comes_back_from_gone_and_everybody_else_can_go() -> None:
    left = {state for state, _ in TRANSITIONS}
    assert left == set(MemberState) - {MemberState.GONE}
    assert all(TRANSITIONS[state, Step.EXPEL] is MemberState.GONE for state in left)


def test_a_new_member_takes_what_is_free() -> None:
    assert step(Standing(), slots(0, 1), 3) == Standing(3, 0, STABLE, slots(0, 1))


def test_a_new_member_waits_for_what_others_hold() -> None:
    waiting = step(Standing(), slots(0, 1), 3, taken=slots(1))
    assert waiting == Standing(3, 0, UNRELEASED, slots(0))
    assert step(waiting, slots(0, 1), 3, taken=slots(1)) == waiting, "waiting on changes nothing"
    assert step(waiting, slots(0, 1), 3) == Standing(3, 0, STABLE, slots(0, 1)), (
        "same epoch, so same previous"
    )


def test_letting_go_takes_a_report_after_being_told() -> None:
    stable = Standing(3, 2, STABLE, slots(0, 1))
    told = step(stable, slots(0), 4, owned=slots(0))
    assert told == Standing(3, 2, UNREVOKED, slots(0), revoking=slots(1)), "not told before: not believed"
    assert step(told, slots(0), 4, owned=None) == told
    assert step(told, slots(0), 4, owned=slots(0, 1)) == told
    assert step(told, slots(0), 4, owned=slots(1)) == told
    assert step(told, slots(0), 4, owned=slots(0)) == Standing(4, 3, STABLE, slots(0))


def test_a_target_that_moves_on_meanwhile_is_followed_after_the_revocation() -> None:
    told = Standing(3, 2, UNREVOKED, slots(0), revoking=slots(1))
    assert step(told, slots(1, 2), 5, owned=slots(0)) == Standing(
        3, 2, UNREVOKED, NO_PARTITIONS, revoking=slots(0)
    ), "a second revocation, under the same epoch"
    assert step(told, slots(0, 1), 5, owned=slots(0)) == Standing(5, 3, STABLE, slots(0, 1)), "it comes back"


def test_a_waiting_member_may_have_to_let_go_too() -> None:
    waiting = Standing(3, 2, UNRELEASED, slots(0))
    assert step(waiting, slots(5), 4) == Standing(3, 2, UNREVOKED, NO_PARTITIONS, revoking=slots(0))


def test_one_that_begins_anew_holds_nothing_and_need_not_let_go() -> None:
    assert step(Standing(3, 2, STABLE, slots(0, 1)), slots(0), 4, NO_PARTITIONS, rejoined=True) == Standing(
        4, 3, STABLE, slots(0)
    )
    told = Standing(3, 2, UNREVOKED, slots(0), revoking=slots(1))
    assert step(told, slots(0), 4, NO_PARTITIONS, rejoined=True) == Standing(4, 3, STABLE, slots(0))


def test_a_stable_member_of_the_targets_epoch_stays() -> None:
    stable = Standing(4, 3, STABLE, slots(0))
    assert step(stable, slots(0), 4, owned=NO_PARTITIONS) is stable


def test_a_paused_member_keeps_what_it_has_and_no_epoch_is_its() -> None:
    paused = pause(Standing(4, 3, UNREVOKED, slots(0), revoking=slots(1)))
    assert paused == Standing(EPOCH_PAUSE, EPOCH_PAUSE, MemberState.PAUSED, slots(0)), "it took its leave"
    for epoch in (1, 3, 4):
        with pytest.raises(FencedMemberEpoch):
            check_epoch("m", paused, epoch, None)
    assert resume(paused) == Standing(assigned=slots(0))
    with pytest.raises(InvalidTransition, match=r"stable.*return"):
        resume(Standing(4, 3, STABLE))


def test_epochs() -> None:
    standing = Standing(6, 5, UNREVOKED, slots(0), revoking=slots(1))
    check_epoch("m", standing, 6, slots(0, 1, 2))
    check_epoch("m", standing, 5, None)
    check_epoch("m", standing, 5, slots(0, 1))
    for epoch, owned in ((5, slots(0, 2)), (4, None), (7, None)):
        with pytest.raises(FencedMemberEpoch, match=f"epoch 6, the heartbeat says {epoch}; give up"):
            check_epoch("m", standing, epoch, owned)


def test_a_group_refuses_a_second_owner_and_stays_as_it_was() -> None:
    group = Group("g")
    group.replay_standing("a", Standing(1, 0, UNREVOKED, slots(0), revoking=slots(1)))
    for held in (slots(0), slots(1)):
        with pytest.raises(TwoOwners, match="held by a, b cannot have it too"):
            group.replay_standing("b", Standing(1, 0, STABLE, held | slots(7)))
    assert group.owners == {("t", 0): "a", ("t", 1): "a"}
    assert list(group.members) == ["a"]


def test_revocations_leave_no_guesses_behind() -> None:
    sessions, name = Sessions(), MemberName("g", "a")
    for second in range(100):
        sessions.touch(name, second + 45.0, None)
        sessions.start_revocation(name, second + 0.5)
        assert sessions.due(second + 0.4) == []
        sessions.end_revocation(name)
        assert sessions.due(second + 0.9) == []
    assert len(sessions._guesses) <= 50, "those of the last 45 seconds, to be passed over when they come up"
    assert [late for late, _ in sessions.due(145.0)] == [name]
    sessions.forget(name)
    assert sessions.due(1000.0) == []
    assert sessions.next_due_s() is None

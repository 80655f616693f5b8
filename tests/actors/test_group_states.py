"""The states of a group: the table, and the steps that live groups take through it."""

from __future__ import annotations

from itertools import product

import pytest

from actors.group_states import (
    GROUP_TRANSITIONS,
    GroupPicture,
    GroupState,
    GroupStep,
    check_step,
    next_group_state,
    step_between,
)
from actors.transitions import InvalidTransition
from tests.support.coordinating import Coordinating

EMPTY, ASSIGNING = GroupPicture(4, 4, 0, 0), GroupPicture(5, 4, 2, 0)
RECONCILING, STABLE = GroupPicture(5, 5, 2, 1), GroupPicture(5, 5, 2, 2)


@pytest.mark.parametrize(("state", "step"), sorted(product(GroupState, GroupStep), key=str))
def test_every_pair_is_in_the_table_or_an_error_that_names_both(state: GroupState, step: GroupStep) -> None:
    if (state, step) in GROUP_TRANSITIONS:
        assert next_group_state(state, step) is GROUP_TRANSITIONS[state, step]
        return
    with pytest.raises(InvalidTransition) as raised:
        next_group_state(state, step)
    assert state.value in str(raised.value)
    assert step.value in str(raised.value)


def test_every_state_can_be_reached_and_every_step_is_taken() -> None:
    assert {step for _, step in GROUP_TRANSITIONS} == set(GroupStep)
    assert {state for state, _ in GROUP_TRANSITIONS} == set(GroupState) - {GroupState.DEAD}
    assert set(GROUP_TRANSITIONS.values()) == set(GroupState)


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        (GroupPicture(0, 0, 0, 0), GroupPicture(1, 0, 1, 0), GroupStep.ADMIT),
        (EMPTY, EMPTY, None),
        (GroupPicture(5, 4, 0, 0), GroupPicture(5, 5, 0, 0), GroupStep.ASSIGN),
        (ASSIGNING, GroupPicture(6, 4, 3, 0), GroupStep.CHANGE),
        (ASSIGNING, GroupPicture(5, 5, 2, 0), GroupStep.ASSIGN),
        (RECONCILING, STABLE, GroupStep.CONVERGE),
        (STABLE, RECONCILING, GroupStep.DIVERGE),
        (STABLE, GroupPicture(6, 6, 2, 0), GroupStep.ASSIGN),
        (STABLE, GroupPicture(6, 5, 1, 0), GroupStep.CHANGE),
        (STABLE, GroupPicture(6, 5, 0, 0), GroupStep.VACATE),
        (STABLE, STABLE, None),
    ],
)
def test_what_happened_between_two_pictures(
    before: GroupPicture, after: GroupPicture, step: GroupStep | None
) -> None:
    assert step_between(before, after) is step
    assert check_step("g", before, after) is step


def test_a_way_that_the_table_does_not_have_is_an_error() -> None:
    with pytest.raises(InvalidTransition, match=r"Assigning.*converge"):
        check_step("g", ASSIGNING, GroupPicture(5, 4, 2, 2)._replace(epoch=4))
    with pytest.raises(InvalidTransition, match="'g' is 'Stable' after it was 'Empty' and had to 'admit'"):
        check_step("g", EMPTY, STABLE)


def test_a_life_of_a_group() -> None:
    """The states that ``describe`` shows, from the first member to the last."""
    c = Coordinating()

    def state() -> str:
        return c.actor._state.group("group").state.value

    c.join("a")
    assert state() == "Stable"
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.join("b", instance_id="one")
    assert state() == "Reconciling"
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.beat("a", 1, {"events": [0, 1]})
    assert state() == "Reconciling"
    c.beat("b", 2, {})
    assert state() == "Stable"
    c.beat("b", -2)
    assert state() == "Reconciling"
    c.join("b2", instance_id="one")
    assert state() == "Stable"
    c.beat("a", -1)
    assert state() == "Reconciling"
    c.beat("b2", -1)
    assert state() == "Empty"


def test_the_count_of_settled_members_is_what_counting_them_gives() -> None:
    c = Coordinating()
    names = "abcd"
    for step in range(60):
        name = names[step * 7 % 4]
        group = c.actor._state.groups.get("group")
        if group is not None and name in group.members and step % 5 == 0:
            c.beat(name, -1)
        elif group is not None and name in group.members:
            standing = group.members[name].standing
            held: dict[str, list[int]] = {"events": sorted(n for _, n in standing.assigned)}
            c.beat(name, standing.epoch, held)
        else:
            c.join(name)
        group = c.actor._state.group("group")
        assert group.settled == sum(map(group.is_settled, group.members))

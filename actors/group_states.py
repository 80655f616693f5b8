"""The states of a group as a whole, and which may follow which.

A group's state is what its head and its members add up to; nobody sets it. Every change that the
coordinator decides is held against this table all the same, so that a group that got from one state to
another in a way that nobody thought of is an error at once, and not a riddle later.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from actors.transitions import InvalidTransition, look_up


class GroupState(enum.Enum):
    """Kafka's words for where a group stands."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"
    DEAD = "Dead"


class GroupStep(enum.Enum):
    """What can happen to a group."""

    ADMIT = "admit"  # its first member joins
    CHANGE = "change"  # members or subscriptions are others: a new epoch, without a target yet
    ASSIGN = "assign"  # the epoch has its target; changed partition counts bring both at once
    CONVERGE = "converge"  # the last member has what it shall have
    DIVERGE = "diverge"  # a static member left for a while, or came back
    VACATE = "vacate"  # its last member is gone
    DELETE = "delete"  # it was deleted, or its offsets expired


GROUP_TRANSITIONS: dict[tuple[GroupState, GroupStep], GroupState] = {
    (GroupState.EMPTY, GroupStep.ADMIT): GroupState.ASSIGNING,
    (GroupState.EMPTY, GroupStep.ASSIGN): GroupState.EMPTY,
    (GroupState.EMPTY, GroupStep.DELETE): GroupState.DEAD,
    (GroupState.ASSIGNING, GroupStep.CHANGE): GroupState.ASSIGNING,
    (GroupState.ASSIGNING, GroupStep.ASSIGN): GroupState.RECONCILING,
    (GroupState.ASSIGNING, GroupStep.VACATE): GroupState.EMPTY,
    (GroupState.RECONCILING, GroupStep.CHANGE): GroupState.ASSIGNING,
    (GroupState.RECONCILING, GroupStep.ASSIGN): GroupState.RECONCILING,
    (GroupState.RECONCILING, GroupStep.CONVERGE): GroupState.STABLE,
    (GroupState.RECONCILING, GroupStep.VACATE): GroupState.EMPTY,
    (GroupState.STABLE, GroupStep.CHANGE): GroupState.ASSIGNING,
    (GroupState.STABLE, GroupStep.ASSIGN): GroupState.RECONCILING,
    (GroupState.STABLE, GroupStep.DIVERGE): GroupState.RECONCILING,
    (GroupState.STABLE, GroupStep.VACATE): GroupState.EMPTY,
}
"""Every transition there is. A pair without an entry raises InvalidTransition."""


class GroupPicture(NamedTuple):
    """What a group's state follows from."""

    epoch: int
    target_epoch: int
    members: int
    settled: int
    """How many members have what they shall have, and know the epoch."""

    @property
    def state(self) -> GroupState:
        if not self.members:
            return GroupState.EMPTY
        if self.epoch != self.target_epoch:
            return GroupState.ASSIGNING
        return GroupState.STABLE if self.settled == self.members else GroupState.RECONCILING


def next_group_state(state: GroupState, step: GroupStep) -> GroupState:
    """The state after a step. Raises InvalidTransition, naming both, where the table has no entry."""
    return look_up("a group", GROUP_TRANSITIONS, state, step)


def step_between(before: GroupPicture, after: GroupPicture) -> GroupStep | None:
    """What happened to a group between two pictures; None for nothing that concerns it as a whole."""
    if not before.members and not after.members:
        return GroupStep.ASSIGN if after.target_epoch > before.target_epoch else None
    if not before.members:
        return GroupStep.ADMIT
    if not after.members:
        return GroupStep.VACATE
    if after.target_epoch > before.target_epoch:
        return GroupStep.ASSIGN
    if after.epoch > before.epoch:
        return GroupStep.CHANGE
    if before.state is after.state:
        return None
    return GroupStep.CONVERGE if after.state is GroupState.STABLE else GroupStep.DIVERGE


def check_step(name: str, before: GroupPicture, after: GroupPicture) -> GroupStep | None:
    """What happened, held against the table. Raises InvalidTransition."""
    step = step_between(before, after)
    if step is not None and next_group_state(before.state, step) is not after.state:
        raise InvalidTransition(
            f"group {name!r} is {after.state.value!r} after it was {before.state.value!r} "
            f"and had to {step.value!r}"
        )
    return step

"""One member of a group: its states, which may follow which, and how it nears its target.

Rule 1. A partition is held by one member at most: the one that has it in ``assigned`` or ``revoking``.
Rule 2. A member that must give something up keeps its epoch until it says, after it was told, that it
        has let go. Only then is the partition free, and only then does the member's epoch rise.
Rule 3. A member whose epoch is its target's holds nothing outside that target.

This is KIP-848's reconciliation (Kafka, ``CurrentAssignmentBuilder``), except that Kafka frees at once
what the member does not report when its target changes; here it is told first, because it may just be
taking that partition up.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace

from actors.assignment import NO_PARTITIONS, PartitionSet, TopicPartition
from actors.transitions import look_up
from odradek.protocol.errors import FencedMemberEpoch

EPOCH_JOIN = 0
EPOCH_LEAVE = -1
EPOCH_PAUSE = -2
"""A static member says it will be back: its partitions wait for it until its session ends."""


class MemberState(enum.Enum):
    """Where a member stands between what it holds and what it shall hold."""

    JOINING = "joining"
    STABLE = "stable"
    UNREVOKED = "unrevoked_partitions"
    UNRELEASED = "unreleased_partitions"
    PAUSED = "paused"
    GONE = "gone"


class Step(enum.Enum):
    """What can happen to a member."""

    REVOKE = "revoke"  # it holds what is no longer in its target
    WAIT = "wait"  # others still hold what is in its target
    COMPLETE = "complete"  # it holds its whole target
    PAUSE = "pause"  # a static member left for a while
    RETURN = "return"  # a static member is back
    EXPEL = "expel"  # it left, or its time was up


TRANSITIONS: dict[tuple[MemberState, Step], MemberState] = {
    (MemberState.JOINING, Step.WAIT): MemberState.UNRELEASED,
    (MemberState.JOINING, Step.COMPLETE): MemberState.STABLE,
    (MemberState.JOINING, Step.PAUSE): MemberState.PAUSED,
    (MemberState.JOINING, Step.EXPEL): MemberState.GONE,
    (MemberState.STABLE, Step.REVOKE): MemberState.UNREVOKED,
    (MemberState.STABLE, Step.WAIT): MemberState.UNRELEASED,
    (MemberState.STABLE, Step.COMPLETE): MemberState.STABLE,
    (MemberState.STABLE, Step.PAUSE): MemberState.PAUSED,
    (MemberState.STABLE, Step.EXPEL): MemberState.GONE,
    (MemberState.UNREVOKED, Step.REVOKE): MemberState.UNREVOKED,
    (MemberState.UNREVOKED, Step.WAIT): MemberState.UNRELEASED,
    (MemberState.UNREVOKED, Step.COMPLETE): MemberState.STABLE,
    (MemberState.UNREVOKED, Step.PAUSE): MemberState.PAUSED,
    (MemberState.UNREVOKED, Step.EXPEL): MemberState.GONE,
    (MemberState.UNRELEASED, Step.REVOKE): MemberState.UNREVOKED,
    (MemberState.UNRELEASED, Step.WAIT): MemberState.UNRELEASED,
    (MemberState.UNRELEASED, Step.COMPLETE): MemberState.STABLE,
    (MemberState.UNRELEASED, Step.PAUSE): MemberState.PAUSED,
    (MemberState.UNRELEASED, Step.EXPEL): MemberState.GONE,
    (MemberState.PAUSED, Step.PAUSE): MemberState.PAUSED,
    (MemberState.PAUSED, Step.RETURN): MemberState.JOINING,
    (MemberState.PAUSED, Step.EXPEL): MemberState.GONE,
}
"""Every transition there is. A pair without an entry raises InvalidTransition."""


def next_state(state: MemberState, step: Step) -> MemberState:
    """The state after a step. Raises InvalidTransition, naming both, where the table has no entry."""
    return look_up("a member", TRANSITIONS, state, step)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member holds, and under which epoch. ``revoking`` is what it was told to let go."""

    epoch: int = EPOCH_JOIN
    previous_epoch: int = EPOCH_JOIN
    state: MemberState = MemberState.JOINING
    assigned: PartitionSet = NO_PARTITIONS
    revoking: PartitionSet = NO_PARTITIONS

    @property
    def held(self) -> PartitionSet:
        """All that nobody else may have."""
        return self.assigned | self.revoking


NEW_STANDING = Standing()
"""A member that just joined."""


def advance(
    standing: Standing,
    target: PartitionSet,
    target_epoch: int,
    *,
    owned: PartitionSet | None,
    rejoined: bool,
    is_free: Callable[[TopicPartition], bool],
) -> Standing:
    """The member's next standing towards its target, or the same one where it has to wait.

    ``owned`` is what this heartbeat says that the member holds (None: it says nothing), ``rejoined``
    that it begins anew and so holds nothing, ``is_free`` whether no other member holds a partition.
    """
    if standing.state is MemberState.UNREVOKED and not _has_let_go(standing, owned):
        return standing
    if standing.state is MemberState.STABLE and standing.epoch == target_epoch:
        return standing
    kept = standing.assigned & target
    lost = standing.assigned - target
    if lost and not rejoined:
        return replace(
            standing,
            state=next_state(standing.state, Step.REVOKE),
            assigned=kept,
            revoking=lost,
        )
    ready = frozenset(partition for partition in target - kept if is_free(partition))
    step = Step.COMPLETE if kept | ready == target else Step.WAIT
    return Standing(
        epoch=target_epoch,
        previous_epoch=standing.previous_epoch if standing.epoch == target_epoch else standing.epoch,
        state=next_state(standing.state, step),
        assigned=kept | ready,
    )


def _has_let_go(standing: Standing, owned: PartitionSet | None) -> bool:
    return owned is not None and owned.isdisjoint(standing.revoking)


def pause(standing: Standing) -> Standing:
    """A static member left for a while: it keeps what it shall have, and no epoch is its."""
    return Standing(
        epoch=EPOCH_PAUSE,
        previous_epoch=EPOCH_PAUSE,
        state=next_state(standing.state, Step.PAUSE),
        assigned=standing.assigned,
    )


def resume(standing: Standing) -> Standing:
    """A static member is back, perhaps under another member id."""
    return Standing(state=next_state(standing.state, Step.RETURN), assigned=standing.assigned)


def check_epoch(member_id: str, standing: Standing, epoch: int, owned: PartitionSet | None) -> None:
    """Raises FencedMemberEpoch unless the heartbeat's epoch is the member's.

    The epoch before is let through where the member claims nothing that it may not hold: the reply
    that told it of the new epoch was lost, and it asks again.
    """
    if epoch == standing.epoch:
        return
    if epoch == standing.previous_epoch and (owned is None or owned <= standing.held):
        return
    raise FencedMemberEpoch(
        f"member {member_id} has epoch {standing.epoch}, the heartbeat says {epoch}; "
        "give up all partitions and join again with epoch 0"
    )

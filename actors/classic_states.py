"""The states of a classic group, and which may follow which: data, for the code and for the documents."""

from __future__ import annotations

import enum


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

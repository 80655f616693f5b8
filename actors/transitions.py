"""Transition tables: which state follows which, as data, for members, groups and classic groups.

A pair without an entry is a fault of the broker, never of a client, and says what was tried.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

from odradek.protocol.errors import UnknownServerError

StateT = TypeVar("StateT", bound=enum.Enum)
StepT = TypeVar("StepT", bound=enum.Enum)


class InvalidTransition(UnknownServerError):
    """A step that the table does not know: a fault of the broker, never of a client."""


def look_up(what: str, table: Mapping[tuple[StateT, StepT], StateT], state: StateT, step: StepT) -> StateT:
    """The state after a step. Raises InvalidTransition, naming both, where the table has no entry."""
    try:
        return table[state, step]
    except KeyError:
        raise InvalidTransition(f"{what} that is {state.value!r} cannot {step.value!r}") from None

"""A reset: to which offsets a group's positions go, worked out before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from odradek.cli.connect import partition_numbers
from odradek.cli.exits import Failed
from odradek.cli.positions import read_since
from odradek.protocol.messages import INT64_MAX

if TYPE_CHECKING:
    from odradek.admin import Admin

_PARTITION = re.compile(r"(.+):(\d{1,9})", re.ASCII)

Partition: TypeAlias = tuple[str, int]
"""A topic and a partition's number."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where to: `number` is the offset, how far to move, or milliseconds since 1970."""

    kind: Literal["earliest", "latest", "offset", "time", "shift"]
    number: int = 0


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a plan, as `group reset --json` writes it.

    `from_offset` is null where nothing is committed; `wanted` is where the goal lies outside of the log,
    so that `to_offset` is the end of the log nearest to it, else null.
    """

    topic: str
    partition: int
    from_offset: int | None
    to_offset: int
    wanted: int | None = None


def read_goal(
    *,
    earliest: bool,
    latest: bool,
    offset: int | None,
    datetime: str | None,
    shift: int | None,
    now_ms: int,
) -> Goal:
    """The one goal that was given. Raises ValueError that says what is allowed."""
    goals: list[Goal] = []
    if earliest:
        goals.append(Goal("earliest"))
    if latest:
        goals.append(Goal("latest"))
    if offset is not None:
        if not 0 <= offset <= INT64_MAX:
            raise ValueError(f"--to-offset is a number of at least 0, not {offset}")
        goals.append(Goal("offset", offset))
    if datetime is not None:
        goals.append(Goal("time", read_since(datetime, now_ms).number))
    if shift is not None:
        goals.append(Goal("shift", shift))
    if len(goals) != 1:
        raise ValueError(
            "give exactly one of --to-earliest, --to-latest, --to-offset N, --to-datetime TIME, --shift-by N"
        )
    return goals[0]


def read_scope(words: Iterable[str]) -> dict[str, set[int] | None]:
    """Topics with the partitions that were named, None for all of them."""
    scope: dict[str, set[int] | None] = {}
    for word in words:
        named = _PARTITION.fullmatch(word)
        topic = word if named is None else named[1]
        before = scope.get(topic, set())
        scope[topic] = None if named is None or before is None else before | {int(named[2])}
    return scope


def choose(admin: Admin, scope: Mapping[str, set[int] | None]) -> list[Partition]:
    """The partitions of a scope, in order. Raises UnknownTopicOrPartition; Failed for a partition."""
    chosen: list[Partition] = []
    for topic, named in sorted(scope.items()):
        numbers = partition_numbers(admin, topic)
        missing = sorted((named or set()) - set(numbers))
        if missing:
            raise Failed(
                f"topic {topic} has partitions 0 to {len(numbers) - 1}, not {missing[0]}; nothing was changed"
            )
        chosen += [(topic, number) for number in sorted(numbers) if named is None or number in named]
    return chosen


def plan(
    admin: Admin, partitions: Iterable[Partition], committed: Mapping[Partition, int], goal: Goal
) -> list[Move]:
    """Where each position goes; never outside of the log, so that no record is skipped unawares later.

    Raises Failed where --shift-by has nothing to begin from.
    """
    by_topic: dict[str, list[int]] = {}
    for topic, number in partitions:
        by_topic.setdefault(topic, []).append(number)
    moves: list[Move] = []
    for topic, numbers in by_topic.items():
        starts = admin.list_offsets(topic, "earliest", partitions=numbers)
        ends = admin.list_offsets(topic, "latest", partitions=numbers)
        times = admin.list_offsets(topic, goal.number, partitions=numbers) if goal.kind == "time" else {}
        for number in numbers:
            before = committed.get((topic, number))
            wanted = _wanted(goal, starts[number], ends[number], times.get(number, -1), before)
            if wanted is None:
                raise Failed(
                    f"{topic}:{number} has no committed offset that --shift-by could begin from; name other "
                    "partitions with --topic, or reset it with --to-earliest; nothing was changed"
                )
            reached = min(max(wanted, starts[number]), ends[number])
            moves.append(
                Move(
                    topic=topic,
                    partition=number,
                    from_offset=before,
                    to_offset=reached,
                    wanted=None if reached == wanted else wanted,
                )
            )
    return moves


def _wanted(goal: Goal, start: int, end: int, at_time: int, before: int | None) -> int | None:
    match goal.kind:
        case "earliest":
            return start
        case "latest":
            return end
        case "offset":
            return goal.number
        case "time":
            return end if at_time < 0 else at_time
        case "shift":
            return None if before is None else before + goal.number

"""The coordinator's state: all that its log says, and the one way in which an entry changes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from actors.assignment import PartitionSet
from actors.classic_members import MemberImage
from actors.groups import Group
from actors.ledger import (
    ClassicMemberKey,
    Entry,
    GroupHead,
    GroupKey,
    Key,
    MemberKey,
    MemberProfile,
    OffsetKey,
    ProducerIdBlock,
    ProducerIdsKey,
    StandingKey,
    TargetKey,
    Value,
)
from actors.members import Standing
from actors.offsets import Offsets
from actors.producer_ids import ProducerIds
from odradek.protocol.errors import GroupIdNotFound, PolicyViolation

GROUPS_MAX = 10_000

_OF_A_GROUP = (GroupKey, MemberKey, TargetKey, StandingKey, ClassicMemberKey)
"""Keys of entries that make a group where there is none, unless they delete."""
ENTRIES_PER_MEMBER = 3


class CoordinatorState:
    """Groups, offsets and producer ids. ``replay`` is how they change, live and in recovery."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.offsets = Offsets()
        self.producer_ids = ProducerIds()

    def replay(self, entry: Entry) -> Value | None:
        """Apply one entry, live, in recovery and in reverse; returns the value that it replaced."""
        key, value = entry
        if type(key) is OffsetKey:  # nearly all are
            return self._replay_offset(key, value)
        if value is None and isinstance(key, _OF_A_GROUP) and key.group not in self.groups:
            return None
        return _REPLAYERS[type(key)](self, key, value)

    # -- questions -----------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        """The group of that name. Raises GroupIdNotFound."""
        group = self.groups.get(name)
        if group is None:
            raise GroupIdNotFound(f"there is no group {name!r}")
        return group

    def group_or_new(self, name: str) -> Group:
        """The group of that name, or one that is not (yet) among the groups. Raises PolicyViolation."""
        group = self.groups.get(name)
        if group is not None:
            return group
        if len(self.groups) >= GROUPS_MAX:
            raise PolicyViolation(f"there are {GROUPS_MAX} groups already; delete those that are not used")
        return Group(name)

    def count_entries(self) -> int:
        """How many entries ``live_entries`` gives."""
        members = sum(len(group.members) for group in self.groups.values())
        classic_members = sum(len(group.classic_members) for group in self.groups.values())
        return self.offsets.count + len(self.groups) + ENTRIES_PER_MEMBER * members + classic_members + 1

    def live_entries(self) -> Iterator[list[Entry]]:
        """All that must be written to have the same state again, in pieces that belong together.

        The state may change between two pieces: each shows what holds when it is asked for, and what
        changes behind it is in the log behind it.
        """
        yield [Entry(ProducerIdsKey(), self.producer_ids.block())]
        for name in list(self.groups):
            group = self.groups.get(name)
            if group is None:
                continue
            member_ids, classic_ids = list(group.members), list(group.classic_members)
            yield [Entry(GroupKey(name), group.head)]
            for member_id in member_ids:
                yield self._live_member(name, member_id)
            for member_id in classic_ids:
                yield self._live_classic_member(name, member_id)
        for key in self.offsets.keys_for_a_while():
            committed = self.offsets.of_group(key.group).get((key.topic, key.partition))
            if committed is not None:
                yield [Entry(key, committed)]

    def _live_member(self, name: str, member_id: str) -> list[Entry]:
        group = self.groups.get(name)
        member = group.members.get(member_id) if group is not None else None
        if member is None:
            return []
        entries = [
            Entry(TargetKey(name, member_id), member.target),
            Entry(StandingKey(name, member_id), member.standing),
        ]
        return [Entry(MemberKey(name, member_id), member.profile), *entries]

    def _live_classic_member(self, name: str, member_id: str) -> list[Entry]:
        group = self.groups.get(name)
        image = group.classic_members.get(member_id) if group is not None else None
        return [] if image is None else [Entry(ClassicMemberKey(name, member_id), image)]

    # -- entries -------------------------------------------------------------------------------------

    def _replay_offset(self, key: OffsetKey, value: Any) -> Value | None:
        return self.offsets.replay(key, value)

    def _replay_head(self, key: GroupKey, value: GroupHead | None) -> Value | None:
        known = key.group in self.groups
        before = self._entered(key.group).replay_head(value)
        if value is None:
            del self.groups[key.group]
        return before if known else None

    def _replay_profile(self, key: MemberKey, value: MemberProfile | None) -> Value | None:
        return self._entered(key.group).replay_profile(key.member_id, value)

    def _replay_target(self, key: TargetKey, value: PartitionSet | None) -> Value | None:
        return self._entered(key.group).replay_target(key.member_id, value)

    def _replay_standing(self, key: StandingKey, value: Standing | None) -> Value | None:
        return self._entered(key.group).replay_standing(key.member_id, value)

    def _replay_classic_member(self, key: ClassicMemberKey, value: MemberImage | None) -> Value | None:
        return self._entered(key.group).replay_classic_member(key.member_id, value)

    def _replay_producer_ids(self, _key: ProducerIdsKey, value: ProducerIdBlock | None) -> Value | None:
        return self.producer_ids.replay(value)

    def _entered(self, name: str) -> Group:
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group(name)
        return group


_REPLAYERS: dict[type[Key], Callable[[CoordinatorState, Any, Any], Value | None]] = {
    OffsetKey: CoordinatorState._replay_offset,
    GroupKey: CoordinatorState._replay_head,
    MemberKey: CoordinatorState._replay_profile,
    TargetKey: CoordinatorState._replay_target,
    StandingKey: CoordinatorState._replay_standing,
    ClassicMemberKey: CoordinatorState._replay_classic_member,
    ProducerIdsKey: CoordinatorState._replay_producer_ids,
}

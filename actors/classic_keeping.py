"""What of a classic group is durable: its entries in the coordinator's log, and the way back from them.

A generation is written when it begins, and once more, with its members, when they have their assignments:
``target_epoch`` of the head is the last generation that came so far. The head comes behind the members, so
that any beginning of what is written together says at worst that the members must join again.
"""

from __future__ import annotations

import msgspec

from actors.classic import ClassicGroup
from actors.classic_states import ClassicState
from actors.groups import NEW_HEAD, Group
from actors.ledger import ClassicMemberKey, Entry, GroupHead, GroupKey, GroupType


def entries_to_keep(kept: Group, live: ClassicGroup, wall_ms: int) -> list[Entry]:
    """What brings the log from what it says to what the group is."""
    head = Entry(GroupKey(live.name), _head(kept.head, live, wall_ms))
    if live.state not in (ClassicState.STABLE, ClassicState.EMPTY):
        return [head]
    gone = [
        Entry(ClassicMemberKey(live.name, member_id), None)
        for member_id in kept.classic_members
        if member_id not in live.members
    ]
    changed = [
        Entry(ClassicMemberKey(live.name, member.id), member.image)
        for member in live.members.values()
        if kept.classic_members.get(member.id) != member.image
    ]
    return [*gone, *changed, head]


def _head(before: GroupHead, live: ClassicGroup, wall_ms: int) -> GroupHead:
    settled = live.state in (ClassicState.STABLE, ClassicState.EMPTY)
    return msgspec.structs.replace(
        NEW_HEAD,
        epoch=live.generation,
        target_epoch=live.generation if settled else min(before.target_epoch, live.generation - 1),
        assignor=live.protocol or "",
        # Of a group with members too: none that crashes before it is stable seems long abandoned.
        empty_since_ms=wall_ms,
        type=GroupType.CLASSIC,
        protocol_type=live.protocol_type,
        leader=live.leader,
    )


def revive(kept: Group, initial_delay_s: float, now_s: float) -> ClassicGroup:
    """The group that the log tells of; its members have whole sessions, and join again where they must."""
    head = kept.head
    live = ClassicGroup(kept.name, head.epoch, initial_delay_s)
    if head.type is not GroupType.CLASSIC:
        return live
    live.protocol_type = head.protocol_type
    if kept.classic_members:
        live.protocol, live.leader = head.assignor or None, head.leader
    is_settled = head.target_epoch == head.epoch and head.leader in kept.classic_members
    live.restore(kept.classic_members, settled=is_settled, now_s=now_s)
    return live

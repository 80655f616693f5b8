"""What groups look like to those who ask: lists and descriptions, nothing decided.

``live`` is a classic group as it stands, where one has members; what its members read and hold is in the
bytes that they and their leader sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actors.assignment import NO_PARTITIONS, PartitionSet, TopicPartition
from actors.classic import ClassicGroup
from actors.classic_members import ClassicMember
from actors.classic_requests import ClassicRequests
from actors.classic_states import ClassicState
from actors.consumer_protocol import (
    PROTOCOL_TYPE,
    assigned_partitions,
    assignment,
    subscribed_topics,
    subscription,
)
from actors.groups import Group
from actors.ledger import GroupType, by_topic
from actors.messages import ClassicDescribed, ClassicDescribeReply
from actors.offsets import NO_OFFSET, GroupOffsets
from actors.state import CoordinatorState
from odradek.protocol.messages import (
    GroupDescribeReply,
    GroupListing,
    GroupListReply,
    GroupMember,
    GroupOffset,
    TopicPartitions,
)


def list_groups(state: CoordinatorState, classic: ClassicRequests) -> GroupListReply:
    """Every group, in order of name; those too that have only begun to gather their first members."""
    names = sorted({*state.groups, *classic.names})
    return GroupListReply(
        groups=[_listing(state.groups.get(name) or Group(name), classic.group(name)) for name in names]
    )


def _listing(group: Group, live: ClassicGroup | None) -> GroupListing:
    if live is not None:
        return GroupListing(
            group=group.name,
            state=live.state.value,
            type=GroupType.CLASSIC.value,
            members=len(live.members),
            protocol_type=live.protocol_type,
        )
    return GroupListing(
        group=group.name,
        state=group.state.value,
        type=group.head.type.value,
        members=len(group.members),
        protocol_type=_protocol_type(group),
    )


def _protocol_type(group: Group) -> str | None:
    """Of a classic group nobody is in, what was done there last."""
    return group.head.protocol_type if group.head.type is GroupType.CLASSIC else PROTOCOL_TYPE


def describe_group(group: Group, live: ClassicGroup | None, committed: GroupOffsets) -> GroupDescribeReply:
    """One group, its members, and every partition that is held or has a committed offset."""
    if live is not None:
        return _describe_classic(live, committed)
    return GroupDescribeReply(
        group=group.name,
        state=group.state.value,
        type=group.head.type.value,
        epoch=group.head.epoch,
        assignor=group.head.assignor,
        members=[_described_member(group, member_id) for member_id in sorted(group.members)],
        offsets=_described_offsets(group.owners, committed),
    )


def _describe_classic(live: ClassicGroup, committed: GroupOffsets) -> GroupDescribeReply:
    held = {member_id: _held(live, member) for member_id, member in sorted(live.members.items())}
    owners = {partition: member_id for member_id, partitions in held.items() for partition in partitions}
    return GroupDescribeReply(
        group=live.name,
        state=live.state.value,
        type=GroupType.CLASSIC.value,
        epoch=live.generation,
        assignor=live.protocol or "",
        members=[
            GroupMember(
                member_id=member_id,
                member_epoch=live.generation,
                state=_state_of(live, live.members[member_id]),
                client_id=live.members[member_id].image.client_id,
                instance_id=live.members[member_id].image.instance_id,
                host=live.members[member_id].image.client_host,
                topics=list(_subscribed(live, live.members[member_id])),
                assignment=topic_partitions(partitions),
            )
            for member_id, partitions in held.items()
        ],
        offsets=_described_offsets(owners, committed),
    )


def _held(live: ClassicGroup, member: ClassicMember) -> PartitionSet:
    """What the leader gave a member last; until the next generation has its own, it may still read it."""
    return (
        assigned_partitions(member.image.assignment) if live.protocol_type == PROTOCOL_TYPE else NO_PARTITIONS
    )


def _subscribed(live: ClassicGroup, member: ClassicMember) -> Sequence[str]:
    if live.protocol_type != PROTOCOL_TYPE or not member.image.protocols:
        return ()
    protocol = live.protocol or member.image.protocols[0].name
    return subscribed_topics(member.image.metadata(protocol))


def _state_of(live: ClassicGroup, member: ClassicMember) -> str:
    """What a classic member is doing, in words: the protocol has none."""
    if live.state is ClassicState.STABLE:
        return "stable"
    if live.state is ClassicState.PREPARING:
        return "joined" if member.join is not None else "must_join"
    return "synced" if member.sync is not None else "must_sync"


def describe_for_kafka(group: Group, live: ClassicGroup | None) -> ClassicDescribeReply:
    """One group as DescribeGroups shows it; a consumer group in the words of the classic protocol."""
    if live is None:
        return ClassicDescribeReply(
            state=group.state.value,
            protocol_type=_protocol_type(group) or "",
            protocol=group.head.assignor if group.members else "",
            members=[_in_classic_words(group, member_id) for member_id in sorted(group.members)],
        )
    return ClassicDescribeReply(
        state=live.state.value,
        protocol_type=live.protocol_type or "",
        protocol=live.protocol if live.state is ClassicState.STABLE and live.protocol else "",
        members=[
            ClassicDescribed(
                member_id=member_id,
                instance_id=member.image.instance_id,
                client_id=member.image.client_id,
                client_host=member.image.client_host,
                metadata=member.image.metadata(live.protocol or ""),
                assignment=member.image.assignment,
            )
            for member_id, member in sorted(live.members.items())
        ],
    )


def _in_classic_words(group: Group, member_id: str) -> ClassicDescribed:
    standing, profile = group.members[member_id].standing, group.profile(member_id)
    return ClassicDescribed(
        member_id=member_id,
        instance_id=profile.instance_id,
        client_id=profile.client_id,
        metadata=subscription(profile.topics),
        assignment=assignment(by_topic(standing.held)),
    )


def _described_offsets(owners: Mapping[TopicPartition, str], committed: GroupOffsets) -> list[GroupOffset]:
    """The ends are for the router, which asks the partitions."""
    described: list[GroupOffset] = []
    for topic, partition in sorted(committed.keys() | owners.keys()):
        found = committed.get((topic, partition))
        described.append(
            GroupOffset(
                topic=topic,
                partition=partition,
                offset=NO_OFFSET if found is None else found.offset,
                metadata=None if found is None else found.metadata,
                committed_at_ms=None if found is None else found.committed_at_ms,
                member_id=owners.get((topic, partition)),
            )
        )
    return described


def _described_member(group: Group, member_id: str) -> GroupMember:
    standing, profile = group.members[member_id].standing, group.profile(member_id)
    return GroupMember(
        member_id=member_id,
        member_epoch=standing.epoch,
        state=standing.state.value,
        client_id=profile.client_id,
        instance_id=profile.instance_id,
        host=profile.client_host,
        topics=list(profile.topics),
        topic_pattern=profile.topic_pattern,
        assignment=topic_partitions(standing.held),
    )


def topic_partitions(partitions: PartitionSet) -> list[TopicPartitions]:
    """As replies carry them, in order."""
    return [
        TopicPartitions(topic=topic, partitions=numbers) for topic, numbers in by_topic(partitions).items()
    ]

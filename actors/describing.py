"""What groups look like to those who ask: lists and descriptions, nothing decided."""

from __future__ import annotations

from actors.assignment import PartitionSet
from actors.groups import Group
from actors.ledger import by_topic
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


def list_groups(state: CoordinatorState) -> GroupListReply:
    """Every group, in order of name."""
    return GroupListReply(
        groups=[
            GroupListing(
                group=name,
                state=group.state.value,
                type=group.head.type.value,
                members=len(group.members),
            )
            for name, group in sorted(state.groups.items())
        ]
    )


def describe_group(group: Group, committed: GroupOffsets) -> GroupDescribeReply:
    """One group, its members, and every partition that is held or has a committed offset."""
    return GroupDescribeReply(
        group=group.name,
        state=group.state.value,
        type=group.head.type.value,
        epoch=group.head.epoch,
        assignor=group.head.assignor,
        members=[_described_member(group, member_id) for member_id in sorted(group.members)],
        offsets=_described_offsets(group, committed),
    )


def _described_offsets(group: Group, committed: GroupOffsets) -> list[GroupOffset]:
    """The ends are for the router, which asks the partitions."""
    described: list[GroupOffset] = []
    for topic, partition in sorted(committed.keys() | group.owners.keys()):
        found = committed.get((topic, partition))
        described.append(
            GroupOffset(
                topic=topic,
                partition=partition,
                offset=NO_OFFSET if found is None else found.offset,
                metadata=None if found is None else found.metadata,
                committed_at_ms=None if found is None else found.committed_at_ms,
                member_id=group.owners.get((topic, partition)),
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
        topics=list(profile.topics),
        topic_pattern=profile.topic_pattern,
        assignment=topic_partitions(standing.held),
    )


def topic_partitions(partitions: PartitionSet) -> list[TopicPartitions]:
    """As replies carry them, in order."""
    return [
        TopicPartitions(topic=topic, partitions=numbers) for topic, numbers in by_topic(partitions).items()
    ]

"""OffsetCommit (8), versions 2 to 8: positions of a group, durable before the answer.

The retention time of versions 2 to 4 is not used: offsets stay as long as ``offsets.retention.minutes``
says, counted from when the group was used last, as in Kafka since 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET, UnsetType

from actors.kafka.group_words import DENIED, check_offsets, group_code, offset_code
from actors.kafka.handling import Ask, Body, Context, Steps, ask_one
from actors.kafka.places import NO_EPOCH
from actors.messages import COORDINATOR, ClassicCommit
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import InvalidRequest, TopicAuthorizationFailed, UnknownTopicOrPartition
from odradek.protocol.messages import CommitOffset, OffsetCommitReply

Place = tuple[str, int]


def handle(request: Any, context: Context) -> Steps:
    """An error code for each partition."""
    check_offsets(request.topics)
    if not context.authorize(Operation.READ, ResourceType.GROUP, request.group_id):
        return _answer(request, {}, DENIED)
    readable = context.allowed(Operation.READ, ResourceType.TOPIC, {topic.name for topic in request.topics})
    codes = {place: code for place, _, code in _partitions(request, readable) if code}
    asked = [
        CommitOffset(
            topic=topic,
            partition=number,
            offset=partition.committed_offset,
            metadata=partition.committed_metadata or None,
            leader_epoch=_leader_epoch(partition),
        )
        for (topic, number), partition, code in _partitions(request, readable)
        if not code
    ]
    if not asked:
        return _answer(request, codes, 0)
    native = ClassicCommit(
        group=request.group_id,
        member_id=request.member_id or None,
        member_epoch=request.generation_id_or_member_epoch,
        instance_id=getattr(request, "group_instance_id", None),
        offsets=asked,
    )
    outcome = yield from ask_one(Ask(COORDINATOR, native))
    reply = outcome.reply
    if outcome.error is not None or not isinstance(reply, OffsetCommitReply):
        return _answer(request, codes, group_code(outcome.error))
    for result in reply.offsets if isinstance(reply.offsets, list) else []:
        code = 0 if result.error is None else offset_code(result.error.code)
        codes[result.topic, result.partition] = code
    return _answer(request, codes, 0)


def _leader_epoch(partition: Any) -> int | UnsetType:
    """Of the last record that was read, from version 6 on; some clients do not know it (-1)."""
    epoch = getattr(partition, "committed_leader_epoch", NO_EPOCH)
    return epoch if epoch > NO_EPOCH else UNSET


def _partitions(request: Any, readable: frozenset[str]) -> Iterator[tuple[Place, Any, int]]:
    """Each partition of a request, with the error that it has before anybody is asked."""
    for topic in request.topics:
        for partition in topic.partitions:
            code = 0
            if topic.name not in readable:
                code = TopicAuthorizationFailed.code
            elif partition.partition_index < 0:
                code = UnknownTopicOrPartition.code
            elif partition.committed_offset < 0:
                code = InvalidRequest.code
            yield (topic.name, partition.partition_index), partition, code


def _answer(request: Any, codes: dict[Place, int], otherwise: int) -> Body:
    return {
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {
                        "partition_index": partition.partition_index,
                        "error_code": codes.get((topic.name, partition.partition_index), otherwise),
                    }
                    for partition in topic.partitions
                ],
            }
            for topic in request.topics
        ]
    }

"""OffsetDelete (47), version 0: forget committed offsets of topics that no member of the group reads."""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import DENIED, check_offsets, group_code
from actors.kafka.handling import Ask, Context, Steps, ask_one
from actors.messages import COORDINATOR, OffsetDelete, OffsetDeleteReply
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import TopicAuthorizationFailed, UnknownTopicOrPartition
from odradek.protocol.messages import TopicPartitions


def handle(request: Any, context: Context) -> Steps:
    """An error code for each partition, or one for all."""
    check_offsets(request.topics)
    if not context.authorize(Operation.DELETE, ResourceType.GROUP, request.group_id):
        return {"error_code": DENIED, "topics": []}
    readable = context.allowed(Operation.READ, ResourceType.TOPIC, {topic.name for topic in request.topics})
    native = OffsetDelete(
        group=request.group_id,
        topics=[
            TopicPartitions(topic=topic.name, partitions=[each.partition_index for each in topic.partitions])
            for topic in request.topics
            if topic.name in readable
        ],
    )
    outcome = yield from ask_one(Ask(COORDINATOR, native))
    reply = outcome.reply
    if outcome.error is not None or not isinstance(reply, OffsetDeleteReply):
        return {"error_code": group_code(outcome.error), "topics": []}
    results = reply.offsets if isinstance(reply.offsets, list) else []
    codes = {(each.topic, each.partition): 0 if each.error is None else each.error.code for each in results}

    def code_of(topic: str, number: int) -> int:
        if topic not in readable:
            return TopicAuthorizationFailed.code
        return codes.get((topic, number), UnknownTopicOrPartition.code)

    return {
        "error_code": 0,
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {
                        "partition_index": each.partition_index,
                        "error_code": code_of(topic.name, each.partition_index),
                    }
                    for each in topic.partitions
                ],
            }
            for topic in request.topics
        ],
    }

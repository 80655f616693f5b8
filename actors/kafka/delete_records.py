"""DeleteRecords (21), versions 0 to 2: nothing before an offset can be read any more."""

from __future__ import annotations

from collections import Counter
from typing import Any

from actors.kafka.create_topics import GRACE_S, request_timeout_ms
from actors.kafka.handling import Ask, Body, Context, Outcome, Steps
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import (
    InvalidRequest,
    OdradekError,
    OffsetOutOfRange,
    TopicAuthorizationFailed,
)
from odradek.protocol.messages import DeleteRecords, DeleteRecordsReply

HIGH_WATERMARK = -1
"""As an offset: all that is durable."""
UNKNOWN = -1


def handle(request: Any, context: Context) -> Steps:
    """Every partition on its own."""
    timeout_ms = request_timeout_ms(request)
    places = [(topic.name, partition) for topic in request.topics for partition in topic.partitions]
    asks: dict[int, Ask] = {}
    outcomes: dict[int, Outcome] = {}
    count = Counter((name, partition.partition_index) for name, partition in places)
    for number, (name, partition) in enumerate(places):
        try:
            if count[name, partition.partition_index] > 1:
                raise InvalidRequest(f"{name}-{partition.partition_index} is there twice")
            asks[number] = _ask(name, partition, context, timeout_ms)
        except OdradekError as error:
            outcomes[number] = Outcome(error=error)
    if asks:
        answered = yield tuple(asks.values())
        outcomes |= zip(asks, answered, strict=True)
    answers: dict[str, list[Body]] = {}
    for number, (name, partition) in enumerate(places):
        answers.setdefault(name, []).append(_answer(partition.partition_index, outcomes[number]))
    topics = [{"name": name, "partitions": partitions} for name, partitions in answers.items()]
    return {"throttle_time": 0, "topics": topics}


def _ask(name: str, partition: Any, context: Context, timeout_ms: int) -> Ask:
    if not context.authorize(Operation.DELETE, ResourceType.TOPIC, name):
        raise TopicAuthorizationFailed(f"{context.principal} may not remove records of topic {name!r}")
    if partition.offset < HIGH_WATERMARK:
        raise OffsetOutOfRange(f"offset {partition.offset} is outside of the log")
    native = DeleteRecords(
        topic=name,
        partition=partition.partition_index,
        before_offset=partition.offset,
        timeout_ms=timeout_ms,
    )
    address = context.routes.served(name, partition.partition_index)
    return Ask(address, native, timeout_s=timeout_ms / 1000 + GRACE_S)


def _answer(partition: int, outcome: Outcome) -> Body:
    reply = outcome.reply
    done = outcome.error is None and isinstance(reply, DeleteRecordsReply)
    return {
        "partition_index": partition,
        "low_watermark": reply.log_start_offset if done else UNKNOWN,  # type: ignore[union-attr]  # done says it
        "error_code": outcome.error_code,
    }

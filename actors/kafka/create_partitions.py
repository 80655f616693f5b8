"""CreatePartitions (37), versions 0 to 3: more partitions for topics; keys hash over the new number then."""

from __future__ import annotations

from typing import Any

from actors.kafka.create_topics import GRACE_S, TOPICS_MAX, request_timeout_ms
from actors.kafka.handling import Ask, Body, Context, Steps
from actors.messages import SUPERVISOR
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import (
    InvalidPartitions,
    InvalidReplicaAssignment,
    InvalidRequest,
    OdradekError,
    TopicAuthorizationFailed,
)
from odradek.protocol.messages import CreatePartitions


def handle(request: Any, context: Context) -> Steps:
    """Every topic on its own."""
    if len(request.topics) > TOPICS_MAX:
        raise InvalidRequest(f"CreatePartitions names {len(request.topics)} topics; {TOPICS_MAX} is the most")
    names = [topic.name for topic in request.topics]
    errors: dict[str, OdradekError | None] = {}
    wanted: list[CreatePartitions] = []
    timeout_ms = request_timeout_ms(request)
    for topic in request.topics:
        try:
            if names.count(topic.name) > 1:
                raise InvalidRequest(f"topic {topic.name!r} is there twice")
            _check(topic, context)
        except OdradekError as error:
            errors[topic.name] = error
        else:
            wanted.append(CreatePartitions(topic=topic.name, partitions=topic.count, timeout_ms=timeout_ms))
    if wanted and not request.validate_only:
        timeout_s = timeout_ms / 1000 + GRACE_S
        outcomes = yield tuple(Ask(SUPERVISOR, native, timeout_s=timeout_s) for native in wanted)
        errors |= {native.topic: outcome.error for native, outcome in zip(wanted, outcomes, strict=True)}
    return {"throttle_time": 0, "results": [_answer(name, errors.get(name)) for name in dict.fromkeys(names)]}


def _check(topic: Any, context: Context) -> None:
    if not context.authorize(Operation.ALTER, ResourceType.TOPIC, topic.name):
        raise TopicAuthorizationFailed(f"{context.principal} may not alter topic {topic.name!r}")
    there = len(context.routes.topic(topic.name).partitions)
    if topic.count <= there:
        raise InvalidPartitions(
            f"topic {topic.name!r} has {there} partitions; the new total must be more, not {topic.count}"
        )
    if topic.assignments is None:
        return
    if len(topic.assignments) != topic.count - there:
        raise InvalidReplicaAssignment(
            f"{topic.count - there} partitions are added, and replicas of {len(topic.assignments)} are placed"
        )
    if any(len(assignment.broker_ids) != 1 for assignment in topic.assignments):
        raise InvalidReplicaAssignment("every partition has one replica")


def _answer(name: str, error: OdradekError | None) -> Body:
    return {
        "name": name,
        "error_code": error.code if error is not None else 0,
        "error_message": error.message if error is not None else None,
    }

"""CreateTopics (19), versions 2 to 7: answered when every partition of the new topics serves.

A partition has one replica, so a replication factor is 1 or left to the broker (-1). Where a request
places replicas by hand, only the number of partitions is taken from it: there is nothing else to choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.kafka.handling import Ask, Body, Context, Steps, milliseconds
from actors.kafka.topic_configs import describe_topic_configs, named_once, settings_of
from actors.kafka.topic_ids import id_bytes
from actors.messages import SUPERVISOR
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.errors import (
    InvalidPartitions,
    InvalidReplicaAssignment,
    InvalidReplicationFactor,
    InvalidRequest,
    OdradekError,
    TopicAuthorizationFailed,
)
from odradek.protocol.messages import TIMEOUT_MS_MAX, CreatedTopic, CreateTopics, CreateTopicsReply, NewTopic
from partitions.settings import TOPIC_SETTINGS

TOPICS_MAX = 1_000
GRACE_S = 5.0
"""How much longer the supervisor is waited for than it is told to wait."""


def handle(request: Any, context: Context) -> Steps:
    """Every topic on its own: what is wrong with one keeps none of the others from being made."""
    answers: dict[str, Body] = {}
    wanted: list[NewTopic] = []
    for topic in _each_once(request.topics, answers):
        try:
            wanted.append(_new_topic(topic, context))
        except OdradekError as error:
            answers[topic.name] = _failed(topic.name, error.code, error.message)
    if wanted:
        timeout_ms = request_timeout_ms(request)
        ask = Ask(
            SUPERVISOR,
            CreateTopics(topics=wanted, validate_only=request.validate_only, timeout_ms=timeout_ms),
            timeout_s=timeout_ms / 1000 + GRACE_S,
        )
        (outcome,) = yield (ask,)
        try:
            created: Any = outcome.expect(CreateTopicsReply).topics
        except OdradekError as error:
            created = [CreatedTopic(name=topic.name, error=error.wire()) for topic in wanted]
        for new, one in zip(wanted, created, strict=True):
            answers[new.name] = _answer(new, one, context)
    return {"throttle_time": 0, "topics": [answers[name] for name in _names(request.topics)]}


def request_timeout_ms(request: Any) -> int:
    """How long the client will wait, within what the broker takes."""
    return min(max(0, milliseconds(request.timeout)), TIMEOUT_MS_MAX)


def _names(topics: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(topic.name for topic in topics))


def _each_once(topics: Sequence[Any], answers: dict[str, Body]) -> list[Any]:
    names = [topic.name for topic in topics]
    if len(names) > TOPICS_MAX:
        raise InvalidRequest(f"CreateTopics names {len(names)} topics; {TOPICS_MAX} is the most")
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    for name in twice:
        answers[name] = _failed(name, InvalidRequest.code, f"topic {name!r} is there twice")
    return [topic for topic in topics if topic.name not in twice]


def _new_topic(topic: Any, context: Context) -> NewTopic:
    name = str(topic.name)
    may_create = context.authorize(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME)
    if not may_create and not context.authorize(Operation.CREATE, ResourceType.TOPIC, name):
        raise TopicAuthorizationFailed(f"{context.principal} may not create topic {name!r}")
    configs = named_once((config.name, config.value) for config in topic.configs)
    return NewTopic(name=name, partitions=_partitions(topic), config=dict(settings_of(configs)))


def _partitions(topic: Any) -> int | None:
    """None for the broker's default."""
    if topic.assignments:
        if topic.num_partitions != -1 or topic.replication_factor != -1:
            raise InvalidRequest("replicas are placed by hand, so both numbers must be -1")
        placed = sorted(assignment.partition_index for assignment in topic.assignments)
        if placed != list(range(len(placed))):
            raise InvalidReplicaAssignment(f"partitions are numbered from 0 without a gap, not {placed[:20]}")
        if any(len(assignment.broker_ids) != 1 for assignment in topic.assignments):
            raise InvalidReplicaAssignment("every partition has one replica")
        return len(placed)
    if topic.replication_factor not in (-1, 1):
        raise InvalidReplicationFactor(
            f"the replication factor is {topic.replication_factor}; every partition has one replica: "
            "say 1, or -1 for the broker's default"
        )
    if topic.num_partitions == -1:
        return None
    if topic.num_partitions < 1:
        raise InvalidPartitions(f"the number of partitions is {topic.num_partitions}; it must be 1 or more")
    return int(topic.num_partitions)


def _answer(new: NewTopic, created: CreatedTopic, context: Context) -> Body:
    if created.error is not None:
        return _failed(new.name, created.error.code, created.error.message)
    body: Body = {
        "name": new.name,
        "topic_id": id_bytes(created.topic_id),
        "error_code": 0,
        "error_message": None,
        "num_partitions": new.partitions
        if new.partitions is not None
        else context.options.default_partitions,
        "replication_factor": 1,
    }
    if not context.authorize(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, new.name):
        return body | {
            "topic_config_error_code": TopicAuthorizationFailed.code,
            "num_partitions": -1,
            "replication_factor": -1,
            "configs": None,
        }
    return body | {"configs": describe_topic_configs(_complete(new.config))}


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: setting.default for name, setting in TOPIC_SETTINGS.items()} | dict(config)


def _failed(name: str, error_code: int, message: str) -> Body:
    return {
        "name": name,
        "topic_id": None,
        "error_code": error_code,
        "error_message": message,
        "configs": None,
    }

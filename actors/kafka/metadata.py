"""Metadata (3), versions 0 to 9: the gateways as brokers, and the topics with a leader for each partition.

Every gateway serves every partition; each partition is given one of them as its leader, so that clients
spread over them. A named topic that does not exist is created where client and broker allow it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from actors.kafka.handling import Ask, Body, Context, Outcome, Steps, Wait
from actors.kafka.permitted import operations_mask
from actors.messages import SUPERVISOR, TopicRoute
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from actors.routing import unavailable
from odradek.protocol.errors import (
    LeaderNotAvailable,
    OdradekError,
    TopicAlreadyExists,
    TopicAuthorizationFailed,
    UnknownTopicOrPartition,
    error_from_wire,
)
from odradek.protocol.messages import CreateTopics, CreateTopicsReply, NewTopic
from odradek.protocol.names import INTERNAL_TOPICS, check_topic_name, is_topic_name

AUTO_CREATION_VERSION = 4
CREATED_AT_ONCE_MAX = 100
"""Topics that one request may have created; the others are created when they are asked for again."""


def handle(request: Any, context: Context) -> Steps:
    """The topics that are named, or all that the client may know of."""
    names = _names(request, context)
    failed: dict[str, OdradekError] = {}
    if request.topics and _may_create(request, context):
        failed = yield from _create(names, context)
    return {
        "brokers": [broker._asdict() for broker in context.brokers],
        "cluster_id": context.routes.cluster_id,
        "controller_id": context.controller_id,
        "topics": [_topic(name, context, request, failed.get(name)) for name in names],
        "cluster_authorized_operations": operations_mask(
            getattr(request, "include_cluster_authorized_operations", False),
            ResourceType.CLUSTER,
            CLUSTER_NAME,
            context,
        ),
    }


def _names(request: Any, context: Context) -> list[str]:
    # Version 0 cannot say null, so none named means all of them.
    if request.topics is None or (context.version == 0 and not request.topics):
        known = sorted(context.routes.topics)
        allowed = context.allowed(Operation.DESCRIBE, ResourceType.TOPIC, known)
        return [name for name in known if name in allowed]
    return list(dict.fromkeys(topic.name for topic in request.topics))


# -- creation ------------------------------------------------------------------------------------------


def _may_create(request: Any, context: Context) -> bool:
    allowed = context.version < AUTO_CREATION_VERSION or request.allow_auto_topic_creation
    return bool(allowed) and context.options.auto_create_topics


def _create(
    names: Sequence[str], context: Context
) -> Generator[Sequence[Ask] | Wait, Sequence[Outcome], dict[str, OdradekError]]:
    """Have what is missing created; why it was not, by name."""
    missing = [name for name in names if _is_missing(name, context)]
    # Whoever may not create it learns that at once, and does not wait for it to come.
    refused = {name: _may_not_create(name, context) for name in missing if not _may_be_made(name, context)}
    missing = [name for name in missing if name not in refused][:CREATED_AT_ONCE_MAX]
    if not missing:
        return refused
    topics = [NewTopic(name=name, partitions=context.options.default_partitions) for name in missing]
    (outcome,) = yield (Ask(SUPERVISOR, CreateTopics(topics=topics)),)
    if not isinstance(outcome.reply, CreateTopicsReply) or not isinstance(outcome.reply.topics, list):
        unknown = outcome.error or LeaderNotAvailable("the topic is being created")
        return refused | dict.fromkeys(missing, unknown)
    return refused | {
        created.name: error_from_wire(created.error)
        for created in outcome.reply.topics
        if created.error is not None and created.error.code != TopicAlreadyExists.code
    }


def _is_missing(name: str, context: Context) -> bool:
    return (
        name not in context.routes.topics
        and is_topic_name(name)
        and name not in INTERNAL_TOPICS
        and context.authorize(Operation.DESCRIBE, ResourceType.TOPIC, name)
    )


def _may_be_made(name: str, context: Context) -> bool:
    return context.authorize(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME) or context.authorize(
        Operation.CREATE, ResourceType.TOPIC, name
    )


def _may_not_create(name: str, context: Context) -> OdradekError:
    return TopicAuthorizationFailed(f"{context.principal} may not create topic {name!r}")


# -- description ---------------------------------------------------------------------------------------


def _topic(name: str, context: Context, request: Any, failed: OdradekError | None) -> Body:
    if not context.authorize(Operation.DESCRIBE, ResourceType.TOPIC, name):
        return _missing(name, TopicAuthorizationFailed.code)
    route = context.routes.topics.get(name)
    if route is None:
        return _missing(name, _why_missing(name, failed))
    return {
        "error_code": 0,
        "name": name,
        "topic_id": None,
        "is_internal": route.internal,
        "partitions": _partitions(route, context),
        "topic_authorized_operations": operations_mask(
            getattr(request, "include_topic_authorized_operations", False), ResourceType.TOPIC, name, context
        ),
    }


def _missing(name: str, error_code: int) -> Body:
    return {"error_code": error_code, "name": name, "is_internal": name in INTERNAL_TOPICS, "partitions": []}


def _why_missing(name: str, failed: OdradekError | None) -> int:
    if failed is not None:
        return failed.code
    try:
        check_topic_name(name)
    except OdradekError as error:
        return error.code
    return UnknownTopicOrPartition.code


def _partitions(route: TopicRoute, context: Context) -> list[Body]:
    brokers = context.brokers
    described: list[Body] = []
    for partition in route.partitions:
        leader = context.leader(brokers, route.name, partition.partition)
        error = unavailable(route.name, partition) if partition.inner is None else None
        described.append(
            {
                "error_code": error.code if error is not None else 0,
                "partition_index": partition.partition,
                "leader_id": leader if error is None else -1,
                "leader_epoch": partition.leader_epoch,
                "replica_nodes": [leader],
                "isr_nodes": [leader],
                "offline_replicas": [],
            }
        )
    return described

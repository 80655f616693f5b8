"""DeleteTopics (20), versions 1 to 6: by name, in version 6 also by id. Answered when the topics are gone."""

from __future__ import annotations

from typing import Any

from actors.kafka.create_topics import GRACE_S, TOPICS_MAX, request_timeout_ms
from actors.kafka.handling import Ask, Body, Context, Steps
from actors.kafka.topic_ids import NO_ID, find_name, id_bytes
from actors.messages import SUPERVISOR
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import (
    InvalidRequest,
    OdradekError,
    TopicAuthorizationFailed,
    UnknownTopicId,
    WireError,
)
from odradek.protocol.messages import DeleteTopics, DeleteTopicsReply


def handle(request: Any, context: Context) -> Steps:
    """Every topic on its own."""
    asked = _asked(request, context)
    if len(asked) > TOPICS_MAX:
        raise InvalidRequest(f"DeleteTopics names {len(asked)} topics; {TOPICS_MAX} is the most")
    allowed = [
        name for name in dict.fromkeys(name for name, _ in asked if name) if _may_delete(name, context)
    ]
    errors: dict[str, WireError | None] = {}
    ids = {name: id_bytes(topic.topic_id) for name, topic in context.routes.topics.items()}
    if allowed:
        timeout_ms = request_timeout_ms(request)
        native = DeleteTopics(names=allowed, timeout_ms=timeout_ms)
        (outcome,) = yield (Ask(SUPERVISOR, native, timeout_s=timeout_ms / 1000 + GRACE_S),)
        try:
            deleted: Any = outcome.expect(DeleteTopicsReply).topics
            errors = {topic.name: topic.error for topic in deleted}
        except OdradekError as error:
            errors = dict.fromkeys(allowed, error.wire())
    responses = [_answer(name, topic_id, errors, ids) for name, topic_id in asked]
    return {"throttle_time": 0, "responses": responses}


def _asked(request: Any, context: Context) -> list[tuple[str | None, bytes]]:
    """Name and id of each topic; a name is None where no topic has the id, an id zero where a name came."""
    if context.version < 6:
        return [(str(name), NO_ID) for name in request.topic_names]
    asked: list[tuple[str | None, bytes]] = []
    for topic in request.topics:
        if topic.name is not None and topic.topic_id is not None:
            raise InvalidRequest("a topic is deleted by its name or by its id, not both")
        by_id = topic.topic_id.bytes if topic.topic_id is not None else NO_ID
        asked.append((topic.name or find_name(topic.topic_id, context.routes), by_id))
    return asked


def _may_delete(name: str, context: Context) -> bool:
    return context.authorize(Operation.DELETE, ResourceType.TOPIC, name)


def _answer(
    name: str | None, topic_id: bytes, errors: dict[str, WireError | None], ids: dict[str, bytes]
) -> Body:
    if name is None:
        why: OdradekError = UnknownTopicId("there is no topic with this id")
        return {"name": None, "topic_id": topic_id, "error_code": why.code, "error_message": why.message}
    if name not in errors:
        why = TopicAuthorizationFailed("you may not delete this topic")
        # Whoever came by the id and may not delete it does not learn its name.
        shown = name if topic_id == NO_ID else None
        return {"name": shown, "topic_id": topic_id, "error_code": why.code, "error_message": why.message}
    error = errors[name]
    return {
        "name": name,
        "topic_id": ids.get(name, topic_id),
        "error_code": error.code if error is not None else 0,
        "error_message": error.message if error is not None else None,
    }

"""A topic's id, as both protocols write it: 22 characters of base64 here, 16 bytes there."""

from __future__ import annotations

import base64
import uuid

from actors.routing import RoutingTable

_BYTES = 16
NO_ID = bytes(_BYTES)


def id_bytes(topic_id: str | None) -> bytes:
    """The id as Kafka's messages have it; zeros for none."""
    if topic_id is None:
        return NO_ID
    return base64.urlsafe_b64decode(topic_id + "==")


def find_name(topic_id: uuid.UUID | None, routes: RoutingTable) -> str | None:
    """The name of the topic with that id."""
    if topic_id is None:
        return None
    return next(
        (topic.name for topic in routes.topics.values() if id_bytes(topic.topic_id) == topic_id.bytes), None
    )

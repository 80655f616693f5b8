"""FindCoordinator (10), versions 0 to 4: the gateway that speaks for the coordinator of a group.

Every gateway reaches the one coordinator; each group is given one of them, so that they share the load.
Version 4 asks for several at once. There is no coordinator of transactions (yet).
"""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import DENIED, GROUPS_PER_REQUEST_MAX, check_count
from actors.kafka.handling import Body, Context, Steps, answer
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import CoordinatorNotAvailable, InvalidRequest

GROUP_KEY = 0
BATCHED_VERSION = 4
NOWHERE = {"node_id": -1, "host": "", "port": -1}


def handle(request: Any, context: Context) -> Steps:
    """One gateway for each key."""
    kind = getattr(request, "key_type", GROUP_KEY)
    if context.version < BATCHED_VERSION:
        return answer(_find(request.key, kind, context))
    check_count("groups", len(request.coordinator_keys), GROUPS_PER_REQUEST_MAX)
    keys = dict.fromkeys(request.coordinator_keys)
    return answer({"coordinators": [{"key": key, **_find(key, kind, context)} for key in keys]})


def _find(key: str, kind: int, context: Context) -> Body:
    if kind != GROUP_KEY:
        return {
            **NOWHERE,
            "error_code": InvalidRequest.code,
            "error_message": "this broker coordinates groups only; it has no transactions",
        }
    if not context.authorize(Operation.DESCRIBE, ResourceType.GROUP, key):
        return {**NOWHERE, "error_code": DENIED, "error_message": None}
    broker = context.broker_for(key) if context.routes.coordinator_serves else None
    if broker is None:
        return {
            **NOWHERE,
            "error_code": CoordinatorNotAvailable.code,
            "error_message": "the coordinator is starting; try again",
        }
    return {**broker._asdict(), "error_code": 0, "error_message": None}

"""Heartbeat (12), versions 0 to 4: a member lives, and hears whether it must join again."""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import DENIED, group_code
from actors.kafka.handling import Ask, Context, Steps, ask_one
from actors.messages import COORDINATOR, ClassicHeartbeat
from actors.operations import Operation, ResourceType


def handle(request: Any, context: Context) -> Steps:
    """Nothing but an error code."""
    if not context.authorize(Operation.READ, ResourceType.GROUP, request.group_id):
        return {"error_code": DENIED}
    native = ClassicHeartbeat(
        group=request.group_id,
        member_id=request.member_id,
        generation=request.generation_id,
        instance_id=getattr(request, "group_instance_id", None),
    )
    outcome = yield from ask_one(Ask(COORDINATOR, native))
    return {"error_code": group_code(outcome.error)}

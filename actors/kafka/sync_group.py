"""SyncGroup (14), versions 0 to 5: a member gets its assignment when the leader has brought everybody's.

Version 5 says which protocol the member goes by; the group's is another only where it missed a generation.
"""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import BARRIER_WAIT_S, DENIED, group_code
from actors.kafka.handling import Ask, Context, Steps, ask_one
from actors.messages import COORDINATOR, ClassicSync, ClassicSyncReply
from actors.operations import Operation, ResourceType


def handle(request: Any, context: Context) -> Steps:
    """The assignment, or why there is none."""
    if not context.authorize(Operation.READ, ResourceType.GROUP, request.group_id):
        return {"error_code": DENIED, "assignment": b""}
    native = ClassicSync(
        group=request.group_id,
        member_id=request.member_id,
        generation=request.generation_id,
        instance_id=getattr(request, "group_instance_id", None),
        assignments={item.member_id: bytes(item.assignment) for item in request.assignments},
        protocol_type=getattr(request, "protocol_type", None),
        protocol=getattr(request, "protocol_name", None),
    )
    outcome = yield from ask_one(Ask(COORDINATOR, native, timeout_s=BARRIER_WAIT_S))
    reply = outcome.reply
    if outcome.error is not None or not isinstance(reply, ClassicSyncReply):
        return {"error_code": group_code(outcome.error), "assignment": b""}
    return {
        "error_code": 0,
        "protocol_type": reply.protocol_type,
        "protocol_name": reply.protocol,
        "assignment": reply.assignment,
    }

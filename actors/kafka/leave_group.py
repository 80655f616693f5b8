"""LeaveGroup (13), versions 0 to 5: members leave. From version 3 on several at once, static ones by name."""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import DENIED, GROUPS_PER_REQUEST_MAX, check_count, group_code
from actors.kafka.handling import Ask, Context, Steps, ask_one
from actors.messages import COORDINATOR, ClassicLeave, ClassicLeaver, ClassicLeaveReply
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import UnknownMemberId

SEVERAL_VERSION = 3


def handle(request: Any, context: Context) -> Steps:
    """An error for each that was named; the only one's is the request's up to version 2."""
    if not context.authorize(Operation.READ, ResourceType.GROUP, request.group_id):
        return {"error_code": DENIED, "members": []}
    leavers = _leavers(request, context)
    outcome = yield from ask_one(Ask(COORDINATOR, ClassicLeave(group=request.group_id, members=leavers)))
    reply = outcome.reply
    if outcome.error_code == UnknownMemberId.code:
        # There is no such group, so it has none of these members: each is told, as Kafka does.
        left, codes = leavers, [UnknownMemberId.code] * len(leavers)
    elif outcome.error is not None or not isinstance(reply, ClassicLeaveReply):
        return {"error_code": group_code(outcome.error), "members": []}
    else:
        left = reply.members if isinstance(reply.members, list) else []
        codes = [0 if member.error is None else member.error.code for member in left]
    return {
        "error_code": codes[0] if context.version < SEVERAL_VERSION and codes else 0,
        "members": [
            {
                "member_id": member.member_id or "",
                "group_instance_id": member.instance_id,
                "error_code": code,
            }
            for member, code in zip(left, codes, strict=True)
        ],
    }


def _leavers(request: Any, context: Context) -> list[ClassicLeaver]:
    if context.version < SEVERAL_VERSION:
        return [ClassicLeaver(member_id=request.member_id)]
    check_count("members", len(request.members), GROUPS_PER_REQUEST_MAX)
    return [
        ClassicLeaver(member_id=member.member_id or None, instance_id=member.group_instance_id)
        for member in request.members
    ]

"""DescribeGroups (15), versions 0 to 6: groups with their members; one that does not exist is Dead.
From version 6 on it has an error besides.

Consumer groups of the native protocol are shown as well, in the words of the classic one, so that tools
that know nothing else show who reads what. Kafka calls them dead here.
"""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import DENIED, GROUPS_PER_REQUEST_MAX, ask_all, check_count, group_code
from actors.kafka.handling import Ask, Body, Context, Outcome, Steps
from actors.kafka.permitted import operations_mask
from actors.messages import COORDINATOR, ClassicDescribe, ClassicDescribed, ClassicDescribeReply
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import GroupIdNotFound

DEAD = "Dead"
MISSING_VERSION = 6


def handle(request: Any, context: Context) -> Steps:
    """Each group that was named."""
    check_count("groups", len(request.groups), GROUPS_PER_REQUEST_MAX)
    names = list(dict.fromkeys(request.groups))
    allowed = context.allowed(Operation.DESCRIBE, ResourceType.GROUP, names)
    asked = [name for name in names if name in allowed]
    outcomes = yield from ask_all([Ask(COORDINATOR, ClassicDescribe(group=name)) for name in asked])
    found = dict(zip(asked, outcomes, strict=True))
    wants_operations = getattr(request, "include_authorized_operations", False)
    return {
        "groups": [
            {
                "group_id": name,
                **_described(found.get(name), context.version),
                "authorized_operations": operations_mask(
                    wants_operations and name in found, ResourceType.GROUP, name, context
                ),
            }
            for name in names
        ]
    }


def _described(outcome: Outcome | None, version: int) -> Body:
    """``outcome`` None: the client may not know of this group."""
    reply = None if outcome is None else outcome.reply
    if outcome is None or outcome.error is not None or not isinstance(reply, ClassicDescribeReply):
        code = DENIED if outcome is None else group_code(outcome.error)
        is_missing = code == GroupIdNotFound.code
        return {
            "error_code": 0 if is_missing and version < MISSING_VERSION else code,
            "error_message": None if outcome is None else outcome.error_message,
            "group_state": DEAD if is_missing else "",
            "protocol_type": "",
            "protocol_data": "",
            "members": [],
        }
    members = reply.members if isinstance(reply.members, list) else []
    return {
        "error_code": 0,
        "group_state": reply.state,
        "protocol_type": reply.protocol_type,
        "protocol_data": reply.protocol,
        "members": [_member(member) for member in members],
    }


def _member(member: ClassicDescribed) -> Body:
    return {
        "member_id": member.member_id,
        "group_instance_id": member.instance_id,
        "client_id": member.client_id or "",
        "client_host": f"/{member.client_host}" if member.client_host else "",
        "member_metadata": member.metadata,
        "member_assignment": member.assignment,
    }

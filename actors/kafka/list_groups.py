"""ListGroups (16), versions 0 to 5: every group that the client may know of.

Version 4 filters by state, version 5 by type: "classic" or "consumer".
"""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import group_code
from actors.kafka.handling import Ask, Context, Steps, ask_one
from actors.messages import COORDINATOR
from actors.operations import Operation, ResourceType
from odradek.protocol.messages import GroupList, GroupListReply


def handle(request: Any, context: Context) -> Steps:
    """Names, kinds and states."""
    outcome = yield from ask_one(Ask(COORDINATOR, GroupList()))
    reply = outcome.reply
    if outcome.error is not None or not isinstance(reply, GroupListReply):
        return {"error_code": group_code(outcome.error), "groups": []}
    groups = reply.groups if isinstance(reply.groups, list) else []
    states = {state.lower() for state in getattr(request, "states_filter", ())}
    types = {each.lower() for each in getattr(request, "types_filter", ())}
    sees_all = context.authorize(Operation.DESCRIBE, ResourceType.CLUSTER)
    return {
        "error_code": 0,
        "groups": [
            {
                "group_id": group.group,
                "protocol_type": group.protocol_type or "",
                "group_state": group.state,
                "group_type": group.type,
            }
            for group in groups
            if (not states or group.state.lower() in states)
            and (not types or group.type in types)
            and (sees_all or context.authorize(Operation.DESCRIBE, ResourceType.GROUP, group.group))
        ],
    }

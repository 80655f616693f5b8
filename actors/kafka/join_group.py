"""JoinGroup (11), versions 0 to 9: a member joins, and is answered when the generation begins.

Version 0 has no rebalance time-out: the session's is meant. Up to version 3 a new member is in at once;
from 4 on it gets an id first (MEMBER_ID_REQUIRED) and joins with that. Version 5 has static members.
A static leader that comes back is told from version 9 on that it leads and need assign nothing; before that,
as in Kafka, that its old self leads, so that it takes up what the group has.
"""

from __future__ import annotations

from typing import Any

from actors.classic_members import REBALANCE_TIMEOUT_MS_MAX
from actors.kafka.group_words import BARRIER_WAIT_S, DENIED, NO_GENERATION, client_name, group_code, shortened
from actors.kafka.handling import Ask, Body, Context, Steps, ask_one, milliseconds
from actors.messages import COORDINATOR, ClassicJoin, ClassicJoinReply, ClassicProtocol
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import MemberIdRequired

ID_FIRST_VERSION = 4
SKIP_VERSION = 9


def handle(request: Any, context: Context) -> Steps:
    """Joined, or why not."""
    if not context.authorize(Operation.READ, ResourceType.GROUP, request.group_id):
        return _refused(request, DENIED)
    ask = Ask(COORDINATOR, _native(request, context), timeout_s=BARRIER_WAIT_S)
    outcome = yield from ask_one(ask)
    reply = outcome.reply
    if outcome.error is not None or not isinstance(reply, ClassicJoinReply):
        new_id = outcome.error_message if outcome.error_code == MemberIdRequired.code else None
        return _refused(request, group_code(outcome.error), new_id)
    members = reply.members if isinstance(reply.members, list) else []
    return {
        "error_code": 0,
        "generation_id": reply.generation,
        "protocol_type": reply.protocol_type,
        "protocol_name": reply.protocol,
        "leader": reply.leader,
        "skip_assignment": reply.skip_assignment,
        "member_id": reply.member_id,
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.instance_id,
                "metadata": member.metadata,
            }
            for member in members
        ],
    }


def _native(request: Any, context: Context) -> ClassicJoin:
    session_ms = milliseconds(request.session_timeout)
    rebalance_ms = milliseconds(getattr(request, "rebalance_timeout", request.session_timeout))
    return ClassicJoin(
        group=request.group_id,
        member_id=request.member_id or None,
        protocol_type=request.protocol_type,
        protocols=[ClassicProtocol(known.name, bytes(known.metadata)) for known in request.protocols],
        session_timeout_ms=session_ms,
        # Some clients say that they may take for ever.
        rebalance_timeout_ms=min(rebalance_ms, REBALANCE_TIMEOUT_MS_MAX),
        instance_id=getattr(request, "group_instance_id", None),
        client_id=client_name(context),
        client_host=shortened(context.client_host) or None,
        id_first=context.version >= ID_FIRST_VERSION,
        may_skip=context.version >= SKIP_VERSION,
    )


def _refused(request: Any, code: int, new_id: str | None = None) -> Body:
    return {
        "error_code": code,
        "generation_id": NO_GENERATION,
        "protocol_type": None,
        "protocol_name": "",
        "leader": "",
        "member_id": new_id or request.member_id,
        "members": [],
    }

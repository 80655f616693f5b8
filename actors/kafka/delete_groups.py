"""DeleteGroups (42), versions 0 to 2: forget groups that nobody is in, with their offsets."""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import DENIED, GROUPS_PER_REQUEST_MAX, ask_all, check_count, group_code
from actors.kafka.handling import Ask, Context, Steps
from actors.messages import COORDINATOR
from actors.operations import Operation, ResourceType
from odradek.protocol.messages import GroupDelete


def handle(request: Any, context: Context) -> Steps:
    """An error code for each group."""
    check_count("groups", len(request.groups_names), GROUPS_PER_REQUEST_MAX)
    names = list(dict.fromkeys(request.groups_names))
    allowed = context.allowed(Operation.DELETE, ResourceType.GROUP, names)
    asked = [name for name in names if name in allowed]
    outcomes = yield from ask_all([Ask(COORDINATOR, GroupDelete(group=name)) for name in asked])
    codes = {name: group_code(outcome.error) for name, outcome in zip(asked, outcomes, strict=True)}
    return {
        "results": [{"group_id": name, "error_code": codes.get(name, DENIED)} for name in names],
    }

"""OffsetFetch (9), versions 1 to 8: where groups stand; -1 where nothing is committed, or nothing is known.

From version 2 on no topics mean all that is committed; version 8 asks for several groups at once. All that
is committed is stable: there are no transactions that ``require_stable`` could wait for.
"""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import (
    DENIED,
    GROUPS_PER_REQUEST_MAX,
    ask_all,
    check_count,
    check_offsets,
    group_code,
)
from actors.kafka.handling import Ask, Body, Context, Outcome, Steps
from actors.kafka.places import NO_EPOCH
from actors.messages import COORDINATOR
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import TopicAuthorizationFailed
from odradek.protocol.messages import FetchedOffset, OffsetFetch, OffsetFetchReply, TopicPartitions
from odradek.protocol.names import is_topic_name

SEVERAL_VERSION = 8
NONE_COMMITTED = -1


def handle(request: Any, context: Context) -> Steps:
    """What each group has committed."""
    groups = request.groups if context.version >= SEVERAL_VERSION else [request]
    check_count("groups", len(groups), GROUPS_PER_REQUEST_MAX)
    check_offsets(topic for each in groups for topic in each.topics or ())
    allowed = context.allowed(Operation.DESCRIBE, ResourceType.GROUP, {each.group_id for each in groups})
    asked = [each for each in groups if each.group_id in allowed]
    outcomes = yield from ask_all([Ask(COORDINATOR, _native(each, context)) for each in asked])
    found = {id(each): outcome for each, outcome in zip(asked, outcomes, strict=True)}
    answered = [_answer(each, found.get(id(each)), context) for each in groups]
    return {"groups": answered} if context.version >= SEVERAL_VERSION else answered[0]


def _native(group: Any, context: Context) -> OffsetFetch:
    if group.topics is None:
        return OffsetFetch(group=group.group_id)
    topics = [
        TopicPartitions(topic=topic.name, partitions=list(topic.partition_indexes))
        for topic in group.topics
        if is_topic_name(topic.name) and _may_know(topic.name, context)
    ]
    return OffsetFetch(group=group.group_id, topics=list(topics))


def _may_know(topic: str, context: Context) -> bool:
    return context.authorize(Operation.DESCRIBE, ResourceType.TOPIC, topic)


def _answer(group: Any, outcome: Outcome | None, context: Context) -> Body:
    """``outcome`` None: the client may not know of this group."""
    code = DENIED if outcome is None else group_code(outcome.error)
    reply = None if outcome is None else outcome.reply
    found = reply.offsets if isinstance(reply, OffsetFetchReply) and not code else []
    offsets = {(each.topic, each.partition): each for each in (found if isinstance(found, list) else [])}
    if group.topics is None:
        places: dict[str, list[int]] = {}
        for topic, number in offsets:
            if _may_know(topic, context):
                places.setdefault(topic, []).append(number)
        listed = list(places.items())
    else:
        listed = [(topic.name, list(topic.partition_indexes)) for topic in group.topics]
    return {
        "group_id": group.group_id,
        "error_code": code,
        "topics": [
            {
                "name": name,
                "partitions": [
                    _partition(number, offsets.get((name, number)), code or _topic_code(name, context))
                    for number in numbers
                ],
            }
            for name, numbers in listed
        ],
    }


def _topic_code(topic: str, context: Context) -> int:
    return 0 if _may_know(topic, context) else TopicAuthorizationFailed.code


def _leader_epoch(found: FetchedOffset | None) -> int:
    return found.leader_epoch if found is not None and isinstance(found.leader_epoch, int) else NO_EPOCH


def _partition(number: int, found: FetchedOffset | None, code: int) -> Body:
    return {
        "partition_index": number,
        "committed_offset": NONE_COMMITTED if found is None else found.offset,
        "committed_leader_epoch": _leader_epoch(found),
        "metadata": "" if found is None else found.metadata or "",
        "error_code": code,
    }

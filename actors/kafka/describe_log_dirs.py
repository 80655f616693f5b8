"""DescribeLogDirs (35), versions 1 to 4: how much disk each partition takes. There is one directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.kafka.handling import Ask, Body, Context, Outcome, Steps
from actors.messages import MeasureLog, MeasureLogReply, partition_address
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.errors import ClusterAuthorizationFailed

ANSWER_S = 10.0
PARTITIONS_MAX = 20_000
UNKNOWN_SIZE = -1


def handle(request: Any, context: Context) -> Steps:
    """Every partition that is named, or all; one that does not answer now is left out."""
    if not context.authorize(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME):
        return {"throttle_time": 0, "error_code": ClusterAuthorizationFailed.code, "results": []}
    places = list(_places(request, context))[:PARTITIONS_MAX]
    outcomes: Any = ()
    if places:
        outcomes = yield tuple(
            Ask(partition_address(name, number), MeasureLog(topic=name, partition=number), timeout_s=ANSWER_S)
            for name, number in places
        )
    return {"throttle_time": 0, "error_code": 0, "results": [_directory(places, outcomes, context)]}


def _places(request: Any, context: Context) -> Iterator[tuple[str, int]]:
    """The partitions that are asked for and serve."""
    wanted = {topic.topic: set(topic.partitions) for topic in request.topics or ()}
    for name, topic in sorted(context.routes.topics.items()):
        for route in topic.partitions:
            is_wanted = request.topics is None or route.partition in wanted.get(name, ())
            if is_wanted and route.inner is not None:
                yield name, route.partition


def _directory(places: list[tuple[str, int]], outcomes: Any, context: Context) -> Body:
    topics: dict[str, list[Body]] = {}
    usable_bytes = UNKNOWN_SIZE
    for (name, partition), outcome in zip(places, outcomes, strict=True):
        measured = _measured(outcome)
        if measured is not None:
            usable_bytes = measured.free_bytes
            topics.setdefault(name, []).append(
                {
                    "partition_index": partition,
                    "partition_size": measured.size_bytes,
                    "offset_lag": 0,
                    "is_future_key": False,
                }
            )
    return {
        "error_code": 0,
        "log_dir": context.options.log_directory,
        "topics": [{"name": name, "partitions": partitions} for name, partitions in topics.items()],
        "total_bytes": UNKNOWN_SIZE,
        "usable_bytes": usable_bytes,
    }


def _measured(outcome: Outcome) -> Any:
    reply = outcome.reply
    return reply if outcome.error is None and isinstance(reply, MeasureLogReply) else None

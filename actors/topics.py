"""What the coordinator knows of topics: which there are, and how many partitions each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from actors.messages import Routes


class Topic(NamedTuple):
    """One topic. ``topic_id`` tells it from a deleted one of the same name."""

    topic_id: str
    partitions: int


Topics = Mapping[str, Topic]


def topics_of(routes: Routes) -> dict[str, Topic]:
    """The topics of a routing table; a topic has the partitions that the table lists."""
    return {topic.name: Topic(topic.topic_id, len(topic.partitions)) for topic in routes.topics}

"""What the coordinator knows of topics: which there are, and how many partitions each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from actors.messages import Routes
from actors.patterns import compile_pattern

PATTERNS_KEPT_MAX = 1000
"""Patterns whose matches are kept; beyond that all are looked up anew."""


class Topic(NamedTuple):
    """One topic. ``topic_id`` tells it from a deleted one of the same name."""

    topic_id: str
    partitions: int
    internal: bool = False


Topics = Mapping[str, Topic]


def topics_of(routes: Routes) -> dict[str, Topic]:
    """The topics of a routing table; a topic has the partitions that the table lists."""
    return {
        topic.name: Topic(topic.topic_id, len(topic.partitions), topic.internal) for topic in routes.topics
    }


class TopicTable:
    """All topics, and which of them each pattern matches.

    A table that follows another one matches only the names that the other did not have.
    """

    def __init__(self, topics: Topics, before: TopicTable | None = None) -> None:
        self.topics = topics
        self._matches: dict[str, frozenset[str]] = {}
        if before is not None:
            new = [name for name in topics if name not in before.topics]
            for pattern, names in before._matches.items():
                kept = frozenset(name for name in names if name in topics)
                self._matches[pattern] = kept | self._among(pattern, new)

    def matching(self, pattern: str) -> frozenset[str]:
        """The topics that a pattern subscribes to; the broker's own are never among them."""
        found = self._matches.get(pattern)
        if found is None:
            if len(self._matches) >= PATTERNS_KEPT_MAX:
                self._matches.clear()
            found = self._matches[pattern] = self._among(pattern, list(self.topics))
        return found

    def _among(self, pattern: str, names: list[str]) -> frozenset[str]:
        compiled = compile_pattern(pattern)
        return frozenset(name for name in names if not self.topics[name].internal and compiled.matches(name))

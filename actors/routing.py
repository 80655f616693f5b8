"""The routing table: which topics there are, where their partitions listen, where a record goes."""

from __future__ import annotations

from dataclasses import dataclass

from actors.effects import Effect, Link, Unlink
from actors.messages import (
    COORDINATOR,
    GatewayRoute,
    PartitionRoute,
    Routes,
    TopicRoute,
    partition_address,
)
from odradek.protocol.errors import (
    LeaderNotAvailable,
    OdradekError,
    UnknownTopicOrPartition,
    error_from_wire,
)
from odradek.protocol.messages import PartitionMetadata, TopicMetadata
from odradek.protocol.names import check_topic_name
from odradek.protocol.partitioning import partition_for_key

STICKY_BYTES_MAX = 65_536
"""Records without a key stay on one partition for so many bytes, so that they make good batches."""


@dataclass(slots=True)
class Sticky:
    """Where a topic's records without a key go just now, and how many bytes went there."""

    partition: int
    sent_bytes: int = 0


class RoutingTable:
    """What the supervisor said last. ``first_partition`` spreads the routers' sticky choices."""

    def __init__(self, first_partition: int = 0) -> None:
        self.version = -1
        self.cluster_id = ""
        self.routers: list[str] = []
        self.gateways: list[GatewayRoute] = []
        self.topics: dict[str, TopicRoute] = {}
        self._linked: dict[str, str] = {}
        self._served: dict[tuple[str, int], str] = {}
        """The addresses that were asked for since the last change: of partitions that serve."""
        self._sticky: dict[str, Sticky] = {}
        self._first_partition = first_partition

    def replace(self, routes: Routes) -> tuple[list[Effect], set[str]]:
        """Take a newer table; the links to change, and the addresses that are no longer where they were."""
        if routes.version <= self.version:
            return [], set()
        self.version = routes.version
        self.cluster_id = routes.cluster_id
        self.routers = routes.routers
        self.gateways = routes.gateways
        self.topics = {topic.name: topic for topic in routes.topics}
        self._served.clear()
        self._sticky = {name: sticky for name, sticky in self._sticky.items() if name in self.topics}
        return self._relink(_endpoints(routes))

    def _relink(self, wanted: dict[str, str]) -> tuple[list[Effect], set[str]]:
        """Each start of an actor has an endpoint of its own, so the same endpoint is the same process."""
        lost = {address for address, endpoint in self._linked.items() if wanted.get(address) != endpoint}
        effects: list[Effect] = [Unlink(address) for address in sorted(lost)]
        effects += [
            Link(address, endpoint)
            for address, endpoint in wanted.items()
            if self._linked.get(address) != endpoint
        ]
        self._linked = wanted
        return effects, lost

    def topic(self, name: str) -> TopicRoute:
        """The topic of this name. Raises InvalidTopic or UnknownTopicOrPartition."""
        topic = self.topics.get(name)
        if topic is None:
            check_topic_name(name)
            raise UnknownTopicOrPartition(f"there is no topic {name!r}")
        return topic

    def served(self, name: str, partition: int) -> str:
        """The address of a partition that serves. Raises what a client should be told where none does."""
        address = self._served.get((name, partition))
        if address is None:
            address = self._served[name, partition] = self._find_served(name, partition)
        return address

    def _find_served(self, name: str, partition: int) -> str:
        topic = self.topic(name)
        if not 0 <= partition < len(topic.partitions):
            raise UnknownTopicOrPartition(
                f"topic {name!r} has partitions 0 to {len(topic.partitions) - 1}, not {partition}"
            )
        route = topic.partitions[partition]
        if route.inner is None:
            raise unavailable(name, route)
        return partition_address(name, partition)

    @property
    def coordinator_serves(self) -> bool:
        """Whether there is a coordinator to send to."""
        return COORDINATOR in self._linked

    def all_serve(self, name: str) -> bool:
        """Whether the topic exists and every partition of it serves."""
        topic = self.topics.get(name)
        return topic is not None and all(route.inner is not None for route in topic.partitions)

    def place(self, topic: TopicRoute, key: bytes | None, size_bytes: int) -> int:
        """The partition of a record: by its key, else the topic's sticky one."""
        if key is not None:
            return partition_for_key(key, len(topic.partitions))
        sticky = self._sticky.get(topic.name)
        if sticky is None:
            sticky = self._sticky[topic.name] = Sticky(self._serving(topic, self._first_partition))
        elif sticky.sent_bytes >= STICKY_BYTES_MAX or topic.partitions[sticky.partition].inner is None:
            sticky.partition = self._serving(topic, sticky.partition + 1)
            sticky.sent_bytes = 0
        sticky.sent_bytes += size_bytes
        return sticky.partition

    @staticmethod
    def _serving(topic: TopicRoute, start: int) -> int:
        """The first partition from ``start`` on, around the circle, that serves; ``start`` if none does."""
        count = len(topic.partitions)
        for step in range(count):
            if topic.partitions[(start + step) % count].inner is not None:
                return (start + step) % count
        return start % count


def unavailable(topic: str, route: PartitionRoute) -> OdradekError:
    """Why a partition does not serve: it gave up for a reason, or it is on its way."""
    if route.error is not None:
        return error_from_wire(route.error)
    return LeaderNotAvailable(f"{topic}-{route.partition} is starting; try again")


def describe_topic(topic: TopicRoute) -> TopicMetadata:
    """What ``metadata`` tells of a topic."""
    partitions = [
        PartitionMetadata(
            partition=route.partition,
            leader_epoch=route.leader_epoch,
            endpoints=route.endpoints,
            error=unavailable(topic.name, route).wire() if route.inner is None else None,
        )
        for route in topic.partitions
    ]
    return TopicMetadata(
        name=topic.name, topic_id=topic.topic_id, internal=topic.internal, partitions=partitions
    )


def _endpoints(routes: Routes) -> dict[str, str]:
    endpoints = {
        partition_address(topic.name, route.partition): route.inner
        for topic in routes.topics
        for route in topic.partitions
        if route.inner is not None
    }
    if routes.coordinator is not None:
        endpoints[COORDINATOR] = routes.coordinator
    return endpoints

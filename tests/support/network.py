"""Routing tables as a test writes them, and a small broker on the in-memory network."""

from __future__ import annotations

from pathlib import Path

from actors.messages import PartitionRoute, Routes, TopicRoute, partition_address
from actors.partition import PartitionActor
from actors.router import RouterActor, RouterOptions
from odradek.protocol.errors import WireError
from partitions.log import Log
from partitions.settings import LogSettings
from tests.support.clock import FakeClock
from tests.support.simdisk import SimDisk
from transport.memory import Faults, MemoryNetwork

ROUTER = "router:0"


def topic_route(
    name: str,
    *inners: str | None,
    batch_bytes_max: int = 1_048_588,
    errors: dict[int, WireError] | None = None,
) -> TopicRoute:
    """A topic with one partition for each of ``inners``; None is a partition that does not serve."""
    return TopicRoute(
        name=name,
        topic_id=f"id of {name}",
        config={"max.message.bytes": batch_bytes_max},
        partitions=[
            PartitionRoute(
                partition=number,
                inner=inner,
                endpoints=[f"ipc://direct-{name}-{number}"],
                leader_epoch=1,
                error=(errors or {}).get(number),
            )
            for number, inner in enumerate(inners)
        ],
    )


def routes(version: int, *topics: TopicRoute, coordinator: str | None = "ipc://coordinator") -> Routes:
    return Routes(
        version=version,
        cluster_id="cluster",
        routers=["tcp://127.0.0.1:5559"],
        coordinator=coordinator,
        topics=list(topics),
    )


class MemoryBroker:
    """A router and the partitions of one topic, each with a disk of its own that survives a crash."""

    def __init__(self, topic: str, partitions: int, seed: int, settings: LogSettings) -> None:
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock, seed, Faults())
        self.disks = [SimDisk() for _ in range(partitions)]
        self._topic = topic
        self._settings = settings
        self._endpoints: list[str | None] = [None] * partitions
        self._epochs = [0] * partitions
        self._version = 0
        self.network.host(ROUTER, lambda: RouterActor(RouterOptions(index=0, server="test")))
        for number in range(partitions):
            self.start(number)
        self.publish()

    def log(self, number: int) -> Log:
        """Open a partition's log, as its actor does."""
        return Log.open(
            Path(f"/simulated/{self._topic}-{number}"),
            self._settings,
            files=self.disks[number],
            wall_ms=self.clock.now().wall_ms,
            topic_id="id",
        )

    def start(self, number: int) -> Log:
        """Start a partition's actor on the log that is returned; the next ``publish`` tells the router."""
        log = self.log(number)
        self._epochs[number] = log.leader_epoch
        address = partition_address(self._topic, number)
        self._endpoints[number] = self.network.host(address, lambda: PartitionActor(self._topic, number, log))
        return log

    def lose_power(self, number: int, seed: int) -> None:
        """The partition's actor ends and its disk keeps only what was synced, and pieces of the rest."""
        self.network.crash(partition_address(self._topic, number))
        self.disks[number] = self.disks[number].crash(seed)
        self._endpoints[number] = None

    def publish(self) -> None:
        """Tell the router where the partitions are now."""
        self._version += 1
        topic = topic_route(self._topic, *self._endpoints)
        for route in topic.partitions:
            route.leader_epoch = self._epochs[route.partition]
        self.network.tell(ROUTER, routes(self._version, topic, coordinator=None))

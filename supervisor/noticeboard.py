"""The noticeboard: what routers, gateways and the coordinator hear of the tree, partitions of their settings.

Pure. It knows what each child was told, so that each hears what is new to it, and once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from actors.messages import (
    Access,
    Configure,
    GatewayRoute,
    PartitionRoute,
    Routes,
    TopicRoute,
    partition_address,
)
from odradek.protocol.errors import KafkaStorageError
from odradek.protocol.messages import Request
from supervisor.children import Child, Role, State
from supervisor.effects import TellChild
from supervisor.gatekeeper import Gatekeeper
from supervisor.topics import Topics, complete_config

CROWD = 64
"""Beyond so many children, what is done for all of them takes its time."""
PAUSE_S_PER_CHILD = 0.000_25
"""The whole table goes out with each change; that of a crowd not more often than this times the children."""


def of_role(children: Mapping[str, Child], role: Role) -> Iterator[Child]:
    """The children of that role, in order."""
    return (child for child in children.values() if child.role is role)


class Noticeboard:
    """What is known, and who knows it already. ``children`` is the overseer's own."""

    def __init__(
        self,
        topics: Topics,
        gatekeeper: Gatekeeper,
        children: Mapping[str, Child],
        emit: Callable[[TellChild], None],
        now_s: float,
    ) -> None:
        self._topics = topics
        self._gatekeeper = gatekeeper
        self._children = children
        self._emit = emit
        self._version = 1
        self._is_behind = False
        self._publish_s = now_s
        self._unconfigured: set[str] = set()

    # -- what is new -----------------------------------------------------------------------------------

    def reroute(self) -> None:
        """A child came, went or moved: there is a new table."""
        self._version += 1
        self._is_behind = True

    def hurry(self, now_s: float) -> None:
        """Who may do what has changed: that is told without a pause."""
        self._is_behind = True
        self._publish_s = now_s

    def reconfigure(self, names: Iterable[str]) -> None:
        """These partitions may not know their settings."""
        self._unconfigured.update(names)

    def forget(self, child: Child, message: Request) -> None:
        """The message did not reach the child; what it said is said again at its next sign of life."""
        match message:
            case Routes():
                child.routes_told = 0
            case Access():
                child.access_told = 0
            case Configure():
                child.config_told = None

    def remind(self, child: Child) -> None:
        """It lives; say again what it did not hear."""
        if child.role is Role.PARTITION:
            if child.config_told is None:
                self._unconfigured.add(child.name)
        elif child.routes_told < self._version or self._lacks_access(child):
            self._is_behind = True

    # -- telling it ------------------------------------------------------------------------------------

    def settle(self, now_s: float) -> float | None:
        """Tell what is due; when to come back for the rest, or None where nothing is left."""
        later_s = None
        if self._is_behind and now_s < self._publish_s:
            later_s = self._publish_s
        else:
            self.publish(now_s)
        for name in sorted(self._unconfigured):
            self._configure(self._children.get(name))
        self._unconfigured.clear()
        return later_s

    def publish(self, now_s: float) -> None:
        """Tell those who listen what they do not know yet, whatever time has passed since the last."""
        if not self._is_behind:
            return
        self._is_behind = False
        count = len(self._children)
        self._publish_s = now_s + (PAUSE_S_PER_CHILD * count if count > CROWD else 0.0)
        routes: Routes | None = None
        for child in self._listeners():
            if self._lacks_access(child):
                # Before the routes: who knows where to send a request knows whether it is allowed.
                child.access_told = self._gatekeeper.version
                access = self._gatekeeper.tidings(with_users=child.role is not Role.ROUTER)
                self._emit(TellChild(child.name, child.incarnation, access))
            if child.routes_told < self._version:
                routes = routes or self._routes()
                child.routes_told = self._version
                self._emit(TellChild(child.name, child.incarnation, routes))

    def _lacks_access(self, child: Child) -> bool:
        return child.role is not Role.COORDINATOR and child.access_told < self._gatekeeper.version

    def _listeners(self) -> Iterator[Child]:
        for role in (Role.ROUTER, Role.GATEWAY, Role.COORDINATOR):
            yield from (child for child in of_role(self._children, role) if child.state is State.SERVING)

    def _routes(self) -> Routes:
        catalog = self._topics.catalog
        coordinator = next(of_role(self._children, Role.COORDINATOR))
        routers = of_role(self._children, Role.ROUTER)
        return Routes(
            version=self._version,
            cluster_id=catalog.cluster_id,
            routers=[endpoint for child in routers for endpoint in child.endpoints],
            coordinator=coordinator.inner if coordinator.state is State.SERVING else None,
            topics=[
                TopicRoute(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    config=complete_config(topic),
                    partitions=[
                        _route(self._children[partition_address(topic.name, partition)])
                        for partition in range(topic.partitions)
                    ],
                )
                for topic in catalog.topics
            ],
            gateways=[
                GatewayRoute(index=child.index, endpoints=child.listeners)
                for child in of_role(self._children, Role.GATEWAY)
                if child.state is State.SERVING
            ],
        )

    def _configure(self, child: Child | None) -> None:
        if child is None or child.state is not State.SERVING or child.role is not Role.PARTITION:
            return
        topic = self._topics.catalog.find(child.topic)
        if topic is not None and child.config_told != topic.config:
            child.config_told = topic.config
            config = Configure(config=complete_config(topic))
            self._emit(TellChild(child.name, child.incarnation, config))


def _route(child: Child) -> PartitionRoute:
    if child.state is State.SERVING:
        return PartitionRoute(
            partition=child.partition,
            inner=child.inner,
            endpoints=child.endpoints,
            leader_epoch=child.leader_epoch,
        )
    failed = child.state is State.FAILED
    error = KafkaStorageError(f"{child.name} was given up: {child.reason}").wire() if failed else None
    return PartitionRoute(partition=child.partition, leader_epoch=child.leader_epoch, error=error)

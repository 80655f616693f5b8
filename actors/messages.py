"""Messages that never leave the broker: between the supervisor and the processes it watches.

They travel on the control link only, in the same framing as the public protocol; a public socket
does not know them. Addresses: ``supervisor``, ``coordinator``, ``router:<n>``,
``partition:<topic>-<n>``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from odradek.protocol.errors import WireError
from odradek.protocol.messages import (
    AlterConfigs,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    DescribeConfigs,
    Request,
    Status,
)

SUPERVISOR = "supervisor"
COORDINATOR = "coordinator"


def partition_address(topic: str, partition: int) -> str:
    """The address of a partition's actor, which is also its name in ``status``."""
    return f"partition:{topic}-{partition}"


def router_address(index: int) -> str:
    """The address of a router, which is also its name in ``status``."""
    return f"router:{index}"


# -- from a child to the supervisor ------------------------------------------------------------------


class ChildMessage(Request, kw_only=True):
    """``incarnation`` counts the starts of this name, so that a late word of a dead process is known."""

    name: str
    incarnation: int


class ChildBeat(ChildMessage, tag="child_beat"):
    """The child's loop turned. Sent from the loop itself: a hung actor falls silent."""


class ChildReady(ChildMessage, tag="child_ready", kw_only=True):
    """The child serves. ``inner`` is for routers, ``endpoints`` are for clients."""

    inner: str | None = None
    endpoints: list[str] = []
    leader_epoch: int = 0
    notes: dict[str, Any] = {}


class ChildFailed(ChildMessage, tag="child_failed", kw_only=True):
    """The child could not start or cannot go on; it ends right after this word."""

    error: WireError


# -- from the supervisor to its children -------------------------------------------------------------


class PartitionRoute(msgspec.Struct, kw_only=True):
    """Where one partition is. ``inner`` is None while its actor starts; ``error`` when it gave up."""

    partition: int
    inner: str | None = None
    endpoints: list[str] = []
    leader_epoch: int = 0
    error: WireError | None = None


class TopicRoute(msgspec.Struct, kw_only=True):
    """One topic: its partitions in order of number, and its complete settings."""

    name: str
    topic_id: str
    internal: bool = False
    config: dict[str, Any] = {}
    partitions: list[PartitionRoute] = []


class Routes(Request, tag="routes", kw_only=True):
    """The whole routing table; each replaces the one before. Sent to routers and the coordinator."""

    version: int
    cluster_id: str
    routers: list[str]
    coordinator: str | None
    topics: list[TopicRoute]


class Configure(Request, tag="configure", kw_only=True):
    """New settings of a partition's topic, complete; takes effect at once."""

    config: dict[str, Any]


class Stop(Request, tag="stop"):
    """Take no more requests, make durable what was accepted, end."""


SUPERVISOR_REQUESTS: tuple[type[Request], ...] = (
    CreateTopics,
    DeleteTopics,
    CreatePartitions,
    DescribeConfigs,
    AlterConfigs,
    Status,
)
"""The public requests that the supervisor answers; routers send them on."""
TO_SUPERVISOR: tuple[type[Request], ...] = (ChildBeat, ChildReady, ChildFailed)
TO_CHILD: tuple[type[Request], ...] = (Routes, Configure, Stop)

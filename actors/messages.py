"""Messages that never leave the broker: between the supervisor and the processes it watches.

They travel on the control link only, in the same framing as the public protocol; a public socket
does not know them. Addresses: ``supervisor``, ``coordinator``, ``router:<n>``,
``gateway:<n>``, ``partition:<topic>-<n>``.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from odradek.protocol.access import Acl, ScramCredential
from odradek.protocol.errors import WireError
from odradek.protocol.messages import (
    AlterConfigs,
    AlterUsers,
    CommittedOffsetResult,
    CreateAcls,
    CreatePartitions,
    CreateTopics,
    DeleteAcls,
    DeleteTopics,
    DescribeAcls,
    DescribeConfigs,
    DescribeUsers,
    OffsetCommit,
    OffsetCommitReply,
    Reply,
    Request,
    Status,
    TopicPartitions,
)

SUPERVISOR = "supervisor"
COORDINATOR = "coordinator"


def partition_address(topic: str, partition: int) -> str:
    """The address of a partition's actor, which is also its name in ``status``."""
    return f"partition:{topic}-{partition}"


def gateway_address(index: int) -> str:
    """The address of a Kafka gateway, which is also its name in ``status``."""
    return f"gateway:{index}"


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
    listeners: dict[str, str] = {}
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


class GatewayRoute(msgspec.Struct, kw_only=True):
    """A gateway that serves: "host:port" of each of its listeners by the listener's name."""

    index: int
    endpoints: dict[str, str]


class Routes(Request, tag="routes", kw_only=True):
    """The whole routing table; each replaces the last. Sent to routers, gateways and the coordinator."""

    version: int
    cluster_id: str
    routers: list[str]
    coordinator: str | None
    topics: list[TopicRoute]
    gateways: list[GatewayRoute] = []


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One user of the Kafka listener, with a credential for each mechanism."""

    name: str
    credentials: tuple[ScramCredential, ...] = ()


class Access(Request, tag="access", kw_only=True):
    """Who may log in and who may do what; each replaces the one before. Sent before ``Routes``."""

    version: int
    enforced: bool
    super_users: list[str] = []
    acls: list[Acl] = []
    users: Annotated[list[User], Meta(description="Only gateways are told.")] = []
    principals: Annotated[
        dict[str, str], Meta(description="Of each public key that may come in. Only routers are told.")
    ] = {}


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
    DescribeAcls,
    CreateAcls,
    DeleteAcls,
    DescribeUsers,
    AlterUsers,
    Status,
)
"""The public requests that the supervisor answers; routers send them on."""
TO_SUPERVISOR: tuple[type[Request], ...] = (ChildBeat, ChildReady, ChildFailed)
TO_CHILD: tuple[type[Request], ...] = (Routes, Access, Configure, Stop)


# -- between actors, on inner sockets only -----------------------------------------------------------


class Watch(Request, tag="watch", kw_only=True):
    """Say when the partition's high watermark has passed ``offset``, or after ``max_wait_ms`` what it is."""

    topic: str
    partition: int
    offset: int
    max_wait_ms: int


class WatchReply(Reply, kw_only=True):
    high_watermark: int | UnsetType = UNSET
    log_start_offset: int | UnsetType = UNSET


class ClassicProtocol(msgspec.Struct, frozen=True):
    """A way to assign that a member knows, and what it tells the leader about itself for it."""

    name: str
    metadata: bytes = b""


class ClassicJoin(Request, tag="classic_join", kw_only=True):
    """A member joins a classic group, or joins it again. ``member_id`` None: it has none yet.

    ``id_first``: a dynamic member without an id only gets one (MEMBER_ID_REQUIRED, whose message is the
    id) and joins with its next request, so that a client that never hears the answer leaves no member.
    """

    group: str
    member_id: str | None
    protocol_type: str
    protocols: list[ClassicProtocol]
    session_timeout_ms: int
    rebalance_timeout_ms: int
    instance_id: str | None = None
    client_host: str | None = None
    id_first: bool = True
    may_skip: bool = False
    """A leader that is back may be told that it leads, and need assign nothing."""


class ClassicJoined(msgspec.Struct, frozen=True):
    """What the leader learns of each member."""

    member_id: str
    instance_id: str | None
    metadata: bytes


class ClassicJoinReply(Reply, kw_only=True):
    """A generation has begun; ``members`` only for its leader."""

    generation: int | UnsetType = UNSET
    protocol_type: str | UnsetType = UNSET
    protocol: str | UnsetType = UNSET
    leader: str | UnsetType = UNSET
    member_id: str | UnsetType = UNSET
    members: list[ClassicJoined] | UnsetType = UNSET
    skip_assignment: bool = False


class ClassicMemberRequest(Request, kw_only=True):
    """A word of one member of a generation."""

    group: str
    member_id: str
    generation: int
    instance_id: str | None = None


class ClassicSync(ClassicMemberRequest, tag="classic_sync", kw_only=True):
    """A member asks for its assignment; the leader brings everybody's, by member id."""

    assignments: dict[str, bytes] = {}
    protocol_type: str | None = None
    protocol: str | None = None
    """What the member takes for the group's; None: it does not say."""


class ClassicSyncReply(Reply, kw_only=True):
    protocol_type: str | UnsetType = UNSET
    protocol: str | UnsetType = UNSET
    assignment: bytes | UnsetType = UNSET


class ClassicHeartbeat(ClassicMemberRequest, tag="classic_heartbeat", kw_only=True):
    """A member lives."""


class ClassicHeartbeatReply(Reply, kw_only=True):
    """It is counted in, and nothing has changed."""


class ClassicLeaver(msgspec.Struct, kw_only=True):
    """Who leaves: by its id, or, a static member, by its instance id alone."""

    member_id: str | None
    instance_id: str | None = None
    error: WireError | None = None


class ClassicLeave(Request, tag="classic_leave", kw_only=True):
    """Members leave, or are made to."""

    group: str
    members: list[ClassicLeaver]


class ClassicLeaveReply(Reply, kw_only=True):
    """Each that was named, in that order, with its error."""

    members: list[ClassicLeaver] | UnsetType = UNSET


class ClassicCommit(OffsetCommit, tag="classic_commit", kw_only=True):
    """A commit under the rules of the classic protocol: ``member_epoch`` is the generation, -1 for none."""

    instance_id: str | None = None


class ClassicDescribe(Request, tag="classic_describe", kw_only=True):
    """A group of either kind, as Kafka's classic clients read it."""

    group: str


class ClassicDescribed(msgspec.Struct, frozen=True, kw_only=True):
    """One member, with the bytes that it and its leader sent."""

    member_id: str
    instance_id: str | None = None
    client_id: str | None = None
    client_host: str | None = None
    metadata: bytes = b""
    assignment: bytes = b""


class ClassicDescribeReply(Reply, kw_only=True):
    state: str | UnsetType = UNSET
    protocol_type: str | UnsetType = UNSET
    protocol: str | UnsetType = UNSET
    members: list[ClassicDescribed] | UnsetType = UNSET


class OffsetDelete(Request, tag="offset_delete", kw_only=True):
    """Forget committed offsets of topics that no member of the group reads."""

    group: str
    topics: list[TopicPartitions]


class OffsetDeleteReply(Reply, kw_only=True):
    offsets: list[CommittedOffsetResult] | UnsetType = UNSET


class EpochEnd(Request, tag="epoch_end", kw_only=True):
    """Where the records of a leader epoch end: how a client finds out that a log was cut behind it."""

    topic: str
    partition: int
    leader_epoch: int


class EpochEndReply(Reply, kw_only=True):
    """The largest epoch not above the one asked for, and the offset behind its last record; or -1, -1."""

    leader_epoch: int | UnsetType = UNSET
    end_offset: int | UnsetType = UNSET


class MeasureLog(Request, tag="measure_log", kw_only=True):
    """How much disk the partition's log takes, and how much is free there."""

    topic: str
    partition: int


class MeasureLogReply(Reply, kw_only=True):
    size_bytes: int | UnsetType = UNSET
    free_bytes: int | UnsetType = UNSET


INNER_REQUESTS: dict[type[Request], type[Reply]] = {
    Watch: WatchReply,
    MeasureLog: MeasureLogReply,
    EpochEnd: EpochEndReply,
    ClassicJoin: ClassicJoinReply,
    ClassicSync: ClassicSyncReply,
    ClassicHeartbeat: ClassicHeartbeatReply,
    ClassicLeave: ClassicLeaveReply,
    ClassicCommit: OffsetCommitReply,
    ClassicDescribe: ClassicDescribeReply,
    OffsetDelete: OffsetDeleteReply,
}
"""Requests that only inner sockets decode, and the reply of each. Public sockets do not know them."""

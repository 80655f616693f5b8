"""Every request and reply of the native protocol: each defined once, each field with its sentence.

``docs/protocol.md`` is generated from this file. A request is found by its ``api`` name; a reply
carries the request's ``id`` and an ``error``, and leaves out what an error made meaningless.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from odradek.protocol.access import Acl, AclFilter, ScramCredential, ScramMechanism
from odradek.protocol.errors import OdradekError, WireError

PROTOCOL_VERSION = 1
"""The version of the protocol as a whole; each request has a range of its own besides."""

TIMEOUT_MS_DEFAULT = 30_000
TIMEOUT_MS_MAX = 600_000
MAX_WAIT_MS_MAX = 300_000
FETCH_BYTES_DEFAULT = 1 << 20
FETCH_BYTES_MAX = 64 << 20
FRAME_BYTES_MAX = 16 << 20
"""A single frame over this drops the connection."""
RECORDS_PER_REQUEST_MAX = 100_000

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
INT32_MAX = 2**31 - 1

Scalar = str | int | float | bool | None


class Blob(bytes):
    """Bytes in a header: UTF-8 text or ``{"base64": ...}`` in JSON, bin (or str) in MessagePack."""

    __slots__ = ()


Offset = Annotated[int, Meta(ge=0, le=INT64_MAX)]
PartitionIndex = Annotated[int, Meta(ge=0, le=INT32_MAX)]
Timestamp = Annotated[int, Meta(ge=0, le=INT64_MAX)]
TimeoutMs = Annotated[int, Meta(ge=0, le=TIMEOUT_MS_MAX)]
RebalanceTimeoutMs = Annotated[int, Meta(ge=0, le=3_600_000)]
Header = tuple[str, Blob | None]


class Request(msgspec.Struct, kw_only=True, tag_field="api", omit_defaults=True):
    """What every request may carry."""

    versions: ClassVar[tuple[int, int]] = (1, 1)

    id: Annotated[Scalar, Meta(description="Any JSON scalar; the reply echoes it.")] = None
    v: Annotated[int, Meta(description="Version of this request.")] = 1
    client_id: Annotated[str | None, Meta(description="A name for logs and group descriptions.")] = None
    timeout_ms: Annotated[TimeoutMs | None, Meta(description="How long the broker may take to answer.")] = (
        None
    )


class Reply(msgspec.Struct, kw_only=True):
    """What every reply carries."""

    id: Annotated[Scalar, Meta(description="The request's id.")] = None
    error: Annotated[WireError | None, Meta(description="null, or what went wrong.")] = None


class ErrorReply(Reply, kw_only=True):
    """The reply to a request that failed as a whole."""


# -- ping, versions, metadata ----------------------------------------------------------------------


class Ping(Request, tag="ping"):
    """Is anybody there?"""


class PingReply(Reply, kw_only=True):
    """Yes."""


class Versions(Request, tag="versions"):
    """What this server is and which versions of each request it serves."""


class VersionsReply(Reply, kw_only=True):
    server: Annotated[str | UnsetType, Meta(description="Name and version of the server.")] = UNSET
    protocol: Annotated[int | UnsetType, Meta(description="Version of the protocol as a whole.")] = UNSET
    apis: Annotated[
        dict[str, tuple[int, int]] | UnsetType, Meta(description="Lowest and highest version of each api.")
    ] = UNSET


class Metadata(Request, tag="metadata"):
    """Topics, their partitions and where each partition listens."""

    topics: Annotated[list[str] | None, Meta(description="Names, or null for every topic.")] = None
    allow_auto_create: Annotated[
        bool, Meta(description="Create the named topics that do not exist, where the broker allows it.")
    ] = False


class PartitionMetadata(msgspec.Struct, kw_only=True):
    partition: int
    leader_epoch: Annotated[int, Meta(description="Raised at each start of the partition's actor.")]
    endpoints: Annotated[list[str], Meta(description="Where the partition itself listens.")]
    error: WireError | None = None


class TopicMetadata(msgspec.Struct, kw_only=True):
    name: str
    topic_id: str | None = None
    internal: bool = False
    error: WireError | None = None
    partitions: list[PartitionMetadata] = []


class MetadataReply(Reply, kw_only=True):
    cluster_id: str | UnsetType = UNSET
    routers: Annotated[list[str] | UnsetType, Meta(description="Endpoints of every router.")] = UNSET
    topics: list[TopicMetadata] | UnsetType = UNSET


# -- topics ----------------------------------------------------------------------------------------


class NewTopic(msgspec.Struct, kw_only=True):
    name: str
    partitions: Annotated[
        int | None, Meta(description="How many partitions; null for the broker's default.")
    ] = None
    config: Annotated[dict[str, Any], Meta(description="Topic settings; see configuration.")] = {}


class CreateTopics(Request, tag="create_topics"):
    """Create topics; answers when every partition of them serves."""

    topics: Annotated[list[NewTopic], Meta(min_length=1, max_length=1000)]
    validate_only: Annotated[bool, Meta(description="Check everything, create nothing.")] = False


class CreatedTopic(msgspec.Struct, kw_only=True):
    name: str
    topic_id: str | None = None
    error: WireError | None = None


class CreateTopicsReply(Reply, kw_only=True):
    topics: list[CreatedTopic] | UnsetType = UNSET


class DeleteTopics(Request, tag="delete_topics"):
    """Delete topics and all that they hold."""

    names: Annotated[list[str], Meta(min_length=1, max_length=1000)]


class DeletedTopic(msgspec.Struct, kw_only=True):
    name: str
    error: WireError | None = None


class DeleteTopicsReply(Reply, kw_only=True):
    topics: list[DeletedTopic] | UnsetType = UNSET


class CreatePartitions(Request, tag="create_partitions"):
    """Add partitions to a topic; keys hash over the new total from then on."""

    topic: str
    partitions: Annotated[int, Meta(description="The new total.")]


class CreatePartitionsReply(Reply, kw_only=True):
    """Every partition serves."""


class DescribeConfigs(Request, tag="describe_configs"):
    """A topic's settings."""

    topic: str


class ConfigValue(msgspec.Struct, kw_only=True):
    value: Any
    default: Any
    doc: str


class ConfigsReply(Reply, kw_only=True):
    config: dict[str, ConfigValue] | UnsetType = UNSET


class AlterConfigs(Request, tag="alter_configs"):
    """Change a topic's settings; all of them or, where one is wrong, none."""

    topic: str
    config: Annotated[dict[str, Any], Meta(description="New values; null goes back to the default.")]


class DeleteRecords(Request, tag="delete_records"):
    """Move a partition's start: nothing before the offset can be read any more."""

    topic: str
    partition: PartitionIndex
    before_offset: Annotated[int, Meta(ge=-1, le=INT64_MAX, description="-1 for the high watermark.")]


class DeleteRecordsReply(Reply, kw_only=True):
    log_start_offset: int | UnsetType = UNSET


# -- data ------------------------------------------------------------------------------------------


class ProduceRecord(msgspec.Struct, kw_only=True):
    key: Blob | None = None
    headers: list[Header] = []
    timestamp: Timestamp | None = None
    null: Annotated[bool, Meta(description="A null value; its payload frame is empty.")] = False


ManyRecords = Annotated[list[ProduceRecord], Meta(max_length=RECORDS_PER_REQUEST_MAX)]


class Produce(Request, tag="produce"):
    """Append one record, many records or one encoded batch."""

    topic: str
    partition: Annotated[
        PartitionIndex | None, Meta(description="null: by the key's hash; no key: the router's choice.")
    ] = None
    acks: Annotated[
        Literal["all", 1, 0, "1", "0", -1],
        Meta(description='"all": after fdatasync; 1: after the write; 0: no reply.'),
    ] = "all"
    format: Annotated[
        Literal["records", "batch"], Meta(description='"batch": the payload is one RecordBatch v2.')
    ] = "records"
    key: Annotated[Blob | None, Meta(description="One record: its key.")] = None
    headers: Annotated[list[Header], Meta(description="One record: its headers.")] = []
    timestamp: Annotated[
        Timestamp | None, Meta(description="One record: milliseconds; null for the router's clock.")
    ] = None
    records: Annotated[ManyRecords | None, Meta(description="Many records, one payload frame for each.")] = (
        None
    )


class ProduceReply(Reply, kw_only=True):
    topic: str | UnsetType = UNSET
    partition: int | UnsetType = UNSET
    offset: Annotated[int | UnsetType, Meta(description="Of the record, or the batch's first.")] = UNSET
    timestamp: Annotated[int | UnsetType, Meta(description="The record's, in milliseconds.")] = UNSET
    count: Annotated[int | UnsetType, Meta(description="Batches: how many records.")] = UNSET
    log_append_time: Annotated[
        int | UnsetType,
        Meta(
            description="Batches: milliseconds; where the topic's message.timestamp.type is LogAppendTime, "
            "the time that all records bear instead of their producer's."
        ),
    ] = UNSET
    offsets: Annotated[
        list[tuple[int | None, int | None]] | UnsetType,
        Meta(description="Many: (partition, offset) in the order of the records; offset null: see errors."),
    ] = UNSET
    errors: Annotated[
        dict[int, WireError] | UnsetType, Meta(description="Many: the error of each record that failed.")
    ] = UNSET


class Fetch(Request, tag="fetch"):
    """Read from an offset on; waits until there is something or the time is over."""

    topic: str
    partition: PartitionIndex
    offset: Annotated[int, Meta(ge=INT64_MIN, le=INT64_MAX)]
    max_bytes: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)] = FETCH_BYTES_DEFAULT
    min_bytes: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)] = 1
    max_wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS_MAX)] = 500
    format: Literal["records", "batch"] = "records"


class FetchedRecord(msgspec.Struct, kw_only=True):
    offset: int
    timestamp: int
    key: Blob | None = None
    headers: list[Header] = []
    null: bool = False


class FetchReply(Reply, kw_only=True):
    topic: str | UnsetType = UNSET
    partition: int | UnsetType = UNSET
    high_watermark: Annotated[
        int | UnsetType, Meta(description="The next offset after the last that is durable.")
    ] = UNSET
    log_start_offset: Annotated[int | UnsetType, Meta(description="The first offset that is kept.")] = UNSET
    records: Annotated[
        list[FetchedRecord] | UnsetType, Meta(description="Records: one payload frame for each.")
    ] = UNSET


class ListOffsets(Request, tag="list_offsets"):
    """Find an offset by its place or by time."""

    topic: str
    partition: PartitionIndex
    at: Annotated[
        Literal["earliest", "latest", "max_timestamp"] | Annotated[int, Meta(ge=0, le=INT64_MAX)],
        Meta(description="A place, or milliseconds: the first record that is as late as that."),
    ]


class ListOffsetsReply(Reply, kw_only=True):
    offset: Annotated[int | UnsetType, Meta(description="-1 where no record matches.")] = UNSET
    timestamp: Annotated[int | UnsetType, Meta(description="Of that record; -1 where there is none.")] = UNSET


class InitProducerId(Request, tag="init_producer_id"):
    """A producer id that nobody else has, for idempotent batches."""


class InitProducerIdReply(Reply, kw_only=True):
    producer_id: int | UnsetType = UNSET
    producer_epoch: int | UnsetType = UNSET


# -- groups ----------------------------------------------------------------------------------------


class TopicPartitions(msgspec.Struct, kw_only=True):
    topic: str
    partitions: list[int]


class GroupHeartbeat(Request, tag="group_heartbeat"):
    """Join, stay in or leave a group (KIP-848: the coordinator assigns, members reconcile)."""

    group: str
    member_id: Annotated[str | None, Meta(description="null the first time.")] = None
    member_epoch: Annotated[int, Meta(ge=-2, le=INT32_MAX, description="0 joins, -1 leaves.")] = 0
    topics: Annotated[list[str] | None, Meta(description="Subscription; null: unchanged.")] = None
    topic_pattern: Annotated[
        str | None,
        Meta(
            description="Also subscribes to every topic whose whole name matches this regular expression "
            '(at most 256 characters; docs/groups.md has its syntax); null: unchanged, "": none any more.'
        ),
    ] = None
    assignor: Annotated[str | None, Meta(description="null: the group's.")] = None
    instance_id: Annotated[str | None, Meta(description="Names a static member.")] = None
    rebalance_timeout_ms: RebalanceTimeoutMs | None = None
    owned: Annotated[
        list[TopicPartitions] | None, Meta(description="What the member holds; null: unchanged.")
    ] = None
    client_host: Annotated[
        str | None, Meta(description="The router's word to the coordinator; a client's own does not count.")
    ] = None


class GroupHeartbeatReply(Reply, kw_only=True):
    member_id: str | UnsetType = UNSET
    member_epoch: int | UnsetType = UNSET
    heartbeat_interval_ms: int | UnsetType = UNSET
    assignment: Annotated[list[TopicPartitions] | UnsetType | None, Meta(description="null: no change.")] = (
        UNSET
    )


class CommitOffset(msgspec.Struct, kw_only=True):
    topic: str
    partition: PartitionIndex
    offset: Offset
    metadata: str | None = None
    leader_epoch: Annotated[
        Annotated[int, Meta(ge=0, le=INT32_MAX)] | UnsetType,
        Meta(description="Of the last record before the offset, where the client knows it."),
    ] = UNSET


class OffsetCommit(Request, tag="offset_commit"):
    """Store a group's position; durable before the reply."""

    group: str
    offsets: Annotated[list[CommitOffset], Meta(max_length=100_000)]
    member_id: Annotated[str | None, Meta(description="null: an administrator, of an empty group.")] = None
    member_epoch: int | None = None


class CommittedOffsetResult(msgspec.Struct, kw_only=True):
    topic: str
    partition: int
    error: WireError | None = None


class OffsetCommitReply(Reply, kw_only=True):
    offsets: list[CommittedOffsetResult] | UnsetType = UNSET


class OffsetFetch(Request, tag="offset_fetch"):
    """A group's committed offsets."""

    group: str
    topics: Annotated[
        list[TopicPartitions | str] | None,
        Meta(description="Topic names, or {topic, partitions}; null: all."),
    ] = None


class FetchedOffset(msgspec.Struct, kw_only=True):
    topic: str
    partition: int
    offset: Annotated[int, Meta(description="-1 where none is committed.")]
    metadata: str | None = None
    leader_epoch: Annotated[
        int | UnsetType, Meta(description="What was committed with it; missing where that was nothing.")
    ] = UNSET


class OffsetFetchReply(Reply, kw_only=True):
    offsets: list[FetchedOffset] | UnsetType = UNSET


class GroupList(Request, tag="group_list"):
    """Every group."""


class GroupListing(msgspec.Struct, kw_only=True):
    group: str
    state: str
    type: Annotated[
        str,
        Meta(description='"consumer", or "classic": its members use the older protocol of Kafka clients.'),
    ] = "consumer"
    members: int = 0
    protocol_type: Annotated[
        str | None, Meta(description='What its members do: "consumer", "connect", ...; null where none says.')
    ] = None


class GroupListReply(Reply, kw_only=True):
    groups: list[GroupListing] | UnsetType = UNSET


class GroupDescribe(Request, tag="group_describe"):
    """One group: its members, what they hold, how far behind it is."""

    group: str


class GroupMember(msgspec.Struct, kw_only=True):
    member_id: str
    member_epoch: int
    state: str
    client_id: str | None = None
    instance_id: str | None = None
    host: Annotated[str | None, Meta(description="The client's address, where the broker knows it.")] = None
    topics: list[str] = []
    topic_pattern: Annotated[str | None, Meta(description="null: it subscribes to none.")] = None
    assignment: list[TopicPartitions] = []


class GroupOffset(msgspec.Struct, kw_only=True):
    topic: str
    partition: int
    offset: Annotated[int, Meta(description="Committed; -1 where none is.")]
    metadata: str | None = None
    committed_at_ms: int | None = None
    end_offset: Annotated[int | None, Meta(description="The partition's high watermark.")] = None
    lag: Annotated[int | None, Meta(description="end_offset - offset; null where unknown.")] = None
    member_id: Annotated[str | None, Meta(description="Who holds the partition.")] = None


class GroupDescribeReply(Reply, kw_only=True):
    group: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    epoch: int | UnsetType = UNSET
    assignor: str | UnsetType = UNSET
    members: list[GroupMember] | UnsetType = UNSET
    offsets: list[GroupOffset] | UnsetType = UNSET


class GroupDelete(Request, tag="group_delete"):
    """Forget an empty group and its offsets."""

    group: str


class GroupDeleteReply(Reply, kw_only=True):
    """The group is gone."""


# -- access rules and users --------------------------------------------------------------------------


class DescribeAcls(Request, tag="describe_acls"):
    """The access rules that a filter means."""

    filter: Annotated[AclFilter | None, Meta(description="null: every rule.")] = None


class DescribeAclsReply(Reply, kw_only=True):
    acls: Annotated[list[Acl] | UnsetType, Meta(description="The rules.")] = UNSET
    enforced: Annotated[bool | UnsetType, Meta(description="Whether the broker asks them.")] = UNSET


class CreateAcls(Request, tag="create_acls"):
    """Add access rules; one that is there already stays. Durable before the reply."""

    acls: Annotated[list[Acl], Meta(min_length=1, max_length=1000, description="The new rules.")]


class CreatedAcl(msgspec.Struct, kw_only=True):
    error: WireError | None = None


class CreateAclsReply(Reply, kw_only=True):
    results: Annotated[list[CreatedAcl] | UnsetType, Meta(description="In the order of the request.")] = UNSET
    enforced: Annotated[bool | UnsetType, Meta(description="Whether the broker asks the rules.")] = UNSET


class DeleteAcls(Request, tag="delete_acls"):
    """Remove the access rules that filters mean. Durable before the reply."""

    filters: Annotated[list[AclFilter], Meta(min_length=1, max_length=1000, description="Which rules go.")]


class DeletedAcls(msgspec.Struct, kw_only=True):
    acls: Annotated[list[Acl], Meta(description="What is gone.")] = []
    error: WireError | None = None


class DeleteAclsReply(Reply, kw_only=True):
    results: Annotated[list[DeletedAcls] | UnsetType, Meta(description="In the order of the request.")] = (
        UNSET
    )


class DescribeUsers(Request, tag="describe_users"):
    """The users that may log in over SASL."""

    names: Annotated[list[str] | None, Meta(description="Names, or null for every user.")] = None


class UserMechanism(msgspec.Struct, kw_only=True):
    mechanism: Annotated[ScramMechanism, Meta(description="How the user may prove who it is.")]
    iterations: Annotated[int, Meta(description="Hashes a log-in costs.")]


class UserDescription(msgspec.Struct, kw_only=True):
    name: str
    mechanisms: Annotated[list[UserMechanism], Meta(description="One for each credential.")] = []
    error: WireError | None = None


class DescribeUsersReply(Reply, kw_only=True):
    users: Annotated[list[UserDescription] | UnsetType, Meta(description="One for each user.")] = UNSET


class UserCredential(msgspec.Struct, kw_only=True):
    name: str
    credential: Annotated[ScramCredential, Meta(description="Made by the client: no password travels.")]


class UserRemoval(msgspec.Struct, kw_only=True):
    name: str
    mechanism: Annotated[
        ScramMechanism | None, Meta(description="Only this credential; null for the whole user.")
    ] = None


class AlterUsers(Request, tag="alter_users"):
    """Add, replace and remove credentials of users; what fails for a user changes nothing of it."""

    removals: Annotated[list[UserRemoval], Meta(max_length=1000, description="What goes, first.")] = []
    credentials: Annotated[list[UserCredential], Meta(max_length=1000, description="What comes, then.")] = []


class AlteredUser(msgspec.Struct, kw_only=True):
    name: str
    error: WireError | None = None


class AlterUsersReply(Reply, kw_only=True):
    users: Annotated[list[AlteredUser] | UnsetType, Meta(description="One for each user named.")] = UNSET


# -- the broker itself -----------------------------------------------------------------------------


class Status(Request, tag="status"):
    """The supervisor's tree of processes."""


class ActorStatus(msgspec.Struct, kw_only=True):
    name: Annotated[str, Meta(description="partition:<topic>-<n>, router:<n>, coordinator, supervisor.")]
    role: str
    pid: int | None
    state: str
    restarts: int
    uptime_s: float
    pss_bytes: int | None
    cpu_percent: float | None
    reason: Annotated[
        str | None,
        Meta(description="Why it does not serve, or, of the supervisor, what is wrong with the disk."),
    ] = None


class StatusReply(Reply, kw_only=True):
    actors: list[ActorStatus] | UnsetType = UNSET


REPLY_OF: dict[type[Request], type[Reply]] = {
    Ping: PingReply,
    Versions: VersionsReply,
    Metadata: MetadataReply,
    CreateTopics: CreateTopicsReply,
    DeleteTopics: DeleteTopicsReply,
    CreatePartitions: CreatePartitionsReply,
    DescribeConfigs: ConfigsReply,
    AlterConfigs: ConfigsReply,
    DeleteRecords: DeleteRecordsReply,
    Produce: ProduceReply,
    Fetch: FetchReply,
    ListOffsets: ListOffsetsReply,
    InitProducerId: InitProducerIdReply,
    GroupHeartbeat: GroupHeartbeatReply,
    OffsetCommit: OffsetCommitReply,
    OffsetFetch: OffsetFetchReply,
    GroupList: GroupListReply,
    GroupDescribe: GroupDescribeReply,
    GroupDelete: GroupDeleteReply,
    DescribeAcls: DescribeAclsReply,
    CreateAcls: CreateAclsReply,
    DeleteAcls: DeleteAclsReply,
    DescribeUsers: DescribeUsersReply,
    AlterUsers: AlterUsersReply,
    Status: StatusReply,
}
"""Which reply answers which request; its keys are the whole public protocol."""


def api_name(request: type[Request]) -> str:
    """The ``api`` string of a request class."""
    return str(request.__struct_config__.tag)


APIS: dict[str, type[Request]] = {api_name(request): request for request in REPLY_OF}

R = TypeVar("R", bound=Reply)


def failure(error: OdradekError) -> ErrorReply:
    """A reply that says nothing but what went wrong."""
    return ErrorReply(error=error.wire())

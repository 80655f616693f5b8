"""What each public request demands: Kafka's operation on Kafka's resource, for the native protocol.

Rule 1. Every request of the protocol has an entry, if only to say that anybody may send it. One without
        an entry is refused to everybody (and a test finds it).
Rule 2. A request that names several things is refused as a whole at the first that is not allowed, so
        that nothing of it is done. ``metadata`` and ``group_list`` only leave out what is not to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.acls import AclTable, refusal
from actors.actor import Envelope
from actors.messages import Access
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.errors import ClusterAuthorizationFailed, TopicAuthorizationFailed
from odradek.protocol.messages import (
    AlterConfigs,
    AlterUsers,
    CreateAcls,
    CreatePartitions,
    CreateTopics,
    DeleteAcls,
    DeleteRecords,
    DeleteTopics,
    DescribeAcls,
    DescribeConfigs,
    DescribeUsers,
    Fetch,
    GroupDelete,
    GroupDescribe,
    GroupHeartbeat,
    GroupList,
    InitProducerId,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    Ping,
    Produce,
    Request,
    Status,
    Versions,
    api_name,
)

NO_NAME = "\0"
_META_CHARACTERS = frozenset("\\.[]()|*+?^${}")
_REPEATS = frozenset("*+?{")


@dataclass(frozen=True, slots=True)
class Rights:
    """What one client may do: a principal, where it is, and the table that is asked."""

    table: AclTable
    principal: str
    host: str

    def may(self, operation: Operation, kind: ResourceType, name: str = CLUSTER_NAME) -> bool:
        """Whether it may do that."""
        return self.table.allows(self.principal, self.host, operation, kind, name)

    def demand(self, operation: Operation, kind: ResourceType, name: str = CLUSTER_NAME) -> None:
        """Raises Kafka's error for that kind of resource where it may not do that."""
        self.table.require(self.principal, self.host, operation, kind, name)

    def may_create(self, topic: str) -> bool:
        """Whether it may create the topic: this one, or any."""
        return self.may(Operation.CREATE, ResourceType.CLUSTER) or self.may(
            Operation.CREATE, ResourceType.TOPIC, topic
        )

    def may_see(self, topic: str) -> bool:
        """Whether it may know that the topic exists."""
        return self.may(Operation.DESCRIBE, ResourceType.TOPIC, topic)

    def check(self, request: Request) -> None:
        """Raises TopicAuthorizationFailed, GroupAuthorizationFailed or ClusterAuthorizationFailed."""
        demands = DEMANDS.get(type(request))
        if demands is None:
            raise ClusterAuthorizationFailed(f"nobody may send {api_name(type(request))}")
        demands(request, self)


class Authority:
    """The table that a router asks: the rules that administrators made, and the roles of CURVE keys."""

    def __init__(self, access: Access | None = None, *, is_enforced: bool = False) -> None:
        """Where it is enforced, nobody may do anything until somebody has said who may."""
        self._is_enforced = is_enforced
        self._version = -1
        self._table = AclTable(enforced=is_enforced)
        if access is not None:
            self.take(access)

    def take(self, access: Access) -> None:
        """The rules as they are now; older ones are not heard."""
        if access.version > self._version:
            self._version = access.version
            self._table = AclTable(
                access.acls, access.super_users, enforced=access.enforced or self._is_enforced
            )

    def rights(self, envelope: Envelope) -> Rights | None:
        """What the sender may do; None where everybody may do everything."""
        if not self._table.enforced:
            return None
        return Rights(self._table, envelope.principal, envelope.host)


Demands = Callable[[Any, Rights], None]


def _nothing(_request: Request, _rights: Rights) -> None:
    """Anybody may ask; what is not to be seen is left out of the answer."""


def _on_topic(operation: Operation) -> Demands:
    def check(request: Any, rights: Rights) -> None:
        rights.demand(operation, ResourceType.TOPIC, request.topic)

    return check


def _on_group(operation: Operation) -> Demands:
    def check(request: Any, rights: Rights) -> None:
        rights.demand(operation, ResourceType.GROUP, request.group)

    return check


def _on_cluster(operation: Operation) -> Demands:
    def check(_request: Any, rights: Rights) -> None:
        rights.demand(operation, ResourceType.CLUSTER)

    return check


def _create_topics(request: CreateTopics, rights: Rights) -> None:
    for topic in request.topics:
        if not rights.may_create(topic.name):
            raise refusal(rights.principal, Operation.CREATE, ResourceType.TOPIC, topic.name)


def _delete_topics(request: DeleteTopics, rights: Rights) -> None:
    _on_topics(Operation.DELETE, request.names, rights)


def _init_producer_id(_request: InitProducerId, rights: Rights) -> None:
    """As Kafka since 2.8: whoever may write to any topic may do so without copies."""
    if not rights.table.allows_any(rights.principal, rights.host, Operation.WRITE, ResourceType.TOPIC):
        rights.demand(Operation.IDEMPOTENT_WRITE, ResourceType.CLUSTER)


def _group_heartbeat(request: GroupHeartbeat, rights: Rights) -> None:
    rights.demand(Operation.READ, ResourceType.GROUP, request.group)
    _on_topics(Operation.DESCRIBE, request.topics or (), rights)
    if request.topic_pattern:
        _see_matches(request.topic_pattern, rights)


def _see_matches(pattern: str, rights: Rights) -> None:
    """The coordinator tells a member which names its pattern matches: it must be allowed to see them all."""
    beginning = literal_beginning(pattern)
    # No topic's name has the character, so that no rule for one name stands for all that begin so.
    name = beginning if beginning == pattern else beginning + NO_NAME
    if not rights.may_see(name):
        raise TopicAuthorizationFailed(
            f"{rights.principal} may not see every topic that {pattern!r} can match: it needs a rule for all "
            f"that begin with {beginning!r}"
        )


def _offset_commit(request: OffsetCommit, rights: Rights) -> None:
    rights.demand(Operation.READ, ResourceType.GROUP, request.group)
    _on_topics(Operation.READ, {offset.topic for offset in request.offsets}, rights)


def _offset_fetch(request: OffsetFetch, rights: Rights) -> None:
    rights.demand(Operation.DESCRIBE, ResourceType.GROUP, request.group)
    named = request.topics or ()
    _on_topics(
        Operation.DESCRIBE, (topic if isinstance(topic, str) else topic.topic for topic in named), rights
    )


def _on_topics(operation: Operation, names: Iterable[str], rights: Rights) -> None:
    for name in names:
        rights.demand(operation, ResourceType.TOPIC, name)


def literal_beginning(pattern: str) -> str:
    """What every name begins with that the pattern matches, as far as that can be read off it, else ""."""
    if "|" in pattern:
        return ""
    beginning = ""
    for place, character in enumerate(pattern):
        if character in _META_CHARACTERS:
            return beginning[:-1] if place and character in _REPEATS else beginning
        beginning += character
    return beginning


DEMANDS: Mapping[type[Request], Demands] = {
    Ping: _nothing,
    Versions: _nothing,
    Metadata: _nothing,
    CreateTopics: _create_topics,
    DeleteTopics: _delete_topics,
    CreatePartitions: _on_topic(Operation.ALTER),
    DescribeConfigs: _on_topic(Operation.DESCRIBE_CONFIGS),
    AlterConfigs: _on_topic(Operation.ALTER_CONFIGS),
    DeleteRecords: _on_topic(Operation.DELETE),
    Produce: _on_topic(Operation.WRITE),
    Fetch: _on_topic(Operation.READ),
    ListOffsets: _on_topic(Operation.DESCRIBE),
    InitProducerId: _init_producer_id,
    GroupHeartbeat: _group_heartbeat,
    OffsetCommit: _offset_commit,
    OffsetFetch: _offset_fetch,
    GroupList: _nothing,
    GroupDescribe: _on_group(Operation.DESCRIBE),
    GroupDelete: _on_group(Operation.DELETE),
    DescribeAcls: _on_cluster(Operation.DESCRIBE),
    CreateAcls: _on_cluster(Operation.ALTER),
    DeleteAcls: _on_cluster(Operation.ALTER),
    DescribeUsers: _on_cluster(Operation.DESCRIBE),
    AlterUsers: _on_cluster(Operation.ALTER),
    Status: _on_cluster(Operation.DESCRIBE),
}

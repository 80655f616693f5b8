"""Admin: topics, settings, groups, offsets, and how the broker is.

Errors are exceptions, also where one topic among several failed: the first is raised, and the others
have still been tried.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

from odradek.fetcher import TopicPartition
from odradek.options import Bootstrap, SessionOptions
from odradek.protocol.access import (
    ITERATIONS_DEFAULT,
    SCRAM_HASHES,
    Acl,
    AclFilter,
    ScramMechanism,
    check_acl,
    check_user_name,
)
from odradek.protocol.errors import UnacceptableCredential, error_from_wire
from odradek.protocol.messages import (
    ActorStatus,
    AlterConfigs,
    AlterUsers,
    CommitOffset,
    ConfigValue,
    CreateAcls,
    CreatedTopic,
    CreatePartitions,
    CreateTopics,
    DeleteAcls,
    DeleteRecords,
    DeleteTopics,
    DescribeAcls,
    DescribeAclsReply,
    DescribeConfigs,
    DescribeUsers,
    GroupDelete,
    GroupDescribe,
    GroupDescribeReply,
    GroupList,
    GroupListing,
    ListOffsets,
    Metadata,
    MetadataReply,
    NewTopic,
    OffsetCommit,
    OffsetFetch,
    Ping,
    Request,
    Status,
    TopicMetadata,
    UserCredential,
    UserDescription,
    UserRemoval,
    Versions,
    VersionsReply,
)
from odradek.protocol.names import check_group_name, check_topic_name
from odradek.protocol.scram import PASSWORD_BYTES_MAX, SALT_BYTES, credential_from_password
from odradek.security import Curve
from odradek.session import Session

PARTITION_START_S_MAX: Final = 0.2
"""A partition is a process: making a topic may take so long for each, however short the timeout."""
BROKER_TIME_SHARE: Final = 0.9

__all__ = ["Admin", "NewTopic"]

OffsetPlace: TypeAlias = Literal["earliest", "latest", "max_timestamp"] | int


class Admin:
    """Administers a broker; a context manager.

    Args:
        bootstrap: "tcp://127.0.0.1:5559", "127.0.0.1:5559", or several of them.
        timeout_ms: for each call with all its retries; making and deleting topics waits for processes.
        client_id, connect_timeout_ms, retry_backoff_ms, retry_backoff_max_ms, security:
            see odradek.options.SessionOptions.

    Every method raises the error that the broker names, NetworkException where no broker answers, and
    RequestTimedOut where it is unknown whether something was changed.
    """

    def __init__(
        self,
        bootstrap: Bootstrap = "tcp://127.0.0.1:5559",
        *,
        timeout_ms: float = 30_000,
        client_id: str | None = None,
        connect_timeout_ms: float = 3_000,
        retry_backoff_ms: float = 20,
        retry_backoff_max_ms: float = 1_000,
        security: Curve | None = None,
    ) -> None:
        options = SessionOptions(
            client_id=client_id,
            request_timeout_ms=timeout_ms,
            connect_timeout_ms=connect_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
            retry_backoff_max_ms=retry_backoff_max_ms,
            security=security,
        )
        self._session = Session(bootstrap, options, "admin")

    # -- topics --------------------------------------------------------------------------------

    def create_topics(
        self, topics: Iterable[NewTopic | str], *, validate_only: bool = False
    ) -> list[CreatedTopic]:
        """Make topics; returns when every partition serves.

        Args:
            topics: names, or NewTopic(name=..., partitions=..., config=...).
            validate_only: check everything, make nothing.

        Raises TopicAlreadyExists, InvalidTopic, InvalidPartitions, InvalidConfig.
        """
        wanted = [NewTopic(name=topic) if isinstance(topic, str) else topic for topic in _several(topics)]
        for topic in wanted:
            check_topic_name(topic.name)
        partitions = sum(topic.partitions or 0 for topic in wanted)
        reply = self._change(CreateTopics(topics=wanted, validate_only=validate_only), partitions)
        created: list[CreatedTopic] = reply.topics
        _raise_first(created)
        return created

    def create_topic(
        self, name: str, partitions: int | None = None, config: Mapping[str, Any] | None = None
    ) -> CreatedTopic:
        """Make one topic; without ``partitions`` it gets the broker's default number."""
        return self.create_topics([NewTopic(name=name, partitions=partitions, config=dict(config or {}))])[0]

    def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics and all that they hold. Raises UnknownTopicOrPartition."""
        reply = self._change(DeleteTopics(names=[check_topic_name(name) for name in _several(names)]))
        _raise_first(reply.topics)

    def list_topics(self, *, internal: bool = False) -> list[str]:
        """The names of the topics, sorted; with ``internal`` the broker's own too."""
        return sorted(topic.name for topic in self.metadata().topics or () if internal or not topic.internal)

    def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicMetadata]:
        """Topics with their partitions; None for all. Raises UnknownTopicOrPartition."""
        wanted = None if names is None else [check_topic_name(name) for name in _several(names)]
        topics = list(self.metadata(wanted).topics or ())
        if wanted is not None:
            _raise_first(topics)
        return topics

    def create_partitions(self, topic: str, partitions: int) -> None:
        """Grow a topic to ``partitions`` in all; keys hash over the new number from then on."""
        self._change(CreatePartitions(topic=check_topic_name(topic), partitions=partitions), partitions)

    def describe_configs(self, topic: str) -> dict[str, ConfigValue]:
        """A topic's settings: of each its value, its default and what it means."""
        config: dict[str, ConfigValue] = self._ask(DescribeConfigs(topic=check_topic_name(topic))).config
        return config

    def alter_configs(self, topic: str, config: Mapping[str, Any]) -> dict[str, ConfigValue]:
        """Change settings, all or none; None goes back to the default. Raises InvalidConfig."""
        request = AlterConfigs(topic=check_topic_name(topic), config=dict(config))
        changed: dict[str, ConfigValue] = self._ask(request).config
        return changed

    # -- records and offsets -------------------------------------------------------------------

    def delete_records(self, topic: str, partition: int, before_offset: int) -> int:
        """Forget the records before an offset (-1: all that are durable); the new first offset."""
        request = DeleteRecords(
            topic=check_topic_name(topic), partition=partition, before_offset=before_offset
        )
        return int(self._ask(request).log_start_offset)

    def list_offsets(
        self, topic: str, at: OffsetPlace = "latest", *, partitions: Iterable[int] | None = None
    ) -> dict[int, int]:
        """An offset of each partition: "earliest", "latest" (the end), "max_timestamp", or milliseconds.

        -1 where no record matches.
        """
        check_topic_name(topic)
        if partitions is None:
            partitions = [each.partition for each in self.describe_topics([topic])[0].partitions]
        return {
            number: int(self._ask(ListOffsets(topic=topic, partition=number, at=at)).offset)
            for number in partitions
        }

    # -- groups --------------------------------------------------------------------------------

    def list_groups(self) -> list[GroupListing]:
        """Every group with its state and its number of members."""
        groups: list[GroupListing] = self._ask(GroupList()).groups
        return sorted(groups, key=lambda listing: listing.group)

    def describe_group(self, group: str) -> GroupDescribeReply:
        """A group's members, what they hold, what is committed and how far behind it is."""
        reply: GroupDescribeReply = self._ask(GroupDescribe(group=check_group_name(group)))
        return reply

    def delete_groups(self, groups: Iterable[str]) -> None:
        """Forget empty groups and their offsets. Raises NonEmptyGroup, GroupIdNotFound."""
        for group in _several(groups):
            self._change(GroupDelete(group=check_group_name(group)))

    def list_group_offsets(self, group: str) -> dict[TopicPartition, int]:
        """What a group has committed."""
        reply = self._ask(OffsetFetch(group=check_group_name(group)))
        return {
            TopicPartition(item.topic, item.partition): item.offset
            for item in reply.offsets
            if item.offset >= 0
        }

    def alter_group_offsets(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit for an empty group. Raises UnknownMemberId while it has members."""
        commits = [
            CommitOffset(topic=topic, partition=partition, offset=offset)
            for (topic, partition), offset in offsets.items()
        ]
        reply = self._ask(OffsetCommit(group=check_group_name(group), offsets=commits))
        _raise_first(reply.offsets)

    # -- access --------------------------------------------------------------------------------

    def describe_acls(self, wanted: AclFilter | None = None) -> DescribeAclsReply:
        """The access rules that a filter means (None: all), and whether the broker enforces them."""
        reply: DescribeAclsReply = self._ask(DescribeAcls(filter=wanted))
        return reply

    def create_acls(self, acls: Iterable[Acl]) -> None:
        """Add access rules; one that is there already stays as it is. Raises InvalidRequest."""
        _raise_first(self._ask(CreateAcls(acls=[check_acl(acl) for acl in acls])).results)

    def delete_acls(self, filters: Iterable[AclFilter]) -> list[Acl]:
        """Remove the access rules that filters mean; what is gone."""
        results = self._ask(DeleteAcls(filters=list(filters))).results
        _raise_first(results)
        return list(dict.fromkeys(acl for result in results for acl in result.acls))

    def list_users(self, names: Iterable[str] | None = None) -> list[UserDescription]:
        """Users that may log in over SASL (None: all), without their secrets. Raises ResourceNotFound."""
        request = DescribeUsers(names=None if names is None else _several(names))
        users: list[UserDescription] = self._ask(request).users
        _raise_first(users)
        return users

    def set_password(
        self,
        user: str,
        password: str,
        *,
        mechanisms: Iterable[ScramMechanism] = tuple(SCRAM_HASHES),
        iterations: int = ITERATIONS_DEFAULT,
    ) -> None:
        """Let a user log in over SASL, or change the password of one. The password stays in this process.

        Raises UnacceptableCredential.
        """
        check_user_name(user)
        if not 1 <= len(password.encode()) <= PASSWORD_BYTES_MAX:
            raise UnacceptableCredential(f"a password has 1 to {PASSWORD_BYTES_MAX} bytes of UTF-8")
        credentials = [
            UserCredential(
                name=user,
                credential=credential_from_password(
                    mechanism, password, secrets.token_bytes(SALT_BYTES), iterations
                ),
            )
            for mechanism in _several(mechanisms)
        ]
        _raise_first(self._ask(AlterUsers(credentials=credentials)).users)

    def delete_users(self, names: Iterable[str]) -> None:
        """Let users log in no more. Raises ResourceNotFound."""
        removals = [UserRemoval(name=name) for name in _several(names)]
        _raise_first(self._change(AlterUsers(removals=removals)).users)

    # -- the broker ----------------------------------------------------------------------------

    def status(self) -> list[ActorStatus]:
        """The broker's processes: state, restarts, memory, CPU."""
        actors: list[ActorStatus] = self._ask(Status()).actors
        return actors

    def metadata(self, topics: Iterable[str] | None = None) -> MetadataReply:
        """Cluster id, routers, and topics (None: all) with their partitions' endpoints."""
        reply: MetadataReply = self._ask(Metadata(topics=None if topics is None else list(topics)))
        return reply

    def versions(self) -> VersionsReply:
        """What the server is and which requests it serves."""
        reply: VersionsReply = self._ask(Versions())
        return reply

    def ping(self) -> float:
        """Seconds until the router has answered."""
        started = time.perf_counter()
        self._ask(Ping())
        return time.perf_counter() - started

    def close(self) -> None:
        """End the thread and its sockets. Closing again does nothing."""
        self._session.close(5.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Request) -> Any:
        return self._session.call(request)

    def _change(self, request: Request, partitions: int = 0) -> Any:
        """A request that must not be repeated where it may have been done.

        ``partitions`` is how many it makes, each a process: many may take longer than the timeout. The
        broker has a little less time than the client, so that who waits in vain hears how far it has come.
        """
        total_s = max(self._session.request_timeout_s, partitions * PARTITION_START_S_MAX)
        request.timeout_ms = max(1, int(total_s * BROKER_TIME_SHARE * 1000))
        return self._session.call(request, timeout_s=total_s, repeatable=False)


def _several(names: Iterable[Any]) -> list[Any]:
    if isinstance(names, str):
        raise TypeError(f"this takes several names; write [{names!r}]")
    return list(names)


def _raise_first(items: Iterable[Any]) -> None:
    for item in items:
        if item.error is not None:
            raise error_from_wire(item.error)

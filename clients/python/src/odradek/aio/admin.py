"""The administrator for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from odradek import admin as sync
from odradek.admin import OffsetPlace
from odradek.fetcher import TopicPartition
from odradek.options import Bootstrap
from odradek.protocol.access import Acl, AclFilter
from odradek.protocol.messages import (
    ActorStatus,
    ConfigValue,
    CreatedTopic,
    DescribeAclsReply,
    GroupDescribeReply,
    GroupListing,
    MetadataReply,
    NewTopic,
    TopicMetadata,
    UserDescription,
    VersionsReply,
)


class Admin:
    """Administers a broker from coroutines; takes the options and raises the errors of odradek.Admin."""

    def __init__(self, bootstrap: Bootstrap = "tcp://127.0.0.1:5559", **options: Any) -> None:
        self._sync = sync.Admin(bootstrap, **options)

    async def create_topics(
        self, topics: Iterable[NewTopic | str], *, validate_only: bool = False
    ) -> list[CreatedTopic]:
        """Make topics; see odradek.Admin.create_topics."""
        return await asyncio.to_thread(self._sync.create_topics, topics, validate_only=validate_only)

    async def create_topic(
        self, name: str, partitions: int | None = None, config: Mapping[str, Any] | None = None
    ) -> CreatedTopic:
        """Make one topic."""
        return await asyncio.to_thread(self._sync.create_topic, name, partitions, config)

    async def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics and all that they hold."""
        await asyncio.to_thread(self._sync.delete_topics, names)

    async def list_topics(self, *, internal: bool = False) -> list[str]:
        """The names of the topics, sorted."""
        return await asyncio.to_thread(self._sync.list_topics, internal=internal)

    async def describe_topics(self, names: Iterable[str] | None = None) -> list[TopicMetadata]:
        """Topics with their partitions; None for all."""
        return await asyncio.to_thread(self._sync.describe_topics, names)

    async def create_partitions(self, topic: str, partitions: int) -> None:
        """Grow a topic to ``partitions`` in all."""
        await asyncio.to_thread(self._sync.create_partitions, topic, partitions)

    async def describe_configs(self, topic: str) -> dict[str, ConfigValue]:
        """A topic's settings."""
        return await asyncio.to_thread(self._sync.describe_configs, topic)

    async def alter_configs(self, topic: str, config: Mapping[str, Any]) -> dict[str, ConfigValue]:
        """Change settings, all or none."""
        return await asyncio.to_thread(self._sync.alter_configs, topic, config)

    async def delete_records(self, topic: str, partition: int, before_offset: int) -> int:
        """Forget the records before an offset; the new first offset."""
        return await asyncio.to_thread(self._sync.delete_records, topic, partition, before_offset)

    async def list_offsets(
        self, topic: str, at: OffsetPlace = "latest", *, partitions: Iterable[int] | None = None
    ) -> dict[int, int]:
        """An offset of each partition; see odradek.Admin.list_offsets."""
        return await asyncio.to_thread(self._sync.list_offsets, topic, at, partitions=partitions)

    async def list_groups(self) -> list[GroupListing]:
        """Every group."""
        return await asyncio.to_thread(self._sync.list_groups)

    async def describe_group(self, group: str) -> GroupDescribeReply:
        """A group's members, offsets and lag."""
        return await asyncio.to_thread(self._sync.describe_group, group)

    async def delete_groups(self, groups: Iterable[str]) -> None:
        """Forget empty groups and their offsets."""
        await asyncio.to_thread(self._sync.delete_groups, groups)

    async def list_group_offsets(self, group: str) -> dict[TopicPartition, int]:
        """What a group has committed."""
        return await asyncio.to_thread(self._sync.list_group_offsets, group)

    async def alter_group_offsets(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit for an empty group."""
        await asyncio.to_thread(self._sync.alter_group_offsets, group, offsets)

    async def describe_acls(self, wanted: AclFilter | None = None) -> DescribeAclsReply:
        """The access rules that a filter means; None: all."""
        return await asyncio.to_thread(self._sync.describe_acls, wanted)

    async def create_acls(self, acls: Iterable[Acl]) -> None:
        """Add access rules."""
        await asyncio.to_thread(self._sync.create_acls, acls)

    async def delete_acls(self, filters: Iterable[AclFilter]) -> list[Acl]:
        """Remove the access rules that filters mean; what is gone."""
        return await asyncio.to_thread(self._sync.delete_acls, filters)

    async def list_users(self, names: Iterable[str] | None = None) -> list[UserDescription]:
        """Users that may log in over SASL; None: all."""
        return await asyncio.to_thread(self._sync.list_users, names)

    async def set_password(self, user: str, password: str, **options: Any) -> None:
        """Let a user log in over SASL; see odradek.Admin.set_password."""
        await asyncio.to_thread(self._sync.set_password, user, password, **options)

    async def delete_users(self, names: Iterable[str]) -> None:
        """Let users log in no more."""
        await asyncio.to_thread(self._sync.delete_users, names)

    async def status(self) -> list[ActorStatus]:
        """The broker's processes."""
        return await asyncio.to_thread(self._sync.status)

    async def metadata(self, topics: Iterable[str] | None = None) -> MetadataReply:
        """Cluster id, routers and topics."""
        return await asyncio.to_thread(self._sync.metadata, topics)

    async def versions(self) -> VersionsReply:
        """What the server is and which requests it serves."""
        return await asyncio.to_thread(self._sync.versions)

    async def ping(self) -> float:
        """Seconds until the router has answered."""
        return await asyncio.to_thread(self._sync.ping)

    async def close(self) -> None:
        """End the thread and its sockets."""
        await asyncio.to_thread(self._sync.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

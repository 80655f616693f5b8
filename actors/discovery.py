"""What a router tells of topics, and which missing ones it may have created, to whom."""

from __future__ import annotations

from collections.abc import Iterable

from actors.acls import refusal
from actors.demands import Rights
from actors.operations import Operation, ResourceType
from actors.routing import RoutingTable, describe_topic
from odradek.protocol.errors import OdradekError, UnknownTopicOrPartition
from odradek.protocol.messages import Metadata, MetadataReply, Produce, Request, TopicMetadata
from odradek.protocol.names import INTERNAL_TOPICS, is_topic_name


class Discovery:
    """Looks into the routing table for clients; ``auto_create_topics`` is the broker's setting."""

    def __init__(self, table: RoutingTable, *, auto_create_topics: bool) -> None:
        self._table = table
        self._auto_create_topics = auto_create_topics

    def metadata(self, request: Metadata, rights: Rights | None) -> MetadataReply:
        """The answer; a topic that the client may not see is left out, or refused where it is named.

        Raises UnknownTopicOrPartition for one that may be created.
        """
        names: Iterable[str] = sorted(self._table.topics) if request.topics is None else request.topics
        if request.topics is None and rights is not None:
            names = filter(rights.may_see, names)
        return MetadataReply(
            cluster_id=self._table.cluster_id,
            routers=self._table.routers,
            topics=[self._topic(name, request, rights) for name in names],
        )

    def _topic(self, name: str, request: Metadata, rights: Rights | None) -> TopicMetadata:
        try:
            if rights is not None and not rights.may_see(name):
                # Whether there is one of that name is not to be learnt either.
                raise refusal(rights.principal, Operation.DESCRIBE, ResourceType.TOPIC, name)
            topic = self._table.topic(name)
        except UnknownTopicOrPartition as error:
            if request.allow_auto_create and self.may_create(name, rights):
                raise
            return TopicMetadata(name=name, error=error.wire())
        except OdradekError as error:
            return TopicMetadata(name=name, error=error.wire())
        described = describe_topic(topic)
        if rights is not None:
            # A partition itself asks nobody's rights, so those who need some are not sent there.
            for partition in described.partitions:
                partition.endpoints = []
        return described

    def may_create(self, name: str, rights: Rights | None) -> bool:
        """Whether this client's wish for the topic makes the broker create it."""
        if not self._auto_create_topics or name in INTERNAL_TOPICS or not is_topic_name(name):
            return False
        return rights is None or rights.may_create(name)

    def missing_topic(self, request: Request, rights: Rights | None) -> str | None:
        """The topic that a request wants created, where it wants one at all and may."""
        wanted: Iterable[str] = ()
        if isinstance(request, Produce):
            wanted = (request.topic,)
        elif isinstance(request, Metadata) and request.topics is not None:
            wanted = request.topics
        missing = (name for name in wanted if name not in self._table.topics)
        return next((name for name in missing if self.may_create(name, rights)), None)

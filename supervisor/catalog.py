"""The catalogue: which topics there are. Decisions are pure; a changed catalogue is a new object.

It is one sealed file. A change is durable before anything follows from it: a topic is in
the catalogue before the first of its processes starts, and moves to ``deleting`` before the first of
its directories is renamed. So a crash between any two steps leaves something that the next start can
finish. A catalogue that cannot be read stops the start: guessing would set whole topics aside.

Names. ``events`` and ``Events`` are two topics, as in Kafka, except where the data directory's file
system ignores case: there the second is refused. Kafka also refuses ``a.b`` beside ``a_b``, because
its metric names would collide; here topics are labels of metrics, so both are allowed. A partition's
directory is ``<topic>-<n>``: n stands after the last dash, so ``a-1`` and ``a`` never share one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from odradek.protocol.errors import (
    InvalidPartitions,
    InvalidTopic,
    PolicyViolation,
    TopicAlreadyExists,
    UnknownTopicOrPartition,
)
from odradek.protocol.names import INTERNAL_TOPICS, check_topic_name
from partitions.settings import check_config, check_together
from supervisor.sealed import SealBroken, seal, unseal

CATALOG_FILE_NAME = "catalog.json"
CATALOG_BYTES_MAX = 256 << 20
PARTITIONS_PER_TOPIC_MAX = 10_000


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic. ``config`` holds only what differs from the defaults."""

    name: str
    topic_id: str
    partitions: int
    config: dict[str, Any] = {}


class Catalog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every topic of a broker. ``deleting`` are gone for clients; their directories may still be there."""

    cluster_id: str
    offsets_topic_id: str
    topics: tuple[Topic, ...] = ()
    deleting: tuple[Topic, ...] = ()

    def find(self, name: str) -> Topic | None:
        """The topic of that name."""
        return next((topic for topic in self.topics if topic.name == name), None)

    def get(self, name: str) -> Topic:
        """The topic of that name. Raises InvalidTopic or UnknownTopicOrPartition."""
        topic = self.find(name)
        if topic is None:
            check_topic_name(name)
            raise UnknownTopicOrPartition(f"there is no topic {name!r}")
        return topic

    @property
    def partition_count(self) -> int:
        """Partitions of all topics together."""
        return sum(topic.partitions for topic in self.topics)

    def with_topic(self, topic: Topic) -> Catalog:
        """One topic more."""
        return msgspec.structs.replace(self, topics=(*self.topics, topic))

    def with_changed(self, topic: Topic) -> Catalog:
        """``topic`` instead of the one of its name."""
        topics = tuple(topic if each.name == topic.name else each for each in self.topics)
        return msgspec.structs.replace(self, topics=topics)

    def with_deleting(self, name: str) -> Catalog:
        """The topic is gone for clients and its directories are to go."""
        topic = self.get(name)
        topics = tuple(each for each in self.topics if each.name != name)
        return msgspec.structs.replace(self, topics=topics, deleting=(*self.deleting, topic))

    def with_deleted(self, name: str) -> Catalog:
        """Its directories are gone."""
        deleting = tuple(each for each in self.deleting if each.name != name)
        return msgspec.structs.replace(self, deleting=deleting)


class CatalogRules(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that a new topic must keep."""

    default_partitions: int = 1
    partitions_max: int = 2_000
    partitions_max_reason: str = "its setting partitions_max"
    """What allows no more, for people."""
    ignores_case: bool = False

    def new_topic(
        self, catalog: Catalog, name: str, partitions: int | None, config: Mapping[str, object], topic_id: str
    ) -> Topic:
        """The topic that may be added to ``catalog``.

        Raises InvalidTopic, TopicAlreadyExists, InvalidPartitions, PolicyViolation or InvalidConfig.
        """
        self._check_name(catalog, name)
        count = self.default_partitions if partitions is None else partitions
        self._check_count(catalog, name, count, count)
        checked = check_config(config)
        check_together(checked)
        return Topic(name=name, topic_id=topic_id, partitions=count, config=checked)

    def more_partitions(self, catalog: Catalog, name: str, partitions: int) -> Topic:
        """The topic with a larger number of partitions; a partition is never taken away."""
        topic = catalog.get(name)
        if partitions <= topic.partitions:
            raise InvalidPartitions(
                f"topic {name!r} has {topic.partitions} partitions; the new total must be more, "
                f"not {partitions}"
            )
        self._check_count(catalog, name, partitions, partitions - topic.partitions)
        return msgspec.structs.replace(topic, partitions=partitions)

    def altered(self, catalog: Catalog, name: str, changes: Mapping[str, object]) -> Topic:
        """The topic with ``changes`` to its settings; None goes back to the default. Raises InvalidConfig."""
        topic = catalog.get(name)
        checked = check_config(changes)
        kept = {key: value for key, value in topic.config.items() if key not in changes}
        check_together(kept | checked)
        return msgspec.structs.replace(topic, config=kept | checked)

    def _check_name(self, catalog: Catalog, name: str) -> None:
        check_topic_name(name)
        if name in INTERNAL_TOPICS:
            raise InvalidTopic(f"{name!r} belongs to the broker itself")
        if catalog.find(name) is not None:
            raise TopicAlreadyExists(f"topic {name!r} exists already")
        if any(topic.name == name for topic in catalog.deleting):
            raise TopicAlreadyExists(f"topic {name!r} is still being deleted; try again")
        if not self.ignores_case:
            return
        taken = (*catalog.topics, *catalog.deleting)
        twin = next((topic.name for topic in taken if topic.name.casefold() == name.casefold()), None)
        if twin is not None:
            raise InvalidTopic(
                f"{name!r} differs from topic {twin!r} only in case, and the data directory's file system "
                "ignores case"
            )

    def _check_count(self, catalog: Catalog, name: str, count: int, added: int) -> None:
        if not 1 <= count <= PARTITIONS_PER_TOPIC_MAX:
            raise InvalidPartitions(
                f"topic {name!r}: 1 to {PARTITIONS_PER_TOPIC_MAX} partitions, not {count}"
            )
        total = catalog.partition_count + added
        if total > self.partitions_max:
            raise PolicyViolation(
                f"topic {name!r}: the broker would have {total} partitions; "
                f"{self.partitions_max_reason} allows {self.partitions_max}"
            )


class CatalogDamaged(Exception):
    """The catalogue cannot be read; the message names the file and says what to do."""


def encode_catalog(catalog: Catalog) -> bytes:
    """The catalogue's file."""
    return seal("catalog", catalog)


def decode_catalog(content: bytes, path: Path) -> Catalog:
    """The catalogue in ``content``, read from ``path``. Raises CatalogDamaged."""
    try:
        return unseal("catalog", Catalog, content)
    except SealBroken as broken:
        raise _damaged(path, str(broken)) from None


def _damaged(path: Path, why: str) -> CatalogDamaged:
    return CatalogDamaged(
        f"the catalogue {path} cannot be used: {why}. Nothing was changed. "
        f"{path.name}.bak beside it is the catalogue before its last change: if it is whole, copy it over "
        f"{path.name} and create or delete again what changed last"
    )

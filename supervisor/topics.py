"""Topic requests: what each does to the catalogue. Durable first; processes follow from it elsewhere.

Every method either has changed the catalogue durably when it returns, or raises (or reports for one
topic) an OdradekError and has changed nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from odradek.protocol.errors import InvalidRequest, KafkaStorageError, OdradekError
from odradek.protocol.messages import ConfigsReply, ConfigValue, CreatedTopic, NewTopic
from partitions.settings import TOPIC_SETTINGS
from supervisor.catalog import Catalog, CatalogRules, Topic


class Storage(Protocol):
    """What the topics ask of the data directory. Every method raises OSError."""

    def save(self, catalog: Catalog) -> None:
        """Makes the catalogue durable."""

    def discard(self, topic: str, partitions: int) -> None:
        """Renames a deleted topic's directories, durably."""


class Topics:
    """The catalogue in memory, always equal to the durable one."""

    def __init__(
        self, catalog: Catalog, rules: CatalogRules, storage: Storage, new_id: Callable[[], str]
    ) -> None:
        self.catalog = catalog
        self._rules = rules
        self._storage = storage
        self._new_id = new_id

    def create(
        self, requests: list[NewTopic], *, validate_only: bool
    ) -> tuple[list[CreatedTopic], list[Topic]]:
        """A result for each request, in order, and the topics that exist now."""
        catalog = self.catalog
        results, created = [], []
        named = Counter(request.name for request in requests)
        for request in requests:
            try:
                if named[request.name] > 1:
                    raise InvalidRequest(
                        f"topic {request.name!r} is named {named[request.name]} times in one request"
                    )
                topic = self._rules.new_topic(
                    catalog, request.name, request.partitions, request.config, self._new_id()
                )
            except OdradekError as error:
                results.append(CreatedTopic(name=request.name, error=error.wire()))
                continue
            catalog = catalog.with_topic(topic)
            created.append(topic)
            results.append(CreatedTopic(name=topic.name, topic_id=None if validate_only else topic.topic_id))
        if validate_only or not created:
            return results, []
        self._save(catalog)
        return results, created

    def delete(self, name: str) -> Topic:
        """The topic that is gone for clients; its processes must end before ``discard``."""
        topic = next((each for each in self.catalog.deleting if each.name == name), None)
        if topic is not None:
            return topic  # an earlier attempt could not rename the directories: try that again
        topic = self.catalog.get(name)
        self._save(self.catalog.with_deleting(name))
        return topic

    def discard(self, name: str) -> None:
        """No process has the deleted topic's files any more: rename them. Raises KafkaStorageError."""
        topic = next((each for each in self.catalog.deleting if each.name == name), None)
        if topic is None:
            return
        try:
            self._storage.discard(topic.name, topic.partitions)
        except OSError as error:
            raise KafkaStorageError(
                f"topic {name!r} is deleted, and its directories are still there: {error.strerror}; "
                "delete it again to try again"
            ) from None
        self._save(self.catalog.with_deleted(name))

    def grow(self, name: str, partitions: int) -> tuple[Topic, Topic]:
        """The topic before and after."""
        before = self.catalog.get(name)
        after = self._rules.more_partitions(self.catalog, name, partitions)
        self._save(self.catalog.with_changed(after))
        return before, after

    def alter(self, name: str, changes: Mapping[str, Any]) -> Topic:
        """The topic with its new settings."""
        topic = self._rules.altered(self.catalog, name, changes)
        self._save(self.catalog.with_changed(topic))
        return topic

    def describe(self, name: str) -> ConfigsReply:
        """Every setting of the topic."""
        config = self.catalog.get(name).config
        return ConfigsReply(
            config={
                setting.name: ConfigValue(
                    value=config.get(setting.name, setting.default), default=setting.default, doc=setting.doc
                )
                for setting in TOPIC_SETTINGS.values()
            }
        )

    def _save(self, catalog: Catalog) -> None:
        try:
            self._storage.save(catalog)
        except OSError as error:
            raise KafkaStorageError(
                f"the catalogue of topics cannot be written: {error.strerror}; nothing was changed"
            ) from None
        self.catalog = catalog


def complete_config(topic: Topic) -> dict[str, Any]:
    """Every setting of the topic, defaults included."""
    return {name: setting.default for name, setting in TOPIC_SETTINGS.items()} | topic.config

"""Places: from the path that somebody names to the partitions and files in it.

A data directory holds ``catalog.json`` and a directory ``<topic>-<partition>`` for each partition; both
may be a copy, and a partition's directory may have been taken out of its data directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from odradek.protocol.errors import InvalidConfig
from partitions.recovery import segment_bases
from partitions.segment import INDEX_SUFFIX, LOG_SUFFIX, NAME_DIGITS, TIME_INDEX_SUFFIX
from partitions.settings import TOPIC_SETTINGS, LogSettings

CATALOG_NAME = "catalog.json"
BROKER_LOCK_NAME = "odradek.lock"
LOG_LOCK_NAME = ".lock"
OFFSETS_TOPIC = "__consumer_offsets"
_PARTITION = re.compile(r"(?P<topic>.+)-(?P<partition>0|[1-9][0-9]*)", re.ASCII | re.DOTALL)
_ASIDE = re.compile(r".+\.[0-9a-f]{8}-(?P<kind>delete|stray)", re.ASCII | re.DOTALL)
_SEGMENT_FILE = re.compile(rf"(\d{{{NAME_DIGITS}}})(\.log|\.index|\.timeindex)")

Kind = Literal["log", "index", "timeindex"]
_KINDS: dict[str, Kind] = {LOG_SUFFIX: "log", INDEX_SUFFIX: "index", TIME_INDEX_SUFFIX: "timeindex"}


class NotALog(Exception):
    """The path is none that these tools understand; the message says what they do."""


@dataclass(frozen=True, slots=True)
class KnownTopic:
    """What the catalogue says of a topic."""

    topic_id: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> LogSettings:
        """Its settings as far as this version knows them, else the defaults."""
        known = {name: value for name, value in self.config.items() if name in TOPIC_SETTINGS}
        try:
            return LogSettings.from_config(known)
        except InvalidConfig:
            return LogSettings()


@dataclass(frozen=True, slots=True)
class PartitionPlace:
    """A partition's directory. ``known`` is None where no catalogue beside it tells of the topic."""

    directory: Path
    known: KnownTopic | None = None

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def topic(self) -> str:
        match = _PARTITION.fullmatch(self.name)
        return match["topic"] if match is not None else self.name


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """One file of a segment."""

    path: Path
    base_offset: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class DataPlace:
    """A data directory: its partitions, and directories that were set aside (name -> "stray"/"delete")."""

    directory: Path
    partitions: tuple[PartitionPlace, ...]
    aside: Mapping[str, str]


def resolve(path: Path) -> DataPlace | PartitionPlace | SegmentPlace:
    """What ``path`` is. Raises NotALog, or OSError where it cannot be looked at."""
    if path.is_dir():
        full = path.resolve()
        names = [entry.name for entry in full.iterdir()]
        if CATALOG_NAME in names or BROKER_LOCK_NAME in names:
            return _data_place(full)
        if segment_bases(names) or "partition.metadata" in names:
            return PartitionPlace(full, _catalogue(full.parent).get(_topic_of(full.name)))
        place = _data_place(full)
        if place.partitions:
            return place
        raise NotALog(f"{path} is neither a data directory nor the directory of a partition")
    if not path.exists():
        raise NotALog(f"there is no {path}; name a data directory, a partition's directory or a file in it")
    match = _SEGMENT_FILE.fullmatch(path.name)
    if match is None:
        raise NotALog(
            f"{path} is no file of a segment: those are called <{NAME_DIGITS} digits>.log, .index or "
            ".timeindex"
        )
    return SegmentPlace(path.resolve(), int(match[1]), _KINDS[match[2]])


def partitions_of(place: DataPlace | PartitionPlace, topic: str | None = None) -> list[PartitionPlace]:
    """The partitions at the place, of one topic or all. Raises NotALog where there are none of the topic."""
    found = list(place.partitions) if isinstance(place, DataPlace) else [place]
    if topic is None:
        return found
    chosen = [partition for partition in found if partition.topic == topic]
    if not chosen:
        names = ", ".join(sorted({partition.topic for partition in found})) or "none"
        raise NotALog(f"{place.directory} has no partition of topic {topic!r}; topics there: {names}")
    return chosen


def _data_place(directory: Path) -> DataPlace:
    known = _catalogue(directory)
    partitions, aside = [], {}
    for entry in sorted(directory.iterdir(), key=_natural):
        if not entry.is_dir():
            continue
        set_aside = _ASIDE.fullmatch(entry.name)
        if set_aside is not None:
            aside[entry.name] = set_aside["kind"]
        elif _PARTITION.fullmatch(entry.name) is not None:
            partitions.append(PartitionPlace(entry, known.get(_topic_of(entry.name))))
    return DataPlace(directory, tuple(partitions), aside)


def _natural(path: Path) -> tuple[str, int]:
    match = _PARTITION.fullmatch(path.name)
    return (match["topic"], int(match["partition"])) if match is not None else (path.name, 0)


def _topic_of(name: str) -> str:
    match = _PARTITION.fullmatch(name)
    return match["topic"] if match is not None else name


def _catalogue(directory: Path) -> dict[str, KnownTopic]:
    """Topics by name as ``catalog.json`` has them; none where there is no catalogue that can be read."""
    try:
        catalog = msgspec.json.decode((directory / CATALOG_NAME).read_bytes(), type=_File).catalog
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    known = {topic.name: KnownTopic(topic.topic_id, topic.config) for topic in catalog.topics}
    known[OFFSETS_TOPIC] = KnownTopic(catalog.offsets_topic_id)
    return known


class _Topic(msgspec.Struct):
    name: str
    topic_id: str
    config: dict[str, Any] = {}


class _Catalog(msgspec.Struct):
    offsets_topic_id: str
    topics: list[_Topic] = []


class _File(msgspec.Struct):
    catalog: _Catalog

"""Committed offsets: which are stored, and what a commit turns into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from actors.assignment import TopicPartition
from actors.ledger import NO_LEADER_EPOCH, CommittedOffset, Entry, OffsetKey
from actors.topics import Topics
from odradek.protocol.errors import (
    InvalidRequest,
    OffsetMetadataTooLarge,
    PolicyViolation,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import CommitOffset, FetchedOffset, TopicPartitions
from odradek.protocol.names import check_topic_name

OFFSETS_MAX = 1_000_000
"""Committed offsets of all groups together; about 300 bytes of memory each."""
METADATA_BYTES_MAX = 4096
NO_OFFSET = -1

GroupOffsets = Mapping[TopicPartition, CommittedOffset]
_NONE: GroupOffsets = {}


@dataclass(slots=True)
class Offsets:
    """Every group's committed offsets, as the log has them."""

    count: int = 0
    _groups: dict[str, dict[TopicPartition, CommittedOffset]] = field(default_factory=dict)

    def replay(self, key: OffsetKey, value: CommittedOffset | None) -> CommittedOffset | None:
        """Apply one entry; what stood there before."""
        if value is None:
            return self._remove(key)
        group = self._groups.setdefault(key.group, {})
        place = (key.topic, key.partition)
        before = group.get(place)
        group[place] = value
        self.count += before is None
        return before

    def _remove(self, key: OffsetKey) -> CommittedOffset | None:
        group = self._groups.get(key.group, {})
        before = group.pop((key.topic, key.partition), None)
        if before is not None:
            self.count -= 1
            if not group:
                del self._groups[key.group]
        return before

    def of_group(self, group: str) -> GroupOffsets:
        """One group's offsets; empty for a group that has none."""
        return self._groups.get(group, _NONE)

    def keys_for_a_while(self) -> Iterator[OffsetKey]:
        """Every key that was there when its group's turn came; the offsets may change meanwhile."""
        for group in list(self._groups):
            for topic, partition in list(self._groups.get(group, _NONE)):
                yield OffsetKey(group, topic, partition)

    def of_others(self, topic_ids: Mapping[str, str]) -> Iterator[OffsetKey]:
        """The offsets in topics that have not these ids. It looks at every one, and a million take long."""
        for group, offsets in self._groups.items():
            for (topic, partition), committed in offsets.items():
                if topic_ids.get(topic) != committed.topic_id:
                    yield OffsetKey(group, topic, partition)


def commit(offsets: Offsets, topics: Topics, group: str, asked: CommitOffset, wall_ms: int) -> Entry:
    """The entry that stores one offset.

    Raises InvalidTopic, UnknownTopicOrPartition, OffsetMetadataTooLarge or PolicyViolation.
    """
    check_topic_name(asked.topic)
    topic = topics.get(asked.topic)
    if topic is None:
        raise UnknownTopicOrPartition(f"there is no topic {asked.topic!r}")
    if asked.partition >= topic.partitions:
        raise UnknownTopicOrPartition(
            f"topic {asked.topic!r} has partitions 0 to {topic.partitions - 1}, not {asked.partition}"
        )
    _check_metadata(asked)
    key = OffsetKey(group, asked.topic, asked.partition)
    if offsets.count >= OFFSETS_MAX and (asked.topic, asked.partition) not in offsets.of_group(group):
        raise PolicyViolation(f"{OFFSETS_MAX} offsets are committed already; delete groups that are not used")
    epoch = asked.leader_epoch if isinstance(asked.leader_epoch, int) else NO_LEADER_EPOCH
    return Entry(key, CommittedOffset(asked.offset, wall_ms, topic.topic_id, asked.metadata, epoch))


def _check_metadata(asked: CommitOffset) -> None:
    try:
        size_bytes = len((asked.metadata or "").encode())
    except UnicodeEncodeError:
        raise InvalidRequest("metadata is valid UTF-8; this one has a lone surrogate") from None
    if size_bytes > METADATA_BYTES_MAX:
        raise OffsetMetadataTooLarge(
            f"the metadata of {asked.topic}-{asked.partition} has {size_bytes} bytes, "
            f"{METADATA_BYTES_MAX} are allowed"
        )


def fetch(
    committed: GroupOffsets, topics: Topics, asked: list[TopicPartitions | str] | None
) -> list[FetchedOffset]:
    """What was asked for, in that order, with offset -1 where nothing is committed.

    ``asked``: None for all that is committed, a name for every partition of a topic.
    Raises InvalidTopic.
    """
    if asked is None:
        return [_fetched(place, committed) for place in sorted(committed)]
    found: list[FetchedOffset] = []
    for item in asked:
        name = check_topic_name(item if isinstance(item, str) else item.topic)
        numbers = _partitions_of(name, topics, committed) if isinstance(item, str) else item.partitions
        found.extend(_fetched((name, number), committed) for number in numbers)
    return found


def _partitions_of(name: str, topics: Topics, committed: GroupOffsets) -> list[int]:
    topic = topics.get(name)
    if topic is not None:
        return list(range(topic.partitions))
    return sorted(partition for committed_topic, partition in committed if committed_topic == name)


def _fetched(place: TopicPartition, committed: GroupOffsets) -> FetchedOffset:
    found = committed.get(place)
    if found is None:
        return FetchedOffset(topic=place[0], partition=place[1], offset=NO_OFFSET)
    fetched = FetchedOffset(topic=place[0], partition=place[1], offset=found.offset, metadata=found.metadata)
    if found.leader_epoch != NO_LEADER_EPOCH:
        fetched.leader_epoch = found.leader_epoch
    return fetched


def orphans(offsets: Offsets, topics: Topics) -> list[Entry]:
    """The entries that forget the offsets of topics that are gone, or were made anew since."""
    topic_ids = {name: topic.topic_id for name, topic in topics.items()}
    return [Entry(key, None) for key in offsets.of_others(topic_ids)]

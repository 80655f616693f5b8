"""Committed offsets: what is stored, what is refused, what is shown."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from actors import offsets as offsets_module
from actors.ledger import NO_LEADER_EPOCH, CommittedOffset, Entry, OffsetKey, decode_entry, encode_entry
from actors.offsets import METADATA_BYTES_MAX, Offsets, commit, fetch, orphans
from actors.topics import Topic
from odradek.protocol.errors import (
    InvalidRequest,
    InvalidTopic,
    OffsetMetadataTooLarge,
    PolicyViolation,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import CommitOffset, TopicPartitions

TOPICS = {"events": Topic("id-1", 3), "other": Topic("id-2", 1)}


def ask(
    topic: str = "events", partition: int = 0, offset: int = 5, metadata: str | None = None
) -> CommitOffset:
    return CommitOffset(topic=topic, partition=partition, offset=offset, metadata=metadata)


def stored(offsets: Offsets, asked: CommitOffset, group: str = "g") -> None:
    entry = commit(offsets, TOPICS, group, asked, 77)
    assert isinstance(entry.key, OffsetKey)
    assert isinstance(entry.value, CommittedOffset)
    offsets.replay(entry.key, entry.value)


def test_a_commit_names_the_topic_id_and_the_time() -> None:
    entry = commit(Offsets(), TOPICS, "g", ask(partition=2, offset=9, metadata="m"), 77)
    assert entry == Entry(OffsetKey("g", "events", 2), CommittedOffset(9, 77, "id-1", "m"))


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (ask(topic="no/such"), InvalidTopic, "not a topic name"),
        (ask(topic="gone"), UnknownTopicOrPartition, "no topic 'gone'"),
        (ask(partition=3), UnknownTopicOrPartition, "partitions 0 to 2, not 3"),
        (ask(metadata="é" * (METADATA_BYTES_MAX // 2 + 1)), OffsetMetadataTooLarge, "4098 bytes, 4096"),
        (ask(metadata="\ud800"), InvalidRequest, "surrogate"),
    ],
)
def test_a_refused_commit_says_why(asked: CommitOffset, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        commit(Offsets(), TOPICS, "g", asked, 0)


def test_metadata_of_just_the_limit_is_stored() -> None:
    commit(Offsets(), TOPICS, "g", ask(metadata="é" * (METADATA_BYTES_MAX // 2)), 0)


def test_the_limit_holds_for_new_places_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets_module, "OFFSETS_MAX", 1)
    offsets = Offsets()
    stored(offsets, ask())
    stored(offsets, ask(offset=6))
    with pytest.raises(PolicyViolation, match="1 offsets"):
        commit(offsets, TOPICS, "g", ask(partition=1), 0)
    with pytest.raises(PolicyViolation):
        commit(offsets, TOPICS, "another", ask(), 0)


def test_replay_returns_what_stood_there_so_that_it_can_be_undone() -> None:
    offsets, key = Offsets(), OffsetKey("g", "events", 0)
    first, second = CommittedOffset(1, 0, "id-1"), CommittedOffset(2, 0, "id-1")
    assert offsets.replay(key, first) is None
    assert offsets.replay(key, second) == first
    assert offsets.replay(key, None) == second
    assert offsets.replay(key, None) is None
    assert (offsets.count, dict(offsets.of_group("g"))) == (0, {})


def test_fetch_answers_in_the_order_of_the_question_with_minus_one_for_nothing() -> None:
    offsets = Offsets()
    stored(offsets, ask(partition=1, offset=8, metadata="m"))
    stored(offsets, ask(topic="other", offset=3))
    committed = offsets.of_group("g")

    def found(*topics: TopicPartitions | str) -> list[tuple[str, int, int]]:
        return [(f.topic, f.partition, f.offset) for f in fetch(committed, TOPICS, list(topics))]

    assert found("other", "events") == [
        ("other", 0, 3),
        ("events", 0, -1),
        ("events", 1, 8),
        ("events", 2, -1),
    ]
    assert found(TopicPartitions(topic="events", partitions=[1, 7])) == [("events", 1, 8), ("events", 7, -1)]
    assert found("unheard") == []
    assert found() == []
    everything = fetch(committed, TOPICS, None)
    assert [(f.topic, f.partition, f.offset, f.metadata) for f in everything] == [
        ("events", 1, 8, "m"),
        ("other", 0, 3, None),
    ]
    with pytest.raises(InvalidTopic):
        found("no/such")


def test_orphans_are_offsets_of_deleted_and_of_remade_topics() -> None:
    offsets = Offsets()
    stored(offsets, ask())
    stored(offsets, ask(topic="other"))
    assert orphans(offsets, TOPICS) == []
    remade = {"events": Topic("id-9", 3), "other": Topic("id-2", 1)}
    assert orphans(offsets, remade) == [Entry(OffsetKey("g", "events", 0), None)]
    assert orphans(offsets, {"events": Topic("id-1", 3)}) == [Entry(OffsetKey("g", "other", 0), None)]


def test_entries_of_before_there_were_leader_epochs_are_read_and_written_as_they_were() -> None:
    key, value = b'["offset","g","events",2]', b'{"offset":9,"committed_at_ms":77,"topic_id":"id-1"}'
    entry = decode_entry(key, value)
    assert entry.value == CommittedOffset(9, 77, "id-1", None, NO_LEADER_EPOCH)
    assert encode_entry(entry) == (key, value)


def test_a_commit_keeps_its_leader_epoch() -> None:
    offsets = Offsets()
    asked = ask()
    asked.leader_epoch = 0
    stored(offsets, asked)
    stored(offsets, ask(partition=1))
    found = fetch(offsets.of_group("g"), TOPICS, None)
    assert [each.leader_epoch for each in found] == [0, UNSET]
    entry = Entry(OffsetKey("g", "events", 0), offsets.of_group("g")["events", 0])
    assert decode_entry(*encode_entry(entry)) == entry

"""Nothing is answered before it is durable, nothing answered is lost, nothing failed is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import journal as journal_module
from actors.actor import Envelope, Moment, Synced
from actors.assignment import PartitionSet
from actors.coordinator import CoordinatorActor, CoordinatorOptions
from actors.effects import Effect, Reply, Sync
from actors.ledger import (
    OFFSET_KEY_START,
    CommittedOffset,
    Entry,
    GroupHead,
    GroupKey,
    Key,
    MemberKey,
    MemberProfile,
    OffsetKey,
    ProducerIdBlock,
    ProducerIdsKey,
    StandingKey,
    TargetKey,
    Value,
    decode_entry,
    encode_entry,
)
from actors.members import MemberState, Standing
from actors.messages import Configure
from actors.producer_ids import PRODUCER_IDS_PER_BLOCK
from actors.state import CoordinatorState
from odradek.protocol.batch import BatchHeader, Buffer, check_batch, read_header
from odradek.protocol.errors import CorruptMessage, KafkaStorageError, MessageTooLarge
from odradek.protocol.messages import (
    CommitOffset,
    GroupDelete,
    GroupDeleteReply,
    GroupDescribe,
    GroupDescribeReply,
    GroupList,
    GroupListReply,
    InitProducerId,
    InitProducerIdReply,
    OffsetCommit,
    OffsetCommitReply,
    OffsetFetch,
    OffsetFetchReply,
    Ping,
    PingReply,
    Request,
    TopicPartitions,
)
from odradek.protocol.messages import Metadata as MetadataRequest
from odradek.protocol.records import decode_batches
from partitions.files import OsFiles
from partitions.log import Log
from partitions.settings import LogSettings
from tests.support.coordinating import Coordinating, commit, heartbeat, routes
from tests.support.fakes import FakeLog, sender

FULL = KafkaStorageError("no space left on device")


def errors(reply: OffsetCommitReply) -> list[str | None]:
    assert isinstance(reply.offsets, list)
    return [None if result.error is None else result.error.name for result in reply.offsets]


def test_a_commit_is_answered_when_its_sync_came_back() -> None:
    c = Coordinating()
    first = c.send(commit({0: 5}))
    assert (c.replies, c.log.batches) == ({}, []), "nothing leaves, nothing is written before settle"
    c.settle()
    assert (c.log.unsynced, len(c.syncs), c.replies) == (1, 1, {})
    c.settle()
    assert len(c.syncs) == 1
    c.finish_sync()
    assert c.replies[first].error is None


def test_one_sync_for_all_that_came_meanwhile() -> None:
    c = Coordinating()
    first = c.send(commit({0: 5}))
    c.settle()
    later = [c.send(commit({0: 6 + n})) for n in range(10)]
    c.settle()
    assert len(c.log.batches) == 1, "the second round waits for the first"
    c.finish_sync()
    assert set(c.replies) - {1} == {first} - {1}
    c.settle()
    assert len(c.log.batches) == 2
    c.finish_sync()
    assert all(number in c.replies for number in later)
    assert c.committed() == {("events", 0): 15}


def test_reads_wait_for_what_they_saw() -> None:
    c = Coordinating()
    c.send(commit({0: 5}))
    gathering = c.send(OffsetFetch(group="group"))
    c.settle()
    in_flight = c.send(OffsetFetch(group="group"))
    assert gathering not in c.replies
    assert in_flight not in c.replies
    c.finish_sync()
    for number in (gathering, in_flight):
        reply = c.replies[number]
        assert isinstance(reply, OffsetFetchReply)
        assert isinstance(reply.offsets, list)
        assert reply.offsets[0].offset == 5
    at_once = c.send(Ping())
    assert isinstance(c.replies[at_once], PingReply), "nothing to wait for"


def test_a_full_disk_fails_writers_answers_readers_and_leaves_the_state_alone() -> None:
    c = Coordinating()
    c.commit({0: 5})
    c.join("a")
    before = c.ask(GroupDescribe(group="group"), GroupDescribeReply)
    c.log.fail_writes = FULL
    writer = c.send(commit({0: 9}, "a", 1))
    joiner = c.send(heartbeat("b", 0, {}, topics=["events"]))
    newcomer = c.send(commit({0: 1}, group="new"))
    reader = c.send(OffsetFetch(group="group"))
    unheard = c.send(GroupDescribe(group="new"))
    c.run()
    for number in (writer, joiner, newcomer):
        error = c.replies[number].error
        assert error is not None
        assert (error.name, error.retriable) == ("KAFKA_STORAGE_ERROR", True)
    reply = c.replies[reader]
    assert isinstance(reply, OffsetFetchReply)
    assert isinstance(reply.offsets, list)
    assert [found.offset for found in reply.offsets] == [5]
    missing = c.replies[unheard].error
    assert missing is not None
    assert missing.name == "GROUP_ID_NOT_FOUND"
    assert c.ask(GroupDescribe(group="group"), GroupDescribeReply) == before
    assert c.lines[-1].fields["final"] is False
    c.log.fail_writes = None
    assert c.commit({0: 10}, "a", 1).error is None
    c.crash()
    assert c.committed() == {("events", 0): 10}


def test_an_expulsion_that_cannot_be_written_is_tried_again() -> None:
    c = Coordinating()
    c.join("a")
    c.log.fail_writes = FULL
    c.pass_time(46)
    described = c.ask(GroupDescribe(group="group"), GroupDescribeReply)
    assert isinstance(described.members, list)
    assert len(described.members) == 1
    c.log.fail_writes = None
    c.pass_time(2)
    assert c.ask(GroupDescribe(group="group"), GroupDescribeReply).members == []


def test_an_expulsion_that_waits_for_a_slow_disk_is_not_forgotten() -> None:
    """It is asked for again while it waits to be written, and then the write fails."""
    c = Coordinating()
    c.join("a")
    c.send(commit({0: 1}, "a", 1))
    c.settle()
    c.clock.advance(45.5)
    c.settle()
    c.clock.advance(1.1)
    c.settle()
    c.log.fail_writes = FULL
    c.finish_sync()
    c.run()
    described = c.ask(GroupDescribe(group="group"), GroupDescribeReply)
    assert isinstance(described.members, list)
    assert len(described.members) == 1
    c.log.fail_writes = None
    c.pass_time(2)
    assert c.ask(GroupDescribe(group="group"), GroupDescribeReply).members == []


def test_a_log_that_takes_half_a_round_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has staged cannot be taken back, so nothing may ever be written behind it."""
    monkeypatch.setattr(journal_module, "BATCH_BYTES_TARGET", 150)

    class Picky(FakeLog):
        def append(self, batch: Buffer, header: BatchHeader, wall_ms: int) -> None:
            if self.end_offset > 0:
                raise MessageTooLarge("max.message.bytes is too small")
            super().append(batch, header, wall_ms)

    c = Coordinating(Picky())
    for _ in range(2):
        assert c.error_of(commit({0: 1, 1: 1, 2: 1})) == "KAFKA_STORAGE_ERROR"
    assert (c.log.batches, c.committed()) == ([], {})
    assert c.lines[0].fields["final"] is True


def test_a_change_of_topics_that_cannot_be_written_is_tried_again() -> None:
    c = Coordinating()
    c.commit({0: 5}, group="admin")
    c.join("a")
    c.log.fail_writes = FULL
    c.tell_topics({"other": 1})
    c.log.fail_writes = None
    c.pass_time(2)
    assert c.committed("admin") == {}
    described = c.ask(GroupDescribe(group="group"), GroupDescribeReply)
    assert described.epoch == 2


def test_a_failed_sync_is_final_for_writers_and_readers_go_on() -> None:
    c = Coordinating()
    c.commit({0: 5})
    in_flight = c.send(commit({0: 6}))
    c.settle()
    gathering = c.send(commit({0: 7}))
    reader = c.send(OffsetFetch(group="group"))
    c.finish_sync(OSError(5, "Input/output error"))
    for number in (in_flight, gathering):
        error = c.replies[number].error
        assert error is not None
        assert error.name == "KAFKA_STORAGE_ERROR"
    assert c.replies[reader].error is None
    assert c.committed() == {("events", 0): 5}
    assert c.error_of(commit({0: 8})) == "KAFKA_STORAGE_ERROR"
    assert len(c.log.batches) == 2, "nothing is written after a failed sync"
    assert c.committed() == {("events", 0): 5}
    assert [line.fields["final"] for line in c.lines] == [True, True]
    assert c.failures, "a successor must find out what the disk holds"


def test_stop_makes_durable_and_answers_what_gathered() -> None:
    c = Coordinating()
    number = c.send(commit({0: 5}))
    c.perform(c.actor.stop(c.clock.now()))
    assert c.replies[number].error is None
    c.crash()
    assert c.committed() == {("events", 0): 5}


def test_stop_refuses_what_it_cannot_wait_for() -> None:
    c = Coordinating()
    in_flight = c.send(commit({0: 5}))
    c.settle()
    gathering = c.send(commit({1: 5}))
    c.perform(c.actor.stop(c.clock.now()))
    for number in (in_flight, gathering):
        error = c.replies[number].error
        assert error is not None
        assert "whether this took effect is unknown" in error.message
    c.finish_sync()
    assert len(c.replies) == 2, "nobody is answered twice"


def test_stop_with_a_failing_sync_acknowledges_nothing() -> None:
    c = Coordinating()
    c.log.fail_syncs = OSError(5, "Input/output error")
    number = c.send(commit({0: 5}))
    c.perform(c.actor.stop(c.clock.now()))
    error = c.replies[number].error
    assert error is not None
    assert error.name == "KAFKA_STORAGE_ERROR"


def test_who_may_commit() -> None:
    c = Coordinating()
    assert errors(c.commit({0: 5})) == [None], "an administrator, of a group that is not there yet"
    assert c.error_of(commit({0: 5}, "a", 1)) == "UNKNOWN_MEMBER_ID"
    c.join("a")
    assert errors(c.commit({0: 6}, "a", 1)) == [None]
    assert c.error_of(commit({0: 7})) == "UNKNOWN_MEMBER_ID", "not while there are members"
    assert c.error_of(commit({0: 7}, None, 1)) == "INVALID_REQUEST"
    assert c.error_of(commit({0: 7}, "a", None)) == "INVALID_REQUEST"
    for epoch in (0, 2):
        assert c.error_of(commit({0: 7}, "a", epoch)) == "STALE_MEMBER_EPOCH"
    c.beat("a", -1)
    assert c.error_of(commit({0: 7}, "a", 1)) == "UNKNOWN_MEMBER_ID"
    assert c.committed() == {("events", 0): 6}


def test_a_late_commit_does_not_take_the_new_holder_back() -> None:
    c = Coordinating()
    c.join("a")
    c.join("b")
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    assert errors(c.commit({3: 10}, "a", 1)) == [None], "told to let go, it commits what it did"
    assert errors(c.commit({3: 10}, "b", 2)) == ["STALE_MEMBER_EPOCH"], "not yet"
    c.beat("a", 1, {"events": [0, 1]})
    c.beat("b", 2, {})
    assert errors(c.commit({3: 20}, "b", 2)) == [None]
    assert errors(c.commit({0: 4, 3: 11}, "a", 2)) == [None, "STALE_MEMBER_EPOCH"]
    assert c.committed() == {("events", 0): 4, ("events", 3): 20}


def test_each_offset_of_a_commit_stands_or_falls_on_its_own() -> None:
    c = Coordinating()
    asked = [
        CommitOffset(topic="events", partition=0, offset=1),
        CommitOffset(topic="gone", partition=0, offset=1),
        CommitOffset(topic="no/such", partition=0, offset=1),
        CommitOffset(topic="events", partition=9, offset=1),
        CommitOffset(topic="events", partition=1, offset=2, metadata="m" * 5000),
    ]
    reply = c.ask(OffsetCommit(group="group", offsets=asked), OffsetCommitReply)
    assert errors(reply) == [
        None,
        "UNKNOWN_TOPIC_OR_PARTITION",
        "INVALID_TOPIC_EXCEPTION",
        "UNKNOWN_TOPIC_OR_PARTITION",
        "OFFSET_METADATA_TOO_LARGE",
    ]
    assert c.committed() == {("events", 0): 1}


def test_a_commit_of_which_nothing_is_stored_makes_no_group() -> None:
    c = Coordinating()
    for asked in ([], [CommitOffset(topic="gone", partition=0, offset=1)]):
        c.ask(OffsetCommit(group="group", offsets=asked), OffsetCommitReply)
        assert c.error_of(GroupDescribe(group="group")) == "GROUP_ID_NOT_FOUND"
    assert c.log.batches == []
    c.commit({0: 5})
    c.ask(OffsetCommit(group="group", offsets=[]), OffsetCommitReply)
    assert c.committed() == {("events", 0): 5}


def test_a_topic_made_anew_begins_without_offsets() -> None:
    c = Coordinating(topics={"events": 2, "other": 1})
    c.commit({0: 5})
    c.ask(
        OffsetCommit(group="group", offsets=[CommitOffset(topic="other", partition=0, offset=3)]),
        OffsetCommitReply,
    )
    c.tell_topics(c.topics, {"events": "another-id"})
    assert c.committed() == {("other", 0): 3}
    c.crash()
    assert c.committed() == {("other", 0): 3}


def test_before_the_topics_are_known_the_client_is_asked_to_come_again() -> None:
    c = Coordinating()
    c.actor = CoordinatorActor(FakeLog(), CoordinatorOptions(new_id=str))
    for request in (commit({0: 1}), heartbeat("a", 0, {}, topics=["events"]), OffsetFetch(group="g")):
        reply = c.ask_any(request)
        assert reply.error is not None
        assert (reply.error.name, reply.error.retriable) == ("COORDINATOR_NOT_AVAILABLE", True)
    assert c.ask(GroupList(), GroupListReply).groups == []


def test_what_the_coordinator_does_not_serve_is_an_invalid_request() -> None:
    c = Coordinating()
    assert c.error_of(MetadataRequest()) == "INVALID_REQUEST"
    assert c.error_of(Configure(config={})) == "INVALID_REQUEST"


def test_producer_ids_are_never_given_twice() -> None:
    c = Coordinating()

    def take() -> int:
        reply = c.ask(InitProducerId(), InitProducerIdReply)
        assert (isinstance(reply.producer_id, int), reply.producer_epoch) == (True, 0)
        return int(reply.producer_id)  # type: ignore[arg-type]

    ids = [take() for _ in range(PRODUCER_IDS_PER_BLOCK + 1)]
    assert ids == list(range(PRODUCER_IDS_PER_BLOCK + 1))
    assert len(c.log.batches) == 2, "one entry for a thousand"
    c.crash()
    ids.append(take())
    c.send(InitProducerId())
    c.crash(kept=0)
    c.log.fail_writes = FULL
    assert c.error_of(InitProducerId()) == "KAFKA_STORAGE_ERROR"
    c.log.fail_writes = None
    ids += [take(), take()]
    c.crash()
    ids += [take() for _ in range(3)]
    assert len(set(ids)) == len(ids)


def test_a_large_commit_is_split_into_batches_that_the_log_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "BATCH_BYTES_TARGET", 1000)
    c = Coordinating(topics={"events": 100})
    c.commit({number: number for number in range(100)})
    assert len(c.log.batches) > 5
    assert all(len(batch) <= 1000 + 61 for batch in c.log.batches)
    c.crash()
    assert c.committed() == {("events", number): number for number in range(100)}


def test_too_much_waiting_is_refused_with_an_error_that_can_be_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "STAGED_ENTRIES_MAX", 3)
    c = Coordinating()
    accepted = c.send(commit({0: 1, 1: 1, 2: 1}))
    refused = c.send(commit({3: 1}))
    c.run()
    assert c.replies[accepted].error is None
    error = c.replies[refused].error
    assert error is not None
    assert (error.name, error.retriable) == ("THROTTLING_QUOTA_EXCEEDED", True)
    assert c.commit({3: 1}).error is None


def test_an_entry_too_large_for_a_batch_undoes_its_whole_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The member's entry fits, that of its two hundred partitions does not."""
    monkeypatch.setattr(journal_module, "ENTRY_BYTES_MAX", 300)
    c = Coordinating(topics={"events": 200})
    assert c.error_of(heartbeat("a", 0, {}, topics=["events"])) == "POLICY_VIOLATION"
    assert (c.ask(GroupList(), GroupListReply).groups, c.log.batches) == ([], [])


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        (
            Entry(OffsetKey("g", "t", 3), CommittedOffset(17, 99, "id", "m")),
            b'["offset","g","t",3]',
            b'{"offset":17,"committed_at_ms":99,"topic_id":"id","metadata":"m"}',
        ),
        (
            Entry(GroupKey("g"), GroupHead(2, 1, "sticky", {"t": 3})),
            b'["group","g"]',
            b'{"epoch":2,"target_epoch":1,"assignor":"sticky","partitions":{"t":3}}',
        ),
        (
            Entry(MemberKey("g", "a"), MemberProfile(("t",), 5, instance_id="i")),
            b'["member","g","a"]',
            b'{"topics":["t"],"rebalance_timeout_ms":5,"instance_id":"i"}',
        ),
        (Entry(TargetKey("g", "a"), frozenset({("t", 1), ("t", 0)})), b'["target","g","a"]', b'{"t":[0,1]}'),
        (
            Entry(
                StandingKey("g", "a"),
                Standing(4, 3, MemberState.UNREVOKED, frozenset({("t", 0)}), frozenset({("u", 1)})),
            ),
            b'["standing","g","a"]',
            b'{"epoch":4,"previous_epoch":3,"state":"unrevoked_partitions","assigned":{"t":[0]},"revoking":{"u":[1]}}',
        ),
        (Entry(ProducerIdsKey(), ProducerIdBlock(1000)), b'["producer_ids"]', b'{"next_block":1000}'),
        (Entry(GroupKey("g"), None), b'["group","g"]', None),
    ],
)
def test_entries_read_well_in_a_dump_and_come_back(entry: Entry, key: bytes, value: bytes | None) -> None:
    assert encode_entry(entry) == (key, value)
    assert key.startswith(OFFSET_KEY_START) == isinstance(entry.key, OffsetKey)
    assert decode_entry(key, value) == entry


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"", None),
        (b'["unheard","g"]', None),
        (b'["offset","g","t"]', None),
        (b'["offset","g","t",0]', b'{"offset":"x"}'),
        (b'["standing","g","a"]', b'{"epoch":1,"previous_epoch":0,"state":"lost"}'),
    ],
)
def test_an_entry_that_cannot_be_read_is_an_error(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(CorruptMessage, match="cannot be read"):
        decode_entry(key, value)


PARTITIONS = st.frozensets(st.tuples(st.sampled_from(["t", "u"]), st.integers(0, 3)), max_size=4)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Of one group; only member a holds partitions, so that no entry contradicts another."""
    member = draw(st.sampled_from("ab"))
    standing = st.builds(
        Standing,
        st.integers(1, 4),
        st.just(0),
        st.sampled_from(MemberState),
        PARTITIONS,
        st.just(PartitionSet()),
    )
    pairs: list[tuple[Key, st.SearchStrategy[Value]]] = [
        (
            OffsetKey("g", "t", draw(st.integers(0, 2))),
            st.builds(CommittedOffset, st.integers(0, 9), st.just(0), st.just("i")),
        ),
        (
            GroupKey("g"),
            st.builds(GroupHead, st.integers(0, 9), st.integers(0, 9), st.just("range"), st.just({})),
        ),
        (MemberKey("g", member), st.builds(MemberProfile, st.just(("t",)), st.integers(1, 9))),
        (TargetKey("g", member), PARTITIONS.filter(bool)),
        (StandingKey("g", "a"), standing),
    ]
    key, value = draw(st.sampled_from(pairs))
    return Entry(key, draw(st.none() | value))


@settings(max_examples=50)
@given(before=st.lists(entries(), max_size=12), undone=st.lists(entries(), max_size=12))
def test_undoing_entries_last_first_leads_back(before: list[Entry], undone: list[Entry]) -> None:
    """The group's head stays: an entry of a member can only undo itself within a group."""

    def picture(state: CoordinatorState) -> object:
        group = state.groups["g"]
        return group, dict(state.offsets.of_group("g")), state.offsets.count

    head = [Entry(GroupKey("g"), GroupHead(1, 1, "range", {}))]
    keep = [entry for entry in undone if not (isinstance(entry.key, GroupKey) and entry.value is None)]
    state, reference = CoordinatorState(), CoordinatorState()
    for entry in before + head:
        state.replay(entry)
        reference.replay(entry)
    undo = [Entry(entry.key, state.replay(entry)) for entry in keep]
    for entry in reversed(undo):
        state.replay(entry)
    assert picture(state) == picture(reference)


def test_recovery_reads_in_large_steps_and_reports_progress() -> None:
    """A hundred thousand offsets: counted in reads, not in seconds."""
    c = Coordinating(topics={"events": 100_000})
    c.commit({number: number for number in range(100_000)})
    log = c.log.after_crash()
    steps: list[None] = []
    actor = CoordinatorActor(log, CoordinatorOptions(new_id=str), lambda: steps.append(None))
    assert actor.entries_recovered == 100_001
    assert log.reads == len(steps) <= 6
    c.actor = actor
    c.tell_topics(c.topics)
    asked = [TopicPartitions(topic="events", partitions=[0, 99_999])]
    reply = c.ask(OffsetFetch(group="group", topics=list(asked)), OffsetFetchReply)
    assert isinstance(reply.offsets, list)
    assert [found.offset for found in reply.offsets] == [0, 99_999]


def test_recovery_takes_the_last_of_each_offset_however_few_it_holds_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    c = Coordinating(topics={"events": 10})
    for offset in range(30):
        c.commit({offset % 10: offset, (offset + 3) % 10: offset})
    c.commit({0: 99}, group="gone")
    c.ask(GroupDelete(group="gone"), GroupDeleteReply)
    before = c.committed()
    for held_back in (1, 7, 1000):
        monkeypatch.setattr(journal_module, "OFFSETS_UNDECODED_MAX", held_back)
        monkeypatch.setattr(journal_module, "READ_BYTES", 200)
        c.crash()
        assert c.committed() == before
        assert c.committed("gone") == {}


def test_the_log_holds_batches_that_any_client_can_read() -> None:
    c = Coordinating()
    c.commit({0: 5})
    whole = b"".join(c.log.batches)
    for batch in c.log.batches:
        check_batch(batch)
        assert read_header(batch).max_timestamp == c.clock.wall_ms
    assert [record.key for record in decode_batches(whole)] == [
        b'["group","group"]',
        b'["offset","group","events",0]',
    ]


def test_a_log_that_cannot_be_read_stops_the_coordinator() -> None:
    c = Coordinating()
    c.commit({0: 5})
    log = c.log.after_crash()

    class Damaged(FakeLog):
        def read(self, offset: int, max_bytes: int) -> bytes:
            raise CorruptMessage("offsets 0 to 1 are damaged")

    with pytest.raises(CorruptMessage):
        CoordinatorActor(Damaged(log.batches, log.durable, 0, log.end_offset), CoordinatorOptions(new_id=str))

    class Short(FakeLog):
        def read(self, offset: int, max_bytes: int) -> bytes:
            return b""

    with pytest.raises(KafkaStorageError, match="before its durable end"):
        CoordinatorActor(Short(log.batches, log.durable, 0, log.end_offset), CoordinatorOptions(new_id=str))


def test_over_a_real_log_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """The one test here with files: the fake log and ``partitions.log`` are driven alike."""

    def open_log() -> Log:
        directory = tmp_path / "__consumer_offsets-0"
        return Log.open(directory, LogSettings(), files=OsFiles(), wall_ms=1, topic_id="A" * 22)

    def drive(actor: CoordinatorActor, *requests: Request) -> list[Reply]:
        moment, effects = Moment(1.0, 1), list[Effect]()
        for request in requests:
            effects += actor.receive(Envelope(sender(1), request), moment)
        for effect in actor.settle(moment):
            assert isinstance(effect, Sync)
            effect.ticket.run()
            effects += actor.receive(Synced(effect.ticket), moment)
        return [effect for effect in effects if isinstance(effect, Reply)]

    topics = routes({"events": 2})
    log = open_log()
    actor = CoordinatorActor(log, CoordinatorOptions(new_id=str))
    replies = drive(actor, topics, commit({0: 5}), heartbeat("a", 0, {}, topics=["events"]))
    assert [reply.reply.error for reply in replies] == [None, None]
    before = drive(actor, GroupDescribe(group="group"))
    log.close()
    log = open_log()
    actor = CoordinatorActor(log, CoordinatorOptions(new_id=str))
    assert drive(actor, topics, GroupDescribe(group="group")) == before
    log.close()

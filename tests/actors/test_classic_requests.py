"""Classic groups in the coordinator: nobody hears what a crash could take back, and both kinds keep apart."""

from __future__ import annotations

from typing import Any

import pytest

from actors import classic_requests
from actors import state as state_module
from actors.actor import Envelope
from actors.classic import INITIAL_DELAY_S
from actors.consumer_protocol import assignment, subscription
from actors.messages import (
    ClassicCommit,
    ClassicDescribe,
    ClassicDescribeReply,
    ClassicHeartbeat,
    ClassicHeartbeatReply,
    ClassicJoin,
    ClassicJoinReply,
    ClassicLeave,
    ClassicLeaver,
    ClassicLeaveReply,
    ClassicProtocol,
    ClassicSync,
    ClassicSyncReply,
    OffsetDelete,
    OffsetDeleteReply,
)
from odradek.protocol.errors import KafkaStorageError
from odradek.protocol.messages import (
    CommitOffset,
    GroupDelete,
    GroupDeleteReply,
    GroupDescribe,
    GroupDescribeReply,
    GroupList,
    GroupListReply,
    OffsetCommitReply,
    TopicPartitions,
)
from tests.support.coordinating import Coordinating, commit, heartbeat
from tests.support.fakes import sender

SESSION_S = 10
FULL = KafkaStorageError("no space left on device")


def join(member: str | None = None, *, group: str = "group", **fields: Any) -> ClassicJoin:
    known: dict[str, Any] = {
        "protocol_type": "consumer",
        "protocols": [ClassicProtocol("range", subscription(["events"]))],
        "session_timeout_ms": SESSION_S * 1000,
        "rebalance_timeout_ms": 60_000,
        "client_id": "client",
        **fields,
    }
    return ClassicJoin(group=group, member_id=member, **known)


def sync(member: str, generation: int, shares: dict[str, list[int]] | None = None) -> ClassicSync:
    assignments = {each: assignment({"events": numbers}) for each, numbers in (shares or {}).items()}
    return ClassicSync(group="group", member_id=member, generation=generation, assignments=assignments)


def beat(member: str, generation: int, instance_id: str | None = None) -> ClassicHeartbeat:
    return ClassicHeartbeat(group="group", member_id=member, generation=generation, instance_id=instance_id)


def leave(*members: str) -> ClassicLeave:
    return ClassicLeave(group="group", members=[ClassicLeaver(member_id=member) for member in members])


def commit_classic(
    offset: int, member: str | None, generation: int, instance_id: str | None = None, group: str = "group"
) -> ClassicCommit:
    return ClassicCommit(
        group=group,
        member_id=member,
        member_epoch=generation,
        instance_id=instance_id,
        offsets=[CommitOffset(topic="events", partition=0, offset=offset)],
    )


class Classic(Coordinating):
    """The coordinator, and what members of a classic group do."""

    def enter(self, **fields: Any) -> tuple[str, int]:
        """A new member's first two joins; its id, and the number of the second."""
        refused = self.ask_any(join(None, **fields)).error
        assert refused is not None
        assert refused.name == "MEMBER_ID_REQUIRED"
        number = self.send(join(refused.message, **fields))
        self.run()
        return refused.message, number

    def joined(self, number: int) -> ClassicJoinReply:
        reply = self.replies[number]
        assert isinstance(reply, ClassicJoinReply), reply
        return reply

    def stable(self, count: int) -> list[str]:
        """A stable group of so many members, the leader first."""
        entered = [self.enter() for _ in range(count)]
        self.pass_time(INITIAL_DELAY_S)
        leader = str(self.joined(entered[0][1]).leader)
        generation = self.joined(entered[0][1]).generation
        assert isinstance(generation, int)
        names = sorted((name for name, _ in entered), key=lambda name: name != leader)
        numbers = [self.send(sync(name, generation)) for name in names[1:]]
        shares = {name: [number] for number, name in enumerate(names)}
        numbers.append(self.send(sync(leader, generation, shares)))
        self.run()
        for number in numbers:
            assert isinstance(self.replies[number], ClassicSyncReply)
        return names

    def describe(self) -> GroupDescribeReply:
        return self.ask(GroupDescribe(group="group"), GroupDescribeReply)

    def error_at(self, number: int) -> str | None:
        error = self.replies[number].error
        return None if error is None else error.name


def test_two_members_meet_and_get_what_their_leader_says() -> None:
    c = Classic()
    a, b = c.stable(2)
    assert a.startswith("client-made-")
    described = c.describe()
    assert (described.state, described.type, described.epoch) == ("Stable", "classic", 1)
    assert isinstance(described.members, list)
    assert {m.member_id: (m.topics, m.assignment, m.state) for m in described.members} == {
        a: (["events"], [TopicPartitions(topic="events", partitions=[0])], "stable"),
        b: (["events"], [TopicPartitions(topic="events", partitions=[1])], "stable"),
    }
    assert isinstance(described.offsets, list)
    assert [(each.partition, each.member_id) for each in described.offsets] == [(0, a), (1, b)]
    listed = c.ask(GroupList(), GroupListReply).groups
    assert isinstance(listed, list)
    assert [(g.group, g.state, g.type, g.members, g.protocol_type) for g in listed] == [
        ("group", "Stable", "classic", 2, "consumer")
    ]
    c.ask(beat(b, 1), ClassicHeartbeatReply)
    left = c.ask(leave(a, "stranger"), ClassicLeaveReply).members
    assert isinstance(left, list)
    assert [None if m.error is None else m.error.name for m in left] == [None, "UNKNOWN_MEMBER_ID"]
    assert c.error_of(beat(b, 1)) == "REBALANCE_IN_PROGRESS"


def test_nothing_of_a_generation_is_said_before_it_is_durable() -> None:
    c = Classic()
    name, number = c.enter()
    c.clock.advance(INITIAL_DELAY_S)
    c.settle()
    assert number not in c.replies
    assert c.log.unsynced == 1, "the generation is on its way"
    c.finish_sync()
    assert c.joined(number).generation == 1
    synced = c.send(sync(name, 1, {name: [0]}))
    c.settle()
    assert synced not in c.replies
    c.finish_sync()
    assert isinstance(c.replies[synced], ClassicSyncReply)


def test_a_crash_forgets_no_stable_group_and_gives_everybody_a_whole_session() -> None:
    c = Classic()
    a, b = c.stable(2)
    before = c.describe()
    c.pass_time(SESSION_S - 1)
    c.crash()
    assert c.describe() == before
    c.pass_time(SESSION_S - 1)
    for name in (a, b):
        c.ask(beat(name, 1), ClassicHeartbeatReply)
        c.ask(commit_classic(5, name, 1), OffsetCommitReply)
    again = c.ask(sync(b, 1), ClassicSyncReply)
    assert again.assignment == assignment({"events": [1]})
    c.pass_time(SESSION_S + 1)
    assert c.describe().state == "Empty"
    assert {line.fields["member_id"] for line in c.lines if line.event == "member_expelled"} == {a, b}
    c.crash()
    assert c.describe().state == "Empty"


def test_a_crash_in_the_middle_of_a_rebalance_makes_all_join_again_in_a_later_generation() -> None:
    c = Classic()
    a, b = c.stable(2)
    c.send(join(a, protocols=[ClassicProtocol("range", b"new")]))
    number = c.send(join(b))
    c.run()
    assert c.joined(number).generation == 2
    c.crash()
    assert c.describe().state == "PreparingRebalance"
    assert c.error_of(beat(a, 1)) == "ILLEGAL_GENERATION"
    assert c.error_of(commit_classic(9, a, 1)) == "ILLEGAL_GENERATION", "it may read no more what it had"
    numbers = [c.send(join(name)) for name in (a, b)]
    c.run()
    assert {c.joined(number).generation for number in numbers} == {3}, "no generation begins twice"


@pytest.mark.parametrize("kept", [0, 1])
def test_a_crash_before_the_sync_is_durable(kept: int) -> None:
    """Whether the bytes happened to reach the disk or not: nobody heard of it, and all can go on."""
    c = Classic()
    name, number = c.enter()
    c.pass_time(INITIAL_DELAY_S)
    assert c.joined(number).generation == 1
    c.send(sync(name, 1, {name: [0]}))
    c.settle()
    c.crash(kept=kept)
    again = c.ask_any(beat(name, 1))
    assert (None if again.error is None else again.error.name) == (None if kept else "UNKNOWN_MEMBER_ID")


def test_a_generation_that_cannot_be_written_never_was() -> None:
    c = Classic()
    a, b = c.stable(2)
    c.log.fail_writes = FULL
    numbers = [c.send(join(name, protocols=[ClassicProtocol("range", b"new")])) for name in (a, b)]
    c.run()
    assert {c.error_at(number) for number in numbers} == {"KAFKA_STORAGE_ERROR"}
    assert c.describe().epoch == 1
    c.ask(beat(a, 1), ClassicHeartbeatReply)
    c.log.fail_writes = None
    numbers = [c.send(join(name, protocols=[ClassicProtocol("range", b"new")])) for name in (a, b)]
    c.run()
    assert {c.joined(number).generation for number in numbers} == {2}


def test_who_waits_while_a_write_fails_is_told_to_come_again() -> None:
    c = Classic()
    a, b = c.stable(2)
    c.send(leave(a, b))
    waiting = c.send(join(None, instance_id="static"))
    c.log.fail_writes = FULL
    c.run()
    assert c.error_at(waiting) == "COORDINATOR_NOT_AVAILABLE"
    assert c.describe().state == "Stable", "they never left"
    c.log.fail_writes = None
    c.pass_time(SESSION_S + 1)
    assert c.describe().state == "Empty"
    c.crash()
    assert c.describe().state == "Empty"


def test_a_failed_sync_is_answered_and_the_group_is_as_before() -> None:
    c = Classic()
    name, _ = c.enter()
    c.pass_time(INITIAL_DELAY_S)
    c.log.fail_writes = FULL
    assert c.error_of(sync(name, 1, {name: [0]})) == "KAFKA_STORAGE_ERROR"
    c.log.fail_writes = None
    assert c.error_of(beat(name, 1)) == "UNKNOWN_MEMBER_ID", "as after a crash: it was never kept"
    c.stable(1)


def test_a_group_is_of_one_kind_as_long_as_anybody_is_in() -> None:
    c = Classic()
    [a] = c.stable(1)
    assert c.error_of(heartbeat("n", 0, {}, topics=["events"])) == "GROUP_ID_NOT_FOUND"
    assert c.error_of(commit({0: 1})) == "UNKNOWN_MEMBER_ID", "an administrator waits until it is empty"
    assert c.error_of(commit({0: 1}, "n", 1)) == "UNKNOWN_MEMBER_ID"
    c.ask(commit({0: 4}, a, 1), OffsetCommitReply)
    c.ask(leave(a), ClassicLeaveReply)
    epoch = c.join("n").member_epoch
    assert epoch == 3, "neither epochs nor generations begin anew: 2 is that of the empty group"
    assert (c.describe().type, c.describe().state) == ("consumer", "Stable")
    assert c.error_of(join()) == "INCONSISTENT_GROUP_PROTOCOL"
    for request in (beat(a, 1), sync(a, 1), leave(a)):
        assert c.error_of(request) == "UNKNOWN_MEMBER_ID"
    assert c.error_of(commit_classic(9, a, 1)) == "UNKNOWN_MEMBER_ID"
    c.beat("n", -1)
    _, number = c.enter()
    c.pass_time(INITIAL_DELAY_S)
    assert c.joined(number).generation == 5
    assert c.committed() == {("events", 0): 4}
    c.crash()
    assert c.describe().type == "classic"


def test_a_member_on_its_way_in_keeps_the_other_kind_out() -> None:
    c = Classic()
    c.enter()
    assert c.error_of(heartbeat("n", 0, {}, topics=["events"])) == "GROUP_ID_NOT_FOUND"
    listed = c.ask(GroupList(), GroupListReply).groups
    assert isinstance(listed, list)
    assert [(group.group, group.state) for group in listed] == [("group", "PreparingRebalance")]
    assert c.describe().state == "PreparingRebalance"
    assert c.error_of(GroupDelete(group="group")) == "NON_EMPTY_GROUP"


def test_who_may_commit_to_a_classic_group() -> None:
    c = Classic()
    assert c.error_of(commit_classic(1, "a", 0)) == "ILLEGAL_GENERATION", "there is no such group"
    c.ask(commit_classic(1, None, -1), OffsetCommitReply)
    assert c.describe().type == "classic", "a group of offsets only, as Kafka's tools make"
    assert c.error_of(commit_classic(1, "a", 0)) == "UNKNOWN_MEMBER_ID"
    [a] = c.stable(1)
    c.ask(commit_classic(2, a, 1), OffsetCommitReply)
    for member, generation, error in (
        (None, -1, "UNKNOWN_MEMBER_ID"),
        ("b", 1, "UNKNOWN_MEMBER_ID"),
        (a, 0, "ILLEGAL_GENERATION"),
        (a, 2, "ILLEGAL_GENERATION"),
    ):
        assert c.error_of(commit_classic(3, member, generation)) == error
    assert c.error_of(commit_classic(3, a, 1, "instance")) == "UNKNOWN_MEMBER_ID"
    number = c.send(join(a, protocols=[ClassicProtocol("range", b"new")]))
    c.run()
    assert c.joined(number).generation == 2
    assert c.error_of(commit_classic(3, a, 2)) == "REBALANCE_IN_PROGRESS"
    assert c.committed() == {("events", 0): 2}


def test_commits_keep_a_member_alive() -> None:
    c = Classic()
    [a] = c.stable(1)
    for offset in range(5):
        c.pass_time(SESSION_S - 1)
        c.ask(commit_classic(offset, a, 1), OffsetCommitReply)
    assert c.lines == []


def test_kafkas_clients_commit_to_consumer_groups_by_their_rules() -> None:
    c = Classic()
    c.join("n")
    c.ask(commit_classic(1, "n", 1), OffsetCommitReply)
    assert c.error_of(commit_classic(1, "n", 0)) == "STALE_MEMBER_EPOCH"
    assert c.error_of(commit_classic(1, None, -1)) == "UNKNOWN_MEMBER_ID"


def test_a_static_member_is_back_with_what_it_had_after_a_crash_too() -> None:
    c = Classic()
    first = c.send(join(None, instance_id="one"))
    c.run()
    c.pass_time(INITIAL_DELAY_S)
    old = str(c.joined(first).member_id)
    assert old.startswith("one-made-")
    c.ask(sync(old, 1, {old: [0, 1]}), ClassicSyncReply)
    back = c.ask(join(None, instance_id="one"), ClassicJoinReply)
    assert (back.generation, back.leader, back.members) == (1, old, []), "it need assign nothing"
    c.crash()
    assert c.describe().state == "Stable"
    new = str(back.member_id)
    assert c.ask(sync(new, 1), ClassicSyncReply).assignment == assignment({"events": [0, 1]})
    assert c.error_of(beat(old, 1, "one")) == "FENCED_INSTANCE_ID"
    assert c.error_of(beat(old, 1)) == "UNKNOWN_MEMBER_ID"


def test_deleting_and_expiring() -> None:
    c = Classic()
    [a] = c.stable(1)
    c.ask(commit_classic(2, a, 1), OffsetCommitReply)
    assert c.error_of(GroupDelete(group="group")) == "NON_EMPTY_GROUP"
    c.ask(leave(a), ClassicLeaveReply)
    c.ask(GroupDelete(group="group"), GroupDeleteReply)
    assert c.error_of(GroupDescribe(group="group")) == "GROUP_ID_NOT_FOUND"
    [a] = c.stable(1)
    c.ask(commit_classic(2, a, 1), OffsetCommitReply)
    for _ in range(9 * 24 * 6):
        c.clock.advance(600)
        c.ask(beat(a, 1), ClassicHeartbeatReply)
        c.run()
    assert c.committed() == {("events", 0): 2}, "not while somebody is in"
    c.ask(leave(a), ClassicLeaveReply)
    c.pass_time(6 * 86_400)
    assert c.committed() == {("events", 0): 2}
    c.pass_time(2 * 86_400)
    assert c.error_of(GroupDescribe(group="group")) == "GROUP_ID_NOT_FOUND"


def test_a_delete_that_cannot_be_written_leaves_a_group_that_works() -> None:
    c = Classic()
    [a] = c.stable(1)
    c.ask(leave(a), ClassicLeaveReply)
    c.log.fail_writes = FULL
    assert c.error_of(GroupDelete(group="group")) == "KAFKA_STORAGE_ERROR"
    c.log.fail_writes = None
    assert c.describe().state == "Empty"
    c.stable(2)


def test_offsets_of_topics_that_are_read_stay() -> None:
    c = Classic(topics={"events": 2, "old": 1})
    [a] = c.stable(1)
    old = ClassicCommit(
        group="group",
        member_id=a,
        member_epoch=1,
        offsets=[CommitOffset(topic=topic, partition=0, offset=3) for topic in ("events", "old")],
    )
    c.ask(old, OffsetCommitReply)
    everything = [TopicPartitions(topic=topic, partitions=[0]) for topic in ("events", "old", "unheard")]
    asked = OffsetDelete(group="group", topics=everything)
    results = c.ask(asked, OffsetDeleteReply).offsets
    assert isinstance(results, list)
    errors = [None if result.error is None else result.error.name for result in results]
    assert errors == ["GROUP_SUBSCRIBED_TO_TOPIC", None, None]
    assert c.committed() == {("events", 0): 3}
    c.ask(leave(a), ClassicLeaveReply)
    c.ask(asked, OffsetDeleteReply)
    c.crash()
    assert c.committed() == {}
    assert c.error_of(OffsetDelete(group="unheard", topics=[])) == "GROUP_ID_NOT_FOUND"


def test_offsets_of_a_group_that_is_not_of_consumers_stay_while_it_has_members() -> None:
    c = Classic()
    c.enter(protocol_type="connect")
    assert c.error_of(commit({0: 1})) == "UNKNOWN_MEMBER_ID"
    c.pass_time(INITIAL_DELAY_S)
    assert c.error_of(OffsetDelete(group="group", topics=[])) == "NON_EMPTY_GROUP"


def test_kafkas_describe_shows_both_kinds() -> None:
    c = Classic()
    [a] = c.stable(1)
    described = c.ask(ClassicDescribe(group="group"), ClassicDescribeReply)
    assert (described.state, described.protocol_type, described.protocol) == ("Stable", "consumer", "range")
    assert isinstance(described.members, list)
    assert (described.members[0].member_id, described.members[0].metadata) == (a, subscription(["events"]))
    c.ask(leave(a), ClassicLeaveReply)
    c.join("n", client_id="native")
    described = c.ask(ClassicDescribe(group="group"), ClassicDescribeReply)
    assert isinstance(described.members, list)
    assert described.members[0].assignment == assignment({"events": [0, 1, 2, 3]})
    assert (described.state, described.members[0].client_id) == ("Stable", "native")
    assert c.error_of(ClassicDescribe(group="unheard")) == "GROUP_ID_NOT_FOUND"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (join(session_timeout_ms=5_999), "INVALID_SESSION_TIMEOUT"),
        (join(session_timeout_ms=1_800_001), "INVALID_SESSION_TIMEOUT"),
        (join(rebalance_timeout_ms=0), "INVALID_REQUEST"),
        (join(rebalance_timeout_ms=2**31 - 1), "INVALID_REQUEST"),
        (join(group=""), "INVALID_GROUP_ID"),
        (join(group="g" * 256), "INVALID_GROUP_ID"),
        (join(protocols=[]), "INCONSISTENT_GROUP_PROTOCOL"),
        (join(protocol_type=""), "INCONSISTENT_GROUP_PROTOCOL"),
        (join(protocols=[ClassicProtocol("x", bytes(200_000))]), "POLICY_VIOLATION"),
        (join(protocols=[ClassicProtocol(str(n)) for n in range(51)]), "POLICY_VIOLATION"),
        (join(protocols=[ClassicProtocol("")]), "INVALID_REQUEST"),
        (join("x" * 300), "INVALID_REQUEST"),
        (join("stranger"), "UNKNOWN_MEMBER_ID"),
        (beat("a", 1), "UNKNOWN_MEMBER_ID"),
        (sync("a", 1), "UNKNOWN_MEMBER_ID"),
        (leave("a"), "UNKNOWN_MEMBER_ID"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(request_: ClassicJoin, error: str) -> None:
    c = Classic()
    assert c.error_of(request_) == error
    assert c.log.batches == []
    assert c.ask(GroupList(), GroupListReply).groups == []
    c.pass_time(60)
    assert not c.actor._classic._live, "nothing is kept in memory either"


def test_an_assignment_that_is_too_large_is_refused_and_the_group_lives_on() -> None:
    c = Classic()
    name, _ = c.enter()
    c.pass_time(INITIAL_DELAY_S)
    large = ClassicSync(group="group", member_id=name, generation=1, assignments={name: bytes(400_000)})
    assert c.error_of(large) == "POLICY_VIOLATION"
    c.ask(sync(name, 1, {name: [0]}), ClassicSyncReply)


def test_the_largest_member_that_is_let_in_can_be_kept() -> None:
    c = Classic()
    fields: dict[str, Any] = {
        "protocols": [ClassicProtocol("\x01" * 255, bytes(128 << 10))],
        "client_id": "\x01" * 255,
        "client_host": "\x01" * 255,
    }
    name, _ = c.enter(**fields)
    c.pass_time(INITIAL_DELAY_S)
    large = ClassicSync(group="group", member_id=name, generation=1, assignments={name: bytes(384 << 10)})
    c.ask(large, ClassicSyncReply)
    c.crash()
    assert c.describe().state == "Stable"


def test_memory_and_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classic_requests, "CLASSIC_BYTES_MAX", 1000)
    monkeypatch.setattr(state_module, "GROUPS_MAX", 2)
    monkeypatch.setattr(classic_requests, "GROUPS_MAX", 2)
    c = Classic()
    large = [ClassicProtocol("range", bytes(600))]
    first, number = c.enter(protocols=large)
    assert c.error_of(join(protocols=large)) == "POLICY_VIOLATION"
    c.pass_time(INITIAL_DELAY_S)
    assert c.joined(number).generation == 1
    c.ask(leave(first), ClassicLeaveReply)
    c.enter(protocols=large)
    assert c.error_of(join(group="second")) == "MEMBER_ID_REQUIRED"
    assert c.error_of(join(group="third")) == "POLICY_VIOLATION"
    c.pass_time(SESSION_S + 1)
    assert c.error_of(join(group="third")) == "MEMBER_ID_REQUIRED", "an id that nobody used was forgotten"


def test_a_coordinator_that_was_held_up_takes_nobodys_silence_for_death() -> None:
    c = Classic()
    [a] = c.stable(1)
    c.clock.advance(300)
    c.run()
    assert c.lines == []
    c.ask(beat(a, 1), ClassicHeartbeatReply)
    c.pass_time(SESSION_S + 1)
    assert [line.fields["reason"] for line in c.lines] == ["session_timeout"]


def test_a_group_is_no_larger_than_a_frame_can_tell_its_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classic_requests, "GROUP_BYTES_MAX", 1000)
    c = Classic()
    large = [ClassicProtocol("range", bytes(600))]
    name, _ = c.enter(protocols=large)
    assert c.error_of(join(protocols=large)) == "GROUP_MAX_SIZE_REACHED"
    c.pass_time(INITIAL_DELAY_S)
    whole = ClassicSync(group="group", member_id=name, generation=1, assignments={name: bytes(600)})
    assert c.error_of(whole) == "GROUP_MAX_SIZE_REACHED"
    c.ask(sync(name, 1, {name: [0]}), ClassicSyncReply)


def test_who_waits_for_others_hears_that_the_coordinator_stops() -> None:
    c = Classic()
    _, number = c.enter()
    c.perform(c.actor.stop(c.clock.now()))
    assert c.error_at(number) == "COORDINATOR_NOT_AVAILABLE"


def test_a_full_journal_refuses_and_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from actors import journal  # noqa: PLC0415

    monkeypatch.setattr(journal, "HELD_REPLIES_MAX", 1)
    c = Classic()
    c.send(commit({0: 1}))
    assert c.actor.receive(Envelope(sender(999), join()), c.clock.now()) == []
    c.run()
    error = c.replies[999].error
    assert error is not None
    assert error.name == "THROTTLING_QUOTA_EXCEEDED"


def test_compaction_keeps_classic_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from actors import compaction  # noqa: PLC0415

    monkeypatch.setattr(compaction, "LOG_BYTES_MIN", 2000)
    monkeypatch.setattr(compaction, "PIECE_ENTRIES_MAX", 2)
    c = Classic()
    a, _ = c.stable(2)
    for offset in range(100):
        c.ask(commit_classic(offset, a, 1), OffsetCommitReply)
    assert c.log.start_offset > 0
    before = c.describe()
    c.crash()
    assert c.describe() == before

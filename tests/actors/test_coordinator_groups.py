"""Transcripts of groups: who says what, what the coordinator answers, who holds what."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from actors import membership
from actors import state as state_module
from odradek.protocol.messages import (
    GroupDelete,
    GroupDeleteReply,
    GroupDescribe,
    GroupDescribeReply,
    GroupHeartbeat,
    GroupHeartbeatReply,
    GroupList,
    GroupListReply,
    OffsetFetch,
    TopicPartitions,
)
from tests.support.coordinating import Coordinating, FakeMember, Held, as_held, commit, heartbeat, routes


def held(reply: GroupHeartbeatReply) -> Held | None:
    return as_held(reply.assignment) if isinstance(reply.assignment, list) else None


def summary(reply: GroupHeartbeatReply) -> tuple[object, Held | None]:
    return reply.member_epoch, held(reply)


def describe(coordinating: Coordinating, group: str = "group") -> GroupDescribeReply:
    return coordinating.ask(GroupDescribe(group=group), GroupDescribeReply)


def states(coordinating: Coordinating) -> Mapping[str, str]:
    members = describe(coordinating).members
    assert isinstance(members, list)
    return {member.member_id: member.state for member in members}


def test_one_member_gets_everything_and_hears_it_once() -> None:
    c = Coordinating()
    joined = c.join(None)
    assert joined.member_id == "made-1"
    assert summary(joined) == (1, {"events": [0, 1, 2, 3]})
    assert joined.heartbeat_interval_ms == 250, "one member may hear of a change soon"
    assert summary(c.beat("made-1", 1)) == (1, {"events": [0, 1, 2, 3]}), "not reported yet: said again"
    assert summary(c.beat("made-1", 1, {"events": [0, 1, 2, 3]})) == (1, None)
    assert summary(c.beat("made-1", 1)) == (1, None), "unchanged since"
    assert describe(c).state == "Stable"


def test_a_second_member_gets_its_share_only_after_the_first_let_go() -> None:
    c = Coordinating()
    c.join("a")
    assert summary(c.beat("a", 1, {"events": [0, 1, 2, 3]})) == (1, None)
    joined = c.join("b")
    assert summary(joined) == (2, {}), "everything is held still"
    assert joined.heartbeat_interval_ms == 100
    told = c.beat("a", 1, {"events": [0, 1, 2, 3]})
    assert summary(told) == (1, {"events": [0, 1]}), "the epoch stays until it has let go"
    assert told.heartbeat_interval_ms == 100
    assert states(c) == {"a": "unrevoked_partitions", "b": "unreleased_partitions"}
    assert describe(c).state == "Reconciling"
    assert summary(c.beat("b", 2, {})) == (2, None), "a has not let go"
    assert summary(c.beat("a", 1)) == (1, {"events": [0, 1]}), "still not"
    assert summary(c.beat("a", 1, {"events": [0, 1]})) == (2, None)
    assert summary(c.beat("b", 2, {})) == (2, {"events": [2, 3]})
    assert states(c) == {"a": "stable", "b": "stable"}


def test_a_lost_reply_is_asked_for_again() -> None:
    c = Coordinating()
    c.join("a")
    lost = c.join("a")
    assert summary(lost) == (1, {"events": [0, 1, 2, 3]}), "joining twice is joining once"
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.join("b")
    c.beat("a", 1)
    assert summary(c.beat("a", 1, {"events": [0, 1]})) == (2, None)
    again = c.beat("a", 1, {"events": [0, 1]})
    assert summary(again) == (2, None), "the epoch before is let through"
    lost = c.beat("b", 2, {})
    assert summary(lost) == summary(c.beat("b", 2, {})) == (2, {"events": [2, 3]})
    assert c.error_of(heartbeat("a", 1, {"events": [0, 1, 2]})) == "FENCED_MEMBER_EPOCH"


def test_wrong_epochs_and_unknown_members() -> None:
    c = Coordinating()
    assert c.error_of(heartbeat("a", 1)) == "UNKNOWN_MEMBER_ID"
    assert c.error_of(heartbeat("a", -1)) == "UNKNOWN_MEMBER_ID"
    c.join("a")
    assert c.error_of(heartbeat("a", 2)) == "FENCED_MEMBER_EPOCH"
    assert c.error_of(heartbeat("b", 1)) == "UNKNOWN_MEMBER_ID"
    assert c.error_of(heartbeat(None, 1)) == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (heartbeat("a", 0, {}), "INVALID_REQUEST"),
        (heartbeat("a", 0, {"events": [0]}, topics=["events"]), "INVALID_REQUEST"),
        (heartbeat("", 0, {}, topics=["events"]), "INVALID_REQUEST"),
        (heartbeat("é" * 128, 0, {}, topics=["events"]), "INVALID_REQUEST"),
        (heartbeat("a", 0, {}, topics=["no/such"]), "INVALID_TOPIC_EXCEPTION"),
        (heartbeat("a", 0, {}, topics=["t"] * 1001), "INVALID_REQUEST"),
        (heartbeat("a", 0, {}, topics=["events"], assignor="fair"), "UNSUPPORTED_ASSIGNOR"),
        (heartbeat("a", 0, {}, topics=["events"], rebalance_timeout_ms=0), "INVALID_REQUEST"),
        (heartbeat("a", 0, {}, topics=["events"], instance_id=""), "INVALID_REQUEST"),
        (heartbeat("a", 0, {}, "", topics=["events"]), "INVALID_GROUP_ID"),
        (heartbeat("a", 0, {}, "g" * 256, topics=["events"]), "INVALID_GROUP_ID"),
    ],
)
def test_a_bad_join_leaves_nothing_behind(request_: GroupHeartbeat, error: str) -> None:
    c = Coordinating()
    assert c.error_of(request_) == error
    assert c.log.batches == []
    assert c.ask(GroupList(), GroupListReply).groups == []


def test_leaving_frees_at_once() -> None:
    c = Coordinating()
    c.join("a")
    c.join("b")
    left = c.beat("a", -1)
    assert (left.member_id, left.member_epoch, left.assignment) == ("a", -1, None)
    assert summary(c.beat("b", 2, {})) == (3, {"events": [0, 1, 2, 3]})
    c.beat("b", -1)
    assert describe(c).state == "Empty"
    assert c.error_of(heartbeat("b", 3)) == "UNKNOWN_MEMBER_ID"
    assert summary(c.join("b")) == (5, {"events": [0, 1, 2, 3]}), "epochs never start again"


def test_silence_ends_a_session_and_its_partitions_move_on() -> None:
    c = Coordinating()
    c.join("a")
    c.pass_time(44)
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.join("b")
    c.pass_time(44)
    assert c.error_of(heartbeat("a", 1, group="other")) == "UNKNOWN_MEMBER_ID"
    c.beat("b", 2, {})
    c.pass_time(1.5)
    assert [line.fields["reason"] for line in c.lines] == ["session_timeout"]
    assert c.error_of(heartbeat("a", 1)) == "UNKNOWN_MEMBER_ID"
    assert summary(c.beat("b", 2, {})) == (3, {"events": [0, 1, 2, 3]})


def test_a_member_that_does_not_let_go_in_time_is_expelled_though_it_is_heard() -> None:
    c = Coordinating()
    c.join("a", rebalance_timeout_ms=10_000)
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.join("b")
    assert summary(c.beat("a", 1, {"events": [0, 1, 2, 3]})) == (1, {"events": [0, 1]})
    c.pass_time(9)
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    assert c.lines == []
    c.pass_time(2)
    assert [line.fields["reason"] for line in c.lines] == ["rebalance_timeout"]
    assert summary(c.beat("b", 2, {})) == (3, {"events": [0, 1, 2, 3]})


def test_letting_go_stops_the_rebalance_clock() -> None:
    c = Coordinating()
    c.join("a", rebalance_timeout_ms=10_000)
    c.join("b")
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.beat("a", 1, {"events": [0, 1]})
    c.pass_time(20)
    assert c.lines == []


def test_a_coordinator_that_was_held_up_takes_nobodys_silence_for_death() -> None:
    c = Coordinating()
    c.join("a")
    c.clock.advance(300)
    c.run()
    assert c.lines == []
    assert summary(c.beat("a", 1, {"events": [0, 1, 2, 3]})) == (1, None)
    c.pass_time(46)
    assert len(c.lines) == 1


def test_more_partitions_and_deleted_topics_reach_the_members() -> None:
    c = Coordinating(topics={"events": 1})
    c.join("a", ["events", "later"])
    assert summary(c.beat("a", 1, {"events": [0]})) == (1, None)
    c.tell_topics({"events": 2})
    assert summary(c.beat("a", 1, {"events": [0]})) == (2, {"events": [0, 1]})
    c.tell_topics({"events": 2, "later": 1, "unrelated": 9})
    assert summary(c.beat("a", 2, {"events": [0, 1]})) == (3, {"events": [0, 1], "later": [0]})
    c.tell_topics({"later": 1})
    assert summary(c.beat("a", 3, {"events": [0, 1], "later": [0]})) == (3, {"later": [0]})
    assert summary(c.beat("a", 3, {"later": [0]})) == (4, None)


def commit_events(c: Coordinating, member: str, epoch: int, offset: int) -> str | None:
    """The name of the error that the one offset got."""
    reply = c.commit({0: offset}, member, epoch)
    assert isinstance(reply.offsets, list)
    (result,) = reply.offsets
    return None if result.error is None else result.error.name


def test_a_topic_made_anew_is_let_go_of_before_it_is_read() -> None:
    """Also where nobody saw that it was gone: who stands at 500 in the old one begins anew in the new one."""
    c = Coordinating(topics={"events": 2, "other": 1})
    c.join("a", ["events", "other"])
    both, other = {"events": [0, 1], "other": [0]}, {"other": [0]}
    assert summary(c.beat("a", 1, both)) == (1, None)
    assert commit_events(c, "a", 1, 500) is None
    c.tell_topics(c.topics, {"events": "another-id"})
    assert commit_events(c, "a", 1, 501) == "UNKNOWN_TOPIC_OR_PARTITION", "a position of the old one"
    assert summary(c.beat("a", 1, both)) == (1, other), "the other one is read on"
    c.crash()
    assert commit_events(c, "a", 1, 502) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert summary(c.beat("a", 1, both)) == (1, other), "not before it says that it has let go"
    assert summary(c.beat("a", 1, other)) == (2, None)
    assert summary(c.beat("a", 2, other)) == (3, both)
    assert c.committed() == {}
    assert commit_events(c, "a", 3, 1) is None
    assert summary(c.beat("a", 3, both)) == (3, None)
    assert describe(c).state == "Stable"


def test_who_waits_for_a_topic_made_anew_gets_it_when_the_last_holder_is_gone() -> None:
    c = Coordinating(topics={"events": 2})
    c.join("a")
    c.beat("a", 1, {"events": [0, 1]})
    c.join("b")
    c.beat("a", 1, {"events": [0, 1]})
    c.tell_topics({}, {"events": "another-id"})
    c.tell_topics({"events": 2})
    assert summary(c.beat("b", 2, {})) == (3, None), "a holds the old one still"
    c.beat("a", -1)
    assert summary(c.beat("b", 3, {})) == (4, {"events": [0, 1]})


def test_topics_that_stay_the_same_cost_nothing() -> None:
    c = Coordinating()
    c.join("a")
    written = len(c.log.batches)
    c.tell_topics(c.topics)
    c.tell_topics({**c.topics, "unrelated": 1})
    assert len(c.log.batches) == written
    assert c.actor.deadline() is not None


def test_a_new_subscription_is_a_new_target() -> None:
    c = Coordinating(topics={"events": 1, "other": 1})
    c.join("a")
    assert summary(c.beat("a", 1, {"events": [0]}, topics=["events"])) == (1, None)
    assert summary(c.beat("a", 1, {"events": [0]}, topics=["other"])) == (1, {})
    assert summary(c.beat("a", 1, {})) == (2, {"other": [0]})


def test_the_assignor_is_what_most_ask_for() -> None:
    c = Coordinating(topics={"events": 4})
    c.join("a", assignor="range")
    assert describe(c).assignor == "range"
    c.join("b", assignor="roundrobin")
    c.join("c", assignor="roundrobin")
    assert describe(c).assignor == "roundrobin"
    c.beat("b", -1)
    assert describe(c).assignor == "range", "the first by name of those with equally many votes"
    c.beat("a", -1)
    c.beat("c", -1)
    c.join("d")
    assert describe(c).assignor == "sticky"
    for member, assignor in (("e", "range"), ("f", "range"), ("g", "round-robin"), ("h", "roundrobin")):
        c.join(member, assignor=assignor)
    c.join("i", assignor="round-robin")
    assert describe(c).assignor == "roundrobin", "two spellings of one"


def test_a_static_member_comes_back_to_what_it_had() -> None:
    c = Coordinating()
    c.join("a", instance_id="one")
    c.join("b", instance_id="two")
    for name in ("a", "b", "a", "b"):
        member = {"a": ("a", 1), "b": ("b", 2)}[name]
        c.ask_any(heartbeat(*member, {"events": [0, 1]} if name == "a" else {}))
    assert summary(c.beat("a", -2)) == (-2, None)
    assert states(c)["a"] == "paused"
    c.pass_time(30)
    c.beat("b", 2, {"events": [2, 3]})
    back = c.join("a2", instance_id="one")
    assert summary(back) == (2, {"events": [0, 1]}), "nothing moved, no new epoch"
    assert states(c) == {"a2": "stable", "b": "stable"}
    assert c.error_of(heartbeat("a", 2)) == "UNKNOWN_MEMBER_ID"
    c.beat("a2", -2)
    assert c.error_of(heartbeat("a2", 2)) == "FENCED_MEMBER_EPOCH"
    assert summary(c.join("a2", instance_id="one")) == (2, {"events": [0, 1]}), "under the same id too"


def test_a_static_member_that_stays_away_is_expelled() -> None:
    c = Coordinating()
    c.join("a", instance_id="one")
    c.beat("a", -2)
    c.pass_time(46)
    assert describe(c).members == []


def test_a_static_member_that_leaves_while_it_has_to_let_go_has_its_whole_session() -> None:
    c = Coordinating()
    c.join("a", instance_id="one", rebalance_timeout_ms=10_000)
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.join("b")
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    assert states(c)["a"] == "unrevoked_partitions"
    c.beat("a", -2)
    c.pass_time(40)
    c.beat("b", 2, {})
    back = c.join("a2", instance_id="one")
    assert summary(back) == (2, {"events": [0, 1]})
    c.beat("a2", -2)
    c.pass_time(46)
    assert "a2" not in states(c), "but no longer than that"


def test_two_members_cannot_be_one_instance() -> None:
    c = Coordinating()
    c.join("a", instance_id="one")
    c.join("b")
    assert c.error_of(heartbeat("c", 0, {}, topics=["events"], instance_id="one")) == "UNRELEASED_INSTANCE_ID"
    assert c.error_of(heartbeat("b", 0, {}, topics=["events"], instance_id="one")) == "INVALID_REQUEST"
    assert c.error_of(heartbeat("a", 1, instance_id="two")) == "INVALID_REQUEST"
    assert c.error_of(heartbeat("b", -2)) == "INVALID_REQUEST"


def test_groups_and_members_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MEMBERS_PER_GROUP_MAX", 2)
    monkeypatch.setattr(state_module, "GROUPS_MAX", 1)
    c = Coordinating()
    c.join("a")
    c.join("b")
    assert c.error_of(heartbeat("c", 0, {}, topics=["events"])) == "GROUP_MAX_SIZE_REACHED"
    assert c.error_of(heartbeat("c", 0, {}, "other", topics=["events"])) == "POLICY_VIOLATION"
    assert summary(c.join("a")) == (2, {"events": [0, 1]}), "who is in may join again"


def test_list_describe_delete() -> None:
    c = Coordinating()
    c.join("a", client_id="client", instance_id="one")
    c.commit({1: 17}, "a", 1)
    c.join("b")
    c.commit({0: 3}, group="admin")
    groups = c.ask(GroupList(), GroupListReply).groups
    assert isinstance(groups, list)
    assert [(g.group, g.state, g.type, g.members) for g in groups] == [
        ("admin", "Empty", "consumer", 0),
        ("group", "Reconciling", "consumer", 2),
    ]
    described = describe(c)
    assert (described.epoch, described.assignor, described.type) == (2, "sticky", "consumer")
    assert isinstance(described.members, list)
    first = described.members[0]
    assert (first.member_id, first.member_epoch, first.client_id, first.instance_id) == (
        "a",
        1,
        "client",
        "one",
    )
    assert first.topics == ["events"]
    assert first.assignment == [TopicPartitions(topic="events", partitions=[0, 1, 2, 3])]
    assert isinstance(described.offsets, list)
    rows = [(o.partition, o.offset, o.member_id, o.committed_at_ms, o.end_offset) for o in described.offsets]
    assert rows[:2] == [(0, -1, "a", None, None), (1, 17, "a", c.clock.wall_ms, None)]
    assert c.error_of(GroupDelete(group="group")) == "NON_EMPTY_GROUP"
    assert c.error_of(GroupDescribe(group="unheard")) == "GROUP_ID_NOT_FOUND"
    assert c.error_of(GroupDelete(group="unheard")) == "GROUP_ID_NOT_FOUND"
    c.ask(GroupDelete(group="admin"), GroupDeleteReply)
    assert c.committed("admin") == {}
    assert c.error_of(GroupDescribe(group="admin")) == "GROUP_ID_NOT_FOUND"
    c.crash()
    assert c.error_of(GroupDescribe(group="admin")) == "GROUP_ID_NOT_FOUND"


def test_a_crash_forgets_nobody_and_gives_everybody_a_whole_session() -> None:
    c = Coordinating()
    a, b = FakeMember(c, "a"), FakeMember(c, "b")
    for member in (a, b, a, a, b, b):
        member.beat()
    before = describe(c)
    c.pass_time(40)
    c.crash()
    assert describe(c) == before
    c.pass_time(40)
    epochs = a.epoch, b.epoch
    a.beat()
    b.beat()
    assert (a.epoch, b.epoch) == epochs, "no rebalance"
    assert a.slots() | b.slots() == {("events", n) for n in range(4)}
    c.crash()
    c.pass_time(46)
    assert describe(c).state == "Empty"


def test_a_crash_in_the_middle_of_a_revocation_still_waits_for_it() -> None:
    c = Coordinating()
    c.join("a", rebalance_timeout_ms=20_000)
    c.join("b")
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.crash()
    assert summary(c.beat("b", 2, {})) == (2, None)
    c.pass_time(19)
    c.beat("a", 1, {"events": [0, 1, 2, 3]})
    c.pass_time(2)
    assert [line.fields["reason"] for line in c.lines] == ["rebalance_timeout"]


# -- patterns ------------------------------------------------------------------------------------------


def test_a_pattern_subscribes_to_what_it_matches_now_and_later() -> None:
    c = Coordinating(topics={"orders-eu": 1, "invoices": 1})
    joined = c.beat("a", 0, {}, topic_pattern="orders-.*")
    assert summary(joined) == (1, {"orders-eu": [0]})
    assert summary(c.beat("a", 1, {"orders-eu": [0]})) == (1, None)
    c.tell_topics({"orders-eu": 1, "orders-us": 2, "invoices": 1})
    both: Held = {"orders-eu": [0], "orders-us": [0, 1]}
    assert summary(c.beat("a", 1, {"orders-eu": [0]})) == (2, both)
    c.tell_topics({"orders-us": 2, "invoices": 1})
    assert summary(c.beat("a", 2, both)) == (2, {"orders-us": [0, 1]})
    assert summary(c.beat("a", 2, {"orders-us": [0, 1]})) == (3, None)
    c.crash()
    c.tell_topics({"orders-us": 2, "orders-ca": 1})
    assert summary(c.beat("a", 3, {"orders-us": [0, 1]}))[1] == {"orders-ca": [0], "orders-us": [0, 1]}


def test_a_pattern_goes_with_named_topics_and_can_be_taken_back() -> None:
    c = Coordinating(topics={"a1": 1, "b1": 1})
    c.beat("m", 0, {}, topics=["b1"], topic_pattern="a.")
    member = c.ask(GroupDescribe(group="group"), GroupDescribeReply).members
    assert isinstance(member, list)
    assert (member[0].topics, member[0].topic_pattern) == (["b1"], "a.")
    assert summary(c.beat("m", 1, {"a1": [0], "b1": [0]})) == (1, None), "null: unchanged"
    assert summary(c.beat("m", 1, {"a1": [0], "b1": [0]}, topic_pattern="")) == (1, {"b1": [0]})
    assert summary(c.beat("m", 1, {"b1": [0]})) == (2, None)


def test_the_brokers_own_topics_match_no_pattern() -> None:
    c = Coordinating(topics={"events": 1})
    table = routes({"events": 1, "__consumer_offsets": 1})
    table.topics[1].internal = True
    c.send(table)
    assert summary(c.beat("a", 0, {}, topic_pattern=".*")) == (1, {"events": [0]})


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("(a+", "INVALID_REGULAR_EXPRESSION"),
        ("a" * 257, "INVALID_REGULAR_EXPRESSION"),
        ("", "INVALID_REQUEST"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused_and_leaves_nothing_behind(pattern: str, error: str) -> None:
    c = Coordinating()
    assert c.error_of(heartbeat("a", 0, {}, topic_pattern=pattern)) == error
    assert c.log.batches == []


def test_the_number_of_different_patterns_in_a_group_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "PATTERNS_PER_GROUP_MAX", 2)
    c = Coordinating()
    for name, pattern in (("a", "x"), ("b", "y"), ("c", "y")):
        c.beat(name, 0, {}, topic_pattern=pattern)
    assert c.error_of(heartbeat("d", 0, {}, topic_pattern="z")) == "POLICY_VIOLATION"
    c.beat("a", 1, {}, topic_pattern="y")


# -- what else is bounded, and what is kept apart --------------------------------------------------------


@pytest.mark.parametrize("name", ["g", "é" * 127, "☃" * 85, "\n\x00 /", "g" * 255])
def test_any_utf8_up_to_255_bytes_names_a_group(name: str) -> None:
    c = Coordinating()
    c.beat("a", 0, {}, name, topics=["events"])
    c.commit({0: 5}, "a", 1, name)
    c.crash()
    assert c.committed(name) == {("events", 0): 5}
    assert describe(c, name).group == name


@pytest.mark.parametrize("name", ["", "é" * 128, "☃" * 85 + "g", "\ud800"])
def test_nothing_else_does(name: str) -> None:
    c = Coordinating()
    for request in (
        heartbeat("a", 0, {}, name, topics=["events"]),
        commit({0: 1}, group=name),
        OffsetFetch(group=name),
        GroupDescribe(group=name),
        GroupDelete(group=name),
    ):
        assert c.error_of(request) == "INVALID_GROUP_ID"


def test_a_static_member_that_restarts_under_load_moves_nothing_and_nobody_notices() -> None:
    c = Coordinating(topics={"events": 6})
    members = [FakeMember(c, name) for name in "abc"]
    for member in members:
        c.join(member.id, instance_id=f"instance-{member.id}")
    for _ in range(6):
        for member in members:
            member.beat()
    epoch = members[1].epoch
    assert epoch == describe(c).epoch
    before = members[1].slots()
    c.beat("b", -2)
    members[0].beat()
    back = c.beat("b-again", 0, {}, topics=["events"], instance_id="instance-b")
    assert {("events", n) for n in (held(back) or {})["events"]} == before
    assert describe(c).epoch == epoch
    assert (members[0].beat().error, members[0].epoch) == (None, epoch)
    assert c.error_of(commit({1: 5}, "b", epoch)) == "UNKNOWN_MEMBER_ID", "the one before is a stranger"


def test_a_zombie_that_wakes_up_commits_nothing() -> None:
    """SIGSTOP past the session time-out: its partitions have moved on, its positions do not count."""
    c = Coordinating()
    a, b = FakeMember(c, "a"), FakeMember(c, "b")
    for member in (a, b, a, a, b, b):
        member.beat()
    held_by_a = sorted(a.slots())
    c.commit({number: 5 for _, number in held_by_a}, "a", a.epoch)
    for _ in range(3):
        c.pass_time(20)
        b.beat()
    b.beat()
    assert b.slots() >= set(held_by_a)
    c.commit({number: 9 for _, number in held_by_a}, "b", b.epoch)
    assert c.error_of(commit({number: 6 for _, number in held_by_a}, "a", a.epoch)) == "UNKNOWN_MEMBER_ID"
    assert a.beat().error is not None
    assert a.held == {}
    assert {offset for (_, number), offset in c.committed().items() if ("events", number) in held_by_a} == {9}

"""The wire contract of groups: membership (KIP-848), committed offsets, and looking at them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.rawclient import (
    ENCODINGS,
    FENCED_MEMBER_EPOCH,
    GROUP_ID_NOT_FOUND,
    INVALID_GROUP_ID,
    INVALID_REQUEST,
    INVALID_TOPIC_EXCEPTION,
    NON_EMPTY_GROUP,
    OFFSET_METADATA_TOO_LARGE,
    STALE_MEMBER_EPOCH,
    UNKNOWN_MEMBER_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
    UNRELEASED_INSTANCE_ID,
    UNSUPPORTED_ASSIGNOR,
    RawClient,
    RawReply,
    Served,
    serve,
)

pytestmark = pytest.mark.processes

PARTITIONS = 4
ROUNDS_MAX = 50


@pytest.fixture(scope="module")
def broker() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture(params=ENCODINGS)
def client(broker: Served, request: pytest.FixtureRequest) -> Iterator[RawClient]:
    with broker.client(request.param) as connected:
        yield connected


@pytest.fixture(scope="module")
def topic(broker: Served) -> str:
    with broker.client() as client:
        return client.create("orders", PARTITIONS)


@pytest.fixture(scope="module")
def other_topic(broker: Served) -> str:
    with broker.client() as client:
        return client.create("invoices", 2)


@pytest.fixture(scope="module")
def new_group() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"group-{next(numbers)}"


@pytest.fixture
def group(new_group: Callable[[], str]) -> str:
    return new_group()


@dataclass
class Member:
    """A well-behaved member: takes what it is given, and says what it owns."""

    client: RawClient
    group: str
    topics: list[str]
    extra: dict[str, Any] = field(default_factory=dict)
    member_id: str | None = None
    epoch: int = 0
    owned: set[tuple[str, int]] = field(default_factory=set)

    def beat(self, **fields: Any) -> RawReply:
        """One heartbeat, sent as it is."""
        request = {
            "group": self.group,
            "member_id": self.member_id,
            "member_epoch": self.epoch,
            "topics": self.topics,
            "assignor": None,
            "instance_id": None,
            "rebalance_timeout_ms": 45_000,
            "owned": grouped(self.owned),
            **self.extra,
            **fields,
        }
        return self.client.call("group_heartbeat", **request)

    def turn(self) -> set[tuple[str, int]]:
        """One heartbeat that does what the reply says."""
        reply = self.beat().ok()
        assert isinstance(reply["member_id"], str) and reply["member_id"]
        assert self.member_id in (None, reply["member_id"])
        assert reply["heartbeat_interval_ms"] > 0
        assert reply["member_epoch"] >= max(self.epoch, 1)
        self.member_id, self.epoch = reply["member_id"], reply["member_epoch"]
        if reply["assignment"] is not None:
            self.owned = {
                (row["topic"], partition) for row in reply["assignment"] for partition in row["partitions"]
            }
        return self.owned

    def commit(self, offset: int, topic: str, partition: int = 0, **fields: Any) -> RawReply:
        row = {"topic": topic, "partition": partition, "offset": offset, "metadata": None}
        request = {"member_id": self.member_id, "member_epoch": self.epoch, "offsets": [row], **fields}
        return self.client.call("offset_commit", group=self.group, **request)

    def leave(self) -> RawReply:
        return self.beat(member_epoch=-1)


def grouped(owned: set[tuple[str, int]]) -> list[dict[str, Any]]:
    topics = sorted({topic for topic, _ in owned})
    return [{"topic": name, "partitions": sorted(p for t, p in owned if t == name)} for name in topics]


def settle(*members: Member) -> None:
    """Beats in turn until a whole round changes nothing. No partition may have two owners on the way."""
    for _ in range(ROUNDS_MAX):
        before = [(each.epoch, set(each.owned)) for each in members]
        for each in members:
            each.turn()
            held = [partition for member in members for partition in member.owned]
            assert len(held) == len(set(held)), "a partition with two owners"
        if before == [(each.epoch, each.owned) for each in members]:
            return
    raise AssertionError(f"no agreement after {ROUNDS_MAX} rounds")


def every(topic: str, partitions: int = PARTITIONS) -> set[tuple[str, int]]:
    return {(topic, partition) for partition in range(partitions)}


def commit_codes(reply: RawReply) -> set[int | None]:
    """The error of a commit, wherever it stands."""
    if reply.code is not None:
        return {reply.code}
    return {None if row["error"] is None else row["error"]["code"] for row in reply["offsets"]}


def committed(client: RawClient, group: str, topics: Any = None) -> dict[tuple[str, int], tuple[int, Any]]:
    rows = client.call("offset_fetch", group=group, topics=topics).ok()["offsets"]
    return {(row["topic"], row["partition"]): (row["offset"], row["metadata"]) for row in rows}


def administer(client: RawClient, group: str, *rows: tuple[str, int, int]) -> RawReply:
    offsets = [{"topic": t, "partition": p, "offset": o, "metadata": None} for t, p, o in rows]
    return client.call("offset_commit", group=group, member_id=None, member_epoch=None, offsets=offsets)


# -- membership ----------------------------------------------------------------------------------------


def test_one_member_gets_everything(client: RawClient, group: str, topic: str, other_topic: str) -> None:
    member = Member(client, group, [topic, other_topic])
    settle(member)
    assert member.owned == every(topic) | every(other_topic, 2)


def test_without_a_change_the_assignment_is_null(client: RawClient, group: str, topic: str) -> None:
    member = Member(client, group, [topic])
    settle(member)
    for _ in range(3):
        reply = member.beat().ok()
        assert reply["assignment"] is None and reply["member_epoch"] == member.epoch


def test_members_share_and_leave_again(client: RawClient, group: str, topic: str) -> None:
    first, second, third = (Member(client, group, [topic]) for _ in range(3))
    settle(first)
    settle(first, second)
    assert first.owned | second.owned == every(topic) and len(first.owned) == len(second.owned) == 2
    settle(first, second, third)
    assert first.owned | second.owned | third.owned == every(topic)
    assert min(map(len, (first.owned, second.owned, third.owned))) == 1
    assert len({first.member_id, second.member_id, third.member_id}) == 3
    first.leave().ok()
    settle(second, third)
    assert second.owned | third.owned == every(topic)
    assert first.beat().code == UNKNOWN_MEMBER_ID


def test_a_partition_changes_hands_only_when_its_owner_lets_go(
    client: RawClient, group: str, topic: str
) -> None:
    first, second = Member(client, group, [topic]), Member(client, group, [topic])
    settle(first)
    kept = set(first.owned)
    for _ in range(5):
        second.turn()
        first.epoch = first.beat(owned=grouped(kept)).ok()["member_epoch"]
    assert second.owned == set(), "the first holds everything still"
    settle(first, second)
    assert first.owned | second.owned == every(topic) and second.owned


def test_more_members_than_partitions(client: RawClient, group: str, other_topic: str) -> None:
    members = [Member(client, group, [other_topic]) for _ in range(4)]
    settle(*members)
    assert sorted(len(each.owned) for each in members) == [0, 0, 1, 1]


def test_a_subscription_may_change(client: RawClient, group: str, topic: str, other_topic: str) -> None:
    member = Member(client, group, [topic])
    settle(member)
    member.topics = [other_topic]
    settle(member)
    assert member.owned == every(other_topic, 2)


def test_an_old_epoch_is_fenced(client: RawClient, group: str, topic: str, other_topic: str) -> None:
    member = Member(client, group, [topic])
    settle(member)
    old = member.epoch
    for topics in ([topic, other_topic], [topic], [topic, other_topic]):
        member.topics = topics
        settle(member)
    assert member.epoch > old
    assert member.beat(member_epoch=old).code == FENCED_MEMBER_EPOCH


@pytest.mark.parametrize("ahead", [1, 1000, 2**31 - 100])
def test_an_epoch_that_was_never_given_is_fenced(
    client: RawClient, group: str, topic: str, ahead: int
) -> None:
    member = Member(client, group, [topic])
    settle(member)
    assert member.beat(member_epoch=member.epoch + ahead).code == FENCED_MEMBER_EPOCH


def test_an_unknown_member_must_join_again(client: RawClient, group: str, topic: str) -> None:
    stranger = Member(client, group, [topic], member_id="nobody", epoch=3)
    assert stranger.beat().code == UNKNOWN_MEMBER_ID
    settle(Member(client, group, [topic]))
    assert stranger.beat().code == UNKNOWN_MEMBER_ID
    assert stranger.leave().code == UNKNOWN_MEMBER_ID


def test_an_assignor_that_is_not_known(client: RawClient, group: str, topic: str) -> None:
    reply = Member(client, group, [topic]).beat(assignor="fair")
    assert reply.code == UNSUPPORTED_ASSIGNOR and "fair" in reply.message


def test_an_instance_has_one_live_member(client: RawClient, group: str, topic: str) -> None:
    first = Member(client, group, [topic], {"instance_id": "node-1"})
    settle(first)
    twin = Member(client, group, [topic], {"instance_id": "node-1"})
    assert twin.beat().code == UNRELEASED_INSTANCE_ID
    settle(first)
    assert first.owned == every(topic)


def test_a_subscription_with_a_bad_name(client: RawClient, group: str) -> None:
    for bad in ("../x", "", ".", "a\x00", "x" * 65_536):
        assert Member(client, group, [bad]).beat().code == INVALID_TOPIC_EXCEPTION


def test_a_topic_may_come_after_its_subscription(client: RawClient, group: str) -> None:
    name = f"later-{client.encoding}"
    member = Member(client, group, [name])
    settle(member)
    assert member.owned == set()
    client.create(name, 2)
    for _ in range(ROUNDS_MAX):
        if member.turn() == every(name, 2):
            break
        client.socket.poll(100)  # nothing is under way: this is the wait between two heartbeats
    assert member.owned == every(name, 2)


# -- committed offsets ---------------------------------------------------------------------------------


def test_a_member_commits_and_anybody_reads(
    broker: Served, client: RawClient, group: str, topic: str
) -> None:
    member = Member(client, group, [topic])
    settle(member)
    rows = [
        {"topic": topic, "partition": 0, "offset": 0, "metadata": None},
        {"topic": topic, "partition": 1, "offset": 2**40, "metadata": "ключ 🔑"},
        {"topic": topic, "partition": 3, "offset": 7, "metadata": ""},
    ]
    reply = client.call(
        "offset_commit", group=group, member_id=member.member_id, member_epoch=member.epoch, offsets=rows
    ).ok()
    assert reply["offsets"] == [{"topic": topic, "partition": p, "error": None} for p in (0, 1, 3)]
    with broker.client() as reader:
        found = committed(reader, group)
        assert found[topic, 0][0] == 0
        assert found[topic, 1] == (2**40, "ключ 🔑")
        assert found[topic, 3][0] == 7
        assert found.get((topic, 2), (-1, None))[0] == -1
        assert committed(reader, group, [topic])[topic, 2][0] == -1, "-1 where none"
    member.commit(3, topic, 1).ok()
    assert committed(client, group)[topic, 1][0] == 3, "a commit may go back"


def test_offsets_of_a_group_that_is_not_there(client: RawClient, group: str, topic: str) -> None:
    found = committed(client, group, [topic])
    assert found.keys() == every(topic) and {offset for offset, _ in found.values()} == {-1}
    assert committed(client, group, None) == {}
    assert group not in {row["group"] for row in client.call("group_list").ok()["groups"]}


def test_a_commit_with_an_old_epoch_is_stale(
    client: RawClient, group: str, topic: str, other_topic: str
) -> None:
    member = Member(client, group, [topic])
    settle(member)
    member.commit(5, topic).ok()
    old = member.epoch
    member.topics = [topic, other_topic]
    settle(member)
    assert member.epoch > old
    assert commit_codes(member.commit(9, topic, member_epoch=old)) == {STALE_MEMBER_EPOCH}
    assert committed(client, group)[topic, 0][0] == 5
    assert commit_codes(member.commit(6, topic)) == {None}


def test_a_commit_of_a_member_that_is_not_known(client: RawClient, group: str, topic: str) -> None:
    member = Member(client, group, [topic])
    settle(member)
    assert commit_codes(member.commit(9, topic, member_id="nobody")) == {UNKNOWN_MEMBER_ID}
    member.leave().ok()
    assert commit_codes(member.commit(9, topic)) == {UNKNOWN_MEMBER_ID}
    assert committed(client, group, [topic])[topic, 0][0] == -1


def test_an_administrator_commits_while_the_group_is_empty(client: RawClient, group: str, topic: str) -> None:
    assert commit_codes(administer(client, group, (topic, 0, 4))) == {None}
    member = Member(client, group, [topic])
    settle(member)
    assert committed(client, group)[topic, 0][0] == 4
    codes = commit_codes(administer(client, group, (topic, 0, 0)))
    assert codes <= {UNKNOWN_MEMBER_ID, NON_EMPTY_GROUP} and codes
    assert committed(client, group)[topic, 0][0] == 4
    member.leave().ok()
    assert commit_codes(administer(client, group, (topic, 0, 1))) == {None}
    assert committed(client, group)[topic, 0][0] == 1


def test_half_a_member_is_nobody(client: RawClient, group: str, topic: str) -> None:
    """Only both null is an administrator."""
    for fields in ({"member_id": None, "member_epoch": 1}, {"member_id": "m", "member_epoch": None}):
        assert None not in commit_codes(Member(client, group, [topic]).commit(1, topic, **fields))


def test_each_partition_of_a_commit_has_its_own_answer(client: RawClient, group: str, topic: str) -> None:
    reply = administer(client, group, (topic, 0, 1), ("nowhere", 0, 1), (topic, 99, 1), (topic, 1, 2)).ok()
    codes = [row["error"] and row["error"]["code"] for row in reply["offsets"]]
    assert codes == [None, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_OR_PARTITION, None]
    named = [(row["topic"], row["partition"]) for row in reply["offsets"]]
    assert named == [(topic, 0), ("nowhere", 0), (topic, 99), (topic, 1)]


def test_a_commit_with_a_bad_name(client: RawClient, group: str) -> None:
    for bad in ("../x", "", "..", "a\x00"):
        assert commit_codes(administer(client, group, (bad, 0, 1))) == {INVALID_TOPIC_EXCEPTION}


def test_offsets_begin_at_zero(client: RawClient, group: str, topic: str) -> None:
    for offset in (-1, -2, -(2**63)):
        assert commit_codes(administer(client, group, (topic, 0, offset))) == {INVALID_REQUEST}


def test_metadata_has_a_limit(client: RawClient, group: str, topic: str) -> None:
    row = {"topic": topic, "partition": 0, "offset": 1, "metadata": "x" * 1_000_000}
    reply = client.call("offset_commit", group=group, member_id=None, member_epoch=None, offsets=[row])
    assert commit_codes(reply) == {OFFSET_METADATA_TOO_LARGE}


# -- looking and deleting ------------------------------------------------------------------------------


def test_list_and_describe(client: RawClient, group: str, topic: str) -> None:
    member = Member(client, group, [topic], {"client_id": "billing", "client_host": "not so"})
    settle(member)
    end = client.produce(topic, b"v", 2)["offset"] + 1
    member.commit(0, topic, 2).ok()
    assert group in {row["group"] for row in client.call("group_list").ok()["groups"]}
    reply = client.call("group_describe", group=group).ok()
    assert isinstance(reply["state"], str) and reply["state"]
    (row,) = reply["members"]
    assert (row["member_id"], row["member_epoch"]) == (member.member_id, member.epoch)
    assert (row["client_id"], row["host"]) == ("billing", "127.0.0.1"), "where it is, not what it says"
    held = {(each["topic"], number) for each in row["assignment"] for number in each["partitions"]}
    assert held == every(topic)
    lags = {(each["topic"], each["partition"]): each["lag"] for each in reply["offsets"]}
    assert lags[topic, 2] == end, "nothing of it is read"
    member.leave().ok()
    left = client.call("group_describe", group=group).ok()
    assert left["members"] == [] and left["state"] != reply["state"]


def test_delete_needs_an_empty_group(client: RawClient, group: str, topic: str) -> None:
    member = Member(client, group, [topic])
    settle(member)
    member.commit(3, topic).ok()
    assert client.call("group_delete", group=group).code == NON_EMPTY_GROUP
    assert member.beat().code is None
    member.leave().ok()
    client.call("group_delete", group=group).ok()
    assert group not in {row["group"] for row in client.call("group_list").ok()["groups"]}
    assert client.call("group_describe", group=group).code == GROUP_ID_NOT_FOUND
    assert client.call("group_delete", group=group).code == GROUP_ID_NOT_FOUND
    assert committed(client, group, [topic])[topic, 0][0] == -1


@pytest.mark.parametrize("bad", ["", "x" * 256, "x" * 65_536], ids=len)
def test_names_of_groups_have_bounds(client: RawClient, topic: str, bad: str) -> None:
    assert Member(client, bad, [topic]).beat().code == INVALID_GROUP_ID
    assert commit_codes(administer(client, bad, (topic, 0, 1))) == {INVALID_GROUP_ID}
    for api in ("offset_fetch", "group_describe", "group_delete"):
        assert client.call(api, group=bad).code == INVALID_GROUP_ID, api


@pytest.mark.parametrize("odd", ["../../x", "/tmp/odradek-group", "a\x00b", "..", "ключ 🔑", "x" * 255])
def test_names_of_groups_never_reach_the_file_system(
    broker: Served, client: RawClient, topic: str, odd: str
) -> None:
    before = (
        {each.name for each in broker.data.iterdir()},
        {each.name for each in broker.data.parent.iterdir()},
    )
    reply = administer(client, odd, (topic, 0, 3))
    if commit_codes(reply) == {None}:
        assert committed(client, odd)[topic, 0][0] == 3
        client.call("group_delete", group=odd).ok()
    after = (
        {each.name for each in broker.data.iterdir()},
        {each.name for each in broker.data.parent.iterdir()},
    )
    assert before == after

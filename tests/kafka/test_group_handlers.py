"""The handlers of group requests over a coordinator in memory: what is asked, and what clients read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kio.index import load_response_schema
from kio.serial import entity_reader

from actors.acls import AclTable
from actors.classic import INITIAL_DELAY_S
from actors.classic_members import REBALANCE_TIMEOUT_MS_MAX
from actors.consumer_protocol import assignment, subscription
from actors.kafka import (
    delete_groups,
    describe_groups,
    find_coordinator,
    group_words,
    leave_group,
    offset_fetch,
)
from actors.kafka.handling import Ask, Connection, Context, GatewayOptions, Outcome, Wait
from actors.kafka.registry import HANDLERS, SERVED
from actors.messages import COORDINATOR, INNER_REQUESTS, GatewayRoute
from actors.operations import Operation, ResourceType
from actors.routing import RoutingTable
from odradek.protocol.access import Acl
from odradek.protocol.codec import BadRequest, public_decoder
from odradek.protocol.errors import (
    InvalidRequest,
    KafkaStorageError,
    LeaderNotAvailable,
    RequestTimedOut,
    UnknownMemberId,
    error_from_wire,
)
from odradek.protocol.messages import api_name
from tests.support.coordinating import Coordinating, routes
from transport.kafka.codec import encode_response

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN, HEARTBEAT, LEAVE, SYNC = 8, 9, 10, 11, 12, 13, 14
DESCRIBE, LIST, DELETE, OFFSET_DELETE = 15, 16, 42, 47
GROUP_APIS = (
    OFFSET_COMMIT,
    OFFSET_FETCH,
    JOIN,
    HEARTBEAT,
    LEAVE,
    SYNC,
    DESCRIBE,
    LIST,
    DELETE,
    OFFSET_DELETE,
)
DENIED, TOPIC_DENIED = 30, 29


def rules(*denied: tuple[ResourceType, str]) -> AclTable:
    """Everything is allowed but what is named."""
    return AclTable(
        [
            *(
                rule(kind, "*", "allow")
                for kind in (ResourceType.GROUP, ResourceType.TOPIC, ResourceType.CLUSTER)
            ),
            *(rule(kind, name, "deny") for kind, name in denied),
        ]
    )


def rule(kind: ResourceType, name: str, permission: str) -> Acl:
    return Acl(
        principal="User:*",
        operation="all",
        resource_type=kind.name.lower(),  # type: ignore[arg-type]
        resource_name=name,
        permission=permission,  # type: ignore[arg-type]
    )


class Exchange:
    """One request on its way."""

    def __init__(self, desk: Desk, key: int, version: int, steps: Any) -> None:
        self._desk, self._key, self._version, self._steps = desk, key, version, steps
        self._asked: Sequence[int] = ()
        self._response: Any = None
        self.done = False
        self._advance(None)

    def _advance(self, outcomes: Sequence[Outcome] | None) -> None:
        try:
            asks = self._steps.send(outcomes)
        except StopIteration as end:
            self.done = True
            self._response = self._desk.decode(self._key, self._version, end.value)
            return
        assert all(isinstance(ask, Ask) and ask.address == COORDINATOR for ask in asks)
        self._asked = [self._desk.coordinating.send(ask.request) for ask in asks]
        self._desk.coordinating.run()

    @property
    def response(self) -> Any:
        """What the client reads, through the bytes of its version."""
        replies = self._desk.coordinating.replies
        while not self.done:
            if not all(number in replies for number in self._asked):
                raise AssertionError("the request waits still")
            found = [replies[number] for number in self._asked]
            self._advance(
                [
                    Outcome(reply, error=None if reply.error is None else error_from_wire(reply.error))
                    for reply in found
                ]
            )
        return self._response


class Desk:
    """Handlers, and a coordinator behind them."""

    def __init__(self, *denied: tuple[ResourceType, str]) -> None:
        self.coordinating = Coordinating()
        self.table = RoutingTable()
        known = routes({"events": 4})
        known.coordinator = "ipc://coordinator"
        known.gateways = [GatewayRoute(index=7, endpoints={"plain": "kafka.example:9092"})]
        self.table.replace(known)
        self.rules = rules(*denied)

    def context(self, api: int, version: int, client: str = "client") -> Context:
        return Context(
            api_key=api,
            version=version,
            client_id=client,
            connection=Connection("10.0.0.9", "plain"),
            routes=self.table,
            options=GatewayOptions(index=7),
            now=self.coordinating.clock.now(),
            authorizer=self.rules,
        )

    def send(self, api: int, version: int, /, client: str = "client", **fields: Any) -> Exchange:
        low, high = SERVED[api]
        assert low <= version <= high
        steps = HANDLERS[api](SimpleNamespace(**fields), self.context(api, version, client))
        return Exchange(self, api, version, steps)

    def ask(self, api: int, version: int, /, **fields: Any) -> Any:
        return self.send(api, version, **fields).response

    def decode(self, key: int, version: int, body: Any) -> Any:
        frame = b"".join(bytes(part) for part in encode_response(key, version, 5, body))
        schema = load_response_schema(key, version)
        start = 9 if schema.__flexible__ else 8
        response, size = entity_reader(schema)(memoryview(frame).toreadonly(), start)
        assert start + size == len(frame)
        return response

    # -- members -------------------------------------------------------------------------------------

    def join(self, version: int, member_id: str = "", **fields: Any) -> Exchange:
        known: dict[str, Any] = {
            "group_id": "group",
            "session_timeout": timedelta(seconds=10),
            "rebalance_timeout": timedelta(seconds=60),
            "member_id": member_id,
            "group_instance_id": None,
            "protocol_type": "consumer",
            "protocols": [SimpleNamespace(name="range", metadata=subscription(["events"]))],
            **fields,
        }
        if version == 0:
            del known["rebalance_timeout"]
        return self.send(JOIN, version, **known)

    def enter(self, version: int) -> Exchange:
        if version < 4:
            return self.join(version)
        refused = self.join(version).response
        assert (refused.error_code, refused.generation_id) == (79, -1)
        assert refused.member_id
        return self.join(version, refused.member_id)

    def sync(self, version: int, member_id: str, generation: int, shares: dict[str, bytes]) -> Exchange:
        return self.send(
            SYNC,
            version,
            group_id="group",
            generation_id=generation,
            member_id=member_id,
            group_instance_id=None,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[SimpleNamespace(member_id=name, assignment=share) for name, share in shares.items()],
        )

    def beat(self, version: int, member_id: str, generation: int, instance: str | None = None) -> int:
        response = self.ask(
            HEARTBEAT,
            version,
            group_id="group",
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
        )
        return int(response.error_code)

    def stable(self) -> str:
        """A group of one member."""
        joining = self.enter(5)
        self.coordinating.pass_time(INITIAL_DELAY_S)
        member = str(joining.response.member_id)
        synced = self.sync(4, member, 1, {member: assignment({"events": [0, 1]})}).response
        assert synced.error_code == 0
        return member

    def commit(self, version: int, offsets: dict[tuple[str, int], int], **fields: Any) -> dict[Any, int]:
        topics: dict[str, list[Any]] = {}
        for (topic, number), offset in offsets.items():
            partition = SimpleNamespace(
                partition_index=number, committed_offset=offset, committed_metadata="note"
            )
            topics.setdefault(topic, []).append(partition)
        known: dict[str, Any] = {
            "group_id": "group",
            "generation_id_or_member_epoch": -1,
            "member_id": "",
            "topics": [
                SimpleNamespace(name=topic, partitions=partitions) for topic, partitions in topics.items()
            ],
            **fields,
        }
        response = self.ask(OFFSET_COMMIT, version, **known)
        return {
            (topic.name, partition.partition_index): int(partition.error_code)
            for topic in response.topics
            for partition in topic.partitions
        }


@pytest.mark.parametrize("version", range(SERVED[JOIN][1] + 1))
def test_two_members_meet_in_every_version(version: int) -> None:
    desk = Desk()
    first, second = desk.enter(version), desk.enter(version)
    desk.coordinating.pass_time(INITIAL_DELAY_S)
    a, b = first.response, second.response
    assert (a.error_code, a.generation_id, b.generation_id) == (0, 1, 1)
    assert (a.protocol_name, a.leader, b.leader) == ("range", a.member_id, a.member_id)
    assert {member.member_id for member in a.members} == {a.member_id, b.member_id}
    assert (a.members[0].metadata, b.members) == (subscription(["events"]), ())
    if version >= 7:
        assert a.protocol_type == "consumer"
    sync_version = min(version, SERVED[SYNC][1])
    follower = desk.sync(sync_version, b.member_id, 1, {})
    shares = {a.member_id: b"for a", b.member_id: b"for b"}
    assert desk.sync(sync_version, a.member_id, 1, shares).response.assignment == b"for a"
    assert follower.response.assignment == b"for b"
    assert desk.beat(min(version, 4), a.member_id, 1) == 0
    assert desk.beat(min(version, 4), a.member_id, 2) == 22
    if version < 3:
        left = desk.ask(LEAVE, version, group_id="group", member_id=b.member_id)
    else:
        leaver = SimpleNamespace(member_id=b.member_id, group_instance_id=None)
        left = desk.ask(LEAVE, min(version, 5), group_id="group", members=[leaver])
        assert [(member.member_id, member.error_code) for member in left.members] == [(b.member_id, 0)]
    assert left.error_code == 0
    assert desk.beat(min(version, 4), a.member_id, 1) == 27


def test_who_leaves_is_told_each_for_itself() -> None:
    desk = Desk()
    member = desk.stable()
    assert desk.ask(LEAVE, 2, group_id="group", member_id="stranger").error_code == 25
    leavers = [
        SimpleNamespace(member_id=name, group_instance_id=instance)
        for name, instance in (("stranger", None), ("", "no instance"), (member, None))
    ]
    left = desk.ask(LEAVE, 4, group_id="group", members=leavers)
    assert (left.error_code, [each.error_code for each in left.members]) == (0, [25, 25, 0])


@pytest.mark.parametrize(("version", "code", "members"), [(2, 25, []), (3, 0, [25, 25]), (5, 0, [25, 25])])
def test_nobody_leaves_a_group_that_nobody_is_in(version: int, code: int, members: list[int]) -> None:
    """From version 3 on each member is told, as Kafka does: tools look for their members in the answer."""
    desk = Desk()
    leavers = [
        SimpleNamespace(member_id=name, group_instance_id=instance)
        for name, instance in (("stranger", None), ("", "one"))
    ]
    fields: dict[str, Any] = {"member_id": "stranger"} if version < 3 else {"members": leavers}
    left = desk.ask(LEAVE, version, group_id="nobody", **fields)
    assert left.error_code == code
    if version >= 3:
        assert [int(each.error_code) for each in left.members] == members
        assert [(each.member_id, each.group_instance_id) for each in left.members] == [
            ("stranger", None),
            ("", "one"),
        ]


def test_who_is_no_member_may_commit_to_a_group_that_nobody_is_in() -> None:
    """As in Kafka: without a generation it is no member's commit, whatever it calls itself."""
    desk = Desk()
    assert desk.commit(8, {("events", 0): 3}, member_id="", group_instance_id=None) == {("events", 0): 0}
    named = desk.commit(8, {("events", 0): 4}, member_id="a tool", group_instance_id=None)
    assert named == {("events", 0): 0}
    instance = desk.commit(8, {("events", 0): 5}, member_id="", group_instance_id="static")
    assert instance == {("events", 0): 0}
    desk.stable()
    for member_id, instance_id in (("", None), ("a tool", None), ("", "static")):
        refused = desk.commit(8, {("events", 0): 6}, member_id=member_id, group_instance_id=instance_id)
        assert refused == {("events", 0): 25}
    fetched = desk.ask(
        OFFSET_FETCH, 2, group_id="group", topics=[SimpleNamespace(name="events", partition_indexes=[0])]
    )
    assert fetched.topics[0].partitions[0].committed_offset == 5


def test_a_static_member_is_back_and_its_old_self_is_fenced() -> None:
    desk = Desk()
    joining = desk.join(5, group_instance_id="one")
    desk.coordinating.pass_time(INITIAL_DELAY_S)
    old = joining.response.member_id
    desk.sync(4, old, 1, {old: b"share"})
    back = desk.join(5, group_instance_id="one").response
    assert (back.error_code, back.generation_id, back.leader) == (0, 1, old)
    assert back.member_id != old
    again = desk.join(9, group_instance_id="one").response
    assert (again.leader, again.skip_assignment, len(again.members)) == (again.member_id, True, 1)
    back = again
    assert desk.beat(4, old, 1, "one") == 82
    assert desk.beat(4, back.member_id, 1, "one") == 0


def test_a_client_that_would_wait_for_ever_waits_a_day() -> None:
    desk = Desk()
    forever = timedelta(milliseconds=2**31 - 1)
    joining = desk.join(3, rebalance_timeout=forever)
    desk.coordinating.pass_time(INITIAL_DELAY_S)
    assert joining.response.error_code == 0
    assert timedelta(milliseconds=REBALANCE_TIMEOUT_MS_MAX) == timedelta(days=1)
    assert group_words.BARRIER_WAIT_S > REBALANCE_TIMEOUT_MS_MAX / 1000


def test_a_clients_long_name_is_cut_not_refused() -> None:
    desk = Desk()
    refused = desk.join(5, client="é" * 500).response
    assert (refused.error_code, refused.member_id[:3]) == (79, "ééé")


@pytest.mark.parametrize("version", range(SERVED[OFFSET_COMMIT][0], SERVED[OFFSET_COMMIT][1] + 1))
def test_commits_in_every_version(version: int) -> None:
    desk = Desk()
    member = desk.stable()
    fields: dict[str, Any] = {"generation_id_or_member_epoch": 1, "member_id": member}
    if version >= 7:
        fields["group_instance_id"] = None
    places = [("events", 0), ("events", 9), ("events", -1), ("unheard", 0), ("no/such", 0)]
    assert desk.commit(version, {**dict.fromkeys(places, 5), ("events", 1): -1}, **fields) == {
        ("events", 0): 0,
        ("events", 9): 3,
        ("events", -1): 3,
        ("unheard", 0): 3,
        ("no/such", 0): 3,
        ("events", 1): 42,
    }
    fields["generation_id_or_member_epoch"] = 0
    assert desk.commit(version, {("events", 0): 6}, **fields) == {("events", 0): 22}
    assert desk.commit(version, {("events", 0): 6}) == {("events", 0): 25}
    assert desk.coordinating.committed() == {("events", 0): 5}


def fetched(response: Any) -> dict[tuple[str, int], tuple[int, str, int]]:
    return {
        (topic.name, partition.partition_index): (
            partition.committed_offset,
            partition.metadata,
            int(partition.error_code),
        )
        for topic in response.topics
        for partition in topic.partitions
    }


@pytest.mark.parametrize("version", range(SERVED[OFFSET_FETCH][0], SERVED[OFFSET_FETCH][1] + 1))
def test_fetching_offsets_in_every_version(version: int) -> None:
    desk = Desk()
    desk.commit(2, {("events", 0): 5, ("events", 2): 6})
    topics = [
        SimpleNamespace(name="events", partition_indexes=(0, 1)),
        SimpleNamespace(name="no/such", partition_indexes=(0,)),
    ]
    some = {("events", 0): (5, "note", 0), ("events", 1): (-1, "", 0), ("no/such", 0): (-1, "", 0)}
    everything = {("events", 0): (5, "note", 0), ("events", 2): (6, "note", 0)}
    if version < 8:
        assert fetched(desk.ask(OFFSET_FETCH, version, group_id="group", topics=topics)) == some
        assert fetched(desk.ask(OFFSET_FETCH, version, group_id="unheard", topics=())) == {}
        if version >= 2:
            assert fetched(desk.ask(OFFSET_FETCH, version, group_id="group", topics=None)) == everything
        return
    asked = [
        SimpleNamespace(group_id=name, topics=which)
        for name, which in (("group", topics), ("group2", None), ("group", None), ("", None))
    ]
    groups = desk.ask(OFFSET_FETCH, version, groups=asked).groups
    assert [group.group_id for group in groups] == ["group", "group2", "group", ""]
    assert [fetched(group) for group in groups] == [some, {}, everything, {}]
    assert [group.error_code for group in groups] == [0, 0, 0, 24]


@pytest.mark.parametrize(("version", "told"), [(2, -1), (5, -1), (6, 3), (7, 3), (8, 3)])
def test_the_leader_epoch_of_a_commit_is_kept(version: int, told: int) -> None:
    """By it a client that comes back sees that the log was cut behind what it had read."""
    desk = Desk()

    def commit(committed_leader_epoch: int) -> Any:
        partition = SimpleNamespace(partition_index=0, committed_offset=5, committed_metadata="")
        if version >= 6:
            partition.committed_leader_epoch = committed_leader_epoch
        topics = [SimpleNamespace(name="events", partitions=[partition])]
        known: dict[str, Any] = {"generation_id_or_member_epoch": -1, "member_id": "", "topics": topics}
        response = desk.ask(OFFSET_COMMIT, version, group_id="group", **known)
        assert response.topics[0].partitions[0].error_code.value == 0

    def epochs() -> list[int]:
        topics = [SimpleNamespace(name="events", partition_indexes=(0, 1))]
        response = desk.ask(OFFSET_FETCH, 5, group_id="group", topics=topics)
        return [each.committed_leader_epoch for each in response.topics[0].partitions]

    commit(3)
    assert epochs() == [told, -1]
    desk.coordinating.crash()
    assert epochs() == [told, -1]
    commit(-1)
    assert epochs() == [-1, -1], "it was that of the commit before"


@pytest.mark.parametrize("version", range(SERVED[FIND_COORDINATOR][1] + 1))
def test_finding_the_coordinator_in_every_version(version: int) -> None:
    desk = Desk((ResourceType.GROUP, "secret"))

    def find(key: str, kind: int = 0) -> Any:
        if version >= 4:
            response = desk.ask(FIND_COORDINATOR, version, coordinator_keys=(key,), key_type=kind)
            return response.coordinators[0]
        fields = {} if version == 0 else {"key_type": kind}
        return desk.ask(FIND_COORDINATOR, version, key=key, **fields)

    found = find("group")
    assert (found.error_code, found.node_id, found.host, found.port) == (0, 7, "kafka.example", 9092)
    assert find("secret").error_code == DENIED
    if version >= 1:
        refused = find("transaction", 1)
        assert (refused.error_code, refused.node_id) == (42, -1)
        assert "no transactions" in refused.error_message
    desk.table.replace(routes({}))
    starting = RoutingTable()
    desk.table = starting
    assert find("group").error_code == 15


@pytest.mark.parametrize("version", range(SERVED[DESCRIBE][1] + 1))
def test_describing_groups_in_every_version(version: int) -> None:
    desk = Desk((ResourceType.GROUP, "secret"))
    member = desk.stable()
    fields = {"include_authorized_operations": True} if version >= 3 else {}
    group, missing, secret = desk.ask(
        DESCRIBE, version, groups=("group", "unheard", "secret", "group"), **fields
    ).groups
    assert (group.group_state, group.protocol_type, group.protocol_data) == ("Stable", "consumer", "range")
    [described] = group.members
    assert (described.member_id, described.client_id, described.client_host) == (
        member,
        "client",
        "/10.0.0.9",
    )
    assert described.member_assignment == assignment({"events": [0, 1]})
    assert (missing.group_state, missing.error_code) == ("Dead", 69 if version >= 6 else 0)
    assert secret.error_code == DENIED
    if version >= 3:
        bits = sum(1 << operation for operation in (Operation.READ, Operation.DELETE, Operation.DESCRIBE))
        assert (group.authorized_operations, secret.authorized_operations) == (bits, -(2**31))


@pytest.mark.parametrize("version", range(SERVED[LIST][1] + 1))
def test_listing_groups_in_every_version(version: int) -> None:
    desk = Desk()
    desk.stable()
    desk.commit(2, {("events", 0): 1}, group_id="offsets only")
    desk.coordinating.beat("n", 0, {}, "native", topics=["events"])
    fields = {"states_filter": ()} if version == 4 else {}
    if version >= 5:
        fields = {"states_filter": (), "types_filter": ()}
    listed = desk.ask(LIST, version, **fields)
    assert listed.error_code == 0
    assert {(group.group_id, group.protocol_type) for group in listed.groups} == {
        ("group", "consumer"),
        ("native", "consumer"),
        ("offsets only", ""),
    }
    if version >= 4:
        empty = desk.ask(LIST, version, **{**fields, "states_filter": ("EMPTY",)}).groups
        assert [(group.group_id, group.group_state) for group in empty] == [("offsets only", "Empty")]
    if version >= 5:
        native = desk.ask(LIST, version, **{**fields, "types_filter": ("Consumer",)}).groups
        assert [group.group_id for group in native] == ["native"]
    hidden = (ResourceType.CLUSTER, "kafka-cluster"), (ResourceType.GROUP, "native")
    desk.rules = rules(*hidden)
    assert {group.group_id for group in desk.ask(LIST, version, **fields).groups} == {"group", "offsets only"}


@pytest.mark.parametrize("version", range(SERVED[DELETE][1] + 1))
def test_deleting_groups_in_every_version(version: int) -> None:
    desk = Desk((ResourceType.GROUP, "secret"))
    desk.stable()
    desk.commit(2, {("events", 0): 1}, group_id="old")
    results = desk.ask(DELETE, version, groups_names=("group", "old", "unheard", "secret")).results
    assert {result.group_id: int(result.error_code) for result in results} == {
        "group": 68,
        "old": 0,
        "unheard": 69,
        "secret": DENIED,
    }


def test_deleting_offsets() -> None:
    desk = Desk((ResourceType.TOPIC, "hidden"))
    desk.stable()
    topics = [
        SimpleNamespace(name=name, partitions=[SimpleNamespace(partition_index=0)])
        for name in ("events", "old", "hidden")
    ]
    response = desk.ask(OFFSET_DELETE, 0, group_id="group", topics=topics)
    assert [int(topic.partitions[0].error_code) for topic in response.topics] == [86, 0, TOPIC_DENIED]
    assert desk.ask(OFFSET_DELETE, 0, group_id="unheard", topics=topics).error_code == 69


def anything(key: int) -> dict[str, Any]:
    """A request of a recent version about the group."""
    partition = SimpleNamespace(
        partition_index=0, committed_offset=1, committed_leader_epoch=-1, committed_metadata=None
    )
    topic = SimpleNamespace(name="events", partitions=[partition], partition_indexes=(0,))
    return {
        "group_id": "group",
        "member_id": "m",
        "generation_id": 1,
        "generation_id_or_member_epoch": 1,
        "group_instance_id": None,
        "session_timeout": timedelta(seconds=10),
        "rebalance_timeout": timedelta(seconds=10),
        "protocol_type": "consumer",
        "protocols": [SimpleNamespace(name="range", metadata=b"")],
        "assignments": [],
        "members": [SimpleNamespace(member_id="m", group_instance_id=None)],
        "topics": [topic],
        "groups": ("group",) if key == DESCRIBE else [SimpleNamespace(group_id="group", topics=[topic])],
        "groups_names": ("group",),
        "states_filter": (),
    }


def codes_in(value: Any) -> list[int]:
    """Every error code of a body, however deep."""
    if isinstance(value, dict):
        own = [value["error_code"]] if "error_code" in value else []
        return own + [code for each in value.values() for code in codes_in(each)]
    return [code for each in value for code in codes_in(each)] if isinstance(value, list) else []


@pytest.mark.parametrize("key", [key for key in GROUP_APIS if key != LIST])
def test_a_group_that_is_not_the_clients_is_denied_before_anybody_is_asked(key: int) -> None:
    desk = Desk((ResourceType.GROUP, "group"))
    sent = desk.send(key, SERVED[key][1], **anything(key))
    assert sent.done, "somebody was asked"
    assert DENIED in {code for code in codes_in(_body(desk, key)) if code}, "and the client hears why"


def _body(desk: Desk, key: int) -> Any:
    context = desk.context(key, SERVED[key][1])
    steps = HANDLERS[key](SimpleNamespace(**anything(key)), context)
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("somebody was asked")


def test_topics_that_are_not_the_clients_are_denied_one_by_one() -> None:
    desk = Desk((ResourceType.TOPIC, "secret"))
    desk.coordinating.tell_topics({"events": 4, "secret": 1})
    assert desk.commit(8, {("events", 0): 5, ("secret", 0): 5}) == {
        ("events", 0): 0,
        ("secret", 0): TOPIC_DENIED,
    }
    topics = [SimpleNamespace(name=name, partition_indexes=(0,)) for name in ("events", "secret")]
    found = fetched(desk.ask(OFFSET_FETCH, 7, group_id="group", topics=topics))
    assert found == {("events", 0): (5, "note", 0), ("secret", 0): (-1, "", TOPIC_DENIED)}
    desk.rules = rules()
    desk.commit(8, {("secret", 0): 5})
    desk.rules = rules((ResourceType.TOPIC, "secret"))
    assert fetched(desk.ask(OFFSET_FETCH, 7, group_id="group", topics=None)) == {
        ("events", 0): (5, "note", 0)
    }


@pytest.mark.parametrize("key", GROUP_APIS)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KafkaStorageError("full"), 16),
        (LeaderNotAvailable("gone"), 15),
        (RequestTimedOut("late"), 15),
        (UnknownMemberId("who"), 25),
    ],
)
def test_errors_come_in_words_that_clients_act_on(key: int, error: Any, code: int) -> None:
    desk = Desk()
    context = desk.context(key, SERVED[key][1])
    steps = HANDLERS[key](SimpleNamespace(**anything(key)), context)
    asks = next(steps)
    assert not isinstance(asks, Wait)
    with pytest.raises(StopIteration) as end:
        steps.send([Outcome(error=error)] * len(asks))
    assert code in codes_in(end.value.value)
    desk.decode(key, SERVED[key][1], end.value.value)


def test_a_request_that_names_too_much_ends_before_anything_is_made_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_words, "OFFSETS_PER_REQUEST_MAX", 0)
    for module in (describe_groups, delete_groups, find_coordinator, leave_group, offset_fetch):
        monkeypatch.setattr(module, "GROUPS_PER_REQUEST_MAX", 0)
    desk = Desk()
    for key in (OFFSET_COMMIT, OFFSET_FETCH, OFFSET_DELETE, DESCRIBE, DELETE, LEAVE, FIND_COORDINATOR):
        fields = {**anything(key), "coordinator_keys": ("group",), "key_type": 0}
        with pytest.raises(InvalidRequest, match="are the most"):
            desk.send(key, SERVED[key][1], **fields)


def test_public_sockets_know_nothing_of_what_actors_ask_each_other() -> None:
    decoder = public_decoder()
    for kind in INNER_REQUESTS:
        with pytest.raises(BadRequest, match="unknown api"):
            decoder.decode(json.dumps({"api": api_name(kind)}).encode())


def test_many_groups_are_asked_about_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_words, "ASKS_AT_ONCE_MAX", 3)
    desk = Desk()
    names = tuple(f"group-{number}" for number in range(10))
    groups = desk.ask(DESCRIBE, 5, groups=names).groups
    assert [group.group_id for group in groups] == list(names)

"""Row 21: what each role may do. Every request of the protocol by every role, through a real router actor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from actors.actor import Answer, Envelope
from actors.demands import DEMANDS, Authority, literal_beginning
from actors.effects import Effect, Forward, Reply
from actors.messages import Access
from actors.router import RouterActor, RouterOptions
from odradek.protocol.access import ANONYMOUS, Acl, AclFilter, ScramCredential
from odradek.protocol.errors import (
    ClusterAuthorizationFailed,
    GroupAuthorizationFailed,
    OdradekError,
    TopicAuthorizationFailed,
)
from odradek.protocol.messages import (
    APIS,
    AlterConfigs,
    AlterUsers,
    CommitOffset,
    CreateAcls,
    CreatePartitions,
    CreateTopics,
    DeleteAcls,
    DeleteRecords,
    DeleteTopics,
    DescribeAcls,
    DescribeConfigs,
    DescribeUsers,
    Fetch,
    GroupDelete,
    GroupDescribe,
    GroupHeartbeat,
    GroupList,
    GroupListing,
    GroupListReply,
    InitProducerId,
    ListOffsets,
    Metadata,
    MetadataReply,
    NewTopic,
    OffsetCommit,
    OffsetFetch,
    Ping,
    Produce,
    ProduceRecord,
    Request,
    Status,
    TopicPartitions,
    UserCredential,
    Versions,
)
from supervisor.clientkeys import ClientKey, ClientList
from tests.support.batches import make_batch
from tests.support.clock import FakeClock
from tests.support.network import routes, topic_route
from tests.support.transcript import sender
from transport.keys import new_key_pair

TOPIC, OTHER = "logs-web", "secrets"
CLIENTS = ClientList(
    clients=[
        ClientKey(name="root", public_key=new_key_pair().public, admin=True),
        ClientKey(name="writer", public_key=new_key_pair().public, produce=["logs-*"]),
        ClientKey(name="reader", public_key=new_key_pair().public, consume=["logs-*"]),
        ClientKey(name="both", public_key=new_key_pair().public, produce=["*"], consume=["*"], groups=["*"]),
        ClientKey(name="elsewhere", public_key=new_key_pair().public, produce=["tmp"], consume=["tmp"]),
    ]
)
ROLES = ("root", "writer", "reader", "both", "elsewhere", "ANONYMOUS")
EVERYBODY = frozenset(ROLES)
ADMIN = frozenset({"root"})
WRITERS = frozenset({"root", "writer", "both"})
READERS = frozenset({"root", "reader", "both"})
SEEING = WRITERS | READERS
CREDENTIAL = ScramCredential(
    mechanism="SCRAM-SHA-256", iterations=4096, salt="c2FsdHNhbHQ=", stored_key="", server_key=""
)

Matrix = dict[type[Request], tuple[Callable[[], Request], frozenset[str], type[OdradekError]]]
MATRIX: Matrix = {
    Ping: (Ping, EVERYBODY, OdradekError),
    Versions: (Versions, EVERYBODY, OdradekError),
    # What is not to be seen is left out of these two; see the tests below.
    Metadata: (Metadata, EVERYBODY, OdradekError),
    GroupList: (GroupList, EVERYBODY, OdradekError),
    CreateTopics: (
        lambda: CreateTopics(topics=[NewTopic(name=TOPIC)]),
        ADMIN,
        TopicAuthorizationFailed,
    ),
    DeleteTopics: (lambda: DeleteTopics(names=[TOPIC]), ADMIN, TopicAuthorizationFailed),
    CreatePartitions: (
        lambda: CreatePartitions(topic=TOPIC, partitions=9),
        ADMIN,
        TopicAuthorizationFailed,
    ),
    DescribeConfigs: (lambda: DescribeConfigs(topic=TOPIC), ADMIN, TopicAuthorizationFailed),
    AlterConfigs: (lambda: AlterConfigs(topic=TOPIC, config={}), ADMIN, TopicAuthorizationFailed),
    DeleteRecords: (
        lambda: DeleteRecords(topic=TOPIC, partition=0, before_offset=0),
        ADMIN,
        TopicAuthorizationFailed,
    ),
    Produce: (
        lambda: Produce(topic=TOPIC, partition=0, format="batch"),
        WRITERS,
        TopicAuthorizationFailed,
    ),
    Fetch: (lambda: Fetch(topic=TOPIC, partition=0, offset=0), READERS, TopicAuthorizationFailed),
    ListOffsets: (
        lambda: ListOffsets(topic=TOPIC, partition=0, at="latest"),
        SEEING,
        TopicAuthorizationFailed,
    ),
    InitProducerId: (InitProducerId, WRITERS | {"elsewhere"}, ClusterAuthorizationFailed),
    GroupHeartbeat: (
        lambda: GroupHeartbeat(group="reader", topics=[TOPIC]),
        READERS,
        GroupAuthorizationFailed,
    ),
    OffsetCommit: (
        lambda: OffsetCommit(group="reader-2", offsets=[CommitOffset(topic=TOPIC, partition=0, offset=1)]),
        READERS,
        GroupAuthorizationFailed,
    ),
    OffsetFetch: (lambda: OffsetFetch(group="reader"), READERS, GroupAuthorizationFailed),
    GroupDescribe: (lambda: GroupDescribe(group="reader"), READERS, GroupAuthorizationFailed),
    GroupDelete: (lambda: GroupDelete(group="reader"), ADMIN, GroupAuthorizationFailed),
    DescribeAcls: (DescribeAcls, ADMIN, ClusterAuthorizationFailed),
    CreateAcls: (
        lambda: CreateAcls(acls=[rule("User:writer", "all", "topic", "*")]),
        ADMIN,
        ClusterAuthorizationFailed,
    ),
    DeleteAcls: (lambda: DeleteAcls(filters=[AclFilter()]), ADMIN, ClusterAuthorizationFailed),
    DescribeUsers: (DescribeUsers, ADMIN, ClusterAuthorizationFailed),
    AlterUsers: (
        lambda: AlterUsers(credentials=[UserCredential(name="writer", credential=CREDENTIAL)]),
        ADMIN,
        ClusterAuthorizationFailed,
    ),
    Status: (Status, ADMIN, ClusterAuthorizationFailed),
}
"""Each public request: an example, who may send it, and what the others hear."""


def rule(principal: str, operation: Any, kind: Any, name: str, **fields: Any) -> Acl:
    return Acl(principal=principal, operation=operation, resource_type=kind, resource_name=name, **fields)


def access(version: int = 1, *acls: Acl, enforced: bool = False) -> Access:
    return Access(
        version=version,
        enforced=enforced,
        acls=[*CLIENTS.acls(), *acls],
        principals=CLIENTS.principals(),
    )


class Guarded:
    """A router whose clients must show keys, with two topics."""

    def __init__(self, first: Access | None = None, *, auto_create: bool = True) -> None:
        self.clock = FakeClock()
        options = RouterOptions(
            index=0,
            server="test 1",
            auto_create_topics=auto_create,
            is_access_enforced=True,
            access=first if first is not None else access(),
        )
        self.actor = RouterActor(options)
        self.give(routes(1, topic_route(TOPIC, "ipc://p"), topic_route(OTHER, "ipc://q")))

    def give(self, message: Request) -> Sequence[Effect]:
        return self.actor.receive(Envelope(sender(), message), self.clock.now())

    def ask(self, role: str, request: Request, *payload: bytes) -> list[Effect]:
        envelope = Envelope(sender(role), request, payload, principal=f"User:{role}", host="10.0.0.1")
        effects = list(self.actor.receive(envelope, self.clock.now()))
        return effects + list(self.actor.settle(self.clock.now()))


def refused(effects: Sequence[Effect]) -> str | None:
    """The name of the error, where all that happened is that the client was told it."""
    if len(effects) == 1 and isinstance(effects[0], Reply):
        error = effects[0].reply.error
        return error.name if error is not None else None
    return None


# -- the matrix --------------------------------------------------------------------------------------


def test_every_public_request_stands_in_the_matrix_and_demands_something() -> None:
    assert set(MATRIX) == set(APIS.values()), "a new request needs an entry: who may send it?"
    assert set(DEMANDS) == set(APIS.values()), "a new request needs an entry in actors/demands.py"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("request_type", MATRIX, ids=lambda kind: kind.__name__)
def test_each_role_may_do_what_it_may_and_nothing_else(request_type: type[Request], role: str) -> None:
    make, allowed, error = MATRIX[request_type]
    payload = (make_batch(),) if request_type is Produce else ()
    effects = Guarded().ask(role, make(), *payload)
    if role in allowed:
        assert refused(effects) is None
        assert effects
    else:
        assert refused(effects) == error.name


def test_a_request_that_nobody_thought_of_is_refused_to_everybody() -> None:
    class Novelty(Request, tag="novelty"):
        """Not in the table."""

    assert refused(Guarded().ask("root", Novelty())) == "CLUSTER_AUTHORIZATION_FAILED"


# -- several things in one request ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "request_"),
    [
        ("reader", GroupHeartbeat(group="reader", topics=[TOPIC, OTHER])),
        (
            "reader",
            OffsetCommit(
                group="reader",
                offsets=[
                    CommitOffset(topic=TOPIC, partition=0, offset=1),
                    CommitOffset(topic=OTHER, partition=0, offset=1),
                ],
            ),
        ),
        ("reader", OffsetFetch(group="reader", topics=[TOPIC, TopicPartitions(topic=OTHER, partitions=[0])])),
        ("writer", Produce(topic=OTHER, partition=0, records=[ProduceRecord()])),
        ("reader", Fetch(topic=OTHER, partition=0, offset=0)),
        ("reader", Fetch(topic="no-such-topic", partition=0, offset=0)),
        ("writer", Produce(topic="__consumer_offsets", partition=0)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Request) else value,
)
def test_one_topic_that_is_not_allowed_refuses_the_whole_request(role: str, request_: Request) -> None:
    assert refused(Guarded().ask(role, request_)) == "TOPIC_AUTHORIZATION_FAILED"


def test_a_refused_record_that_nobody_waits_for_is_not_written() -> None:
    assert Guarded().ask("reader", Produce(topic=TOPIC, partition=0, acks=0), b"value") == []


@pytest.mark.parametrize(
    ("pattern", "beginning"),
    [
        ("logs-.*", "logs-"),
        ("logs-*", "logs"),
        ("logs-web", "logs-web"),
        (".*", ""),
        ("logs-a|secrets", ""),
        ("(logs-a)", ""),
        ("^logs-.*", ""),
        ("*", ""),
        ("", ""),
    ],
)
def test_what_every_match_of_a_pattern_begins_with(pattern: str, beginning: str) -> None:
    assert literal_beginning(pattern) == beginning


@pytest.mark.parametrize(
    ("pattern", "is_allowed"),
    [("logs-w.*", True), ("logs-web", True), ("log.*", False), ("secrets", False), (".*", False)],
)
def test_a_pattern_may_match_nothing_that_its_sender_may_not_see(pattern: str, is_allowed: bool) -> None:
    effects = Guarded().ask("reader", GroupHeartbeat(group="reader", topic_pattern=pattern))
    assert refused(effects) == (None if is_allowed else "TOPIC_AUTHORIZATION_FAILED")


def test_a_rule_for_one_name_is_none_for_what_begins_so() -> None:
    guarded = Guarded(access(1, rule("User:reader", "read", "topic", "secret")))
    effects = guarded.ask("reader", GroupHeartbeat(group="reader", topic_pattern="secret.*"))
    assert refused(effects) == "TOPIC_AUTHORIZATION_FAILED"


# -- what is left out ----------------------------------------------------------------------------------


def metadata(guarded: Guarded, role: str, names: list[str] | None) -> MetadataReply:
    (effect,) = guarded.ask(role, Metadata(topics=names))
    assert isinstance(effect, Reply)
    assert isinstance(effect.reply, MetadataReply)
    return effect.reply


def test_topics_that_one_may_not_see_are_left_out_or_refused_by_name() -> None:
    guarded = Guarded()
    seen = metadata(guarded, "writer", None).topics
    assert isinstance(seen, list)
    assert [topic.name for topic in seen] == [TOPIC]
    named = metadata(guarded, "writer", [TOPIC, OTHER, "no-such"]).topics
    assert isinstance(named, list)
    # Whether there is a topic of that name is not to be learnt from the error.
    assert [topic.error.name if topic.error else None for topic in named] == [
        None,
        "TOPIC_AUTHORIZATION_FAILED",
        "TOPIC_AUTHORIZATION_FAILED",
    ]
    assert named[1].topic_id is None
    assert named[1].partitions == []


def test_nobody_who_needs_rights_is_sent_to_a_partition_itself() -> None:
    topics = metadata(Guarded(), "root", [TOPIC]).topics
    assert isinstance(topics, list)
    assert [partition.endpoints for partition in topics[0].partitions] == [[]]


def test_groups_that_one_may_not_see_are_left_out() -> None:
    guarded = Guarded()
    for role, seen in (("root", ["other", "reader", "reader-2"]), ("reader", ["reader", "reader-2"])):
        (forward,) = guarded.ask(role, GroupList())
        assert isinstance(forward, Forward)
        groups = [GroupListing(group=name, state="empty") for name in ("other", "reader", "reader-2")]
        (effect,) = guarded.actor.receive(
            Answer(forward.token, GroupListReply(groups=groups)), guarded.clock.now()
        )
        assert isinstance(effect, Reply)
        assert isinstance(effect.reply, GroupListReply)
        assert isinstance(effect.reply.groups, list)
        assert [group.group for group in effect.reply.groups] == seen


# -- topics that do not exist yet ----------------------------------------------------------------------


@pytest.mark.parametrize(("role", "is_made"), [("root", True), ("writer", False)])
def test_a_first_record_makes_a_topic_only_for_those_who_may_make_it(role: str, is_made: bool) -> None:
    effects = Guarded().ask(role, Produce(topic="logs-new", partition=0), b"value")
    if is_made:
        (forward,) = effects
        assert isinstance(forward, Forward)
        assert isinstance(forward.request, CreateTopics)
    else:
        assert refused(effects) == "UNKNOWN_TOPIC_OR_PARTITION"


def test_a_rule_lets_a_writer_make_its_topics() -> None:
    may_create = rule("User:writer", "create", "topic", "logs-", pattern_type="prefixed")
    guarded = Guarded(access(1, may_create))
    (forward,) = guarded.ask("writer", Produce(topic="logs-new", partition=0), b"value")
    assert isinstance(forward, Forward)
    assert refused(guarded.ask("writer", CreateTopics(topics=[NewTopic(name="secrets-2")]))) is not None


# -- rules and roles are one table ---------------------------------------------------------------------


def test_a_rule_that_denies_outweighs_a_role() -> None:
    guarded = Guarded(access(1, rule("User:root", "write", "topic", TOPIC, permission="deny")))
    assert refused(guarded.ask("root", Produce(topic=TOPIC, partition=0), b"x")) == (
        "TOPIC_AUTHORIZATION_FAILED"
    )
    assert refused(guarded.ask("both", Produce(topic=TOPIC, partition=0), b"x")) is None


def test_rules_change_while_the_router_runs_and_old_news_is_not_heard() -> None:
    guarded = Guarded()
    request = Fetch(topic=TOPIC, partition=0, offset=0)
    assert refused(guarded.ask("reader", request)) is None
    guarded.give(Access(version=3, enforced=False, acls=[]))
    assert refused(guarded.ask("reader", request)) == "TOPIC_AUTHORIZATION_FAILED"
    guarded.give(access(2))
    assert refused(guarded.ask("reader", request)) == "TOPIC_AUTHORIZATION_FAILED"


def test_before_it_was_told_anything_a_router_refuses_everything() -> None:
    authority = Authority(is_enforced=True)
    rights = authority.rights(Envelope(sender(), Ping(), principal="User:root"))
    assert rights is not None
    with pytest.raises(ClusterAuthorizationFailed):
        rights.check(Status())


def test_where_nobody_must_show_a_key_nothing_is_asked_unless_rules_are_enforced() -> None:
    authority = Authority()
    envelope = Envelope(sender(), Status())
    assert envelope.principal == ANONYMOUS
    assert authority.rights(envelope) is None
    authority.take(access(1, enforced=True))
    assert authority.rights(envelope) is not None

"""The wire contract of topics: create, delete, grow, configure; and what a name may be."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rawclient import (
    ENCODINGS,
    INVALID_CONFIG,
    INVALID_PARTITIONS,
    INVALID_REQUEST,
    INVALID_TOPIC_EXCEPTION,
    MESSAGE_TOO_LARGE,
    POLICY_VIOLATION,
    TOPIC_ALREADY_EXISTS,
    UNKNOWN_TOPIC_OR_PARTITION,
    RawClient,
    RawReply,
    Served,
    batch_of_bytes,
    serve,
)

pytestmark = pytest.mark.processes

NAME_CHARACTERS_MAX = 249


@pytest.fixture(scope="module")
def broker() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture(params=ENCODINGS)
def client(broker: Served, request: pytest.FixtureRequest) -> Iterator[RawClient]:
    with broker.client(request.param) as connected:
        yield connected


@pytest.fixture(scope="module")
def new_name() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"topic-{next(numbers)}"


@pytest.fixture
def name(new_name: Callable[[], str]) -> str:
    return new_name()


def create(client: RawClient, *topics: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The entries of a create_topics reply, by name."""
    rows = client.call("create_topics", topics=list(topics), **fields).ok()["topics"]
    assert [row["name"] for row in rows] == [topic["name"] for topic in topics]
    return {row["name"]: row for row in rows}


def code(row: dict[str, Any]) -> int | None:
    return None if row["error"] is None else int(row["error"]["code"])


def described(client: RawClient, name: str) -> dict[str, Any]:
    (row,) = client.call("metadata", topics=[name]).ok()["topics"]
    return dict(row)


def delete(client: RawClient, *names: str) -> dict[str, int | None]:
    rows = client.call("delete_topics", names=list(names)).ok()["topics"]
    assert [row["name"] for row in rows] == list(names)
    return {row["name"]: code(row) for row in rows}


# -- create --------------------------------------------------------------------------------------------


def test_a_created_topic_serves_at_once(client: RawClient, name: str) -> None:
    row = create(client, {"name": name, "partitions": 4, "config": {"segment.bytes": 4096}})[name]
    assert code(row) is None and row["topic_id"]
    for partition in range(4):
        assert client.produce(name, b"v", partition)["offset"] == 0
    metadata = described(client, name)
    assert metadata["topic_id"] == row["topic_id"] and metadata["internal"] is False
    assert [each["partition"] for each in metadata["partitions"]] == [0, 1, 2, 3]
    endpoints = [endpoint for each in metadata["partitions"] for endpoint in each["endpoints"]]
    assert len(set(endpoints)) == len(endpoints) >= 4
    config = client.call("describe_configs", topic=name).ok()["config"]
    assert config["segment.bytes"]["value"] == 4096


def test_each_topic_of_a_request_has_its_own_answer(client: RawClient, new_name: Callable[[], str]) -> None:
    old, good, bad, none, unset = new_name(), new_name(), "bad/name", new_name(), new_name()
    client.create(old)
    rows = create(
        client,
        {"name": old, "partitions": 1, "config": {}},
        {"name": good, "partitions": 2, "config": {}},
        {"name": bad, "partitions": 1, "config": {}},
        {"name": none, "partitions": 0, "config": {}},
        {"name": unset, "partitions": 1, "config": {"no.such.setting": 1}},
    )
    assert {each: code(row) for each, row in rows.items()} == {
        old: TOPIC_ALREADY_EXISTS,
        good: None,
        bad: INVALID_TOPIC_EXCEPTION,
        none: INVALID_PARTITIONS,
        unset: INVALID_CONFIG,
    }
    assert len(described(client, good)["partitions"]) == 2
    assert code(described(client, none)) == code(described(client, unset)) == UNKNOWN_TOPIC_OR_PARTITION


def test_a_topic_that_exists_stays_as_it_is(client: RawClient, name: str) -> None:
    client.create(name, 2)
    client.produce(name, b"kept")
    before = described(client, name)
    row = create(client, {"name": name, "partitions": 5, "config": {"segment.bytes": 4096}})[name]
    assert code(row) == TOPIC_ALREADY_EXISTS
    assert described(client, name) == before
    assert [each.value for each in client.records(name)] == [b"kept"]


def test_one_name_twice_in_a_request_makes_at_most_one_topic(client: RawClient, name: str) -> None:
    topic = {"name": name, "partitions": 1, "config": {}}
    reply = client.call("create_topics", topics=[topic, {**topic, "partitions": 3}])
    codes = [code(row) for row in reply["topics"]] if reply.code is None else [reply.code]
    assert sum(each is None for each in codes) <= 1 and any(codes)
    client.ping()


def test_many_creations_of_one_name_at_once_make_one_topic(client: RawClient, name: str) -> None:
    topic = {"name": name, "partitions": 2, "config": {}}
    sent = [client.send("create_topics", topics=[topic]) for _ in range(10)]
    codes = [code(reply.ok()["topics"][0]) for reply in client.receive_by_id(len(sent)).values()]
    assert sorted(codes, key=str) == [TOPIC_ALREADY_EXISTS] * 9 + [None]


def test_validate_only_creates_nothing(
    broker: Served, client: RawClient, new_name: Callable[[], str]
) -> None:
    old, fresh = new_name(), new_name()
    client.create(old)
    before = tree_of(broker.data)
    rows = create(
        client,
        {"name": fresh, "partitions": 3, "config": {}},
        {"name": old, "partitions": 3, "config": {}},
        {"name": "a b", "partitions": 3, "config": {}},
        validate_only=True,
    )
    assert code(rows[fresh]) is None
    assert code(rows[old]) == TOPIC_ALREADY_EXISTS
    assert code(rows["a b"]) == INVALID_TOPIC_EXCEPTION
    assert code(described(client, fresh)) == UNKNOWN_TOPIC_OR_PARTITION
    assert tree_of(broker.data) == before


@pytest.mark.parametrize("partitions", [0, -1, -(2**31)])
def test_a_topic_has_a_partition_at_least(client: RawClient, name: str, partitions: int) -> None:
    for validate_only in (True, False):
        row = create(client, {"name": name, "partitions": partitions}, validate_only=validate_only)[name]
        assert code(row) == INVALID_PARTITIONS
    assert code(described(client, name)) == UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("partitions", [10**6, 2**31 - 1, 2**31, 2**62])
def test_more_partitions_than_there_may_be(client: RawClient, name: str, partitions: int) -> None:
    row = create(client, {"name": name, "partitions": partitions})[name]
    assert code(row) in (INVALID_PARTITIONS, POLICY_VIOLATION)
    assert code(described(client, name)) == UNKNOWN_TOPIC_OR_PARTITION


# -- delete and create again ---------------------------------------------------------------------------


def test_a_deleted_topic_is_gone_and_a_new_one_of_the_name_is_empty(client: RawClient, name: str) -> None:
    client.create(name, 2)
    first_id = described(client, name)["topic_id"]
    for partition in (0, 1):
        client.produce(name, b"old", partition)
    assert delete(client, name, "nowhere") == {name: None, "nowhere": UNKNOWN_TOPIC_OR_PARTITION}
    assert code(described(client, name)) == UNKNOWN_TOPIC_OR_PARTITION
    assert name not in {row["name"] for row in client.call("metadata").ok()["topics"]}
    assert client.fetch(name).code == UNKNOWN_TOPIC_OR_PARTITION
    assert delete(client, name) == {name: UNKNOWN_TOPIC_OR_PARTITION}
    client.create(name, 1)
    assert described(client, name)["topic_id"] != first_id
    assert client.fetch(name).ok()["high_watermark"] == 0
    assert client.produce(name, b"new")["offset"] == 0
    assert [each.value for each in client.records(name)] == [b"new"]
    assert client.fetch(name, partition=1).code == UNKNOWN_TOPIC_OR_PARTITION


def test_deleting_ends_a_waiting_fetch_with_an_error(broker: Served, name: str) -> None:
    with broker.client() as reader, broker.client() as other:
        other.create(name)
        reader.send("fetch", topic=name, partition=0, offset=0, max_wait_ms=120_000)
        request = reader.send("list_offsets", topic=name, partition=0, at="latest")
        assert reader.receive().ok()["id"] == request
        assert delete(other, name) == {name: None}
        assert reader.receive().code is not None


def test_deleted_and_created_again_and_again(client: RawClient, name: str) -> None:
    for turn in range(3):
        client.create(name)
        assert client.produce(name, b"%d" % turn)["offset"] == 0
        assert [each.value for each in client.records(name)] == [b"%d" % turn]
        assert delete(client, name) == {name: None}


# -- more partitions -----------------------------------------------------------------------------------


def test_partitions_are_added_and_serve_at_once(client: RawClient, name: str) -> None:
    client.create(name, 1)
    client.produce(name, b"kept")
    client.call("create_partitions", topic=name, partitions=3).ok()
    assert [each["partition"] for each in described(client, name)["partitions"]] == [0, 1, 2]
    for partition in (1, 2):
        assert client.produce(name, b"v", partition)["offset"] == 0
    assert [each.value for each in client.records(name)] == [b"kept"]


@pytest.mark.parametrize("total", [3, 2, 1, 0, -1, 10**6, 2**31])
def test_the_new_total_must_be_more(client: RawClient, name: str, total: int) -> None:
    client.create(name, 3)
    reply = client.call("create_partitions", topic=name, partitions=total)
    assert reply.code == INVALID_PARTITIONS or (total > 3 and reply.code == POLICY_VIOLATION)
    assert len(described(client, name)["partitions"]) == 3


def test_no_partitions_for_a_topic_that_is_not_there(client: RawClient) -> None:
    reply = client.call("create_partitions", topic="nowhere", partitions=3)
    assert reply.code == UNKNOWN_TOPIC_OR_PARTITION


# -- settings ------------------------------------------------------------------------------------------


def values(reply: RawReply) -> dict[str, Any]:
    return {name: row["value"] for name, row in reply.ok()["config"].items()}


def test_each_setting_has_value_default_and_a_sentence(client: RawClient, name: str) -> None:
    client.create(name)
    config = client.call("describe_configs", topic=name).ok()["config"]
    assert {"segment.bytes", "max.message.bytes"} <= config.keys()
    for row in config.values():
        assert row["value"] == row["default"]
        assert isinstance(row["doc"], str) and len(row["doc"]) > 10


def test_settings_change_take_effect_and_go_back(client: RawClient, name: str) -> None:
    client.create(name)
    before = values(client.call("describe_configs", topic=name))
    altered = client.call("alter_configs", topic=name, config={"max.message.bytes": 500})
    assert values(altered) == {**before, "max.message.bytes": 500}
    assert values(client.call("describe_configs", topic=name)) == {**before, "max.message.bytes": 500}
    assert client.produce_batch(name, batch_of_bytes(501)).code == MESSAGE_TOO_LARGE
    assert client.call("produce", b"x" * 501, topic=name, partition=0).code == MESSAGE_TOO_LARGE
    client.produce_batch(name, batch_of_bytes(500)).ok()
    back = client.call("alter_configs", topic=name, config={"max.message.bytes": None})
    assert values(back) == before
    client.produce_batch(name, batch_of_bytes(501)).ok()


@pytest.mark.parametrize(
    "wrong",
    [
        {"no.such.setting": 1},
        {"no.such.setting": None},
        {"": 1},
        {"../x": 1},
        {"max.message.bytes": -1},
        {"max.message.bytes": 2**80},
        {"max.message.bytes": "many"},
        {"max.message.bytes": 1.5},
        {"max.message.bytes": True},
        {"max.message.bytes": ""},
        {"segment.bytes": 0},
        {"segment.bytes": 2**31},
        {"preallocate": "perhaps"},
        {"preallocate": 7},
    ],
    ids=str,
)
def test_where_one_setting_is_wrong_none_is_changed(
    client: RawClient, name: str, wrong: dict[str, Any]
) -> None:
    if client.encoding == "msgpack" and 2**80 in wrong.values():
        wrong = {"max.message.bytes": 2**64 - 1}
    client.create(name)
    before = values(client.call("describe_configs", topic=name))
    (setting,) = wrong
    reply = client.call("alter_configs", topic=name, config={"index.interval.bytes": 8192, **wrong})
    assert reply.code == INVALID_CONFIG, reply.header
    assert setting in reply.message
    assert values(client.call("describe_configs", topic=name)) == before
    other = f"{name}-{len(wrong)}"
    assert code(create(client, {"name": other, "partitions": 1, "config": wrong})[other]) == INVALID_CONFIG
    assert code(described(client, other)) == UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("wrong", [[], {}, [1], {"a": 1}], ids=str)
def test_a_setting_is_a_scalar(client: RawClient, name: str, wrong: Any) -> None:
    client.create(name)
    reply = client.call("alter_configs", topic=name, config={"segment.bytes": wrong})
    assert reply.code in (INVALID_CONFIG, INVALID_REQUEST)


def test_settings_of_a_topic_that_is_not_there(client: RawClient) -> None:
    assert client.call("describe_configs", topic="nowhere").code == UNKNOWN_TOPIC_OR_PARTITION
    assert client.call("alter_configs", topic="nowhere", config={}).code == UNKNOWN_TOPIC_OR_PARTITION


# -- names ---------------------------------------------------------------------------------------------

BAD_NAMES = [
    "", ".", "..", "../x", "a/b", "/etc/passwd", "/tmp/odradek-canary", "a\\b", "..\\x", "\x00", "a\x00b",
    "a\n", "\na", " ", "a b", "a\t", "~", "$HOME", "a:b", "a*", "\u00e9", "\u0435", "\u212a", "\uff41",
    "a\u0301", "a\u200b", "\u202ea", "\ufeffa", "\u0661", "\u00b2", "%2e%2e", "a%00", "x" * 250,
    "x" * 65_536, "\U0001f511",
]  # fmt: skip

# Each request that names a topic, and how it says that the name is wrong.
NAMING: dict[str, Callable[[RawClient, str], RawReply]] = {
    "create_topics": lambda c, n: c.call(
        "create_topics", topics=[{"name": n, "partitions": 1, "config": {}}]
    ),
    "delete_topics": lambda c, n: c.call("delete_topics", names=[n]),
    "metadata": lambda c, n: c.call("metadata", topics=[n]),
    "create_partitions": lambda c, n: c.call("create_partitions", topic=n, partitions=2),
    "describe_configs": lambda c, n: c.call("describe_configs", topic=n),
    "alter_configs": lambda c, n: c.call("alter_configs", topic=n, config={}),
    "delete_records": lambda c, n: c.call("delete_records", topic=n, partition=0, before_offset=0),
    "produce one": lambda c, n: c.call("produce", b"v", topic=n),
    "produce one to a partition": lambda c, n: c.call("produce", b"v", topic=n, partition=0, key="k"),
    "produce many": lambda c, n: c.call("produce", b"v", topic=n, records=[{}]),
    "produce a batch": lambda c, n: c.produce_batch(n, batch_of_bytes(100)),
    "fetch": lambda c, n: c.fetch(n),
    "list_offsets": lambda c, n: c.call("list_offsets", topic=n, partition=0, at="latest"),
}


def tree_of(directory: Path) -> set[str]:
    """Every path below a directory, as bytes would show it."""
    return {str(Path(root) / each) for root, dirs, files in os.walk(directory) for each in [*dirs, *files]}


@pytest.mark.parametrize("request_kind", NAMING)
def test_a_name_that_is_not_allowed_is_refused_everywhere(
    broker: Served, client: RawClient, request_kind: str
) -> None:
    before, beside = tree_of(broker.data), set(broker.data.parent.iterdir())
    wrong: dict[str, Any] = {}
    for name in BAD_NAMES:
        reply = NAMING[request_kind](client, name)
        entry = reply["topics"][0] if reply.code is None and "topics" in reply.header else reply.header
        if code(entry) != INVALID_TOPIC_EXCEPTION:
            wrong[name[:20]] = entry["error"]
    assert wrong == {}, "INVALID_TOPIC_EXCEPTION is due"
    assert tree_of(broker.data) == before
    assert set(broker.data.parent.iterdir()) == beside
    assert not Path("/tmp/odradek-canary").exists()
    client.ping()


@pytest.mark.parametrize("surrogate", [b"\\ud800", b"\\udc00", b"x\\udfff"])
def test_a_name_with_a_lone_surrogate_is_refused(broker: Served, surrogate: bytes) -> None:
    with broker.client() as client:
        for header in (
            b'{"api":"create_topics","topics":[{"name":"%s","partitions":1,"config":{}}]}',
            b'{"api":"produce","topic":"%s"}',
            b'{"api":"metadata","topics":["%s"]}',
        ):
            client.send_frames(header % surrogate, *([b"v"] if b"produce" in header else []))
            reply = client.receive()
            entry = reply["topics"][0] if reply.code is None else reply.header
            assert code(entry) in (INVALID_TOPIC_EXCEPTION, INVALID_REQUEST)
            client.ping()


@pytest.mark.parametrize(
    "name", ["a", ".a", "...", "a.", "-", "--help", "_", "0", "A.b_C-9", "events-0", "con"]
)
def test_every_name_that_is_allowed_works(client: RawClient, name: str) -> None:
    use_and_delete(client, name)


def test_the_longest_names_work_too() -> None:
    """A file system allows 255 bytes a name, of which a partition's number and a suffix take some."""
    with serve() as served, served.client() as client:
        for length in (NAME_CHARACTERS_MAX - 20, NAME_CHARACTERS_MAX):
            use_and_delete(client, "n" * length)


def use_and_delete(client: RawClient, name: str) -> None:
    """Created, written, read, deleted, and created again."""
    for _ in range(2):
        client.create(name)
        assert client.produce(name, b"v")["offset"] == 0
        assert [each.value for each in client.records(name)] == [b"v"]
        assert delete(client, name) == {name: None}


def test_case_twins_are_two_topics(client: RawClient, name: str) -> None:
    for each in (f"{name}-Case", f"{name}-case"):
        client.create(each)
        client.produce(each, each.encode())
    for each in (f"{name}-Case", f"{name}-case"):
        assert [record.value for record in client.records(each)] == [each.encode()]


def test_names_that_look_like_another_topics_partitions_do_not_meet(client: RawClient, name: str) -> None:
    twins = [name, f"{name}-0", f"{name}-0-0"]
    for each in twins:
        client.create(each, 2)
    for each in twins:
        for partition in (0, 1):
            assert client.produce(each, b"%s" % each.encode(), partition)["offset"] == 0
    assert delete(client, name) == {name: None}
    for each in twins[1:]:
        assert [record.value for record in client.records(each, 1)] == [each.encode()]


def test_the_coordinators_own_log_is_out_of_reach(client: RawClient) -> None:
    """Its directory is beside those of the topics; nobody writes to it or removes it through a topic."""
    own = "__consumer_offsets"
    assert code(create(client, {"name": own, "partitions": 1, "config": {}})[own]) is not None
    assert client.call("produce", b"forged", topic=own, partition=0).code is not None
    assert client.produce_batch(own, batch_of_bytes(100)).code is not None
    assert client.call("delete_records", topic=own, partition=0, before_offset=0).code is not None
    assert client.call("create_partitions", topic=own, partitions=5).code is not None
    assert delete(client, own)[own] is not None
    client.call("group_list").ok()

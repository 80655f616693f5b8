"""The wire contract: connections, encodings, ids, versions, and what is common to every request."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import zmq

from tests.support.rawclient import (
    ENCODINGS,
    INVALID_REQUEST,
    INVALID_TOPIC_EXCEPTION,
    REQUEST_TIMED_OUT,
    SOCKETS,
    UNKNOWN_TOPIC_OR_PARTITION,
    UNSUPPORTED_VERSION,
    EncodingName,
    RawClient,
    RawRecord,
    RawReply,
    Served,
    SocketName,
    encode_batch,
    murmur2,
    serve,
)

pytestmark = pytest.mark.processes

APIS = {
    "ping", "versions", "metadata", "create_topics", "delete_topics", "create_partitions", "describe_configs",
    "alter_configs", "delete_records", "produce", "fetch", "list_offsets", "init_producer_id",
    "group_heartbeat", "offset_commit", "offset_fetch", "group_list", "group_describe", "group_delete",
    "describe_acls", "create_acls", "delete_acls", "describe_users", "alter_users", "status",
}  # fmt: skip


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
        return client.create("common", 2)


# -- the tools of these tests --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_our_murmur2_gives_the_values_of_kafkas_own_test(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


# -- every request in every form -----------------------------------------------------------------------


def is_error_free(rows: list[dict[str, Any]]) -> bool:
    return all(row["error"] is None for row in rows)


@pytest.mark.parametrize("socket", SOCKETS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_request_is_answered_in_its_own_form(
    broker: Served, encoding: EncodingName, socket: SocketName
) -> None:
    with broker.client(encoding, socket) as client:
        name = f"every-{encoding}-{socket}"
        seen = set()

        def call(api: str, *payload: bytes, **fields: Any) -> RawReply:
            seen.add(api)
            return client.call(api, *payload, **fields).ok()

        assert set(call("ping").header) == {"id", "error"}
        versions = call("versions")
        assert isinstance(versions["server"], str) and versions["protocol"] == 1
        created = call("create_topics", topics=[{"name": name, "partitions": 1, "config": {}}])["topics"]
        assert [row["name"] for row in created] == [name] and is_error_free(created)
        assert call("create_partitions", topic=name, partitions=2)
        (metadata,) = call("metadata", topics=[name])["topics"]
        assert metadata["topic_id"] == created[0]["topic_id"] and metadata["internal"] is False
        assert [row["partition"] for row in metadata["partitions"]] == [0, 1]
        assert {"value", "default", "doc"} <= call("describe_configs", topic=name)["config"][
            "segment.bytes"
        ].keys()
        altered = call("alter_configs", topic=name, config={"max.message.bytes": 2000})
        assert altered["config"]["max.message.bytes"]["value"] == 2000
        produced = call("produce", b"hello", topic=name, partition=1, key="k", timestamp=1234)
        expected = {"topic": name, "partition": 1, "offset": 0, "timestamp": 1234}
        assert expected.items() <= produced.header.items()
        many = call("produce", b"a", b"b", topic=name, partition=1, records=[{}, {}])
        assert many["offsets"] == [[1, 1], [1, 2]]
        batch = call("produce", encode_batch([RawRecord(b"c")]), topic=name, partition=1, format="batch")
        assert (batch["partition"], batch["offset"], batch["count"]) == (1, 3, 1)
        fetched = call("fetch", topic=name, partition=1, offset=0)
        assert fetched.payload == [b"hello", b"a", b"b", b"c"]
        assert (fetched["high_watermark"], fetched["log_start_offset"]) == (4, 0)
        listed = call("list_offsets", topic=name, partition=1, at="earliest")
        assert listed["offset"] == 0 and isinstance(listed["timestamp"], int)
        assert call("delete_records", topic=name, partition=1, before_offset=1)["log_start_offset"] == 1
        assert call("init_producer_id")["producer_epoch"] >= 0
        _every_group_request(call, name)
        _every_access_request(call, name)
        status = {row["name"]: row for row in call("status")["actors"]}
        assert {"supervisor", "coordinator", f"partition:{name}-0", f"partition:{name}-1"} <= status.keys()
        deleted = call("delete_topics", names=[name])["topics"]
        assert [row["name"] for row in deleted] == [name] and is_error_free(deleted)
        assert seen == APIS


def _every_group_request(call: Any, topic: str) -> None:
    group = f"group-{topic}"
    joined = call(
        "group_heartbeat", group=group, member_id=None, member_epoch=0, topics=[topic], owned=[],
        rebalance_timeout_ms=45000, assignor=None, instance_id=None,
    )  # fmt: skip
    member = {"group": group, "member_id": joined["member_id"]}
    assert joined["member_epoch"] > 0 and joined["heartbeat_interval_ms"] > 0
    offsets = [{"topic": topic, "partition": 1, "offset": 2, "metadata": "note"}]
    committed = call("offset_commit", **member, member_epoch=joined["member_epoch"], offsets=offsets)
    assert committed["offsets"] == [{"topic": topic, "partition": 1, "error": None}]
    assert offsets[0] in call("offset_fetch", group=group, topics=None)["offsets"]
    assert group in {row["group"] for row in call("group_list")["groups"]}
    assert call("group_describe", group=group)["members"][0]["member_id"] == joined["member_id"]
    call("group_heartbeat", **member, member_epoch=-1)
    call("group_delete", group=group)


def _every_access_request(call: Any, topic: str) -> None:
    rule = {
        "principal": "User:till", "operation": "write", "resource_type": "topic", "resource_name": topic,
        "pattern_type": "literal", "permission": "allow", "host": "*",
    }  # fmt: skip
    assert call("create_acls", acls=[rule])["results"] == [{"error": None}]
    meant = {"resource_name": topic, "pattern_type": "match"}
    assert call("describe_acls", filter=meant)["acls"] == [rule]
    assert call("delete_acls", filters=[meant])["results"] == [{"acls": [rule], "error": None}]
    assert call("describe_acls", filter=meant)["acls"] == []
    key = base64.b64encode(bytes(32)).decode()
    credential = {
        "mechanism": "SCRAM-SHA-256", "iterations": 4096, "salt": key, "stored_key": key, "server_key": key,
    }  # fmt: skip
    named = f"user-{topic}"
    added = call("alter_users", credentials=[{"name": named, "credential": credential}])
    assert added["users"] == [{"name": named, "error": None}]
    (user,) = call("describe_users", names=[named])["users"]
    assert user["mechanisms"] == [{"mechanism": "SCRAM-SHA-256", "iterations": 4096}]
    assert is_error_free(call("alter_users", removals=[{"name": named}])["users"])


def test_versions_names_every_request_and_its_range(client: RawClient) -> None:
    apis = client.call("versions").ok()["apis"]
    assert apis.keys() >= APIS
    for low, high in apis.values():
        assert low <= 1 <= high


@pytest.mark.parametrize("api", sorted(APIS))
def test_a_version_that_is_not_served_is_refused_with_the_range(client: RawClient, api: str) -> None:
    low, high = client.call("versions").ok()["apis"][api]
    for version in (0, -1, high + 1, 2**31, 2**63):
        reply = client.call(api, v=version)
        assert reply.code == UNSUPPORTED_VERSION, (version, reply.header)
        assert str(low) in reply.message and str(high) in reply.message
        assert reply["error"]["retriable"] is False
    client.ping()


@pytest.mark.parametrize("version", ["1", 1.5, True, [], {}])
def test_a_version_of_another_type_is_an_invalid_request(client: RawClient, version: Any) -> None:
    assert client.call("ping", v=version).code == INVALID_REQUEST
    client.ping()


# -- ids -----------------------------------------------------------------------------------------------

SCALARS = [
    None, True, False, 0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, -1.25e-7, 1.7e308, "", "x",
    "ключ 🔑", "\x00\n\"\\", "x" * 10_000, "1", "null",
]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda value: repr(value)[:20])
def test_the_id_is_echoed(client: RawClient, scalar: Any) -> None:
    reply = client.call("ping", id=scalar).ok()
    assert type(reply["id"]) is type(scalar) and reply["id"] == scalar


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda value: repr(value)[:20])
def test_the_id_is_echoed_with_an_error(client: RawClient, scalar: Any) -> None:
    for fields in ({"api": "no such api"}, {"api": "fetch"}, {"api": "ping", "v": 99}):
        reply = client.call(**fields, id=scalar)
        assert reply.code is not None
        assert type(reply["id"]) is type(scalar) and reply["id"] == scalar


def test_an_integer_id_beyond_64_bits_is_a_json_scalar_too(broker: Served) -> None:
    with broker.client() as client:
        client.send_frames(b'{"api":"ping","id":1000000000000000000000000000001}')
        reply = client.receive()
        assert reply.code in (None, INVALID_REQUEST)
        if reply.code is None:
            assert reply["id"] == 10**30 + 1, "an id may be refused, but not changed"


def test_without_an_id_the_reply_has_null(client: RawClient) -> None:
    client.send_frames(client.encode({"api": "ping"}))
    assert client.receive().ok()["id"] is None


@pytest.mark.parametrize("wrong", [[], {}, [1], {"a": 1}])
def test_an_id_that_is_no_scalar_is_refused(client: RawClient, wrong: Any) -> None:
    client.send_frames(client.encode({"api": "ping", "id": wrong}))
    reply = client.receive()
    assert reply.code == INVALID_REQUEST and "id" in reply.message
    client.ping()


# -- pipelining and order ------------------------------------------------------------------------------


def test_requests_may_be_pipelined(client: RawClient, topic: str) -> None:
    apis = ("ping", "versions", "metadata", "init_producer_id", "group_list")
    sent = [client.send(apis[index % len(apis)]) for index in range(300)]
    replies = client.receive_by_id(len(sent))
    assert replies.keys() == set(sent)
    for reply in replies.values():
        reply.ok()


def test_replies_may_come_in_another_order(client: RawClient, topic: str) -> None:
    """A parked fetch holds nobody up, and is answered by what comes later on the same connection."""
    end = client.offset_of(topic, "latest")
    parked = client.send("fetch", topic=topic, partition=0, offset=end, max_wait_ms=60_000)
    client.ping()
    produced = client.send("produce", b"news", topic=topic, partition=0)
    replies = client.receive_by_id(2)
    assert replies[produced].ok()["offset"] == end
    assert replies[parked].ok().payload == [b"news"]


def test_pipelined_produces_of_one_connection_keep_their_order(client: RawClient, topic: str) -> None:
    first = client.offset_of(topic, "latest", partition=1)
    sent = [client.send("produce", b"%d" % index, topic=topic, partition=1) for index in range(200)]
    replies = client.receive_by_id(len(sent))
    assert [replies[each].ok()["offset"] for each in sent] == list(range(first, first + 200))
    assert [each.value for each in client.records(topic, 1, first)] == [b"%d" % index for index in range(200)]


# -- frames --------------------------------------------------------------------------------------------


def test_a_dealer_gets_the_delimiter_exactly_when_it_sent_one(client: RawClient) -> None:
    header = client.encode({"api": "ping", "id": 1})
    client.send_frames(b"", header)
    assert client.receive().ok().delimiter is True
    client.send_frames(header)
    assert client.receive().ok().delimiter is False
    client.send_frames(b"", client.encode({"api": "no such", "id": 1}))
    assert client.receive().delimiter is True


def test_one_connection_may_mix_the_encodings(broker: Served) -> None:
    with broker.client() as client:
        for index in range(20):
            header = {"api": "ping", "id": index}
            packed = index % 2 == 0
            client.send_frames(msgspec.msgpack.encode(header) if packed else json.dumps(header).encode())
            assert client.receive().ok().encoding == ("msgpack" if packed else "json")


def test_the_order_and_space_of_json_do_not_matter(broker: Served) -> None:
    with broker.client() as client:
        client.send_frames(b'{ "id" : 5 ,\n\t"v": 1, "\\u0061pi" : "p\\u0069ng" }')
        assert client.receive().ok()["id"] == 5


# -- unknown fields ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "api", ["ping", "versions", "metadata", "produce", "fetch", "list_offsets", "status"]
)
def test_unknown_fields_are_ignored(client: RawClient, topic: str, api: str) -> None:
    needed: dict[str, dict[str, Any]] = {
        "produce": {"topic": topic},
        "fetch": {"topic": topic, "partition": 0, "offset": 0},
        "list_offsets": {"topic": topic, "partition": 0, "at": "latest"},
    }
    unknown = {"zzz": {"deep": [1, {"x": None}]}, "": 0, "Api": 1, "api ": [], "__class__": "x", "ключ": 1.5}
    client.call(api, **needed.get(api, {}), **unknown).ok()


def test_unknown_fields_within_fields_are_ignored(client: RawClient, topic: str) -> None:
    record = {"key": "k", "later": [1, 2]}
    client.call("produce", b"v", topic=topic, records=[record]).ok()
    new = {"name": topic, "partitions": 1, "config": {}, "replicas": 3}
    client.call("create_topics", topics=[new], validate_only=True).ok()
    offset = {"topic": topic, "partition": 0, "offset": 0, "metadata": None, "leader_epoch": 9}
    client.call("offset_commit", group="unknown-fields", offsets=[offset]).ok()


def test_common_fields_are_taken(client: RawClient) -> None:
    client.call("ping", v=1, client_id="billing", timeout_ms=1000).ok()
    client.call("ping", client_id=None, timeout_ms=None).ok()


def test_a_time_limit_ends_a_long_wait(client: RawClient, topic: str) -> None:
    """Nothing came or the time is over; in no case does the answer take the long poll's five minutes."""
    end = client.offset_of(topic, "latest")
    client.socket.setsockopt(zmq.RCVTIMEO, 8_000)
    reply = client.fetch(topic, end, max_wait_ms=300_000, timeout_ms=200)
    assert reply.code in (None, REQUEST_TIMED_OUT)
    assert reply.payload == []


# -- metadata and status -------------------------------------------------------------------------------


def test_metadata_of_everything(client: RawClient, broker: Served, topic: str) -> None:
    every = client.call("metadata", topics=None).ok()
    assert every["cluster_id"] and broker.endpoint in every["routers"]
    assert topic in {row["name"] for row in every["topics"]}
    assert client.call("metadata").ok()["cluster_id"] == every["cluster_id"]
    assert client.call("metadata", topics=[]).ok()["topics"] == []


def test_metadata_of_names_has_an_entry_for_each(client: RawClient, topic: str) -> None:
    rows = client.call("metadata", topics=[topic, "nowhere", "bad/name"]).ok()["topics"]
    assert [row["name"] for row in rows] == [topic, "nowhere", "bad/name"]
    codes = [row["error"] and row["error"]["code"] for row in rows]
    assert codes == [None, UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION]
    assert rows[1]["partitions"] == [] == rows[2]["partitions"]
    for partition in rows[0]["partitions"]:
        assert partition["error"] is None and partition["leader_epoch"] >= 0
        assert partition["endpoints"] and all("://" in each for each in partition["endpoints"])


def test_status_shows_each_process(client: RawClient, topic: str) -> None:
    rows = {row["name"]: row for row in client.call("status").ok()["actors"]}
    routers = [name for name in rows if name.startswith("router:")]
    assert routers and {"supervisor", "coordinator", f"partition:{topic}-0"} <= rows.keys()
    assert len({row["pid"] for row in rows.values()}) == len(rows), "one process each"
    for name, row in rows.items():
        os.kill(row["pid"], 0)
        assert isinstance(row["state"], str) and row["state"]
        assert row["restarts"] == 0, name
        assert row["uptime_s"] >= 0 and math.isfinite(row["uptime_s"])
        assert row["pss_bytes"] > 0
        assert row["cpu_percent"] is None or row["cpu_percent"] >= 0

"""The wire contract for whoever does not keep it: an error for him, and nothing at all for the others.

Malformed frames, wrong types at every field of every request, oversized frames, pickles, clients that do not
read. After each, the same connection still works; at the end, no process was started again.
"""

from __future__ import annotations

import copy
import json
import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zmq.utils.monitor import recv_monitor_message

from tests.support.rawclient import (
    ENCODINGS,
    INVALID_CONFIG,
    INVALID_REQUEST,
    INVALID_TOPIC_EXCEPTION,
    MESSAGE_TOO_LARGE,
    UNSUPPORTED_VERSION,
    EncodingName,
    RawClient,
    RawRecord,
    Served,
    assert_unharmed,
    encode_batch,
    serve,
)

pytestmark = pytest.mark.processes

FRAME_BYTES_MAX = 16 << 20
UNKNOWN_SERVER_ERROR = -1
EVENT_TIMEOUT_MS = 30_000


@pytest.fixture(scope="module")
def broker() -> Iterator[Served]:
    with serve() as served:
        with served.client() as client:
            client.create("target", 2)
        yield served


@pytest.fixture(params=ENCODINGS)
def client(broker: Served, request: pytest.FixtureRequest) -> Iterator[RawClient]:
    with broker.client(request.param) as connected:
        yield connected


# -- headers that cannot be read -----------------------------------------------------------------------

PING = b'{"api":"ping"}'
DEEP = 100_000


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


UNREADABLE: dict[str, tuple[bytes, ...]] = {
    "only an empty frame": (b"",),
    "only two empty frames": (b"", b""),
    "a thousand empty frames": (b"",) * 1000,
    "a thousand frames of nothing": (b"x",) * 1000,
    "a delimiter and nothing": (b"", b"", b"payload"),
    "a zero byte": (b"\x00",),
    "a space before the brace": (b" 5",),
    "an open brace": (b"{",),
    "an empty object": (b"{}",),
    "an array": (b"[]",),
    "an array of a request": (b'["ping"]',),
    "null": (b"null",),
    "a string": (b'"ping"',),
    "plain text": (b"GET / HTTP/1.1\r\n\r\n",),
    "half of an object": (b'{"api":"pi',),
    "more than one object": (PING + PING,),
    "text after the object": (PING + b"x",),
    "a comma too many": (b'{"api":"ping",}',),
    "single quotes": (b"{'api':'ping'}",),
    "a comment": (b'{"api":"ping"/*x*/}',),
    "a control character": (b'{"api":"pi\nng"}',),
    "a bad escape": (b'{"api":"\\xping"}',),
    "text that is not utf-8": (b'{"api":"ping\xff"}',),
    "an id that is not utf-8": (b'{"api":"ping","id":"\xc3("}',),
    "an overlong encoding": (b'{"api":"ping","id":"\xc0\x80"}',),
    "a surrogate in utf-8": (b'{"api":"ping","id":"\xed\xa0\x80"}',),
    "not a number": (b'{"api":"ping","id":NaN}',),
    "infinity": (b'{"api":"ping","id":-Infinity}',),
    "a leading zero": (b'{"api":"ping","id":01}',),
    "no api": (b'{"id":1}',),
    "api null": (b'{"api":null}',),
    "api number": (b'{"api":1}',),
    "api list": (b'{"api":["ping"]}',),
    "api object": (b'{"api":{}}',),
    "api empty": (b'{"api":""}',),
    "api unknown": (b'{"api":"nope"}',),
    "api in capitals": (b'{"api":"PING"}',),
    "api and a zero": (b'{"api":"ping\\u0000"}',),
    "api with a space": (b'{"api":" ping"}',),
    "api of 64 KiB": (b'{"api":"' + b"x" * 65_536 + b'"}',),
    "an api that is only inside": (b'{"api":"Reply"}',),
    "an array too deep": (b'{"api":' + b"[" * DEEP + b"]" * DEEP + b"}",),
    "objects too deep": (b'{"x":' * DEEP + b"1" + b"}" * DEEP,),
    "an open array too deep": (b'{"x":' + b"[" * DEEP,),
    "msgpack nil": (packed(None),),
    "msgpack array": (packed(["ping"]),),
    "msgpack integer": (b"\x07",),
    "msgpack string": (packed("ping"),),
    "msgpack bin": (packed(b"ping"),),
    "msgpack empty map": (b"\x80",),
    "msgpack never used": (b"\xc1",),
    "msgpack half a map": (packed({"api": "ping", "id": 1})[:-1],),
    "msgpack text after the map": (packed({"api": "ping"}) + b"x",),
    "msgpack a map of four thousand million": (b"\xdf\xff\xff\xff\xff",),
    "msgpack a string of 4 GiB": (b"\x81\xa3api\xdb\xff\xff\xff\xff",),
    "msgpack an array of four thousand million": (b"\x81\xa3api\xdd\xff\xff\xff\xff",),
    "msgpack text that is not utf-8": (b"\x81\xa3api\xa2\xff\xfe",),
    "msgpack a name that is not utf-8": (b"\x81\xa3\xff\xff\xff\xa4ping",),
    "msgpack extension": (b"\x82\xa3api\xa4ping\xa2id\xd4\x01\x00",),
    "msgpack timestamp": (b"\x82\xa3api\xa4ping\xa2id\xd6\xff\x00\x00\x00\x01",),
    "msgpack too deep": (b"\x82\xa3api\xa4ping\xa2id" + b"\x91" * DEEP + b"\x01",),
    "msgpack maps too deep": (b"\x81\xa1x" * DEEP + b"\x01",),
    "msgpack no api": (packed({"id": 1}),),
    "msgpack unknown api": (packed({"api": "nope"}),),
    "a pickle": (pickle.dumps({"api": "ping"}),),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_gets_a_reply_and_harms_nothing(client: RawClient, kind: str) -> None:
    client.send_frames(*UNREADABLE[kind])
    reply = client.receive()
    assert reply.code == INVALID_REQUEST, reply.header
    assert reply["error"]["name"] == "INVALID_REQUEST" and reply["error"]["retriable"] is False
    assert len(reply.message) < 2_000, "a message, not a copy of the request"
    client.ping()
    assert not client.waiting()


ODD = {
    "deep in a field that is not known": b'{"api":"ping","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "the same name twice": b'{"api":"status","api":"ping"}',
    "a thousand names": json.dumps({"api": "ping", **{f"x{index}": index for index in range(1000)}}).encode(),
    "a huge integer in a field that is not known": b'{"api":"ping","x":' + b"9" * 100_000 + b"}",
    "a huge exponent in a field that is not known": b'{"api":"ping","x":1e999999999}',
    "a huge id": b'{"api":"ping","id":' + b"9" * 100_000 + b"}",
    "an exponent that no float has": b'{"api":"ping","id":1e400}',
    "a lone surrogate as id": b'{"api":"ping","id":"\\ud800"}',
    "a lone surrogate in a field that is not known": b'{"api":"ping","x":"\\udfff"}',
    "a lone surrogate as client": b'{"api":"group_list","client_id":"\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf" + PING,
    "a space before": b" " + PING,
    "a new line after": PING + b"\n",
    "integers as names": b"\x82\xa3api\xa4ping\x01\x02",
    "a megabyte of text": b'{"api":"ping","x":"' + b"x" * (1 << 20) + b'"}',
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_gets_one_reply_too(client: RawClient, kind: str) -> None:
    """Taken or refused, but never silence."""
    client.send_frames(ODD[kind])
    assert client.receive().code in (None, INVALID_REQUEST)
    client.ping()
    assert not client.waiting()


@pytest.mark.parametrize("frames", [1, 999])
def test_payload_where_none_is_due_gets_one_reply(client: RawClient, frames: int) -> None:
    for api, fields in (("ping", {}), ("metadata", {}), ("fetch", VALID["fetch"]), ("status", {})):
        assert client.call(api, *[b"x"] * frames, **fields).code in (None, INVALID_REQUEST)
    client.ping()


def test_a_thousand_bad_requests_in_a_row_are_all_answered(client: RawClient) -> None:
    for index in range(1000):
        client.send_frames(client.encode({"api": "nope", "id": index}))
    assert client.receive_by_id(1000).keys() == set(range(1000))
    client.ping()


# -- wrong types at every field ------------------------------------------------------------------------

ROW = {"topic": "target", "partition": 0}

# A request of each kind that works, with every field of the specification.
VALID: dict[str, dict[str, Any]] = {
    "ping": {},
    "versions": {},
    "metadata": {"topics": ["target"]},
    "create_topics": {
        "topics": [{"name": "fresh", "partitions": 1, "config": {"segment.bytes": 4096}}],
        "validate_only": True,
    },
    "delete_topics": {"names": ["nowhere"]},
    "create_partitions": {"topic": "nowhere", "partitions": 2},
    "describe_configs": {"topic": "target"},
    "alter_configs": {"topic": "target", "config": {"segment.bytes": None}},
    "delete_records": {**ROW, "before_offset": 0},
    "produce": {
        **ROW, "acks": "all", "key": "k", "headers": [["h", "v"]], "timestamp": 1, "format": "records",
    },
    "produce many": {
        **ROW,
        "acks": 1,
        "records": [{"key": "k", "headers": [["h", "v"]], "timestamp": 1, "null": False}],
    },
    "fetch": {
        **ROW, "offset": 0, "max_bytes": 1000, "min_bytes": 0, "max_wait_ms": 0, "format": "records",
    },
    "list_offsets": {**ROW, "at": "earliest"},
    "init_producer_id": {},
    "group_heartbeat": {
        "group": "bad", "member_id": "nobody", "member_epoch": 5, "topics": ["target"], "assignor": "range",
        "instance_id": "i", "rebalance_timeout_ms": 1000, "owned": [{"topic": "target", "partitions": [0]}],
    },
    "offset_commit": {
        "group": "bad", "member_id": "nobody", "member_epoch": 5,
        "offsets": [{**ROW, "offset": 0, "metadata": "m"}],
    },
    "offset_fetch": {"group": "bad", "topics": ["target"]},
    "group_list": {},
    "group_describe": {"group": "bad"},
    "group_delete": {"group": "bad"},
    "status": {},
}  # fmt: skip

TEXT = [1, 1.5, True, [], {}]
TEXT_NOT_NULL = [*TEXT, None]
INTEGER = ["1", "", 1.5, True, [], {}]
INTEGER_NOT_NULL = [*INTEGER, None]
LIST = ["x", 1, True, {}]
LIST_NOT_NULL = [*LIST, None]
MAP_NOT_NULL = ["x", 1, True, [], None]
FLAG = ["true", 0, 1, [], {}]
BYTES = [1, 1.5, True, [], {}, {"base64": 1}, {"other": "x"}]
PLACE = [*INTEGER_NOT_NULL, "newest", -1]

# What is wrong for each field, by request and path. `*` is the first of a list.
WRONG: dict[str, dict[str, list[Any]]] = {
    **{api: {} for api in VALID},
    "metadata": {"topics": LIST, "topics.*": TEXT_NOT_NULL},
    "create_topics": {
        "topics": LIST_NOT_NULL, "topics.*": MAP_NOT_NULL, "topics.*.name": TEXT_NOT_NULL,
        "topics.*.partitions": INTEGER, "topics.*.config": [*LIST[:3], []], "validate_only": FLAG,
    },
    "delete_topics": {"names": LIST_NOT_NULL, "names.*": TEXT_NOT_NULL},
    "create_partitions": {"topic": TEXT_NOT_NULL, "partitions": INTEGER_NOT_NULL},
    "describe_configs": {"topic": TEXT_NOT_NULL},
    "alter_configs": {"topic": TEXT_NOT_NULL, "config": MAP_NOT_NULL},
    "delete_records": {
        "topic": TEXT_NOT_NULL, "partition": INTEGER_NOT_NULL, "before_offset": INTEGER_NOT_NULL,
    },
    "produce": {
        "topic": TEXT_NOT_NULL, "partition": [*INTEGER, -1, 2**31, 2**63],
        "acks": [2, -7, "x", 1.5, True, [], {}],
        "key": BYTES, "headers": LIST, "headers.*": ["x", 1, {}, [], ["h"], ["h", "v", "x"], None],
        "headers.*.0": TEXT_NOT_NULL, "headers.*.1": BYTES, "timestamp": [*INTEGER, 2**63, 2**80],
        "format": [*TEXT_NOT_NULL, "avro"],
    },
    "produce many": {
        "records": LIST, "records.*": MAP_NOT_NULL, "records.*.key": BYTES, "records.*.headers": LIST,
        "records.*.headers.*": ["x", 1, {}, [], ["h"], None], "records.*.headers.*.0": TEXT_NOT_NULL,
        "records.*.headers.*.1": BYTES, "records.*.timestamp": INTEGER, "records.*.null": FLAG,
    },
    "fetch": {
        "topic": TEXT_NOT_NULL, "partition": [*INTEGER_NOT_NULL, -1, 2**31, 2**63],
        "offset": INTEGER_NOT_NULL,
        "max_bytes": [*INTEGER_NOT_NULL, -1, 2**63], "min_bytes": [*INTEGER_NOT_NULL, -1],
        "max_wait_ms": [*INTEGER_NOT_NULL, -1, 2**63], "format": [*TEXT_NOT_NULL, "avro"],
    },
    "list_offsets": {"topic": TEXT_NOT_NULL, "partition": INTEGER_NOT_NULL, "at": PLACE},
    "group_heartbeat": {
        "group": TEXT_NOT_NULL, "member_id": TEXT, "member_epoch": INTEGER_NOT_NULL, "topics": LIST,
        "topics.*": TEXT_NOT_NULL, "assignor": TEXT, "instance_id": TEXT,
        "rebalance_timeout_ms": [*INTEGER, -1], "owned": LIST, "owned.*": MAP_NOT_NULL,
        "owned.*.topic": TEXT_NOT_NULL, "owned.*.partitions": LIST_NOT_NULL,
        "owned.*.partitions.*": INTEGER_NOT_NULL,
    },
    "offset_commit": {
        "group": TEXT_NOT_NULL, "member_id": TEXT, "member_epoch": INTEGER, "offsets": LIST_NOT_NULL,
        "offsets.*": MAP_NOT_NULL, "offsets.*.topic": TEXT_NOT_NULL, "offsets.*.partition": INTEGER_NOT_NULL,
        "offsets.*.offset": INTEGER_NOT_NULL, "offsets.*.metadata": TEXT,
    },
    "offset_fetch": {"group": TEXT_NOT_NULL, "topics": LIST, "topics.*": [1, 1.5, True, [], {}, None]},
    "group_describe": {"group": TEXT_NOT_NULL},
    "group_delete": {"group": TEXT_NOT_NULL},
}  # fmt: skip

COMMON: dict[str, list[Any]] = {"client_id": TEXT, "timeout_ms": [*INTEGER, -1], "v": INTEGER_NOT_NULL}


def with_value(request: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a request with one field replaced."""
    changed: Any = copy.deepcopy(request)
    *parents, last = path.split(".")
    place: Any = changed
    for step in parents:
        place = place[step_of(place, step)]
    place[step_of(place, last)] = value
    return dict(changed)


def step_of(place: Any, step: str) -> Any:
    return (0 if step == "*" else int(step)) if isinstance(place, list) else step


def encodable(encoding: EncodingName, value: Any) -> bool:
    """MessagePack has no integer beyond 64 bits."""
    return encoding == "json" or not (isinstance(value, int) and value >= 2**64)


def payload_for(kind: str) -> list[bytes]:
    return [b"v"] if kind.startswith("produce") else []


@pytest.mark.parametrize("kind", VALID)
def test_the_requests_that_the_next_tests_damage_are_whole(client: RawClient, kind: str) -> None:
    reply = client.call(kind.split(maxsplit=1)[0], *payload_for(kind), **VALID[kind])
    assert reply.code not in (INVALID_REQUEST, UNSUPPORTED_VERSION, UNKNOWN_SERVER_ERROR), reply.header


@pytest.mark.parametrize("kind", VALID)
def test_a_wrong_type_at_any_field_is_named(client: RawClient, kind: str) -> None:
    api = kind.split(maxsplit=1)[0]
    asked = {}
    for path, values in {**COMMON, **WRONG[kind]}.items():
        for value in values:
            if encodable(client.encoding, value):
                fields = with_value(VALID[kind], path, value)
                asked[client.send(api, *payload_for(kind), **fields)] = (path, value)
    replies = client.receive_by_id(len(asked))
    wrong = {}
    for request, (path, value) in asked.items():
        reply = replies[request]
        named = next(step for step in reversed(path.split(".")) if step not in ("*", "0", "1"))
        if reply.code != INVALID_REQUEST or named not in reply.message:
            wrong[f"{path} = {value!r}"] = reply["error"]
    assert wrong == {}, "INVALID_REQUEST that names the field is due"
    client.ping()


@pytest.mark.parametrize("kind", [kind for kind in VALID if VALID[kind]])
def test_a_missing_field_is_named(client: RawClient, kind: str) -> None:
    """Those without which the request means nothing."""
    needed = {"topics", "names", "topic", "config", "before_offset", "offset", "at", "group", "offsets"}
    if kind in ("metadata", "group_heartbeat", "offset_fetch"):
        needed -= {"topics"}
    for name in needed & VALID[kind].keys():
        fields = {each: value for each, value in VALID[kind].items() if each != name}
        reply = client.call(kind.split(maxsplit=1)[0], *payload_for(kind), **fields)
        assert reply.code == INVALID_REQUEST and name in reply.message, (name, reply.header)
    client.ping()


# -- anything at all -----------------------------------------------------------------------------------

SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
ANYTHING = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abctopic*._", max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
PATHS = [(kind, path) for kind, fields in WRONG.items() for path in fields]
BOUNDED_MAX = {"max_wait_ms": 100, "partitions": 3}
FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def is_harmless(kind: str, path: str, value: Any) -> bool:
    """No silence by request (acks 0), no waiting for hours, no topic of a thousand processes."""
    last = path.rsplit(".", maxsplit=1)[-1]
    if last == "acks":
        return value not in (0, "0")
    if last in BOUNDED_MAX and isinstance(value, int | float):
        return value <= BOUNDED_MAX[last]
    return not (kind == "create_topics" and last in ("validate_only", "topics"))


@FUZZ
@given(where=st.sampled_from(PATHS), value=ANYTHING)
def test_any_value_at_any_field_gets_a_reply(client: RawClient, where: tuple[str, str], value: Any) -> None:
    kind, path = where
    if not is_harmless(kind, path, value):
        return
    reply = client.call(kind.split()[0], *payload_for(kind), **with_value(VALID[kind], path, value))
    assert reply.code != UNKNOWN_SERVER_ERROR, reply.header
    client.ping()


@FUZZ
@given(header=st.binary(max_size=64) | st.binary(max_size=40).map(lambda rest: b'{"api":"ping",' + rest))
def test_any_bytes_as_header_get_a_reply(client: RawClient, header: bytes) -> None:
    client.send_frames(header)
    assert client.receive().code in (None, INVALID_REQUEST, UNSUPPORTED_VERSION)
    client.ping()


@FUZZ
@given(header=st.dictionaries(st.sampled_from(["api", "id", "v", "topic", "x"]), ANYTHING))
def test_any_map_as_header_gets_a_reply(client: RawClient, header: dict[str, Any]) -> None:
    client.send_frames(client.encode(header))
    assert client.receive().code is not None
    client.ping()


@FUZZ
@given(batch=st.binary(max_size=200), damage=st.integers(0, 60))
def test_any_bytes_as_batch_get_a_reply(client: RawClient, batch: bytes, damage: int) -> None:
    whole = encode_batch([RawRecord(b"v")])
    for payload in (batch, whole[:damage] + batch, whole[:damage] + batch + whole[damage:]):
        reply = client.produce_batch("target", payload)
        assert reply.code != UNKNOWN_SERVER_ERROR
        assert reply.code is not None or payload[16:] == whole[16:]


# -- too much ------------------------------------------------------------------------------------------


@contextmanager
def disconnection_expected(client: RawClient) -> Iterator[None]:
    """What happens inside must end the client's connection (ZeroMQ then connects again by itself)."""
    client.ping()
    events = client.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        yield
        assert events.poll(EVENT_TIMEOUT_MS), "the connection was not dropped"
        assert recv_monitor_message(events)["event"] == zmq.EVENT_DISCONNECTED
    finally:
        client.socket.disable_monitor()
        events.close(0)


def test_a_frame_over_the_limit_drops_that_connection_only(broker: Served) -> None:
    with broker.client() as other, broker.client() as large:
        parked = other.send("fetch", topic="target", partition=1, offset=0, max_wait_ms=120_000)
        with disconnection_expected(large):
            large.send("produce", bytes(FRAME_BYTES_MAX + 1), topic="target", partition=0)
        large.ping()
        produced = other.send("produce", b"news", topic="target", partition=1)
        replies = other.receive_by_id(2)
        assert replies[produced].ok() and replies[parked].ok().payload == [b"news"]


def test_a_header_over_the_limit_drops_that_connection_only(broker: Served) -> None:
    with broker.client() as other, broker.client() as large:
        other.ping()
        with disconnection_expected(large):
            large.send("ping", x="x" * FRAME_BYTES_MAX)
        large.ping()
        other.ping()


def test_a_frame_at_the_limit_is_read(client: RawClient) -> None:
    reply = client.call("produce", bytes(FRAME_BYTES_MAX), topic="target", partition=0)
    assert reply.code == MESSAGE_TOO_LARGE
    client.ping()


def test_a_client_that_never_reads_slows_nobody(broker: Served) -> None:
    with broker.client() as writer:
        writer.create("large")
        for _ in range(8):
            writer.produce("large", bytes(1_000_000))
    with RawClient(broker.endpoint) as slow, broker.client() as other:
        for _ in range(100):
            slow.send("fetch", topic="large", partition=0, offset=0, max_bytes=8 << 20, max_wait_ms=0)
        for _ in range(20):
            other.ping()
            other.produce("target", b"v")
            assert other.fetch("large", 7).ok()["records"]


def test_strangers_on_the_port_are_not_noticed(broker: Served, client: RawClient) -> None:
    """Other protocols, half a greeting, and a connection that says nothing."""
    address = urlsplit(broker.endpoint)
    greetings = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",
        b"\x00" * 1000,
        b"\xff" * 1000,
        b"",
    ]
    held = []
    for greeting in greetings * 3:
        stranger = socket.create_connection((address.hostname, address.port), timeout=10)
        stranger.sendall(greeting)
        held.append(stranger)
    client.ping()
    for stranger in held:
        stranger.close()
    client.ping()


# -- pickles -------------------------------------------------------------------------------------------


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_from_outside_is_ever_unpickled(broker: Served, tmp_path: Path) -> None:
    canary, control = tmp_path / "canary", tmp_path / "control"
    pickle.loads(pickle.dumps(Canary(control)))
    assert control.exists(), "the canary itself works"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        poison = pickle.dumps(Canary(canary), protocol)
        with broker.client("msgpack") as client:
            _feed(client, poison)
            (row,) = client.call("metadata", topics=["target"]).ok()["topics"]
        with RawClient(row["partitions"][0]["endpoints"][0], encoding="msgpack") as direct:
            direct.send_frames(poison)
            assert direct.receive().code == INVALID_REQUEST
            assert direct.produce_batch("target", poison).code is not None
            direct.produce_batch("target", encode_batch([RawRecord(poison, poison)])).ok()
            direct.fetch("target").ok()
    assert not canary.exists()


def _feed(client: RawClient, poison: bytes) -> None:
    """A pickle wherever bytes or text may stand."""
    client.send_frames(poison)
    assert client.receive().code == INVALID_REQUEST
    client.send_frames(client.encode({"api": "ping"}), poison)
    client.receive()
    client.produce("target", poison, key=poison, headers=[["h", poison]])
    client.call("produce", poison, topic="target", partition=0, records=[{"key": poison}]).ok()
    client.produce_batch("target", encode_batch([RawRecord(poison, poison, (("h", poison),))])).ok()
    assert client.produce_batch("target", poison).code is not None
    assert client.records("target")[-1].value == poison
    text = poison.decode("latin-1")
    assert client.call("produce", b"v", topic=text).code == INVALID_TOPIC_EXCEPTION
    client.call("group_heartbeat", group=text[:100], member_id=text, member_epoch=3, topics=[text])
    offset = {"topic": "target", "partition": 0, "offset": 0, "metadata": text}
    client.call("offset_commit", group="poison", offsets=[offset])
    client.call("offset_fetch", group="poison", topics=["target"]).ok()
    assert client.call("alter_configs", topic="target", config={"segment.bytes": text}).code == INVALID_CONFIG
    client.call("ping", client_id=text, id=text).ok()


# -- and after all that --------------------------------------------------------------------------------


def test_every_process_is_the_one_it_was(broker: Served) -> None:
    """Whatever came above and comes here: same processes, no restart."""
    before = broker.actors()
    assert_unharmed({}, before)
    with broker.client() as client:
        for frames in UNREADABLE.values():
            client.send_frames(*frames)
            client.receive()
        client.ping()
    assert_unharmed(before, broker.actors())

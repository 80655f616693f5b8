"""RouterActor: where each request goes, and what the client hears in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from actors import waiting
from actors.actor import Answer, Envelope, Lost, Synced, Undeliverable
from actors.effects import Effect, Forward
from actors.messages import Configure, Routes
from actors.router import GRACE_S, RouterActor, RouterOptions
from odradek.protocol.access import Acl, AclFilter
from odradek.protocol.batch import check_batch
from odradek.protocol.errors import InvalidConfig, LeaderNotAvailable, OffsetOutOfRange
from odradek.protocol.messages import (
    REPLY_OF,
    TIMEOUT_MS_DEFAULT,
    AlterConfigs,
    AlterUsers,
    Blob,
    CommitOffset,
    CreateAcls,
    CreatedTopic,
    CreatePartitions,
    CreateTopics,
    CreateTopicsReply,
    DeleteAcls,
    DeleteRecords,
    DeleteTopics,
    DescribeAcls,
    DescribeConfigs,
    DescribeUsers,
    Fetch,
    FetchReply,
    GroupDelete,
    GroupDescribe,
    GroupDescribeReply,
    GroupHeartbeat,
    GroupList,
    GroupOffset,
    InitProducerId,
    ListOffsets,
    ListOffsetsReply,
    Metadata,
    MetadataReply,
    NewTopic,
    OffsetCommit,
    OffsetFetch,
    Ping,
    PingReply,
    Produce,
    ProduceRecord,
    ProduceReply,
    Request,
    Status,
    UserRemoval,
    Versions,
    VersionsReply,
    failure,
)
from odradek.protocol.partitioning import partition_for_key
from odradek.protocol.records import RecordToWrite, decode_batch, encode_batch
from tests.support.batches import make_batch
from tests.support.clock import FakeClock
from tests.support.network import routes, topic_route
from tests.support.transcript import (
    answer,
    ask,
    error_name,
    forwards,
    only_forward,
    only_reply,
    replies,
    said,
    sender,
)


class Rig:
    """A router that knows the topics it is given."""

    def __init__(self, *topics: Any, auto_create: bool = True, coordinator: str | None = "ipc://c") -> None:
        self.clock = FakeClock()
        self.actor = RouterActor(
            RouterOptions(index=0, server="test 1", auto_create_topics=auto_create, default_partitions=3)
        )
        self.version = 0
        self.coordinator = coordinator
        self.route(*topics)

    def route(self, *topics: Any) -> list[Effect]:
        self.version += 1
        return self.turn(Envelope(sender(), routes(self.version, *topics, coordinator=self.coordinator)))

    def turn(self, *messages: Envelope | Answer | Lost | Undeliverable) -> list[Effect]:
        effects: list[Effect] = []
        for message in messages:
            effects += self.actor.receive(message, self.clock.now())
        return effects + list(self.actor.settle(self.clock.now()))

    def after(self, seconds: float) -> list[Effect]:
        self.clock.advance(seconds)
        return list(self.actor.settle(self.clock.now()))


def served(partitions: int = 1, **options: Any) -> Rig:
    return Rig(topic_route("a", *[f"ipc://{number}" for number in range(partitions)], **options))


def records_in(forward: Forward) -> list[tuple[bytes | None, bytes | None]]:
    return [(record.key, record.value) for record in decode_batch(forward.payload[0])]


# -- what a router answers itself --------------------------------------------------------------------------


def test_ping_and_versions() -> None:
    only_reply(Rig().turn(ask(Ping())), PingReply)
    reply = only_reply(Rig().turn(ask(Versions())), VersionsReply)
    assert (reply.server, reply.protocol) == ("test 1", 1)
    assert isinstance(reply.apis, dict)
    assert len(reply.apis) == len(REPLY_OF)


def test_metadata_of_all_topics_of_some_and_of_unknown_ones() -> None:
    rig = Rig(topic_route("b", "ipc://0", None), topic_route("a", "ipc://1"))
    reply = only_reply(rig.turn(ask(Metadata())), MetadataReply)
    assert isinstance(reply.topics, list)
    assert [topic.name for topic in reply.topics] == ["a", "b"]
    first, second = reply.topics[1].partitions
    assert (first.endpoints, first.error, first.leader_epoch) == (["ipc://direct-b-0"], None, 1)
    assert second.error is not None
    assert second.error.name == "LEADER_NOT_AVAILABLE"
    reply = only_reply(rig.turn(ask(Metadata(topics=["a", "no", "not a name", "a"]))), MetadataReply)
    assert isinstance(reply.topics, list)
    assert [topic.error and topic.error.name for topic in reply.topics] == [
        None,
        "UNKNOWN_TOPIC_OR_PARTITION",
        "INVALID_TOPIC_EXCEPTION",
        None,
    ]
    assert (reply.cluster_id, reply.routers) == ("cluster", ["tcp://127.0.0.1:5559"])


# -- who is asked ------------------------------------------------------------------------------------------

RULE = Acl(principal="User:till", operation="read", resource_type="topic", resource_name="a")
TO_SUPERVISOR: list[Request] = [
    CreateTopics(topics=[NewTopic(name="n")]),
    DeleteTopics(names=["a"]),
    CreatePartitions(topic="a", partitions=2),
    DescribeConfigs(topic="a"),
    AlterConfigs(topic="a", config={}),
    DescribeAcls(),
    CreateAcls(acls=[RULE]),
    DeleteAcls(filters=[AclFilter()]),
    DescribeUsers(),
    AlterUsers(removals=[UserRemoval(name="till")]),
    Status(),
]
TO_COORDINATOR: list[Request] = [
    InitProducerId(),
    GroupHeartbeat(group="g"),
    OffsetCommit(group="g", offsets=[CommitOffset(topic="a", partition=0, offset=1)]),
    OffsetFetch(group="g"),
    GroupList(),
    GroupDescribe(group="g"),
    GroupDelete(group="g"),
]
TO_PARTITION: list[Request] = [
    Produce(topic="a", partition=0, format="batch"),
    Fetch(topic="a", partition=0, offset=0, format="batch"),
    ListOffsets(topic="a", partition=0, at="latest"),
    DeleteRecords(topic="a", partition=0, before_offset=0),
]


@pytest.mark.parametrize(
    ("address", "request_"),
    [
        *(("supervisor", request) for request in TO_SUPERVISOR),
        *(("coordinator", request) for request in TO_COORDINATOR),
        *(("partition:a-0", request) for request in TO_PARTITION),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_request_goes_to_whom_it_concerns_and_the_answer_comes_back(
    address: str, request_: Request
) -> None:
    rig = served()
    payload = (make_batch(),) if isinstance(request_, Produce) else ()
    forward = only_forward(rig.turn(ask(request_, *payload, by="me")))
    assert forward.address == address
    assert forward.request == request_
    assert tuple(forward.payload) == payload
    reply = REPLY_OF[type(request_)]()
    (effect,) = replies(rig.turn(answer(forward, reply, b"frame")))
    assert effect.to == sender("me")
    assert effect.reply is reply
    assert rig.turn(answer(forward, reply)) == [], "a second answer is nobody's"


def test_every_public_request_is_covered_here() -> None:
    tested = {type(request) for request in [*TO_SUPERVISOR, *TO_COORDINATOR, *TO_PARTITION]}
    assert tested | {Ping, Versions, Metadata} == set(REPLY_OF)


def test_inner_messages_and_strange_events_are_refused() -> None:
    assert error_name(Rig().turn(ask(Configure(config={})))) == "INVALID_REQUEST"
    with pytest.raises(TypeError):
        Rig().actor.receive(Synced(cast(Any, None)), FakeClock().now())


@pytest.mark.parametrize("request_", TO_COORDINATOR, ids=lambda request: type(request).__name__)
def test_without_a_coordinator_its_requests_are_retriable(request_: Request) -> None:
    assert error_name(Rig(coordinator=None).turn(ask(request_))) == "COORDINATOR_NOT_AVAILABLE"


@pytest.mark.parametrize("group", ["", "x" * 256, "\ud800"])
def test_group_names_are_checked_here(group: str) -> None:
    assert error_name(Rig().turn(ask(OffsetFetch(group=group)))) == "INVALID_GROUP_ID"


@pytest.mark.parametrize("request_", TO_PARTITION, ids=lambda request: type(request).__name__)
@pytest.mark.parametrize(
    ("rig", "name"),
    [
        (Rig(auto_create=False), "UNKNOWN_TOPIC_OR_PARTITION"),
        (Rig(topic_route("a")), "UNKNOWN_TOPIC_OR_PARTITION"),
        (Rig(topic_route("a", None)), "LEADER_NOT_AVAILABLE"),
        (Rig(topic_route("a", None, errors={0: InvalidConfig("broken").wire()})), "INVALID_CONFIG"),
    ],
)
def test_a_partition_that_does_not_serve_is_said_at_once(rig: Rig, name: str, request_: Request) -> None:
    assert error_name(rig.turn(ask(request_, make_batch()))) == name


# -- produce: one record -----------------------------------------------------------------------------------


def test_a_record_becomes_a_batch_of_one() -> None:
    rig = served()
    request = Produce(topic="a", key=Blob(b"\xff"), headers=[("h", Blob(b"x")), ("n", None)], timestamp=7)
    forward = only_forward(rig.turn(ask(request, b"value")))
    sent = cast(Produce, forward.request)
    assert (sent.partition, sent.format, sent.acks) == (0, "batch", "all")
    check_batch(forward.payload[0])
    (record,) = decode_batch(forward.payload[0])
    assert (record.key, record.value, record.timestamp) == (b"\xff", b"value", 7)
    assert list(record.headers) == [("h", b"x"), ("n", None)]
    reply = ProduceReply(topic="a", partition=0, offset=41, timestamp=7, count=1)
    told = only_reply(rig.turn(answer(forward, reply)), ProduceReply)
    assert (told.topic, told.partition, told.offset, told.timestamp) == ("a", 0, 41, 7)


def test_a_record_without_a_timestamp_gets_the_routers() -> None:
    rig = served()
    forward = only_forward(rig.turn(ask(Produce(topic="a"), b"v")))
    (record,) = decode_batch(forward.payload[0])
    assert record.timestamp == rig.clock.now().wall_ms


def test_no_frame_is_a_null_value_and_an_empty_frame_an_empty_one() -> None:
    rig = served()
    forward = only_forward(rig.turn(ask(Produce(topic="a")), ask(Produce(topic="a"), b"")))
    assert records_in(forward) == [(None, None), (None, b"")]


def test_a_key_decides_and_a_named_partition_decides_more() -> None:
    rig = served(7)
    forward = only_forward(rig.turn(ask(Produce(topic="a", key=Blob(b"user-7")), b"v")))
    assert forward.address == f"partition:a-{partition_for_key(b'user-7', 7)}"
    forward = only_forward(rig.turn(ask(Produce(topic="a", key=Blob(b"user-7"), partition=6), b"v")))
    assert forward.address == "partition:a-6"


def test_records_of_one_turn_share_a_batch_but_not_with_other_acks_and_keep_their_order() -> None:
    rig = served()
    effects = rig.turn(
        ask(Produce(topic="a"), b"1", by="x"),
        ask(Produce(topic="a", acks=1), b"2", by="y"),
        ask(Produce(topic="a", acks=-1), b"3", by="z"),
        ask(Produce(topic="a"), b"4", by="x"),
    )
    first, second, third = forwards(effects)
    assert [records_in(first), records_in(second), records_in(third)] == [
        [(None, b"1")],
        [(None, b"2")],
        [(None, b"3"), (None, b"4")],
    ]
    effects = rig.turn(answer(third, ProduceReply(offset=10)))
    assert said(effects) == [("z", "ok"), ("x", "ok")]
    assert [cast(ProduceReply, reply.reply).offset for reply in replies(effects)] == [10, 11]


def test_a_batch_does_not_overtake_the_records_before_it() -> None:
    rig = served()
    effects = rig.turn(
        ask(Produce(topic="a", partition=0), b"1"),
        ask(Produce(topic="a", partition=0, format="batch"), make_batch()),
        ask(Produce(topic="a", partition=0), b"2"),
    )
    first, second, third = forwards(effects)
    assert (records_in(first), records_in(third)) == ([(None, b"1")], [(None, b"2")])
    assert bytes(second.payload[0]) == make_batch()


@pytest.mark.parametrize("acks", [0, "0"])
def test_acks_0_hears_nothing_whatever_happens(acks: Any) -> None:
    rig = served()
    for outcome in ("written", "refused", "never left"):
        forward = only_forward(rig.turn(ask(Produce(topic="a", acks=acks), b"v")))
        assert cast(Produce, forward.request).acks == 1, "the router is told, so that it can count"
        if outcome == "never left":
            assert rig.turn(Undeliverable(forward.token, LeaderNotAvailable())) == []
        else:
            error = LeaderNotAvailable().wire() if outcome == "refused" else None
            assert rig.turn(answer(forward, ProduceReply(offset=0, error=error))) == []
        assert rig.actor.deadline() is None, "nothing is pending any more"
    for bad in (
        ask(Produce(topic="a", acks=acks, partition=9), b"v"),
        ask(Produce(topic="a", acks=acks), b"v", b"w"),
        ask(Produce(topic="a b", acks=acks), b"v"),
        ask(Produce(topic="a", acks=acks, format="batch"), make_batch()),
        ask(Produce(topic="a", acks=acks, records=[ProduceRecord()]), bytes(2 << 20)),
    ):
        assert rig.turn(bad) == []


def test_two_frames_are_not_one_record() -> None:
    assert error_name(served().turn(ask(Produce(topic="a"), b"v", b"w"))) == "INVALID_REQUEST"


def test_a_record_is_refused_by_its_size_exactly() -> None:
    size = len(encode_batch([RecordToWrite(5, None, bytes(300))]))
    request = Produce(topic="a", timestamp=5)
    assert error_name(served(batch_bytes_max=size - 1).turn(ask(request, bytes(300)))) == "MESSAGE_TOO_LARGE"
    assert len(only_forward(served(batch_bytes_max=size).turn(ask(request, bytes(300)))).payload[0]) == size


# -- produce: many records ---------------------------------------------------------------------------------


def many(*records: tuple[bytes | None, bytes | None], **fields: Any) -> Envelope:
    described = [
        ProduceRecord(key=None if key is None else Blob(key), null=value is None) for key, value in records
    ]
    return ask(Produce(topic="a", records=described, **fields), *(value or b"" for _, value in records))


def test_many_go_to_their_partitions_and_come_back_as_one_reply_in_their_order() -> None:
    rig = served(3)
    keys = [b"k%d" % number for number in range(9)]
    effects = rig.turn(many(*((key, key) for key in keys)))
    by_partition = {cast(Produce, forward.request).partition: forward for forward in forwards(effects)}
    assert set(by_partition) == {partition_for_key(key, 3) for key in keys}
    heard: list[Effect] = []
    for partition, forward in by_partition.items():
        assert heard == [], "one reply, after the last"
        heard = rig.turn(answer(forward, ProduceReply(offset=100 * (partition or 0))))
    reply = only_reply(heard, ProduceReply)
    expected, following = [], {partition: 100 * (partition or 0) for partition in by_partition}
    for key in keys:
        partition = partition_for_key(key, 3)
        expected.append((partition, following[partition]))
        following[partition] += 1
    assert reply.offsets == expected
    assert reply.errors == {}


def test_some_of_many_fail_and_the_others_do_not() -> None:
    rig = Rig(topic_route("a", "ipc://0", None, batch_bytes_max=1_000))
    keys = {partition_for_key(b"%d" % number, 2): b"%d" % number for number in range(20)}
    effects = rig.turn(many((keys[0], b"fine"), (keys[1], b"starting"), (keys[0], bytes(2_000))))
    reply = only_reply(rig.turn(answer(only_forward(effects), ProduceReply(offset=5))), ProduceReply)
    assert reply.error is None
    assert isinstance(reply.offsets, list)
    assert [offset for _, offset in reply.offsets] == [5, None, None]
    assert isinstance(reply.errors, dict)
    assert {index: error.name for index, error in reply.errors.items()} == {
        1: "LEADER_NOT_AVAILABLE",
        2: "MESSAGE_TOO_LARGE",
    }


def test_all_of_many_fail() -> None:
    reply = only_reply(served().turn(many((None, b"x"), (None, b"y"), partition=7)), ProduceReply)
    assert reply.offsets == [(7, None), (7, None)]


def test_many_of_none_is_answered() -> None:
    assert only_reply(served().turn(many()), ProduceReply).offsets == []


def test_many_null_values_and_empty_ones() -> None:
    forward = only_forward(served().turn(many((None, None), (None, b""))))
    assert records_in(forward) == [(None, None), (None, b"")]


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_many_records_have_a_frame_each(frames: int) -> None:
    request = Produce(topic="a", records=[ProduceRecord(), ProduceRecord()])
    assert error_name(served().turn(ask(request, *[b"v"] * frames))) == "INVALID_REQUEST"


def test_more_than_a_batch_holds_is_split_and_merged_again() -> None:
    rig = served(batch_bytes_max=1_000)
    parts = forwards(rig.turn(many(*[(None, bytes(300))] * 10)))
    assert len(parts) > 1
    assert all(len(part.payload[0]) <= 1_000 for part in parts)
    offset = 0
    effects: list[Effect] = []
    for part in reversed(parts):
        effects = rig.turn(answer(part, ProduceReply(offset=offset)))
        offset += len(records_in(part))
    reply = only_reply(effects, ProduceReply)
    assert isinstance(reply.offsets, list)
    assert sorted(found for _, found in reply.offsets if found is not None) == list(range(10))


# -- produce: batches --------------------------------------------------------------------------------------


def test_a_batch_passes_untouched() -> None:
    batch = make_batch(3, producer_id=5, producer_epoch=0, base_sequence=0)
    forward = only_forward(served().turn(ask(Produce(topic="a", partition=0, format="batch"), batch)))
    assert forward.payload[0] is batch


@pytest.mark.parametrize("payload", [(), (b"x", b"y")])
def test_a_batch_is_one_frame(payload: tuple[bytes, ...]) -> None:
    request = Produce(topic="a", partition=0, format="batch")
    assert error_name(served().turn(ask(request, *payload))) == "INVALID_REQUEST"


def test_a_batch_needs_a_partition() -> None:
    request = Produce(topic="a", format="batch")
    assert error_name(served().turn(ask(request, make_batch()))) == "INVALID_REQUEST"


def test_a_batch_is_refused_by_its_size_exactly() -> None:
    batch = make_batch(payload=bytes(100))
    request = ask(Produce(topic="a", partition=0, format="batch"), batch)
    assert error_name(served(batch_bytes_max=len(batch) - 1).turn(request)) == "MESSAGE_TOO_LARGE"
    only_forward(served(batch_bytes_max=len(batch)).turn(request))


# -- fetch -------------------------------------------------------------------------------------------------


def test_fetch_of_records_asks_for_batches_and_takes_them_apart() -> None:
    rig = served()
    request = Fetch(topic="a", partition=0, offset=1, max_bytes=9, min_bytes=2, max_wait_ms=3)
    forward = only_forward(rig.turn(ask(request)))
    sent = cast(Fetch, forward.request)
    assert (sent.format, sent.offset, sent.max_bytes, sent.min_bytes, sent.max_wait_ms) == (
        "batch",
        1,
        9,
        2,
        3,
    )
    batch = encode_batch([RecordToWrite(5, None, b"zero"), RecordToWrite(6, b"k", b"one")])
    (effect,) = replies(rig.turn(answer(forward, FetchReply(high_watermark=2), batch)))
    reply = cast(FetchReply, effect.reply)
    assert isinstance(reply.records, list)
    assert [record.offset for record in reply.records] == [1]
    assert list(effect.payload) == [b"one"]


def test_fetch_out_of_range_brings_both_ends() -> None:
    rig = served()
    forward = only_forward(rig.turn(ask(Fetch(topic="a", partition=0, offset=99))))
    refused = FetchReply(error=OffsetOutOfRange("no").wire(), high_watermark=5, log_start_offset=2)
    reply = only_reply(rig.turn(answer(forward, refused)), FetchReply)
    assert (reply.high_watermark, reply.log_start_offset) == (5, 2)


@pytest.mark.parametrize(("timeout_ms", "wait_s"), [(None, 60.0), (90_000, 60.0), (1_000, 1.0)])
def test_a_long_poll_is_waited_for(timeout_ms: int | None, wait_s: float) -> None:
    rig = served()
    rig.turn(ask(Fetch(topic="a", partition=0, offset=0, max_wait_ms=60_000, timeout_ms=timeout_ms)))
    assert rig.after(wait_s + GRACE_S - 0.2) == []
    assert error_name(rig.after(0.4)) == "REQUEST_TIMED_OUT"


# -- answers that do not come ------------------------------------------------------------------------------


def test_time_outs_and_answers_that_come_too_late() -> None:
    rig = served()
    forward = only_forward(rig.turn(ask(ListOffsets(topic="a", partition=0, at="latest", timeout_ms=200))))
    assert rig.after(0.15) == []
    assert error_name(rig.after(0.2)) == "REQUEST_TIMED_OUT"
    assert rig.turn(answer(forward, ListOffsetsReply(offset=1, timestamp=-1))) == []
    assert rig.turn(Undeliverable(forward.token, LeaderNotAvailable())) == []


def test_the_default_time_out() -> None:
    rig = served()
    rig.turn(ask(ListOffsets(topic="a", partition=0, at="latest")))
    assert rig.after(TIMEOUT_MS_DEFAULT / 1000 - 0.2) == []
    assert error_name(rig.after(0.4)) == "REQUEST_TIMED_OUT"


@pytest.mark.parametrize(
    ("envelope", "name"),
    [
        (ask(Produce(topic="a", partition=0, format="batch"), make_batch()), "NETWORK_EXCEPTION"),
        (ask(Produce(topic="a"), b"v"), "NETWORK_EXCEPTION"),
        (ask(DeleteRecords(topic="a", partition=0, before_offset=0)), "NETWORK_EXCEPTION"),
        (ask(Fetch(topic="a", partition=0, offset=0)), "LEADER_NOT_AVAILABLE"),
        (ask(ListOffsets(topic="a", partition=0, at="latest")), "LEADER_NOT_AVAILABLE"),
        (ask(OffsetCommit(group="g", offsets=[])), "NETWORK_EXCEPTION"),
        (ask(GroupDelete(group="g")), "NETWORK_EXCEPTION"),
        (ask(OffsetFetch(group="g")), "COORDINATOR_NOT_AVAILABLE"),
        (ask(GroupHeartbeat(group="g")), "COORDINATOR_NOT_AVAILABLE"),
    ],
)
def test_an_actor_that_ends_takes_its_answers_with_it(envelope: Envelope, name: str) -> None:
    """A lost read did nothing; of a lost write nobody knows."""
    rig = served()
    forward = only_forward(rig.turn(envelope))
    rig.coordinator = None
    assert said(rig.route(topic_route("a", None))) == [("client", name)]
    assert rig.turn(answer(forward, failure(LeaderNotAvailable()))) == []
    assert rig.actor.deadline() is None


def test_an_actor_that_stays_keeps_its_answers() -> None:
    rig = served()
    forward = only_forward(rig.turn(ask(ListOffsets(topic="a", partition=0, at="latest"))))
    assert replies(rig.route(topic_route("a", "ipc://0"), topic_route("b", "ipc://1"))) == []
    only_reply(rig.turn(answer(forward, ListOffsetsReply(offset=1))), ListOffsetsReply)


def test_what_never_left_says_why() -> None:
    rig = served()
    forward = only_forward(rig.turn(ask(Produce(topic="a"), b"v")))
    assert error_name(rig.turn(Undeliverable(forward.token, LeaderNotAvailable()))) == "LEADER_NOT_AVAILABLE"


def test_stop_tells_everybody() -> None:
    rig = served()
    rig.turn(
        ask(ListOffsets(topic="a", partition=0, at="latest"), by="reader"),
        ask(Produce(topic="a"), b"v", by="writer"),
        ask(Produce(topic="new"), b"v", by="waiting"),
        ask(Produce(topic="new", acks=0), b"v", by="silent"),
    )
    assert sorted(said(rig.actor.stop(rig.clock.now()))) == [
        ("reader", "LEADER_NOT_AVAILABLE"),
        ("waiting", "LEADER_NOT_AVAILABLE"),
        ("writer", "NETWORK_EXCEPTION"),
    ]


# -- topics that do not exist yet --------------------------------------------------------------------------


def created(name: str = "new", error: Any = None) -> CreateTopicsReply:
    return CreateTopicsReply(topics=[CreatedTopic(name=name, error=error)])


def test_a_produce_has_its_topic_created_and_goes_on_when_it_serves() -> None:
    rig = Rig()
    forward = only_forward(rig.turn(ask(Produce(topic="new"), b"1", by="x")))
    assert forward.address == "supervisor"
    assert forward.request == CreateTopics(topics=[NewTopic(name="new", partitions=3)])
    assert rig.turn(ask(Produce(topic="new"), b"2", by="y")) == [], "it is asked for once"
    assert forwards(rig.route(topic_route("new", "ipc://0", None))) == [], "not before every partition serves"
    produce = only_forward(forwards(rig.route(topic_route("new", "ipc://0", "ipc://1"))))
    assert records_in(produce) == [(None, b"1"), (None, b"2")]
    assert rig.turn(answer(forward, created())) == []
    assert said(rig.turn(answer(produce, ProduceReply(offset=0)))) == [("x", "ok"), ("y", "ok")]


def test_a_topic_that_was_there_already_releases_what_waits_though_a_partition_is_down() -> None:
    rig = Rig()
    forward = only_forward(rig.turn(ask(Produce(topic="new", partition=1), b"1")))
    rig.route(topic_route("new", "ipc://0", None))
    assert said(rig.turn(answer(forward, created()))) == [("client", "LEADER_NOT_AVAILABLE")]


def test_a_topic_that_is_created_and_never_seen_does_not_hold_requests_for_ever() -> None:
    rig = Rig()
    forward = only_forward(rig.turn(ask(Produce(topic="new"), b"1")))
    assert said(rig.turn(answer(forward, created()))) == [("client", "LEADER_NOT_AVAILABLE")]
    only_forward(rig.turn(ask(Produce(topic="new"), b"1")))


def test_a_creation_that_fails_is_told_to_everybody_who_waits() -> None:
    rig = Rig()
    forward = only_forward(rig.turn(ask(Produce(topic="new"), b"1", by="x")))
    rig.turn(ask(Produce(topic="new"), b"2", by="y"), ask(Produce(topic="new", acks=0), b"3", by="z"))
    effects = rig.turn(answer(forward, created(error=InvalidConfig("no").wire())))
    assert said(effects) == [("x", "INVALID_CONFIG"), ("y", "INVALID_CONFIG")]


def test_a_creation_that_is_not_answered_times_out() -> None:
    rig = Rig()
    rig.turn(ask(Produce(topic="new"), b"1"))
    assert error_name(rig.after(TIMEOUT_MS_DEFAULT / 1000 + GRACE_S + 0.1)) == "REQUEST_TIMED_OUT"


@pytest.mark.parametrize(("rig", "topic"), [(Rig(auto_create=False), "new"), (Rig(), "__consumer_offsets")])
def test_topics_that_are_not_to_be_created_are_unknown(rig: Rig, topic: str) -> None:
    assert error_name(rig.turn(ask(Produce(topic=topic), b"1"))) == "UNKNOWN_TOPIC_OR_PARTITION"


@pytest.mark.parametrize("request_", TO_PARTITION[1:], ids=lambda request: type(request).__name__)
def test_reading_creates_nothing(request_: Request) -> None:
    assert error_name(Rig().turn(ask(request_))) == "UNKNOWN_TOPIC_OR_PARTITION"


def test_requests_that_wait_for_topics_are_bounded_by_number_and_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "WAITING_REQUESTS_MAX", 2)
    monkeypatch.setattr(waiting, "WAITING_BYTES_MAX", 100)
    rig = Rig()
    first = only_forward(rig.turn(ask(Produce(topic="new"), bytes(60))))
    too_many_bytes = rig.turn(ask(Produce(topic="new"), bytes(60)), ask(Produce(topic="other"), bytes(60)))
    assert said(too_many_bytes) == [("client", "THROTTLING_QUOTA_EXCEEDED")] * 2
    rig.turn(ask(Produce(topic="new"), b"x"))
    assert error_name(rig.turn(ask(Produce(topic="new"), b"x"))) == "THROTTLING_QUOTA_EXCEEDED"
    rig.turn(answer(first, created(error=InvalidConfig("no").wire())))
    only_forward(rig.turn(ask(Produce(topic="new"), bytes(100)))), "what waited was given back"


def test_metadata_creates_what_it_names_where_it_says_so() -> None:
    rig = served()
    names = ["a", "not a name", "__consumer_offsets", "new", "newer"]
    forward = only_forward(rig.turn(ask(Metadata(topics=names, allow_auto_create=True))))
    assert cast(CreateTopics, forward.request).topics[0].name == "new"
    known = [topic_route(name, "ipc://0") for name in ("a", "new")]
    forward = only_forward(forwards(rig.route(*known)))
    assert cast(CreateTopics, forward.request).topics[0].name == "newer"
    reply = only_reply(replies(rig.route(*known, topic_route("newer", "ipc://0"))), MetadataReply)
    assert isinstance(reply.topics, list)
    assert [topic.error and topic.error.name for topic in reply.topics] == [
        None,
        "INVALID_TOPIC_EXCEPTION",
        "UNKNOWN_TOPIC_OR_PARTITION",
        None,
        None,
    ]


# -- routes and groups -------------------------------------------------------------------------------------


def test_a_lost_connection_ends_what_was_asked_on_it_and_nothing_else() -> None:
    rig = served(partitions=2)
    lost = ask(Fetch(topic="a", partition=0, offset=0), by="reader")
    written = ask(Produce(topic="a", partition=0, format="batch"), make_batch(), by="writer")
    kept = ask(Fetch(topic="a", partition=1, offset=0), by="other")
    effects = rig.turn(lost, written, kept)
    assert said(rig.turn(Lost("partition:a-0"))) == [
        ("reader", "LEADER_NOT_AVAILABLE"),
        ("writer", "NETWORK_EXCEPTION"),
    ]
    only_reply(rig.turn(answer(forwards(effects)[2], FetchReply())), FetchReply)
    assert rig.turn(Lost("partition:a-0")) == []


def test_old_routes_change_nothing() -> None:
    rig = served()
    old: Routes = routes(0)
    assert rig.turn(Envelope(sender(), old)) == []
    only_forward(rig.turn(ask(Produce(topic="a"), b"v")))


def test_group_describe_adds_the_lag() -> None:
    rig = Rig(topic_route("a", "ipc://0", None))
    forward = only_forward(rig.turn(ask(GroupDescribe(group="g"))))
    described = GroupDescribeReply(
        group="g",
        offsets=[
            GroupOffset(topic="a", partition=0, offset=4),
            GroupOffset(topic="a", partition=1, offset=4),
            GroupOffset(topic="deleted", partition=0, offset=4),
        ],
    )
    latest = only_forward(rig.turn(answer(forward, described)))
    assert latest.request == ListOffsets(topic="a", partition=0, at="latest")
    reply = only_reply(rig.turn(answer(latest, ListOffsetsReply(offset=10))), GroupDescribeReply)
    assert isinstance(reply.offsets, list)
    assert [offset.lag for offset in reply.offsets] == [6, None, None]


def test_too_much_in_flight_is_said_to_each_record(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = served()
    rig.actor._pending._requests_max = 1
    first: Sequence[Effect] = rig.turn(ask(Produce(topic="a"), b"v"))
    only_forward(first)
    effects = rig.turn(ask(Produce(topic="a"), b"v", by="x"), ask(Produce(topic="a"), b"w", by="y"))
    assert said(effects) == [("x", "THROTTLING_QUOTA_EXCEEDED"), ("y", "THROTTLING_QUOTA_EXCEEDED")]


def test_how_long_a_record_may_wait_goes_with_it() -> None:
    rig = served()
    effects = rig.turn(
        ask(Produce(topic="a", timeout_ms=1_000), b"1", by="hasty"),
        ask(Produce(topic="a"), b"2", by="patient"),
    )
    assert [forward.request.timeout_ms for forward in forwards(effects)] == [1_000, None]
    assert said(rig.after(1.2)) == [("hasty", "REQUEST_TIMED_OUT")]


def test_a_fetch_of_records_asks_for_no_more_than_a_reply_may_carry() -> None:
    rig = served()
    asked = ask(Fetch(topic="a", partition=0, offset=0, max_bytes=64 << 20, min_bytes=64 << 20))
    request = cast(Fetch, only_forward(rig.turn(asked)).request)
    assert (request.format, request.max_bytes, request.min_bytes) == ("batch", 8 << 20, 8 << 20)

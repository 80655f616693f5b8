"""The producer against a scripted broker: once, in order, bounded, and honest about failure."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from odradek import BufferExhausted, ClientClosed, ClientForked, Delivery, Producer
from odradek.protocol import messages as m
from odradek.protocol.errors import (
    InvalidConfig,
    InvalidTopic,
    LeaderNotAvailable,
    MessageTooLarge,
    NetworkException,
    OutOfOrderSequenceNumber,
    PolicyViolation,
    RequestTimedOut,
    UnknownTopicOrPartition,
    UnsupportedCompressionType,
)
from odradek.protocol.partitioning import REMEMBERED_KEYS_MAX, partition_for_key, positive_hash
from odradek.queues import LONE_FLYING_MAX
from tests.clients.fake_broker import FakeBroker, Partition
from tests.support.ports import lasting_ports

WAIT_S = 30.0


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker({"events": 1, "wide": 4}) as fake:
        yield fake


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def until(condition: Callable[[], bool]) -> None:
    """For states of a client that nothing announces."""
    pause = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to this state")


def test_a_record_comes_back_with_its_place(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        sent = producer.send("events", b"v", key="k", headers={"h": "x", "n": None}, timestamp=1234)
        metadata = sent.result(WAIT_S)
        assert (metadata.topic, metadata.partition, metadata.offset, metadata.timestamp) == (
            "events",
            0,
            0,
            1234,
        )
        assert sent.done()
        assert sent.exception(WAIT_S) is None
        assert producer.send("events", None, key=b"k").result(WAIT_S).offset == 1
        assert producer.send("events", "é").result(WAIT_S).offset == 2
    first, tombstone, text = broker.records("events")
    assert (first.key, first.value, first.timestamp) == (b"k", b"v", 1234)
    assert list(first.headers) == [("h", b"x"), ("n", None)]
    assert tombstone.value is None
    assert text.value == "é".encode()


def test_the_timestamp_is_now(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        before_ms = time.time_ns() // 1_000_000
        metadata = producer.send("events", b"v").result(WAIT_S)
        after_ms = time.time_ns() // 1_000_000
    assert before_ms <= metadata.timestamp <= after_ms
    assert broker.records("events")[0].timestamp == metadata.timestamp


@pytest.mark.parametrize("message_bytes_max", [1 << 20, 3_000])
def test_the_timestamp_is_the_brokers_where_the_topic_says_so(
    broker: FakeBroker, message_bytes_max: int
) -> None:
    broker.append_time, broker.message_bytes_max = 777, message_bytes_max
    with Producer(broker.endpoint) as producer:
        one = producer.send("events", b"v", timestamp=5)
        assert one.timestamp in (5, 777), "the producer's, until the broker's is known"
        assert one.result(WAIT_S).timestamp == one.timestamp == 777
        many = producer.send_many("events", numbered(1_000), timestamp=5)  # in halves, where too large
        assert {metadata.timestamp for metadata in many.results(WAIT_S)} == {777}


def test_many_single_sends_stay_in_order_and_know_their_offsets(broker: FakeBroker) -> None:
    values = numbered(20_000)
    with Producer(broker.endpoint, batch_bytes_max=16_384) as producer:
        handles = [producer.send("events", value) for value in values]
        producer.flush(WAIT_S)
        assert [handle.result(0).offset for handle in handles] == list(range(len(values)))
    assert broker.values("events") == values
    assert len(broker.seen(m.Produce)) < 200, "records must travel in batches"


def test_send_many_keeps_order_and_gives_lazy_handles(broker: FakeBroker) -> None:
    values = numbered(10_000)
    with Producer(broker.endpoint, batch_bytes_max=20_000) as producer:
        handles = producer.send_many("events", iter(values))
        results = handles.results(WAIT_S)
        assert handles.done()
    assert [result.offset for result in results] == list(range(len(values)))
    assert len(handles) == len(values)
    assert handles[-1].result(0).offset == handles[9_999].result(0).offset == 9_999
    assert [handle.result(0).offset for handle in handles[5:8]] == [5, 6, 7]
    assert sum(1 for _ in handles) == len(values)
    with pytest.raises(IndexError):
        handles[10_000]
    assert broker.values("events") == values


def test_send_and_send_many_mix_in_order(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"0")
        producer.send_many("events", [b"1", "2", None])
        producer.send("events", b"4").result(WAIT_S)
    assert broker.values("events") == [b"0", b"1", b"2", None, b"4"]


def test_keys_choose_partitions_as_kafka_does(broker: FakeBroker) -> None:
    keys = [f"user-{number}" for number in range(50)]
    with Producer(broker.endpoint) as producer:
        assert producer.partitions_for("wide") == 4
        single = [producer.send("wide", key, key=key).result(WAIT_S).partition for key in keys]
        many = [found.partition for found in producer.send_many("wide", keys, keys=keys).results(WAIT_S)]
        explicit = producer.send("wide", b"x", key="user-0", partition=3).result(WAIT_S)
    expected = [partition_for_key(key.encode(), 4) for key in keys]
    assert single == many == expected
    assert explicit.partition == 3


def test_records_without_a_key_spread_over_partitions(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, batch_bytes_max=1_000) as producer:
        producer.send_many("wide", [b"x" * 50] * 2_000).wait(WAIT_S)
    assert all(broker.values("wide", number) for number in range(4))


def test_threads_share_a_producer(broker: FakeBroker) -> None:
    def work(name: int) -> None:
        for number in range(2_000):
            producer.send("events", b"%d:%d" % (name, number))

    with Producer(broker.endpoint, batch_bytes_max=10_000) as producer:
        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush(WAIT_S)
    values = broker.values("events")
    assert len(values) == 8_000
    for name in range(4):
        own = [value for value in values if value is not None and value.startswith(b"%d:" % name)]
        assert own == [b"%d:%d" % (name, number) for number in range(2_000)]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_compression_round_trips(broker: FakeBroker, compression: str) -> None:
    values = [b"the same again and again" * 20] * 300
    with Producer(broker.endpoint, compression=compression) as producer:  # type: ignore[arg-type]
        producer.send_many("events", values).wait(WAIT_S)
    assert broker.values("events") == values
    stored = sum(len(data) for _, data in broker.topics["events"][0].batches)
    if compression != "none":
        assert stored < 30_000


def test_a_lost_reply_gives_one_copy(broker: FakeBroker) -> None:
    broker.fail("produce", times=2, drop="reply")
    with Producer(broker.endpoint, request_timeout_ms=100) as producer:
        handles = [producer.send("events", value) for value in numbered(10)]
        offsets = [handle.result(WAIT_S).offset for handle in handles]
    assert offsets == list(range(10))
    assert broker.values("events") == numbered(10)
    assert broker.topics["events"][0].duplicates >= 1


def test_a_batch_lost_in_flight_is_sent_again_before_those_after_it(broker: FakeBroker) -> None:
    broker.fail("produce", times=1, drop="request")
    values = numbered(3_000)
    with Producer(broker.endpoint, batch_bytes_max=2_000, request_timeout_ms=150) as producer:
        producer.send_many("events", values).wait(WAIT_S)
    assert broker.values("events") == values
    assert broker.topics["events"][0].out_of_order >= 1, "later batches were refused meanwhile"


def test_retriable_errors_are_retried_in_order(broker: FakeBroker) -> None:
    broker.fail("produce", times=3, error=LeaderNotAvailable("restarting"))
    values = numbered(2_000)
    with Producer(broker.endpoint, batch_bytes_max=2_000) as producer:
        producer.send_many("events", values).wait(WAIT_S)
    assert broker.values("events") == values


def test_nothing_after_a_failure_becomes_durable(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, batch_bytes_max=500) as producer:
        producer.send("events", b"before").result(WAIT_S)
        broker.fail("produce", times=1, error=PolicyViolation("no"))
        broker.paused = True
        doomed = [producer.send("events", b"doomed") for _ in range(300)]
        broker.resume()
        for handle in doomed:
            assert isinstance(handle.exception(WAIT_S), PolicyViolation)
        after = producer.send("events", b"after").result(WAIT_S)
        story = str(doomed[-1].exception(0))
    assert "an earlier batch of this producer failed" in story
    assert broker.values("events") == [b"before", b"after"]
    assert after.offset == 1


def test_the_delivery_timeout_decides(broker: FakeBroker) -> None:
    broker.fail("produce", times=10_000, drop="request")
    producer = Producer(broker.endpoint, delivery_timeout_ms=1_500, request_timeout_ms=60)
    first = producer.send("events", b"1")
    error = first.exception(WAIT_S)
    assert isinstance(error, RequestTimedOut)
    assert "delivery_timeout_ms=1500" in str(error)
    assert "unknown" in str(error)
    producer.close(WAIT_S)


def test_without_a_broker_a_record_was_certainly_not_written() -> None:
    with FakeBroker({"events": 1}) as fake:
        endpoint = fake.endpoint
        # The first retry comes after the delivery timeout, so the last word is that nobody is there.
        producer = Producer(
            endpoint,
            delivery_timeout_ms=2_000,
            connect_timeout_ms=50,
            retry_backoff_ms=60_000,
            retry_backoff_max_ms=60_000,
        )
        producer.send("events", b"1").result(WAIT_S)
    network = producer._session.network
    until(lambda: not network.connected(endpoint))
    late = producer.send("events", b"2").exception(WAIT_S)
    assert isinstance(late, RequestTimedOut)
    assert "it was not written" in str(late)
    producer.close(WAIT_S)


def test_a_full_buffer_makes_send_wait_and_then_gives_up(broker: FakeBroker) -> None:
    producer = Producer(broker.endpoint, buffer_bytes_max=100_000, batch_bytes_max=10_000, block_ms_max=1_000)
    producer.send("events", b"x").result(WAIT_S)
    broker.paused = True
    taken = []
    with pytest.raises(BufferExhausted, match="the record was not taken"):
        for _ in range(10_000):
            taken.append(producer.send("events", b"x" * 1_000))
    assert len(taken) * 1_000 <= 100_000
    broker.resume()
    producer.flush(WAIT_S)
    producer.close(WAIT_S)
    assert len(broker.values("events")) == len(taken) + 1


def test_back_pressure_ends_when_the_broker_answers(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, buffer_bytes_max=60_000, batch_bytes_max=5_000) as producer:
        producer.send_many("events", [b"x" * 500] * 2_000).wait(WAIT_S)
        assert producer._accumulator.used_bytes == 0
    assert len(broker.values("events")) == 2_000


def test_a_batch_that_is_too_large_for_its_topic_is_split(broker: FakeBroker) -> None:
    broker.message_bytes_max = 3_000
    values = numbered(2_000)
    with Producer(broker.endpoint) as producer:
        handles = producer.send_many("events", values)
        results = handles.results(WAIT_S)
    assert broker.values("events") == values
    assert [result.offset for result in results] == list(range(2_000))


def test_a_record_that_is_too_large_fails_by_name(broker: FakeBroker) -> None:
    broker.message_bytes_max = 3_000
    with Producer(broker.endpoint) as producer:
        assert isinstance(producer.send("events", b"x" * 5_000).exception(WAIT_S), MessageTooLarge)
        with pytest.raises(MessageTooLarge, match="at most"):
            producer.send("events", b"x" * (17 << 20))
        assert producer.send("events", b"small").result(WAIT_S).offset == 0


def test_a_partition_that_forgot_the_producer_is_continued_in_a_new_session(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"1").result(WAIT_S)
        with broker.lock:
            broker.topics["events"][0].producers.clear()
        assert producer.send("events", b"2").result(WAIT_S).offset == 1
        assert producer.send("events", b"3").result(WAIT_S).offset == 2
    assert broker.values("events") == [b"1", b"2", b"3"]
    assert len(broker.seen(m.InitProducerId)) == 2


def test_an_unknown_outcome_is_never_renumbered(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, request_timeout_ms=100) as producer:
        producer.send("events", b"1").result(WAIT_S)
        broker.fail("produce", times=1, drop="reply")
        handle = producer.send("events", b"2")
        broker.wait_for(lambda: broker.topics["events"][0].end_offset == 2)
        with broker.lock:
            broker.topics["events"][0].producers.clear()
        assert isinstance(handle.exception(WAIT_S), OutOfOrderSequenceNumber)
    assert broker.values("events") == [b"1", b"2"]


def test_acks_zero_asks_for_no_reply(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, acks=0) as producer:
        assert producer.send("events", b"v").result(WAIT_S).offset == -1
        broker.wait_for(lambda: broker.topics["events"][0].end_offset == 1)
    assert broker.seen(m.InitProducerId) == []


def test_without_idempotence_one_batch_is_in_flight(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, idempotent=False, acks=1, batch_bytes_max=2_000) as producer:
        producer.send_many("events", numbered(1_000)).wait(WAIT_S)
        assert producer.options.in_flight_max == 1
    assert broker.values("events") == numbered(1_000)


def test_lone_records_do_not_wait_for_each_other_until_some_are_on_their_way(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"first").result(WAIT_S)
        broker.paused = True
        while (held := broker.held(m.Produce)) < LONE_FLYING_MAX:
            producer.send("events", b"alone")
            broker.wait_for(partial(_holds, broker, held + 1))
        handles = [producer.send("events", value) for value in numbered(10)]
        broker.resume()
        handles[-1].result(WAIT_S)
    sizes = [header.record_count for header, _ in broker.topics["events"][0].batches]
    assert sizes == [1] + [1] * LONE_FLYING_MAX + [10]


def _holds(broker: FakeBroker, produce_requests: int) -> bool:
    return broker.held(m.Produce) == produce_requests


def test_records_gather_behind_a_batch_of_several(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"first").result(WAIT_S)
        broker.paused = True
        producer.send_many("events", numbered(5))
        broker.wait_for(lambda: broker.held(m.Produce) == 1)
        producer.send("events", b"gathers")
        looked = threading.Event()
        producer._session.network.call(looked.set)
        assert looked.wait(WAIT_S), "the I/O thread has had its chance to send that record alone"
        last = producer.send("events", b"gathers, too")
        broker.resume()
        last.result(WAIT_S)
    assert [header.record_count for header, _ in broker.topics["events"][0].batches] == [1, 5, 2]


def test_linger_gathers(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, linger_ms=1_000) as producer:
        producer.send("events", b"0").result(WAIT_S)
        handles = [producer.send("events", value) for value in numbered(50)]
        handles[-1].result(WAIT_S)
    assert len(broker.seen(m.Produce)) == 2


def test_flush_does_not_wait_for_the_linger_time(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, linger_ms=60_000) as producer:
        handle = producer.send("events", b"0")
        producer.flush(WAIT_S)
        assert handle.done()


def test_flush_raises_what_nobody_has_looked_at(broker: FakeBroker) -> None:
    producer = Producer(broker.endpoint)
    broker.fail("produce", times=1, error=PolicyViolation("no"))
    producer.send("events", b"lost")
    with pytest.raises(PolicyViolation, match="1 record was not acknowledged"):
        producer.flush(WAIT_S)
    producer.flush(WAIT_S)
    producer.close(WAIT_S)


def test_close_flushes_and_raises_and_closes_once(broker: FakeBroker) -> None:
    producer = Producer(broker.endpoint, linger_ms=60_000)
    producer.send("events", b"v")
    producer.close(WAIT_S)
    producer.close(WAIT_S)
    assert broker.values("events") == [b"v"]
    with pytest.raises(ClientClosed):
        producer.send("events", b"v")
    broker.fail("produce", times=1, error=PolicyViolation("no"))
    with pytest.raises(PolicyViolation), Producer(broker.endpoint) as other:
        other.send("events", b"lost")


def test_close_in_time_fails_what_is_left(broker: FakeBroker) -> None:
    producer = Producer(broker.endpoint)
    producer.send("events", b"v").result(WAIT_S)
    broker.paused = True
    handle = producer.send("events", b"w")
    with pytest.raises(RequestTimedOut):
        producer.close(0.1)
    assert isinstance(handle.exception(WAIT_S), NetworkException)


def test_done_callbacks_come_from_both_sides_of_the_outcome(broker: FakeBroker) -> None:
    called: list[int] = []
    done = threading.Event()
    with Producer(broker.endpoint) as producer:
        handle = producer.send("events", b"v")

        def note(delivery: Delivery) -> None:
            called.append(delivery.result(0).offset)
            done.set()

        handle.add_done_callback(note)
        assert done.wait(WAIT_S)
        handle.add_done_callback(note)
    assert called == [0, 0]


def test_result_says_when_it_is_too_early(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"v").result(WAIT_S)
        broker.paused = True
        handle = producer.send("events", b"w")
        with pytest.raises(RequestTimedOut, match="still being tried"):
            handle.result(0.05)
        broker.resume()
        assert handle.result(WAIT_S).offset == 1


def test_whatever_has_bytes_is_a_value_whichever_way_it_takes(broker: FakeBroker) -> None:
    values = [
        b"a",
        bytearray(b"b"),
        memoryview(b"xcx")[1:2],
        "d",
        None,
        memoryview(b"e-")[::2],
        array("B", [102]),
    ]
    with Producer(broker.endpoint, linger_ms=WAIT_S * 1000) as producer:
        for value in [*values, *values]:  # the first of a batch goes the long way, the others the short one
            producer.send("events", value, partition=None)  # type: ignore[arg-type]
        producer.send("events", "g", key=bytearray(b"k"))
        producer.send("events", b"h")
        producer.flush(WAIT_S)
    expected = [b"a", b"b", b"c", b"d", None, b"e", b"f"]
    assert [record.value for record in broker.records("events")] == [*expected, *expected, b"g", b"h"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 5},
        {"value": {"a": 1}},
        {"value": [120]},
        {"value": b"x", "key": 7},
        {"value": b"x", "headers": "no"},
        {"value": b"x", "headers": [("a",)]},
        {"value": b"x", "headers": [(b"a", b"b")]},
        {"value": b"x", "headers": {"a": 1}},
        {"value": b"x", "partition": "0"},
        {"value": b"x", "partition": True},
        {"value": b"x", "timestamp": 1.5},
    ],
)
def test_wrong_types_are_told_what_to_do(broker: FakeBroker, wrong: dict[str, object]) -> None:
    with Producer(broker.endpoint) as producer:
        producer.partitions_for("events")
        with pytest.raises(TypeError, match=r"bytes|header|partition|timestamp"):
            producer.send("events", **wrong)  # type: ignore[arg-type]
        # Once more while a batch is open, which is another road.
        producer.send("events", b"good")
        with pytest.raises(TypeError):
            producer.send("events", **wrong)  # type: ignore[arg-type]
        producer.flush(WAIT_S)
    assert broker.values("events") == [b"good"]


def test_send_many_takes_whatever_has_bytes_in_order(broker: FakeBroker) -> None:
    values = [b"0", b"1", "2", bytearray(b"3"), None, memoryview(b"5x")[::2], b"6"] * 40
    expected = [b"0", b"1", b"2", b"3", None, b"5", b"6"] * 40
    with Producer(broker.endpoint) as producer:
        results = producer.send_many("events", values).results(WAIT_S)
    assert [result.offset for result in results] == list(range(len(values)))
    assert [record.value for record in broker.records("events")] == expected


def test_large_and_small_calls_with_and_without_keys_mix_in_order(broker: FakeBroker) -> None:
    sent: list[tuple[bytes | None, bytes]] = []
    with Producer(broker.endpoint, batch_bytes_max=3_000, compression="gzip") as producer:
        for turn in range(20):
            alike = [b"%03d-%03d" % (turn, number) for number in range(70)]
            various = [value + b"x" * number for number, value in enumerate(alike)]
            producer.send_many("events", alike)
            producer.send("events", b"alone", b"key")
            producer.send_many("events", various)
            producer.send_many("events", alike, keys=[b"k%d" % (number % 7) for number in range(70)])
            producer.send_many("events", alike, headers=[("name", b"value")])
            sent += [(None, value) for value in alike] + [(b"key", b"alone")]
            sent += [(None, value) for value in various]
            sent += [(b"k%d" % (number % 7), value) for number, value in enumerate(alike)]
            sent += [(None, value) for value in alike]
        producer.flush(WAIT_S)
    found = broker.records("events")
    assert [(record.key, record.value) for record in found] == sent
    assert sum(1 for record in found if record.headers == [("name", b"value")]) == 20 * 70


def test_send_many_names_the_wrong_one(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        with pytest.raises(TypeError, match=r"values\[2\]"):
            producer.send_many("events", [b"a", b"b", 3])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="use send"):
            producer.send_many("events", b"abc")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="fewer keys"):
            producer.send_many("events", [b"a", b"b"], keys=[b"k"])


def test_unknown_topics_and_partitions(broker: FakeBroker) -> None:
    with Producer(broker.endpoint, block_ms_max=300) as producer:
        with pytest.raises(InvalidTopic):
            producer.send("no/slash", b"v")
        with pytest.raises(UnknownTopicOrPartition, match="0 to 3"):
            producer.send("wide", b"v", partition=4)
        assert producer.send("made-for-you", b"v").result(WAIT_S).offset == 0
        broker.auto_create = False
        with pytest.raises(UnknownTopicOrPartition):
            producer.send("missing", b"v")


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"acks": 2}, InvalidConfig),
        ({"acks": True}, InvalidConfig),
        ({"compression": "rar"}, UnsupportedCompressionType),
        ({"linger_ms": -1}, InvalidConfig),
        ({"in_flight_max": 6}, InvalidConfig),
        ({"batch_bytes_max": 0}, InvalidConfig),
        ({"delivery_timeout_ms": "soon"}, InvalidConfig),
        ({"bootstrap": "http://x"}, InvalidConfig),
        ({"bootstrap": []}, InvalidConfig),
        ({"bootstrap": "host:port"}, InvalidConfig),
    ],
)
def test_wrong_options_are_refused_when_they_are_given(
    option: dict[str, object], error: type[Exception]
) -> None:
    threads = threading.active_count()
    with pytest.raises(error):
        Producer(**option)  # type: ignore[arg-type]
    assert threading.active_count() == threads


def test_without_a_broker_the_first_send_says_so() -> None:
    with (
        Producer("127.0.0.1:1", block_ms_max=300, connect_timeout_ms=100) as producer,
        pytest.raises(NetworkException, match=r"no broker answers at tcp://127\.0\.0\.1:1"),
    ):
        producer.send("events", b"v")


def test_the_direct_road_is_taken_and_left_when_it_is_silent() -> None:
    with FakeBroker({"events": 1}, direct=True) as broker:
        with Producer(broker.endpoint) as producer:
            producer.send("events", b"v").result(WAIT_S)
        assert broker.direct_requests == 1
        broker.fail("produce", times=1, drop="request")
        with Producer(broker.endpoint, request_timeout_ms=100) as producer:
            assert producer.send("events", b"w").result(WAIT_S).offset == 1
        assert broker.direct_requests == 2, "the second try went through the router"
        with Producer(broker.endpoint, direct=False) as producer:
            producer.send("events", b"x").result(WAIT_S)
        assert broker.direct_requests == 2


def test_a_broker_that_comes_back_gets_what_was_waiting() -> None:
    [port] = lasting_ports()
    with FakeBroker({"events": 1}, port=port) as first:
        producer = Producer(first.endpoint, connect_timeout_ms=200)
        producer.send("events", b"0").result(WAIT_S)
    network = producer._session.network
    until(lambda: not network.connected(first.endpoint))
    handle = producer.send("events", b"1")
    with FakeBroker({"events": 1}, port=port) as second:
        # Another broker with an empty log: it knows no sequence, and the record was never sent before.
        assert handle.result(WAIT_S).offset == 0
        producer.close(WAIT_S)
        assert second.values("events") == [b"1"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process")
def test_after_fork_a_producer_says_so(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"v").result(WAIT_S)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                producer.send("events", b"w")
            except ClientForked:
                code = 42
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 42
        assert producer.send("events", b"x").result(WAIT_S).offset == 1


# -- keys, partitions, headers, timestamps: on the fast path, and off it -------------------------------


def test_every_kind_of_send_carries_what_it_was_given(broker: FakeBroker) -> None:
    kinds: list[dict[str, object]] = [
        {},
        {"key": b"bytes"},
        {"key": "str"},
        {"partition": 0},
        {"headers": [("h", b"x")]},
        {"headers": {"h": "y"}, "key": "k"},
        {"timestamp": 7},
        {"key": b"", "timestamp": 0, "partition": 0, "headers": []},
    ]
    sent: list[tuple[Delivery, bytes | None, dict[str, object]]] = []
    with Producer(broker.endpoint, batch_bytes_max=1_500) as producer:
        for round_number in range(40):
            for kind in kinds:
                value = None if round_number % 7 == 3 else b"%d" % round_number
                again = (
                    {**kind, "headers": [("h", b"x")]} if "key" not in kind and "headers" in kind else kind
                )
                sent.append((producer.send("events", value, **again), value, again))  # type: ignore[arg-type]
            sent.append((producer.send("events", "text", key="é"), b"text", {"key": "é"}))
        producer.flush(WAIT_S)
    stored = broker.records("events")
    assert len(stored) == len(sent)
    for record, (delivery, value, kind) in zip(stored, sent, strict=True):
        assert delivery.result(0).offset == record.offset
        key = kind.get("key")
        assert record.key == (key.encode() if isinstance(key, str) else key)
        assert record.value == value
        wanted: Any = kind.get("headers") or []
        pairs = wanted.items() if isinstance(wanted, dict) else wanted
        assert [name for name, _ in record.headers] == [name for name, _ in pairs]
        assert "timestamp" not in kind or record.timestamp == kind["timestamp"] == delivery.timestamp


def test_headers_from_an_iterator_are_used_once(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"v", headers=iter([("h", b"x")])).result(WAIT_S)
    assert list(broker.records("events")[0].headers) == [("h", b"x")]


@pytest.mark.parametrize(
    "bad", [{"key": 5}, {"value": 5, "key": b"k"}, {"partition": True}, {"timestamp": "1"}]
)
def test_wrong_types_are_refused_while_a_batch_is_open(broker: FakeBroker, bad: dict[str, object]) -> None:
    with Producer(broker.endpoint, linger_ms=60_000) as producer:
        producer.send("events", b"0", key=b"k")
        with pytest.raises(TypeError):
            producer.send("events", **{"value": b"v", **bad})  # type: ignore[arg-type]
        producer.send("events", b"1", key=b"k")
    assert broker.values("events") == [b"0", b"1"]


@pytest.mark.parametrize("at_once", [5_000, 8])  # sorted by partition, and one by one
def test_keyed_send_many_keeps_the_order_of_each_key_and_knows_each_place(
    broker: FakeBroker, at_once: int
) -> None:
    keys: list[bytes | str | None] = [f"user-{number % 37}" for number in range(5_000)]
    keys[100:200] = [None] * 100
    values = numbered(5_000)
    with Producer(broker.endpoint, batch_bytes_max=5_000) as producer:
        results = []
        for start in range(0, len(values), at_once):
            some = slice(start, start + at_once)
            handles = producer.send_many("wide", iter(values[some]), keys=iter(keys[some]))
            found = handles.results(WAIT_S)
            assert [handles[at].result(0) for at in (0, at_once // 2, -1)] == [
                found[at] for at in (0, at_once // 2, -1)
            ]
            assert handles.done()
            results += found
    logs = [broker.records("wide", number) for number in range(4)]
    for at, place in enumerate(results):
        record = logs[place.partition][place.offset]
        assert (record.key, record.value) == (None if keys[at] is None else keys[at].encode(), values[at])  # type: ignore[union-attr]
        if keys[at] is not None:
            assert place.partition == partition_for_key(record.key or b"", 4)
    for log in logs:
        assert [int(record.value or b"") for record in log] == sorted(
            int(record.value or b"") for record in log
        )


def test_a_few_keyed_records_keep_their_headers_and_time(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        sent = producer.send_many("wide", [b"v", None], keys=[b"a", b"b"], headers={"h": b"x"}, timestamp=77)
        places = sent.results(WAIT_S)
    for place, value in zip(places, [b"v", None], strict=True):
        record = broker.records("wide", place.partition)[place.offset]
        assert (record.value, list(record.headers), record.timestamp) == (value, [("h", b"x")], 77)


def test_keyed_send_many_to_one_partition(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send_many("wide", numbered(50), keys=numbered(50), partition=2).wait(WAIT_S)
        with pytest.raises(UnknownTopicOrPartition):
            producer.send_many("wide", [b"v"], keys=[b"k"], partition=4)
    assert [record.key for record in broker.records("wide", 2)] == numbered(50)


def test_unequal_numbers_of_keys_and_values_are_refused(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        with pytest.raises(ValueError, match="fewer keys than values: 2"):
            producer.send_many("wide", [b"1", b"2", b"3"], keys=[b"1", b"2"])
        with pytest.raises(ValueError, match="fewer values than keys: 1"):
            producer.send_many("wide", [b"1"], keys=[b"1", b"2"])


def test_hashes_are_remembered_within_a_bound() -> None:
    hashes = positive_hash.__self__  # type: ignore[attr-defined]
    first = [positive_hash(b"key-%d" % number) for number in range(REMEMBERED_KEYS_MAX + 100)]
    assert len(hashes) <= REMEMBERED_KEYS_MAX
    again = [positive_hash(b"key-%d" % number) for number in range(REMEMBERED_KEYS_MAX + 100)]
    assert first == again
    hashes.clear()
    positive_hash(b"x" * 10_000)
    assert not hashes


# -- new partitions, lost answers, new leaders ---------------------------------------------------------


def test_keys_hash_over_new_partitions_without_a_restart(broker: FakeBroker) -> None:
    key = next(b"%d" % number for number in range(100) if partition_for_key(b"%d" % number, 2) == 1)
    with Producer(broker.endpoint, metadata_age_max_ms=20) as producer:
        assert producer.send("events", b"old", key=key).result(WAIT_S).partition == 0
        with broker.lock:
            broker.topics["events"].append(Partition())
        until(lambda: producer.send("events", b"new", key=key).result(WAIT_S).partition == 1)
        many = producer.send_many("events", [b"new"] * 3, keys=[key] * 3).results(WAIT_S)
        assert [found.partition for found in many] == [1, 1, 1]
        assert producer.partitions_for("events") == 2


def test_an_unknown_partition_makes_a_producer_look_again(broker: FakeBroker) -> None:
    def sent() -> bool:
        try:
            return producer.send("events", b"v", partition=1).result(WAIT_S).partition == 1
        except UnknownTopicOrPartition:
            return False

    with Producer(broker.endpoint) as producer:
        producer.send("events", b"v").result(WAIT_S)
        with broker.lock:
            broker.topics["events"].append(Partition())
        until(sent)


@pytest.mark.parametrize("drop", ["reply", "request"])
def test_a_later_answer_says_that_an_earlier_one_got_lost(broker: FakeBroker, drop: str) -> None:
    with Producer(broker.endpoint, batch_bytes_max=200, request_timeout_ms=3_600_000) as producer:
        producer.send("events", b"first").result(WAIT_S)
        broker.fail("produce", times=1, drop=drop)
        broker.paused = True
        handles = [producer.send("events", b"x" * 100) for _ in range(6)]
        broker.resume()
        assert [handle.result(WAIT_S).offset for handle in handles] == list(range(1, 7))
    assert len(broker.values("events")) == 7


@pytest.mark.parametrize("drop", ["reply", "request"])
def test_a_new_leader_is_asked_at_once(broker: FakeBroker, drop: str) -> None:
    with Producer(broker.endpoint, request_timeout_ms=3_600_000) as producer:
        producer.send("events", b"0").result(WAIT_S)
        broker.fail("produce", times=1, drop=drop)
        handle = producer.send("events", b"1")
        broker.wait_for(lambda: len(broker.seen(m.Produce)) == 2)
        with broker.lock:
            broker.leader_epoch += 1
        assert handle.result(WAIT_S).offset == 1
    assert broker.values("events") == [b"0", b"1"]


def test_the_same_leader_is_given_its_time(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"0").result(WAIT_S)
        broker.fail("produce", times=1, delay_s=0.7)
        assert producer.send("events", b"1").result(WAIT_S).offset == 1
        assert producer.send("events", b"2").result(WAIT_S).offset == 2
    assert len(broker.seen(m.Produce)) == 3, "nothing was sent twice"
    assert len(broker.seen(m.Metadata)) > 1, "but the leader was looked up"

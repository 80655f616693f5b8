"""The consumer against a scripted broker: positions, groups, commits, damage."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator

import pytest

from odradek import ClientClosed, Consumer, Producer, Record, TopicPartition
from odradek.fetcher import FETCHES_OUTDATED_MAX
from odradek.protocol import messages as m
from odradek.protocol.errors import (
    CorruptMessage,
    InvalidConfig,
    InvalidGroupId,
    InvalidTopic,
    KafkaStorageError,
    LeaderNotAvailable,
    OdradekError,
    OffsetOutOfRange,
    PolicyViolation,
    UnknownMemberId,
    UnknownTopicOrPartition,
)
from tests.clients.fake_broker import FakeBroker, Partition

WAIT_S = 30.0
EVENTS = TopicPartition("events", 0)
POLLS_MAX = 3_000
"""Of 0.01 s each, and longer where the machine is busy."""


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker({"events": 1, "wide": 4}) as fake:
        yield fake


def fill(broker: FakeBroker, topic: str, values: list[bytes], partition: int = 0, batch: int = 10) -> None:
    with Producer(broker.endpoint) as producer:
        for first in range(0, len(values), batch):
            producer.send_many(topic, values[first : first + batch], partition=partition).wait(WAIT_S)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def take(consumer: Consumer, count: int) -> list[Record]:
    records: list[Record] = []
    for _ in range(POLLS_MAX // 10):
        records += consumer.poll(0.1, count - len(records))
        if len(records) >= count:
            return records
    raise AssertionError(f"only {len(records)} of {count} records came")


def values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


def test_a_record_has_all_that_was_sent(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send("events", b"v", key="k", headers=[("h", b"x")], timestamp=77).result(WAIT_S)
        producer.send("events", None).result(WAIT_S)
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        first, second = take(consumer, 2)
    assert first == Record("events", 0, 0, 77, b"k", b"v", [("h", b"x")])
    assert (second.offset, second.value, second.key) == (1, None, None)


def test_records_give_the_garbage_collector_nothing_to_go_through(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(40))
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        records = take(consumer, 20)
        iterator = iter(consumer)
        records += [next(iterator) for _ in range(20)]
    assert values(records) == numbered(40)
    assert not any(gc.is_tracked(record) for record in records)
    assert len({id(record.headers) for record in records}) == 1


@pytest.mark.parametrize(
    "grow",
    [
        lambda headers: headers.append(("h", b"")),
        lambda headers: headers.extend([("h", b"")]),
        lambda headers: headers.insert(0, ("h", b"")),
        lambda headers: headers.__iadd__([("h", b"")]),
        lambda headers: headers.__setitem__(slice(None), [("h", b"")]),
    ],
)
def test_what_records_without_headers_share_stays_empty(
    grow: Callable[[list[tuple[str, bytes | None]]], object], broker: FakeBroker
) -> None:
    fill(broker, "events", numbered(1))
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        (record,) = take(consumer, 1)
    assert isinstance(record.headers, list)
    assert record == Record("events", 0, 0, record.timestamp, None, b"0", [])
    with pytest.raises(TypeError, match="make a list of your own"):
        grow(record.headers)
    assert record.headers == []
    assert [*record.headers, ("h", b"")] == [("h", b"")]


def test_iteration_ends_when_idle_and_polls_end_in_time(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(100))
    with Consumer(broker.endpoint, topics=["events"], idle_timeout_s=2) as consumer:
        assert [record.value for record in consumer] == numbered(100)
        assert consumer.poll(0.01) == []


def test_poll_never_gives_more_than_asked_and_loses_nothing(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(95))
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        got: list[bytes | None] = []
        while len(got) < 95:
            records = consumer.poll(WAIT_S, 7)
            assert 1 <= len(records) <= 7
            got += values(records)
            assert consumer.position(EVENTS) == len(got)
        assert got == numbered(95)


def test_iteration_and_polls_share_one_position(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(30))
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        iterator = iter(consumer)
        got = [next(iterator).value for _ in range(5)]
        got += values(take(consumer, 10))
        got += [next(iterator).value for _ in range(15)]
    assert got == numbered(30)


def test_latest_sees_only_what_comes(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(5))
    with Consumer(broker.endpoint, topics=["events"], auto_offset_reset="latest") as consumer:
        poll_until(consumer, lambda: bool(broker.seen(m.ListOffsets)))
        fill(broker, "events", [b"new"])
        assert values(take(consumer, 1)) == [b"new"]


def test_seek_drops_what_was_fetched(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(50))
    with Consumer(broker.endpoint) as consumer:
        consumer.assign([EVENTS])
        take(consumer, 20)
        consumer.seek(EVENTS, 7)
        assert consumer.position(EVENTS) == 7
        assert values(take(consumer, 3)) == [b"7", b"8", b"9"]
        consumer.seek_to_end()
        assert consumer.position(EVENTS) == 50
        assert consumer.lag(EVENTS) == 0
        consumer.seek_to_beginning(EVENTS)
        assert values(take(consumer, 50)) == numbered(50)
        with pytest.raises(ValueError, match="at least 0"):
            consumer.seek(EVENTS, -1)
        with pytest.raises(ValueError, match="not assigned"):
            consumer.seek(TopicPartition("wide", 0), 0)


def test_seek_inside_iteration_takes_effect_at_the_next_record(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(10))
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        got = []
        for record in consumer:
            got.append(record.offset)
            if got == [0, 1]:
                consumer.seek(EVENTS, 8)
            if record.offset == 9:
                break
    assert got == [0, 1, 8, 9]


def test_paused_partitions_wait(broker: FakeBroker) -> None:
    fill(broker, "wide", [b"a"], 0)
    fill(broker, "wide", [b"b"], 1)
    with Consumer(broker.endpoint, topics=["wide"]) as consumer:
        consumer.pause(TopicPartition("wide", 0))
        assert consumer.paused() == {TopicPartition("wide", 0)}
        assert values(take(consumer, 1)) == [b"b"]
        assert consumer.poll(0.05) == []
        consumer.resume(TopicPartition("wide", 0))
        assert values(take(consumer, 1)) == [b"a"]


def test_every_partition_gets_its_turn(broker: FakeBroker) -> None:
    for number in range(4):
        fill(broker, "wide", [b"%d" % number] * 200, number, batch=50)
    with Consumer(broker.endpoint, topics=["wide"]) as consumer:
        records = take(consumer, 800)
    for number in range(4):
        own = [record.offset for record in records if record.partition == number]
        assert own == list(range(200))


def test_prefetching_stops_at_its_bound(broker: FakeBroker) -> None:
    fill(broker, "events", [b"x" * 1_000] * 300, batch=10)
    with Consumer(
        broker.endpoint, topics=["events"], prefetch_bytes_max=30_000, fetch_bytes_max=10_000
    ) as consumer:
        first = take(consumer, 1)
        reader = consumer._readers[EVENTS]
        broker.wait_for(lambda: consumer._fetcher.stalled)
        assert reader.buffered_bytes <= 30_000 + 70_000
        rest = take(consumer, 299)
    assert [record.offset for record in first + rest] == list(range(300))


def test_offsets_can_be_asked_for(broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        for at in (100, 200, 300):
            producer.send("events", b"v", timestamp=at).result(WAIT_S)
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        assert consumer.beginning_offsets(EVENTS) == {EVENTS: 0}
        assert consumer.end_offsets(EVENTS) == {EVENTS: 3}
        assert consumer.offsets_for_times({EVENTS: 150}) == {EVENTS: 1}
        assert consumer.offsets_for_times({EVENTS: 999}) == {EVENTS: None}
        assert consumer.lag(EVENTS) == 3


def test_retriable_errors_of_a_fetch_are_retried(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(3))
    broker.fail("fetch", times=3, error=LeaderNotAvailable("restarting"))
    broker.fail("fetch", times=1, error=KafkaStorageError("disk"))
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        assert values(take(consumer, 3)) == numbered(3)


def test_other_errors_are_raised_and_reading_can_go_on(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(3))
    broker.fail("fetch", times=1, error=PolicyViolation("no"))
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        with pytest.raises(PolicyViolation, match="events-0"):
            consumer.poll(WAIT_S)
        assert values(take(consumer, 3)) == numbered(3)


@pytest.mark.parametrize(("reset", "expected"), [("earliest", b"5"), ("latest", b"new")])
def test_an_offset_outside_the_log_is_reset(broker: FakeBroker, reset: str, expected: bytes) -> None:
    fill(broker, "events", numbered(10), batch=5)
    broker.topics["events"][0].start_offset = 5
    with Consumer(broker.endpoint, auto_offset_reset=reset) as consumer:  # type: ignore[arg-type]
        consumer.assign([EVENTS])
        consumer.seek(EVENTS, 2)
        if reset == "latest":
            poll_until(consumer, lambda: consumer.position(EVENTS) == 10)
        fill(broker, "events", [b"new"])
        assert take(consumer, 1)[0].value == expected


def test_what_was_fetched_is_handed_out_before_an_offset_outside_the_log_is_reset(broker: FakeBroker) -> None:
    """The loop is in the middle of a batch when the next fetch finds that the log has begun anew."""
    fill(broker, "events", numbered(10))
    with Consumer(broker.endpoint, topics=["events"], idle_timeout_s=WAIT_S) as consumer:
        loop = iter(consumer)
        got = [next(loop).value for _ in range(3)]
        with broker.lock:
            broker.topics["events"] = [Partition()]
        reader = consumer._readers[EVENTS]
        with consumer._changed:
            assert consumer._changed.wait_for(lambda: reader.resume_at == 0 or reader.position == 0, WAIT_S)
        fill(broker, "events", [b"new"] * 20)
        got += [next(loop).value for _ in range(27)]
        assert got == [*numbered(10), *[b"new"] * 20]
        assert consumer.position(EVENTS) == 20


def test_a_topic_that_was_made_again_is_read_from_its_start(broker: FakeBroker) -> None:
    """Though it has more records already than the old one had."""
    fill(broker, "events", numbered(10))
    fill(broker, "wide", [b"new"] * 20, 3)
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        take(consumer, 10)
        with broker.lock:
            del broker.topics["events"]
        before = len(broker.seen(m.Fetch))
        broker.wait_for(lambda: sum(isinstance(each, m.Fetch) for each in broker.requests) > before)
        with broker.lock:
            broker.topics["events"] = [broker.topics["wide"][3]]
            broker.topic_ids["events"] = "made again"
        assert values(take(consumer, 20)) == [b"new"] * 20
        assert consumer.position(EVENTS) == 20


def test_a_topic_that_is_made_again_behind_a_look_up_is_read_from_its_start(broker: FakeBroker) -> None:
    """Behind a refusal the old one is still known, and then the new one answers at the old one's offset."""
    fill(broker, "events", numbered(10))
    fill(broker, "wide", [b"new"] * 20, 3)
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        take(consumer, 10)
        looked_up = len(broker.seen(m.Metadata))
        broker.fail("metadata", times=1, delay_s=2)  # says what was so before the delay
        broker.fail("fetch", times=1, error=LeaderNotAvailable("stopping"))
        broker.wait_for(lambda: len(broker.seen(m.Metadata)) > looked_up)
        with broker.lock:
            broker.topics["events"] = [broker.topics["wide"][3]]
            broker.topic_ids["events"] = "made again"
        assert values(take(consumer, 20)) == [b"new"] * 20
        assert consumer.position(EVENTS) == 20


def test_without_a_reset_an_offset_outside_the_log_is_an_error(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(10))
    broker.topics["events"][0].start_offset = 5
    with (
        Consumer(broker.endpoint, auto_offset_reset="none") as consumer,
        pytest.raises(OffsetOutOfRange, match="auto_offset_reset='none'"),
    ):
        consumer.assign([EVENTS])
    with Consumer(broker.endpoint) as consumer:
        consumer.assign([EVENTS])
        consumer.options = type(consumer.options)(auto_offset_reset="none")
        consumer.seek(EVENTS, 99)
        with pytest.raises(OffsetOutOfRange):
            consumer.poll(WAIT_S)


def test_damage_is_reported_and_can_be_passed(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(30), batch=10)
    partition = broker.topics["events"][0]
    header, stored = partition.batches[1]
    partition.batches[1] = (header, stored[:-1] + bytes([stored[-1] ^ 1]))
    with Consumer(broker.endpoint, topics=["events"]) as consumer:
        assert values(consumer.poll(WAIT_S, 100)) == numbered(10)
        for _ in range(2):
            with pytest.raises(CorruptMessage, match="seek past 19"):
                consumer.poll(WAIT_S)
        consumer.seek(EVENTS, 20)
        assert values(take(consumer, 10)) == numbered(30)[20:]


def test_records_that_cannot_be_decoded_are_reported_once_the_others_are_out(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(10), batch=10)
    partition = broker.topics["events"][0]
    header, stored = partition.batches[0]
    partition.batches[0] = (header, stored[:-1] + b"\x02")  # the last record claims a header
    with Consumer(broker.endpoint, topics=["events"], check_crcs=False) as consumer:
        assert values(consumer.poll(WAIT_S)) == numbered(9)
        for _ in range(2):
            with pytest.raises(CorruptMessage, match="events-0 at offset 9"):
                consumer.poll(WAIT_S)
        with pytest.raises(CorruptMessage):
            next(iter(consumer))


# -- groups ------------------------------------------------------------------------------------------


def fast(broker: FakeBroker, **options: object) -> Consumer:
    return Consumer(broker.endpoint, group="g", topics=["wide"], **options)  # type: ignore[arg-type]


def poll_until(consumer: Consumer, condition: Callable[[], bool]) -> None:
    """Polls, which gives nothing, until it is so."""
    for _ in range(POLLS_MAX):
        assert consumer.poll(0.01) == []
        if condition():
            return
    raise AssertionError("it never came to this state")


def settle(consumers: list[Consumer], expected: list[int]) -> None:
    """Poll until each holds as many partitions as expected."""
    for _ in range(POLLS_MAX):
        for consumer in consumers:
            consumer.poll(0.01)
        if [len(consumer.assignment()) for consumer in consumers] == expected:
            return
    raise AssertionError([consumer.assignment() for consumer in consumers])


def test_commit_stores_exactly_what_was_handed_out(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(20))
    with Consumer(broker.endpoint, group="g", topics=["events"], enable_auto_commit=False) as consumer:
        take(consumer, 13)
        assert consumer.commit() == {EVENTS: 13}
        assert consumer.committed(EVENTS) == {EVENTS: 13}
        take(consumer, 3)
    assert broker.groups["g"].offsets[EVENTS] == (13, None)
    with Consumer(broker.endpoint, group="g", topics=["events"]) as consumer:
        assert take(consumer, 1)[0].offset == 13


def test_auto_commit_happens_while_reading_and_on_close(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(20))
    consumer = Consumer(broker.endpoint, group="g", topics=["events"], auto_commit_interval_ms=1)
    take(consumer, 5)
    consumer.pause()
    for _ in range(POLLS_MAX):
        assert consumer.poll(0.01) == []
        if broker.groups["g"].offsets.get(EVENTS) == (5, None):
            break
    assert broker.groups["g"].offsets[EVENTS] == (5, None)
    consumer.resume()
    take(consumer, 5)
    consumer.close()
    assert broker.groups["g"].offsets[EVENTS] == (10, None)
    assert broker.groups["g"].members == {}


def test_a_record_that_raised_is_not_committed(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(20))
    with (
        pytest.raises(KeyError),
        Consumer(broker.endpoint, group="g", topics=["events"]) as consumer,
    ):
        for record in consumer:
            raise KeyError(record.offset)
    assert EVENTS not in broker.groups["g"].offsets
    assert broker.groups["g"].members == {}


def test_two_members_share_and_the_second_begins_where_the_first_ended(broker: FakeBroker) -> None:
    for number in range(4):
        fill(broker, "wide", numbered(10), number)
    revoked: list[TopicPartition] = []
    assigned: list[TopicPartition] = []
    first = fast(broker, on_assigned=assigned.extend, on_revoked=revoked.extend)
    seen = {(record.partition, record.offset) for record in take(first, 40)}
    assert len(seen) == 40
    assert sorted(assigned) == [TopicPartition("wide", number) for number in range(4)]
    second = fast(broker)
    settle([first, second], [2, 2])
    assert len(revoked) == 2
    assert first.assignment().isdisjoint(second.assignment())
    for number in range(4):
        fill(broker, "wide", [b"new"], number)
    fresh = take(first, 2) + take(second, 2)
    assert {(record.partition, record.offset) for record in fresh} == {(n, 10) for n in range(4)}
    first.close()
    settle([second], [4])
    second.close()
    assert broker.groups["g"].members == {}


def test_a_partition_is_reported_until_its_position_is_committed(broker: FakeBroker) -> None:
    for number in range(4):
        fill(broker, "wide", numbered(3), number)
    first = fast(broker, auto_commit_interval_ms=3_600_000)
    take(first, 12)
    assert broker.groups["g"].offsets == {}
    second = fast(broker)
    settle([first, second], [2, 2])
    with broker.lock:
        kinds = [
            request
            for request in broker.requests
            if isinstance(request, m.OffsetCommit)
            or (isinstance(request, m.GroupHeartbeat) and request.member_id == first._membership.member_id)  # type: ignore[union-attr]
        ]
    commit_at = next(at for at, request in enumerate(kinds) if isinstance(request, m.OffsetCommit))

    def owned(request: m.Request) -> int:
        assert isinstance(request, m.GroupHeartbeat)
        return sum(len(item.partitions) for item in request.owned or [])

    assert owned(kinds[commit_at - 1]) == 4
    assert owned(kinds[-1]) == 2
    assert second.poll(0.05) == [], "nothing is read twice"
    first.close()
    second.close()


def test_an_expelled_member_joins_again(broker: FakeBroker) -> None:
    fill(broker, "wide", numbered(5), 0)
    lost: list[TopicPartition] = []
    consumer = fast(broker, on_revoked=lost.extend)
    take(consumer, 5)
    with broker.lock:
        broker.groups["g"].members.clear()
    for _ in range(POLLS_MAX):
        consumer.poll(0.01)
        if lost and len(consumer.assignment()) == 4:
            break
    assert len(lost) == 4
    assert len(consumer.assignment()) == 4
    consumer.close()


def test_a_commit_with_an_old_epoch_is_done_with_the_new_one(broker: FakeBroker) -> None:
    fill(broker, "wide", numbered(5), 0)
    consumer = fast(broker, enable_auto_commit=False)
    take(consumer, 5)
    with broker.lock:
        group = broker.groups["g"]
        group.epoch += 1
        for member in group.members.values():
            member.epoch = group.epoch
    consumer.commit()
    assert broker.groups["g"].offsets[TopicPartition("wide", 0)] == (5, None)
    consumer.close()


@pytest.mark.parametrize("enable_auto_commit", [True, False])
def test_a_member_that_was_expelled_and_is_back_cannot_take_back_what_others_committed(
    broker: FakeBroker, enable_auto_commit: bool
) -> None:
    fill(broker, "wide", numbered(5), 0)
    place = TopicPartition("wide", 0)
    refused: list[OdradekError] = []

    def commit(_: object) -> None:
        try:
            consumer.commit()
        except OdradekError as error:
            refused.append(error)

    consumer = fast(broker, enable_auto_commit=enable_auto_commit, on_lost=commit)
    take(consumer, 3)
    with broker.lock:
        broker.groups["g"].members.clear()
        broker.groups["g"].offsets[place] = (5, None)  # its next owner's, who is gone again
    broker.wait_for(lambda: bool(broker.groups["g"].members))
    consumer._session.network.call(lambda: None)
    with pytest.raises(UnknownMemberId, match="given to others"):
        consumer.commit()
    consumer.commit(wait=False)
    settle([consumer], [4])
    assert len(refused) == 1, "not in on_lost either"
    assert broker.groups["g"].offsets[place] == (5, None)
    assert consumer.commit()[place] == 5, "from then on as ever"
    consumer.close()


def test_a_commit_of_a_stranger_is_refused(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(5))
    member = Consumer(broker.endpoint, group="g", topics=["events"], enable_auto_commit=False)
    take(member, 5)
    with Consumer(broker.endpoint, group="g", enable_auto_commit=False) as stranger:
        stranger.assign([EVENTS])
        with pytest.raises(UnknownMemberId):
            stranger.commit({EVENTS: 1})
    member.close()
    assert broker.groups["g"].offsets == {}


def test_a_silent_member_leaves_and_comes_back(broker: FakeBroker) -> None:
    fill(broker, "wide", numbered(5), 0)
    lost: list[TopicPartition] = []
    consumer = fast(broker, poll_interval_ms_max=100, on_revoked=lost.extend)
    take(consumer, 5)
    broker.wait_for(lambda: not broker.groups["g"].members)
    settle([consumer], [4])
    assert len(lost) == 4
    assert len(broker.groups["g"].members) == 1
    consumer.close()


def test_a_fatal_group_error_is_raised(broker: FakeBroker) -> None:
    broker.fail("group_heartbeat", times=100, error=InvalidGroupId("no"))
    consumer = fast(broker)
    with pytest.raises(InvalidGroupId):
        consumer.poll(WAIT_S)
    broker.faults.clear()
    consumer.close()


def test_a_fatal_group_error_is_raised_as_long_as_it_lasts_and_no_longer(broker: FakeBroker) -> None:
    fill(broker, "wide", numbered(5), 2)
    fault = broker.fail("group_heartbeat", times=100, error=InvalidGroupId("no"))
    consumer = fast(broker)
    for _ in range(3):
        with pytest.raises(InvalidGroupId):
            consumer.poll(WAIT_S)
    with broker.lock:
        broker.faults.remove(fault)
    got: list[Record] = []
    for _ in range(POLLS_MAX // 10):
        try:
            got += consumer.poll(0.1)
        except InvalidGroupId:
            continue
        if len(got) == 5:
            break
    assert values(got) == numbered(5)
    consumer.close()


def owned_in(request: m.GroupHeartbeat) -> set[TopicPartition]:
    return {TopicPartition(item.topic, number) for item in request.owned or [] for number in item.partitions}


def test_what_is_being_taken_up_is_owned_already(broker: FakeBroker) -> None:
    """Else the coordinator could take it back, and give it away, while this member begins to read it."""
    reported: list[set[TopicPartition]] = []

    def take_long(partitions: list[TopicPartition]) -> None:
        before = len(broker.seen(m.GroupHeartbeat))
        broker.wait_for(
            lambda: sum(isinstance(each, m.GroupHeartbeat) for each in broker.requests) > before + 1
        )
        reported.append(owned_in(broker.seen(m.GroupHeartbeat)[-1]))

    consumer = fast(broker, on_assigned=take_long)
    settle([consumer], [4])
    assert reported[0] == {TopicPartition("wide", number) for number in range(4)}
    consumer.close()


def test_one_that_is_expelled_while_it_takes_up_claims_nothing_when_it_joins_again(
    broker: FakeBroker,
) -> None:
    """The coordinator refuses a member that joins and holds something, for good."""
    expelled_at: list[int] = []
    lost_at: list[int] = []

    def be_expelled(_: list[TopicPartition]) -> None:
        if expelled_at:
            return
        with broker.lock:
            expelled_at.append(len(broker.requests))
            broker.groups["g"].members.clear()
        broker.wait_for(lambda: bool(broker.groups["g"].members))

    def lose(_: list[TopicPartition]) -> None:
        before = len(broker.seen(m.GroupHeartbeat))
        broker.wait_for(lambda: sum(isinstance(each, m.GroupHeartbeat) for each in broker.requests) > before)
        with broker.lock:
            lost_at.append(len(broker.requests))

    consumer = fast(broker, on_assigned=be_expelled, on_lost=lose)
    for _ in range(POLLS_MAX):
        consumer.poll(0.01)
        if lost_at and len(consumer.assignment()) == 4:
            break
    with broker.lock:
        later = [each for each in broker.requests[expelled_at[0] :] if isinstance(each, m.GroupHeartbeat)]
        between = broker.requests[expelled_at[0] : lost_at[0]]
    joining = [request for request in later if request.member_epoch == 0]
    assert joining
    assert [owned_in(request) for request in joining] == [set()] * len(joining)
    back = [
        request for request in between[between.index(joining[0]) :] if isinstance(request, m.GroupHeartbeat)
    ]
    assert [owned_in(request) for request in back] == [set()] * len(back), "until the loss was dealt with"
    consumer.close()


def test_a_member_that_closes_after_it_was_expelled_calls_its_partitions_lost(broker: FakeBroker) -> None:
    fill(broker, "wide", numbered(3), 0)
    lost: list[TopicPartition] = []
    revoked: list[TopicPartition] = []
    consumer = fast(broker, enable_auto_commit=False, on_lost=lost.extend, on_revoked=revoked.extend)
    take(consumer, 3)
    settle([consumer], [4])
    with broker.lock:
        broker.groups["g"].members.clear()
    broker.wait_for(lambda: bool(broker.groups["g"].members))
    consumer.close()
    assert (len(lost), revoked) == (4, [])


def test_retriable_group_errors_are_retried(broker: FakeBroker) -> None:
    broker.fail("group_heartbeat", times=3, error=LeaderNotAvailable("starting"))
    broker.fail("offset_fetch", times=2, error=LeaderNotAvailable("starting"))
    fill(broker, "wide", numbered(5), 2)
    with fast(broker) as consumer:
        assert values(take(consumer, 5)) == numbered(5)


# -- what cannot be ------------------------------------------------------------------------------------


def test_a_consumer_is_told_what_to_read(broker: FakeBroker) -> None:
    with Consumer(broker.endpoint) as consumer:
        with pytest.raises(ValueError, match="assign"):
            consumer.poll(0)
        with pytest.raises(UnknownTopicOrPartition, match="0 to 0"):
            consumer.assign([TopicPartition("events", 1)])
        with pytest.raises(InvalidGroupId, match="group="):
            consumer.commit()
        with pytest.raises(ValueError, match="max_records"):
            consumer.poll(0, 0)
    with pytest.raises(ClientClosed):
        consumer.poll(0)
    with Consumer(broker.endpoint, topics=["events"]) as consumer, pytest.raises(ValueError, match="assign"):
        consumer.assign([EVENTS])


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"topics": "events"}, TypeError),
        ({"topics": []}, ValueError),
        ({"topics": ["a b"]}, InvalidTopic),
        ({"group": ""}, InvalidGroupId),
        ({"topics_pattern": "a.*"}, ValueError),
        ({"topics_pattern": "", "group": "g"}, ValueError),
        ({"auto_offset_reset": "now"}, InvalidConfig),
        ({"fetch_bytes_max": 0}, InvalidConfig),
        ({"idle_timeout_s": -1}, InvalidConfig),
        ({"enable_auto_commit": "yes"}, InvalidConfig),
    ],
)
def test_wrong_options_are_refused(option: dict[str, object], error: type[Exception]) -> None:
    threads = threading.active_count()
    with pytest.raises(error):
        Consumer(**option)  # type: ignore[arg-type]
    assert threading.active_count() == threads


# -- seeking and closing while a fetch waits at the broker --------------------------------------------


def parked_fetches(broker: FakeBroker, offset: int) -> int:
    return sum(1 for fetch in broker.seen(m.Fetch) if fetch.offset == offset)


def test_a_seek_asks_at_once_though_a_fetch_waits(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(10))
    with Consumer(broker.endpoint, fetch_wait_ms_max=60_000) as consumer:
        consumer.assign([EVENTS])
        take(consumer, 10)
        broker.wait_for(lambda: parked_fetches(broker, 10) == 1)
        consumer.seek(EVENTS, 3)
        assert values(consumer.poll(WAIT_S)) == numbered(10)[3:]
        broker.wait_for(lambda: parked_fetches(broker, 10) == 2)
        fill(broker, "events", [b"new"])  # answers the old question too
        assert values(take(consumer, 1)) == [b"new"]
        assert consumer.poll(0.05) == []
        assert consumer.position(EVENTS) == 11


def test_many_seeks_leave_a_bounded_number_of_fetches_behind(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(10))
    with Consumer(broker.endpoint, fetch_wait_ms_max=200) as consumer:
        consumer.assign([EVENTS])
        for _ in range(30):
            consumer.seek(EVENTS, 10)
            consumer.end_offsets(EVENTS)  # a round trip, so that each seek was seen
        assert parked_fetches(broker, 10) <= FETCHES_OUTDATED_MAX + 1
        consumer.seek(EVENTS, 8)
        assert values(take(consumer, 2)) == numbered(10)[8:]


def test_close_ends_at_once_though_its_last_requests_make_new_ones() -> None:
    with FakeBroker({"events": 1}, direct=True) as broker:
        fill(broker, "events", numbered(10))
        consumer = Consumer(broker.endpoint, fetch_wait_ms_max=60_000)
        consumer.assign([EVENTS])
        take(consumer, 10)
        broker.wait_for(lambda: parked_fetches(broker, 10) == 1)
        network = consumer._session.network

        def seek_and_stop() -> None:
            # In one turn of the I/O thread: the fetch that waits ends while a newer one is due.
            consumer._readers[EVENTS].seek(5)
            network.stop_soon()

        network.call(seek_and_stop)
        consumer.close()
        assert not network._thread.is_alive(), "a socket was left open"


def test_new_partitions_are_read_from_their_start_without_a_restart(broker: FakeBroker) -> None:
    fill(broker, "events", [b"old"])
    assigned: list[TopicPartition] = []
    with Consumer(
        broker.endpoint,
        topics=["events"],
        auto_offset_reset="latest",
        metadata_age_max_ms=20,
        on_assigned=assigned.extend,
    ) as consumer:
        poll_until(consumer, lambda: bool(broker.seen(m.ListOffsets)))
        with broker.lock:
            broker.topics["events"].append(Partition())
        fill(broker, "events", [b"new"], partition=1)
        assert values(take(consumer, 1)) == [b"new"]
        assert consumer.assignment() == {EVENTS, TopicPartition("events", 1)}
    assert assigned == [EVENTS, TopicPartition("events", 1)]


def test_a_member_of_a_group_goes_straight_to_its_partitions() -> None:
    with FakeBroker({"wide": 4}, direct=True) as broker:
        fill(broker, "wide", numbered(5), 2)
        before = broker.direct_requests
        with fast(broker) as consumer:
            assert values(take(consumer, 5)) == numbered(5)
            broker.wait_for(lambda: broker.direct_requests > before)


# -- callbacks, subscriptions, slow handlers ----------------------------------------------------------


def test_a_commit_in_on_revoked_is_in_time(broker: FakeBroker) -> None:
    for number in range(4):
        fill(broker, "wide", numbered(3), number)
    committed: list[dict[TopicPartition, int]] = []
    first: Consumer = fast(
        broker, enable_auto_commit=False, on_revoked=lambda _: committed.append(first.commit())
    )
    take(first, 12)
    second = fast(broker)
    settle([first, second], [2, 2])
    assert committed[0] == {TopicPartition("wide", number): 3 for number in range(4)}
    assert second.poll(0.05) == [], "nothing is read twice"
    first.close()
    assert len(committed) == 2, "close() lets go of partitions, too"
    assert len(committed[1]) == 2
    second.close()


def test_after_an_exception_nothing_is_committed_by_a_callback_either(broker: FakeBroker) -> None:
    fill(broker, "wide", numbered(3))
    revoked: list[TopicPartition] = []
    with pytest.raises(KeyError), fast(broker, on_revoked=revoked.extend) as consumer:
        take(consumer, 3)
        raise KeyError
    assert revoked == []
    assert broker.groups["g"].offsets == {}


def test_what_is_lost_is_not_called_revoked(broker: FakeBroker) -> None:
    fill(broker, "wide", numbered(5), 0)
    lost: list[TopicPartition] = []
    revoked: list[TopicPartition] = []
    consumer = fast(broker, on_lost=lost.extend, on_revoked=revoked.extend)
    take(consumer, 5)
    with broker.lock:
        broker.groups["g"].members.clear()
    for _ in range(POLLS_MAX):
        consumer.poll(0.01)
        if lost and len(consumer.assignment()) == 4:
            break
    assert len(lost) == 4
    assert revoked == []
    consumer.close()
    assert len(revoked) == 4


@pytest.mark.parametrize("which", ["on_assigned", "on_revoked", "on_lost"])
def test_a_callback_that_raises_does_not_stop_the_rebalance(broker: FakeBroker, which: str) -> None:
    for number in range(4):
        fill(broker, "wide", numbered(3), number)
    calls: list[list[TopicPartition]] = []

    def fail_once(partitions: list[TopicPartition]) -> None:
        calls.append(partitions)
        if len(calls) == 1:
            raise KeyError(which)

    first = fast(broker, **{which: fail_once})

    def poll_through() -> list[Record]:
        try:
            return first.poll(0.02)
        except KeyError:
            return []

    got: list[Record] = []
    for _ in range(POLLS_MAX):
        got += poll_through()
        if len(got) == 12:
            break
    assert len(got) == 12
    if which == "on_lost":
        with broker.lock:
            broker.groups["g"].members.clear()
    second = fast(broker)
    for _ in range(POLLS_MAX):
        poll_through()
        second.poll(0.01)
        if calls and len(first.assignment()) == len(second.assignment()) == 2:
            break
    assert calls
    assert len(first.assignment()) == len(second.assignment()) == 2
    assert first.assignment().isdisjoint(second.assignment())
    for number in range(4):
        fill(broker, "wide", [b"new"], number)
    assert len([record for record in take(first, 2) if record.offset == 3]) == 2
    first.close()
    second.close()


def test_a_partition_is_free_before_the_positions_of_others_are_looked_up(broker: FakeBroker) -> None:
    """Who waits for it does not wait for that."""
    fill(broker, "wide", numbered(3))
    first = fast(broker)
    take(first, 3)
    membership = first._membership
    assert membership is not None
    freed = first.assignment() - {TopicPartition("wide", 0)}
    with broker.lock:
        broker.requests.clear()
    with first._changed:
        membership.target = {TopicPartition("wide", 0), EVENTS}
        first._attention.call()
    broker.fail("offset_fetch", times=2, error=LeaderNotAvailable("starting"))
    first.poll(0)
    with broker.lock:
        kinds = list(broker.requests)
    beat_at = next(
        at
        for at, request in enumerate(kinds)
        if isinstance(request, m.GroupHeartbeat)
        and sum(len(item.partitions) for item in request.owned or [] if item.topic == "wide")
        == 4 - len(freed)
    )
    fetch_at = max(at for at, request in enumerate(kinds) if isinstance(request, m.OffsetFetch))
    assert beat_at < fetch_at
    first.close()


def test_first_offsets_are_asked_for_all_at_once(broker: FakeBroker) -> None:
    """Each reply is held back until all the questions are there."""
    broker.fail("list_offsets", times=4, delay_s=0.05)
    with Consumer(broker.endpoint, topics=["wide"]) as consumer:
        started = broker.seen(m.ListOffsets)
        assert started == []
        thread = threading.Thread(target=consumer.poll, args=(0,))
        thread.start()
        broker.wait_for(lambda: len(broker.seen(m.ListOffsets)) == 4)
        thread.join(WAIT_S)
        assert len(consumer.assignment()) == 4


def test_first_offsets_are_asked_again_where_a_partition_is_not_there_yet(broker: FakeBroker) -> None:
    broker.fail("list_offsets", times=3, error=LeaderNotAvailable("starting"))
    with Consumer(broker.endpoint, topics=["wide"]) as consumer:
        assert consumer.end_offsets(*(TopicPartition("wide", number) for number in range(4))) == {
            TopicPartition("wide", number): 0 for number in range(4)
        }


def test_a_pattern_goes_to_the_coordinator(broker: FakeBroker) -> None:
    consumer = Consumer(broker.endpoint, group="g", topics_pattern=r"wi.*", topics=["events"])
    consumer.poll(0.02)
    broker.wait_for(lambda: bool(broker.seen(m.GroupHeartbeat)))
    beat = broker.seen(m.GroupHeartbeat)[0]
    assert (beat.topics, beat.topic_pattern) == (["events"], r"wi.*")
    with pytest.raises(ValueError, match=r"assign\(\) is for"):
        consumer.assign([EVENTS])
    consumer.close()
    only = Consumer(broker.endpoint, group="h", topics_pattern=r"wi.*")
    only.poll(0.02)
    broker.wait_for(lambda: broker.seen(m.GroupHeartbeat)[-1].group == "h")
    assert broker.seen(m.GroupHeartbeat)[-1].topics == []
    only.close()


def test_iteration_over_one_batch_keeps_a_member_in_its_group(broker: FakeBroker) -> None:
    """Its heartbeats are further apart than the silence that is allowed, and yet it is not silent."""
    broker.heartbeat_interval_ms = 2_000
    fill(broker, "events", numbered(40), batch=40)
    with Consumer(broker.endpoint, group="g", topics=["events"], poll_interval_ms_max=1_000) as consumer:
        pause = threading.Event()
        for number, _ in enumerate(consumer):
            pause.wait(0.06)
            if number == 39:
                break
    assert [beat.member_epoch for beat in broker.seen(m.GroupHeartbeat)].count(0) == 1


def test_a_slow_handler_is_warned_once_and_hears_that_its_partitions_are_lost(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, "events", numbered(3))
    lost: list[TopicPartition] = []
    with Consumer(
        broker.endpoint, group="g", topics=["events"], poll_interval_ms_max=1_000, on_lost=lost.extend
    ) as consumer:
        offsets = []
        for record in consumer:
            offsets.append(record.offset)
            if len(offsets) == 2:
                broker.wait_for(lambda: not broker.groups["g"].members)
                threading.Event().wait(0.2)
            if len(offsets) == 4:
                break
    assert lost == [EVENTS]
    assert offsets[:3] == [0, 1, 0], "nothing was committed, so its new owner begins again"
    warnings = [each.getMessage() for each in caplog.records if "max.poll.interval.ms" in each.getMessage()]
    assert len(warnings) == 1
    assert "raise poll_interval_ms_max" in warnings[0]


def test_a_commit_without_waiting_is_stored_or_its_failure_logged(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, "events", numbered(20))
    with Consumer(broker.endpoint, group="g", topics=["events"], enable_auto_commit=False) as consumer:
        take(consumer, 5)
        assert consumer.commit(wait=False) == {EVENTS: 5}
        broker.wait_for(lambda: broker.groups["g"].offsets.get(EVENTS) == (5, None))
        broker.fail("offset_commit", error=PolicyViolation("no"))
        take(consumer, 1)
        consumer.commit(wait=False)
        consumer.committed()  # a round trip behind it
        assert "a commit failed" in caplog.text
        assert consumer.commit({EVENTS: 3}) == {EVENTS: 3}
    assert broker.groups["g"].offsets[EVENTS] == (3, None)


def test_lag_is_known_for_each_partition(broker: FakeBroker) -> None:
    fill(broker, "wide", numbered(7), 1)
    with fast(broker) as consumer:
        take(consumer, 3)
        assert consumer.lag(TopicPartition("wide", 1)) == 4
        assert consumer.lag(TopicPartition("wide", 2)) == 0
        with pytest.raises(ValueError, match="not assigned"):
            consumer.lag(EVENTS)


def test_a_busy_handler_keeps_its_partitions(broker: FakeBroker) -> None:
    fill(broker, "events", numbered(3))
    offsets = []
    with Consumer(broker.endpoint, group="g", topics=["events"]) as consumer:
        for record in consumer:
            offsets.append(record.offset)
            beats = len(broker.seen(m.GroupHeartbeat))
            broker.wait_for(lambda beats=beats: len(broker.seen(m.GroupHeartbeat)) >= beats + 3)  # type: ignore[misc]
            assert len(broker.groups["g"].members) == 1
            if len(offsets) == 3:
                break
    assert offsets == [0, 1, 2]

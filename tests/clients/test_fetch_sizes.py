"""How much a consumer asks for at once: more where answers are full and quick, less where they are late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from odradek import Consumer, Producer, fetcher
from odradek.fetcher import (
    FETCH_BYTES_FIRST,
    FETCH_BYTES_SHARE_MIN,
    FETCH_GROWS_WITHIN_S,
    PartitionReader,
    TopicPartition,
)
from odradek.options import FETCH_BYTES_DEFAULT
from odradek.protocol import messages as m
from odradek.protocol.errors import LeaderNotAvailable, OdradekError, RequestTimedOut
from odradek.session import Backoff
from tests.clients.fake_broker import FakeBroker

WAIT_S = 30.0
POLLS_MAX = 300
LARGE = b"x" * 600_000
"""Two fill a first fetch more than half, as a producer's batches of 1 MB do."""
QUICK_S = 0.0


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker({"events": 1, "wide": 4}) as fake:
        yield fake


@pytest.fixture
def slow_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not look like a slow link."""
    monkeypatch.setattr(fetcher, "FETCH_GROWS_WITHIN_S", 10 * WAIT_S)


def reader() -> PartitionReader:
    return PartitionReader(TopicPartition("events", 0), 0, Backoff(1.0, 1.0))


def fill(broker: FakeBroker, topic: str, value: bytes, count: int, partition: int = 0) -> None:
    with Producer(broker.endpoint) as producer:
        for _ in range(count):
            producer.send(topic, value, partition=partition).result(WAIT_S)


def asked_bytes(
    broker: FakeBroker, topic: str, records: int, fetch_bytes_max: int = FETCH_BYTES_DEFAULT
) -> list[int]:
    """What each fetch asked for, up to the one that brought the last of so many records."""
    read = 0
    with Consumer(broker.endpoint, topics=[topic], fetch_bytes_max=fetch_bytes_max) as consumer:
        for _ in range(POLLS_MAX):
            read += len(consumer.poll(0.1))
            if read == records:
                break
    assert read == records
    return [request.max_bytes for request in broker.seen(m.Fetch)]


def test_a_full_answer_doubles_the_next_fetch_up_to_the_bound() -> None:
    partition = reader()
    sizes = []
    for _ in range(4):
        sizes.append(partition.fetch_bytes)
        partition.adapt_fetch_bytes(partition.fetch_bytes, QUICK_S, FETCH_BYTES_DEFAULT)
    assert sizes == [FETCH_BYTES_FIRST, 2 * FETCH_BYTES_FIRST, FETCH_BYTES_DEFAULT, FETCH_BYTES_DEFAULT]


def test_a_small_or_a_slow_answer_changes_nothing() -> None:
    partition = reader()
    partition.adapt_fetch_bytes(FETCH_BYTES_FIRST // 2 - 1, QUICK_S, FETCH_BYTES_DEFAULT)
    partition.adapt_fetch_bytes(FETCH_BYTES_FIRST, FETCH_GROWS_WITHIN_S, FETCH_BYTES_DEFAULT)
    assert partition.fetch_bytes == FETCH_BYTES_FIRST


def test_late_answers_halve_the_next_fetch_down_to_a_bound() -> None:
    partition = reader()
    partition.shrink_fetch_bytes()
    assert partition.fetch_bytes == FETCH_BYTES_FIRST // 2
    for _ in range(10):
        partition.shrink_fetch_bytes()
    assert partition.fetch_bytes == FETCH_BYTES_SHARE_MIN


@pytest.mark.usefixtures("slow_is_quick")
def test_a_reader_that_catches_up_asks_for_more_each_time(broker: FakeBroker) -> None:
    fill(broker, "events", LARGE, 20)
    asked = asked_bytes(broker, "events", 20)
    assert asked[:3] == [FETCH_BYTES_FIRST, 2 * FETCH_BYTES_FIRST, FETCH_BYTES_DEFAULT]
    assert max(asked) == FETCH_BYTES_DEFAULT


@pytest.mark.usefixtures("slow_is_quick")
def test_a_bound_below_the_first_fetch_holds(broker: FakeBroker) -> None:
    fill(broker, "events", LARGE, 4)
    assert set(asked_bytes(broker, "events", 4, 100_000)) == {100_000}


def test_a_reader_at_the_end_goes_on_with_the_first_size(broker: FakeBroker) -> None:
    fill(broker, "events", b"small", 4)
    assert set(asked_bytes(broker, "events", 4)) == {FETCH_BYTES_FIRST}


@pytest.mark.parametrize(
    ("error", "then"),
    [(RequestTimedOut("late"), FETCH_BYTES_FIRST // 2), (LeaderNotAvailable("moves"), FETCH_BYTES_FIRST)],
)
def test_only_a_late_answer_makes_the_next_fetch_smaller(
    broker: FakeBroker, error: OdradekError, then: int
) -> None:
    fill(broker, "events", b"small", 1)
    broker.fail("fetch", error=error)
    assert asked_bytes(broker, "events", 1)[:2] == [FETCH_BYTES_FIRST, then]

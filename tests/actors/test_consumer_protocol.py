"""Kafka's bytes of subscriptions and assignments: what Java's client wrote, and whatever anybody may send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors import consumer_protocol
from actors.consumer_protocol import (
    assigned_partitions,
    assignment,
    reads_the_same,
    subscribed_topics,
    subscription,
)

TOPICS = st.text("abc.-_", min_size=1, max_size=9)
JAVA_SUBSCRIPTION = bytes.fromhex(
    "0003"  # version 3
    "00000002" "0006" "6576656e7473" "0001" "78"  # events, x
    "00000004" "00000007"  # user data
    "00000001" "0006" "6576656e7473" "00000001" "00000000"  # owned: events-0
    "00000005" "ffff"  # generation 5, no rack
)  # fmt: skip


def test_what_a_java_client_of_a_later_version_says() -> None:
    assert subscribed_topics(JAVA_SUBSCRIPTION) == ("events", "x")
    assert reads_the_same("consumer", JAVA_SUBSCRIPTION, subscription(["x", "events"]))
    assert not reads_the_same("consumer", JAVA_SUBSCRIPTION, subscription(["x"]))
    assert reads_the_same("connect", b"one", b"two"), "what it means is not known"


@given(st.lists(TOPICS, unique=True, max_size=5))
def test_subscriptions_come_back(topics: list[str]) -> None:
    assert subscribed_topics(subscription(topics)) == tuple(sorted(topics))


@given(st.dictionaries(TOPICS, st.lists(st.integers(0, 2**31 - 1), unique=True, min_size=1), max_size=4))
def test_assignments_come_back(topics: dict[str, list[int]]) -> None:
    held = {(topic, number) for topic, numbers in topics.items() for number in numbers}
    assert assigned_partitions(assignment(topics)) == held


@given(st.binary(max_size=60))
def test_whatever_comes_is_read_or_taken_for_nothing(data: bytes) -> None:
    assert isinstance(subscribed_topics(data), tuple)
    assert isinstance(assigned_partitions(data), frozenset)


def test_a_lying_length_costs_nothing() -> None:
    assert subscribed_topics(bytes.fromhex("00007fffffff")) == ()
    assert assigned_partitions(bytes.fromhex("00007fffffff0000")) == frozenset()


def test_an_assignment_is_bounded() -> None:
    many = assignment({"events": list(range(consumer_protocol.PARTITIONS_MAX + 1))})
    assert assigned_partitions(many) == frozenset()

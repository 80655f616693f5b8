"""The administrator against a scripted broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from odradek import Admin, NewTopic, Producer, TopicPartition
from odradek.protocol import messages as m
from odradek.protocol.errors import (
    GroupIdNotFound,
    InvalidTopic,
    LeaderNotAvailable,
    NetworkException,
    RequestTimedOut,
    TopicAlreadyExists,
    UnknownTopicOrPartition,
)
from tests.clients.fake_broker import FakeBroker


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker({"events": 2}) as fake:
        yield fake


@pytest.fixture
def admin(broker: FakeBroker) -> Iterator[Admin]:
    with Admin(broker.endpoint, timeout_ms=30_000) as made:
        yield made


def test_topics_come_and_go(admin: Admin, broker: FakeBroker) -> None:
    admin.create_topics(["plain", NewTopic(name="wide", partitions=3)])
    assert admin.create_topic("one", 1, {"retention.ms": 5}).name == "one"
    assert admin.list_topics() == ["events", "one", "plain", "wide"]
    assert len(admin.describe_topics(["wide"])[0].partitions) == 3
    admin.create_partitions("wide", 5)
    assert len(broker.topics["wide"]) == 5
    admin.delete_topics(["plain", "one"])
    assert admin.list_topics() == ["events", "wide"]
    admin.create_topics(["ghost"], validate_only=True)
    assert "ghost" not in broker.topics


def test_errors_have_names(admin: Admin) -> None:
    with pytest.raises(TopicAlreadyExists):
        admin.create_topic("events")
    with pytest.raises(InvalidTopic):
        admin.create_topic("a b")
    with pytest.raises(UnknownTopicOrPartition):
        admin.delete_topics(["nowhere"])
    with pytest.raises(UnknownTopicOrPartition):
        admin.describe_topics(["nowhere"])
    with pytest.raises(GroupIdNotFound):
        admin.describe_group("nobody")
    with pytest.raises(TypeError, match=r"\['events'\]"):
        admin.delete_topics("events")


def test_settings(admin: Admin) -> None:
    assert admin.describe_configs("events")["retention.ms"].doc == "time"
    assert admin.alter_configs("events", {"retention.ms": 9})["retention.ms"].value == 9


def test_offsets_and_records(admin: Admin, broker: FakeBroker) -> None:
    with Producer(broker.endpoint) as producer:
        producer.send_many("events", [b"v"] * 5, partition=1, timestamp=50).wait(30)
    assert admin.list_offsets("events") == {0: 0, 1: 5}
    assert admin.list_offsets("events", 50, partitions=[1]) == {1: 0}
    assert admin.delete_records("events", 1, 3) == 3
    assert admin.list_offsets("events", "earliest") == {0: 0, 1: 3}


def test_groups(admin: Admin) -> None:
    place = TopicPartition("events", 1)
    admin.alter_group_offsets("g", {place: 4})
    assert admin.list_group_offsets("g") == {place: 4}
    assert [listing.group for listing in admin.list_groups()] == ["g"]
    assert admin.describe_group("g").assignor == "sticky"
    admin.delete_groups(["g"])
    assert admin.list_groups() == []


def test_the_broker_itself(admin: Admin) -> None:
    assert admin.ping() >= 0
    assert admin.versions().server == "fake"
    assert admin.status()[0].name == "coordinator"
    assert admin.metadata().cluster_id == "fake"


def test_reads_are_repeated_and_changes_of_unknown_outcome_are_not(broker: FakeBroker) -> None:
    with Admin(broker.endpoint, timeout_ms=1_500) as admin:
        broker.fail("create_topics", times=1, error=LeaderNotAvailable("not yet"))
        admin.create_topic("later")
        broker.fail("create_topics", times=1, drop="reply")
        with pytest.raises(RequestTimedOut, match="unknown"):
            admin.create_topic("perhaps")
        assert "perhaps" in broker.topics
        assert len(broker.seen(m.CreateTopics)) == 3
        broker.fail("list_offsets", times=2, error=LeaderNotAvailable("not yet"))
        assert admin.list_offsets("later") == {0: 0}


def test_no_broker_is_said_plainly() -> None:
    with (
        Admin("127.0.0.1:1", timeout_ms=300, connect_timeout_ms=100) as admin,
        pytest.raises(NetworkException, match=r"no broker answers at tcp://127\.0\.0\.1:1"),
    ):
        admin.ping()


def test_a_second_router_takes_over(broker: FakeBroker) -> None:
    with Admin(["127.0.0.1:1", broker.endpoint], connect_timeout_ms=50) as admin:
        assert admin.list_topics() == ["events"]

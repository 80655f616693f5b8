"""A topic that was deleted and made again is another topic: its readers begin anew, at its start."""

from __future__ import annotations

import time

import pytest

from odradek import Admin, Consumer, Producer, Record, TopicPartition
from odradek.protocol.errors import UnknownTopicOrPartition
from tests.support.broker import BrokerProcess

pytestmark = pytest.mark.processes

OLD, NEW = 200, 400
"""The new one has more records at once than the old one had, so that no offset is outside of it for long."""
DEADLINE_S = 30.0
PLACE = TopicPartition("events", 0)


def fill(bootstrap: str, value: bytes, count: int) -> None:
    with Producer(bootstrap) as producer:
        producer.send_many(PLACE.topic, [value] * count, partition=PLACE.partition).wait(DEADLINE_S)


def read_until(consumer: Consumer, value: bytes, count: int) -> list[int]:
    """The offsets of the records with this value, as they came, until there are so many."""
    found: list[Record] = []
    deadline = time.monotonic() + DEADLINE_S
    while len({record.offset for record in found}) < count:
        assert time.monotonic() < deadline, f"{count} records of {value!r} expected, {len(found)} came"
        found += [record for record in consumer.poll(0.2) if record.value == value]
    return [record.offset for record in found]


def commit_until(consumer: Consumer, offset: int) -> None:
    """Refused as long as the member has not let go of the old one; then it may read once more."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        assert time.monotonic() < deadline, "what was read could not be committed"
        consumer.poll(0.1)
        try:
            if consumer.commit().get(PLACE) == offset:
                return
        except UnknownTopicOrPartition:
            continue


@pytest.mark.parametrize("group", ["readers", None])
def test_everything_of_the_new_topic_is_read(group: str | None) -> None:
    with BrokerProcess() as broker, Admin(broker.bootstrap) as admin:
        admin.create_topic(PLACE.topic, 1)
        fill(broker.bootstrap, b"old", OLD)
        with Consumer(broker.bootstrap, group=group, topics=[PLACE.topic]) as consumer:
            assert read_until(consumer, b"old", OLD) == list(range(OLD))
            admin.delete_topics([PLACE.topic])
            admin.create_topic(PLACE.topic, 1)
            fill(broker.bootstrap, b"new", NEW)
            assert set(read_until(consumer, b"new", NEW)) == set(range(NEW))
            if group is not None:
                commit_until(consumer, NEW)
                assert admin.list_group_offsets(group)[PLACE] == NEW

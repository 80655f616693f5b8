"""RoutingTable: what a new table changes, and where a record goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.effects import Link, Unlink
from actors.routing import STICKY_BYTES_MAX, RoutingTable
from odradek.protocol.errors import (
    InvalidTopic,
    KafkaStorageError,
    LeaderNotAvailable,
    OdradekError,
    UnknownTopicOrPartition,
)
from tests.support.network import routes, topic_route


def table_of(*inners: str | None, first_partition: int = 0) -> RoutingTable:
    table = RoutingTable(first_partition)
    table.replace(routes(1, topic_route("a", *inners)))
    return table


def test_a_first_table_links_everything_that_serves() -> None:
    effects, lost = RoutingTable().replace(routes(1, topic_route("a", "ipc://0", None)))
    assert effects == [Link("partition:a-0", "ipc://0"), Link("coordinator", "ipc://coordinator")]
    assert lost == set()


def test_an_unchanged_table_changes_no_link() -> None:
    table = table_of("ipc://0")
    assert table.replace(routes(2, topic_route("a", "ipc://0"))) == ([], set())


def test_an_older_table_is_ignored() -> None:
    table = table_of("ipc://0")
    assert table.replace(routes(1, topic_route("b", "ipc://1"))) == ([], set())
    assert list(table.topics) == ["a"]


def test_what_ended_or_moved_is_lost_and_unlinked_before_it_is_linked_anew() -> None:
    table = table_of("ipc://0", "ipc://1", "ipc://2")
    effects, lost = table.replace(
        routes(2, topic_route("a", "ipc://moved", None, "ipc://2"), coordinator=None)
    )
    assert lost == {"partition:a-0", "partition:a-1", "coordinator"}
    assert effects == [
        Unlink("coordinator"),
        Unlink("partition:a-0"),
        Unlink("partition:a-1"),
        Link("partition:a-0", "ipc://moved"),
    ]
    assert not table.coordinator_serves


def test_a_deleted_topic_is_lost_and_made_anew_it_starts_afresh() -> None:
    table = table_of("ipc://0", "ipc://1", "ipc://2", first_partition=0)
    assert table.place(table.topic("a"), None, STICKY_BYTES_MAX) == 0
    assert table.place(table.topic("a"), None, 1) == 1
    table.replace(routes(2))
    with pytest.raises(UnknownTopicOrPartition):
        table.topic("a")
    table.replace(routes(3, topic_route("a", "ipc://0")))
    assert table.place(table.topic("a"), None, 1) == 0


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "x" * 250, "a\n"])
def test_a_name_that_no_topic_can_have_is_called_invalid(name: str) -> None:
    with pytest.raises(InvalidTopic):
        RoutingTable().topic(name)


@pytest.mark.parametrize("partition", [-1, 1, 2**31])
def test_a_partition_that_is_not_there(partition: int) -> None:
    with pytest.raises(UnknownTopicOrPartition, match="partitions 0 to 0"):
        table_of("ipc://0").served("a", partition)


def test_a_partition_that_does_not_serve_says_why() -> None:
    table = RoutingTable()
    failed = KafkaStorageError("damaged").wire()
    table.replace(routes(1, topic_route("a", None, None, errors={1: failed})))
    with pytest.raises(LeaderNotAvailable):
        table.served("a", 0)
    with pytest.raises(KafkaStorageError, match="damaged"):
        table.served("a", 1)


def test_all_serve() -> None:
    assert table_of("ipc://0", "ipc://1").all_serve("a")
    assert not table_of("ipc://0", None).all_serve("a")
    assert not table_of("ipc://0").all_serve("b")


@pytest.mark.parametrize(
    ("key", "partition"),
    # As Kafka's Utils.murmur2 has them (UtilsTest.testMurmur2), masked, of 100 partitions.
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_go_where_kafka_sends_them(key: bytes, partition: int) -> None:
    table = table_of(*["ipc://x"] * 100)
    assert table.place(table.topic("a"), key, 1) == (partition & 0x7FFFFFFF) % 100


@given(st.binary(), st.integers(1, 20))
def test_a_key_has_one_partition_whether_or_not_it_serves(key: bytes, count: int) -> None:
    serving, starting = table_of(*["ipc://x"] * count), table_of(*[None] * count)
    place = serving.place(serving.topic("a"), key, 1)
    assert 0 <= place < count
    assert starting.place(starting.topic("a"), key, 1) == place


def test_records_without_a_key_stay_together_and_then_move_on_around_the_circle() -> None:
    table = table_of("ipc://0", "ipc://1", first_partition=1)
    topic = table.topic("a")
    places = [table.place(topic, None, STICKY_BYTES_MAX // 2) for _ in range(6)]
    assert places == [1, 1, 0, 0, 1, 1]


def test_records_without_a_key_avoid_partitions_that_do_not_serve() -> None:
    table = table_of(None, "ipc://1", None)
    topic = table.topic("a")
    assert {table.place(topic, None, STICKY_BYTES_MAX) for _ in range(5)} == {1}
    table.replace(routes(2, topic_route("a", "ipc://0", None, None)))
    assert table.place(table.topic("a"), None, 1) == 0
    table.replace(routes(3, topic_route("a", None, None, None)))
    with pytest.raises(OdradekError):
        table.served("a", table.place(table.topic("a"), None, 1))

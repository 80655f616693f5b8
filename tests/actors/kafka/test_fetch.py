"""Fetch: rounds of reads within what the client takes, and waits that cost a partition one question."""

from __future__ import annotations

from typing import Any

import pytest

from actors.effects import Forward
from actors.messages import Watch, WatchReply
from odradek.protocol.errors import LeaderNotAvailable, OffsetOutOfRange
from odradek.protocol.messages import Fetch, FetchReply, failure
from tests.support.batches import make_batch
from tests.support.kafka import GatewayRig, fetch_body

FETCH = 1
BATCH = make_batch(2, payload=b"x" * 100)


@pytest.fixture
def rig() -> GatewayRig:
    return GatewayRig(topics={"t": 4})


def found(high_watermark: int = 10, start: int = 0) -> FetchReply:
    return FetchReply(topic="t", partition=0, high_watermark=high_watermark, log_start_offset=start)


def moved(high_watermark: int) -> WatchReply:
    return WatchReply(high_watermark=high_watermark, log_start_offset=0)


def places(*partitions: int, offset: int = 10) -> list[tuple[str, int, int]]:
    return [("t", partition, offset) for partition in partitions]


def request(forward: Forward) -> Fetch:
    assert isinstance(forward.request, Fetch)
    return forward.request


def watch(forward: Forward) -> Watch:
    assert isinstance(forward.request, Watch)
    return forward.request


def partitions(rig: GatewayRig) -> list[Any]:
    return [part for topic in rig.response().responses for part in topic.partitions]


# -- reading -------------------------------------------------------------------------------------------


def test_all_partitions_are_asked_at_once_and_answered_in_order(rig: GatewayRig) -> None:
    rig.ask(FETCH, 12, fetch_body([*places(2, 0), ("gone", 0, 0)], partition_max_bytes=1_000))
    first, second = rig.take()
    assert [forward.address for forward in (first, second)] == ["partition:t-2", "partition:t-0"]
    asked = request(first)
    assert (asked.offset, asked.max_bytes, asked.min_bytes, asked.max_wait_ms) == (10, 1_000, 0, 0)
    rig.answer(second, found(12), (BATCH,))
    rig.answer(first, found(10, start=4))
    quiet, read, gone = partitions(rig)
    assert (quiet.partition_index, quiet.high_watermark, quiet.log_start_offset) == (2, 10, 4)
    assert (read.partition_index, read.high_watermark, bytes(read.records)) == (0, 12, BATCH)
    assert (gone.error_code.value, bytes(gone.records or b"")) == (3, b"")


def test_a_round_asks_for_no_more_than_the_client_takes(rig: GatewayRig) -> None:
    rig.ask(FETCH, 12, fetch_body(places(0, 1, 2, 3), max_bytes=2_500, partition_max_bytes=1_000))
    first = rig.take()
    assert [request(forward).partition for forward in first] == [0, 1]
    rig.answer(first[0], found())
    rig.answer(first[1], found(), (BATCH,))
    second = rig.take()
    assert [request(forward).partition for forward in second] == [2, 3]
    for forward in second:
        rig.answer(forward, found(), (bytes(1_000),))
    assert [len(part.records or b"") for part in partitions(rig)] == [0, len(BATCH), 1_000, 1_000]


def test_a_full_answer_reads_no_further(rig: GatewayRig) -> None:
    rig.ask(FETCH, 12, fetch_body(places(0, 1), max_bytes=1_000, partition_max_bytes=1_000))
    (forward,) = rig.take()
    rig.answer(forward, found(), (bytes(1_000),))
    assert rig.take() == []
    assert [len(part.records or b"") for part in partitions(rig)] == [1_000, 0]


def test_one_batch_is_given_however_little_the_client_takes(rig: GatewayRig) -> None:
    rig.ask(FETCH, 12, fetch_body(places(0, 1), max_bytes=0, partition_max_bytes=0, min_bytes=1))
    for forward in rig.take():
        assert request(forward).max_bytes == 0
        rig.answer(forward, found(), (BATCH,))
    # Only one: the second partition's batch does not fit any more.
    assert [len(part.records or b"") for part in partitions(rig)] == [len(BATCH), 0]


def test_an_error_answers_at_once_and_tells_both_ends(rig: GatewayRig) -> None:
    rig.ask(FETCH, 12, fetch_body(places(0, 1), wait_ms=500))
    first, second = rig.take()
    refused = found(10, start=3)
    refused.error = OffsetOutOfRange("x").wire()
    rig.answer(first, refused)
    rig.answer(second, failure(LeaderNotAvailable("x")))
    out, down = partitions(rig)
    assert (out.error_code.value, out.high_watermark, out.log_start_offset) == (1, 10, 3)
    assert down.error_code.value == 6
    assert rig.actor.deadline() is None


@pytest.mark.parametrize(("epoch", "code"), [(5, 0), (-1, 0), (4, 74), (6, 75)])
def test_the_clients_leader_epoch_is_compared(rig: GatewayRig, epoch: int, code: int) -> None:
    rig.ask(FETCH, 9, fetch_body(places(0), current_leader_epoch=epoch))
    for forward in rig.take():
        rig.answer(forward, found(), (BATCH,))
    assert partitions(rig)[0].error_code.value == code


def test_sessions_are_declined(rig: GatewayRig) -> None:
    rig.ask(FETCH, 12, fetch_body(places(0), session_id=0, session_epoch=0))
    rig.answer(rig.take()[0], found(), (BATCH,))
    assert rig.response().session_id == 0
    rig.ask(FETCH, 12, fetch_body(places(0), session_id=9, session_epoch=1))
    assert rig.response().error_code.value == 70


# -- waiting -------------------------------------------------------------------------------------------


def wait_for(rig: GatewayRig, *at: int, connection: bytes = b"one", **more: Any) -> list[Forward]:
    """A fetch that finds nothing; what it watches."""
    rig.ask(FETCH, 12, fetch_body(places(*at), **{"wait_ms": 500, **more}), connection=connection)
    for forward in rig.take():
        rig.answer(forward, found())
    return rig.take()


def test_a_fetch_that_finds_nothing_watches_and_reads_what_moved(rig: GatewayRig) -> None:
    first, second = wait_for(rig, 0, 1)
    assert [(watch(each).partition, watch(each).offset) for each in (first, second)] == [(0, 10), (1, 10)]
    rig.answer(second, moved(12))
    (read,) = rig.take()
    assert (read.address, request(read).offset) == ("partition:t-1", 10)
    rig.answer(read, found(12), (BATCH,))
    assert [len(part.records or b"") for part in partitions(rig)] == [0, len(BATCH)]


def test_the_time_of_a_wait_ends(rig: GatewayRig) -> None:
    wait_for(rig, 0, wait_ms=500)
    assert rig.actor.deadline() == pytest.approx(rig.clock.now().monotonic_s + 0.5)
    rig.clock.advance(0.5)
    rig.settle()
    (part,) = partitions(rig)
    assert (part.high_watermark, bytes(part.records or b"")) == (10, b"")
    assert rig.take() == []


def test_who_asks_again_needs_neither_a_read_nor_a_second_watch(rig: GatewayRig) -> None:
    (watching,) = wait_for(rig, 0)
    rig.clock.advance(0.5)
    rig.settle()
    rig.response()
    for _ in range(3):
        rig.ask(FETCH, 12, fetch_body(places(0), wait_ms=500))
        assert rig.take() == []
        rig.clock.advance(0.5)
        rig.settle()
        assert rig.response().responses[0].partitions[0].high_watermark == 10
    rig.ask(FETCH, 12, fetch_body(places(0), wait_ms=500))
    rig.answer(watching, moved(11))
    (read,) = rig.take()
    rig.answer(read, found(11), (BATCH,))
    assert len(partitions(rig)[0].records) == len(BATCH)


def test_many_wait_for_one_watch(rig: GatewayRig) -> None:
    (watching,) = wait_for(rig, 0)
    for number in range(20):
        rig.ask(FETCH, 12, fetch_body(places(0), wait_ms=500), connection=b"%d" % number)
    assert rig.take() == []
    rig.answer(watching, moved(12))
    reads = rig.take()
    assert len(reads) == 21
    for read in reads:
        rig.answer(read, found(12), (BATCH,))
    assert len(rig.replies) == 21


def test_min_bytes_waits_for_enough(rig: GatewayRig) -> None:
    (watching,) = wait_for(rig, 0, min_bytes=2 * len(BATCH))
    rig.answer(watching, moved(12))
    (read,) = rig.take()
    rig.answer(read, found(12), (BATCH,))
    assert rig.replies == []
    (again,) = rig.take()
    assert watch(again).offset == 12
    rig.answer(again, moved(14))
    (read,) = rig.take()
    rig.answer(read, found(14), (BATCH, BATCH))
    assert len(partitions(rig)[0].records) == 2 * len(BATCH)


def test_what_there_is_when_the_time_is_over_is_given(rig: GatewayRig) -> None:
    (watching,) = wait_for(rig, 0, 1, min_bytes=10_000)[:1]
    rig.answer(watching, moved(12))
    (read,) = rig.take()
    rig.answer(read, found(12), (BATCH,))
    assert rig.replies == []
    rig.clock.advance(0.5)
    rig.settle()
    for read in rig.take():
        if isinstance(read.request, Fetch):
            rig.answer(read, found(12), (BATCH,))
    assert [len(part.records or b"") for part in partitions(rig)] == [len(BATCH), 0]


def test_a_watched_partition_that_ends_is_told(rig: GatewayRig) -> None:
    (watching,) = wait_for(rig, 0)
    rig.route({"t": 4}, down=["partition:t-0"])
    rig.lose(watching.address)
    for read in rig.take():
        rig.fail(read, LeaderNotAvailable("x"))
    assert partitions(rig)[0].error_code.value == 6
    assert rig.actor.deadline() is None


def test_a_client_that_goes_leaves_no_deadline_behind(rig: GatewayRig) -> None:
    (watching,) = wait_for(rig, 0)
    rig.close()
    rig.answer(watching, moved(12))
    assert rig.take() == []
    assert rig.replies == []
    assert rig.actor.deadline() is None


def test_a_watch_whose_time_is_over_is_renewed_only_while_somebody_waits(rig: GatewayRig) -> None:
    (watching,) = wait_for(rig, 0, wait_ms=100_000)
    rig.clock.advance(30)
    rig.answer(watching, moved(10))
    (again,) = rig.take()
    assert watch(again).offset == 10
    rig.close()
    rig.answer(again, moved(10))
    assert rig.take() == []


def test_a_fetch_behind_the_end_is_not_mistaken_for_one_at_it(rig: GatewayRig) -> None:
    wait_for(rig, 0)
    rig.ask(FETCH, 12, fetch_body(places(0, offset=11), wait_ms=500))
    (read,) = rig.take()
    assert request(read).offset == 11


@pytest.mark.parametrize("wait_ms", [0, -1])
def test_who_does_not_wait_is_answered_at_once(rig: GatewayRig, wait_ms: int) -> None:
    assert wait_for(rig, 0, wait_ms=wait_ms) == []
    assert partitions(rig)[0].high_watermark == 10


def test_a_fetch_of_nothing_is_answered_by_nothing(rig: GatewayRig) -> None:
    rig.ask(FETCH, 12, fetch_body([], wait_ms=500))
    assert rig.response().responses == ()

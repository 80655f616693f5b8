"""Gatherer: records to batches that no partition refuses, each with the receipt of its client."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.actor import Answer
from actors.effects import Effect
from actors.gathering import (
    BatchWaiter,
    Destination,
    Gatherer,
    ManyProgress,
    ManyReceipt,
    Place,
    SingleReceipt,
)
from odradek.protocol.batch import check_batch
from odradek.protocol.errors import LeaderNotAvailable, MessageTooLarge, OdradekError
from odradek.protocol.messages import ProduceReply, failure
from odradek.protocol.records import RecordToWrite, decode_batch, encode_batch
from tests.support.transcript import replies, said, sender

TO = Destination("a", 3, "all")


class Silent:
    def written(self, partition: int, offset: int, timestamp: int) -> Effect | None:
        return None

    def failed(self, partition: int, error: OdradekError) -> Effect | None:
        return None


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40), st.integers(500, 900))
def test_every_record_is_in_one_batch_in_order_and_no_batch_is_too_large(
    sizes: list[int], limit: int
) -> None:
    gatherer = Gatherer()
    records = [RecordToWrite(number, b"k", bytes(size)) for number, size in enumerate(sizes)]
    for record in records:
        gatherer.add(TO, record, Silent(), limit)
    flushed = list(gatherer.flush())
    decoded = [record for batch, _ in flushed for record in decode_batch(batch)]
    assert [(record.timestamp, record.value) for record in decoded] == [
        (record.timestamp, record.value) for record in records
    ]
    assert [item.record for _, waiter in flushed for item in waiter.gathered] == records
    for batch, waiter in flushed:
        assert check_batch(batch).record_count == len(waiter.gathered)
        assert len(batch) <= limit
    assert list(gatherer.flush()) == []


@pytest.mark.parametrize("compressible", [b"\0", None])
def test_the_limit_is_exact_to_the_byte(compressible: bytes | None) -> None:
    record = RecordToWrite(1_700_000_000_000, b"key", compressible and compressible * 777, [("h", b"x")])
    size = len(encode_batch([record]))
    with pytest.raises(MessageTooLarge, match=f"{size} bytes.*{size - 1}"):
        Gatherer().add(TO, record, Silent(), size - 1)
    gatherer = Gatherer()
    gatherer.add(TO, record, Silent(), size)
    assert [len(batch) for batch, _ in gatherer.flush()] == [size]


def test_a_batch_splits_where_the_next_record_might_be_too_much() -> None:
    records = [RecordToWrite(1, None, bytes(100))] * 2
    both = len(encode_batch(records))
    # The codec reckons with the longest varints before it writes a record.
    for limit, batches in ((both + 32, 1), (both - 1, 2)):
        gatherer = Gatherer()
        for record in records:
            gatherer.add(TO, record, Silent(), limit)
        assert len(list(gatherer.flush())) == batches


def test_destinations_do_not_mix() -> None:
    gatherer = Gatherer()
    other = Destination("a", 3, 1)
    for destination in (TO, other, TO):
        gatherer.add(destination, RecordToWrite(1, None, b"v"), Silent(), 1_000)
    flushed = [(waiter.destination, len(waiter.gathered)) for _, waiter in gatherer.flush()]
    assert flushed == [(TO, 1), (other, 1), (TO, 1)], "acks differ, and the order stays"


def test_one_place_can_be_flushed_alone() -> None:
    gatherer = Gatherer()
    elsewhere = Destination("a", 4, "all")
    for destination in (TO, elsewhere):
        gatherer.add(destination, RecordToWrite(1, None, b"v"), Silent(), 1_000)
    assert [waiter.destination for _, waiter in gatherer.flush(Place("a", 4))] == [elsewhere]
    assert [waiter.destination for _, waiter in gatherer.flush()] == [TO]


def waiter_of(*receipts: SingleReceipt | ManyReceipt) -> BatchWaiter:
    gatherer = Gatherer()
    for number, receipt in enumerate(receipts):
        gatherer.add(TO, RecordToWrite(100 + number, None, b"v"), receipt, 1_000)
    ((_, waiter),) = gatherer.flush()
    return waiter


def test_each_client_learns_the_offset_of_its_own_record() -> None:
    waiter = waiter_of(SingleReceipt(sender("a"), "t"), SingleReceipt(sender("b"), "t"))
    effects = waiter.answered(Answer(1, ProduceReply(partition=3, offset=40, timestamp=1, count=2)))
    assert said(effects) == [("a", "ok"), ("b", "ok")]
    told = [cast(ProduceReply, reply.reply) for reply in replies(effects)]
    assert [(reply.partition, reply.offset, reply.timestamp) for reply in told] == [
        (3, 40, 100),
        (3, 41, 101),
    ]


def test_each_client_learns_of_the_failure() -> None:
    waiter = waiter_of(SingleReceipt(sender("a"), "t"), SingleReceipt(sender("b"), "t"))
    effects = waiter.answered(Answer(1, failure(LeaderNotAvailable("gone"))))
    assert said(effects) == [("a", "LEADER_NOT_AVAILABLE"), ("b", "LEADER_NOT_AVAILABLE")]


def test_many_are_answered_once_when_the_last_is_known() -> None:
    progress = ManyProgress(sender(), "t", 3, [(None, None)] * 3)
    first, second, third = (ManyReceipt(progress, index) for index in range(3))
    assert second.written(1, 10, 5) is None
    assert third.failed(2, LeaderNotAvailable("gone")) is None
    effect = first.failed(0, MessageTooLarge("big"))
    assert effect is not None
    reply = cast(ProduceReply, replies([effect])[0].reply)
    assert reply.offsets == [(0, None), (1, 10), (2, None)]
    assert isinstance(reply.errors, dict)
    assert {index: error.name for index, error in reply.errors.items()} == {
        0: "MESSAGE_TOO_LARGE",
        2: "LEADER_NOT_AVAILABLE",
    }
    assert reply.error is None, "each record has its own"

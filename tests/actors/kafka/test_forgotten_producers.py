"""Producers that a partition does not know: a topic that was made anew, or many years of silence."""

from __future__ import annotations

from odradek.protocol.errors import LeaderNotAvailable, UnknownProducerId
from odradek.protocol.messages import ListOffsets, ListOffsetsReply, ProduceReply, failure
from tests.support.batches import make_batch
from tests.support.kafka import GatewayRig, produce_body

PRODUCE = 0
UNKNOWN_PRODUCER_ID = 59


def test_who_is_unknown_is_told_where_the_log_starts() -> None:
    """Without it Java's producer sends the same batch again until its time is over, and loses it."""
    rig = GatewayRig()
    rig.ask(PRODUCE, 7, produce_body({("t", 0): make_batch(), ("t", 1): make_batch()}))
    known, unknown = rig.take()
    rig.answer(known, ProduceReply(topic="t", partition=0, offset=3, timestamp=1, count=1))
    rig.answer(unknown, failure(UnknownProducerId("a new producer begins at 0")))
    (asked,) = rig.take()
    assert asked.address == unknown.address
    assert asked.request == ListOffsets(topic="t", partition=1, at="earliest")
    rig.answer(asked, ListOffsetsReply(offset=0, timestamp=-1))
    parts = rig.response().responses[0].partition_responses
    assert [(part.error_code.value, part.base_offset, part.log_start_offset) for part in parts] == [
        (0, 3, -1),
        (UNKNOWN_PRODUCER_ID, -1, 0),
    ]


def test_where_nobody_can_say_where_the_log_starts_the_client_asks_again() -> None:
    rig = GatewayRig()
    rig.ask(PRODUCE, 7, produce_body({("t", 0): make_batch()}))
    rig.answer(rig.take()[0], failure(UnknownProducerId("a new producer begins at 0")))
    rig.fail(rig.take()[0], LeaderNotAvailable("it ended"))
    (part,) = rig.response().responses[0].partition_responses
    assert (part.error_code.value, part.log_start_offset) == (UNKNOWN_PRODUCER_ID, -1)


def test_without_an_answer_nothing_more_is_asked() -> None:
    rig = GatewayRig()
    rig.ask(PRODUCE, 7, produce_body({("t", 0): make_batch()}, acks=0))
    rig.answer(rig.take()[0], failure(UnknownProducerId("a new producer begins at 0")))
    assert rig.take() == []
    (reply,) = rig.replies
    assert reply.body is None
    assert reply.closes

"""Produce: what is asked of partitions, and in which words each failure reaches a client."""

from __future__ import annotations

import pytest

from odradek.protocol.errors import (
    KafkaStorageError,
    LeaderNotAvailable,
    NetworkException,
    OdradekError,
    OutOfOrderSequenceNumber,
    RequestTimedOut,
    ThrottlingQuotaExceeded,
)
from odradek.protocol.messages import Produce, ProduceReply, failure
from tests.support.batches import make_batch
from tests.support.kafka import GatewayRig, produce_body

PRODUCE = 0
BATCH = make_batch(3)


@pytest.fixture
def rig() -> GatewayRig:
    return GatewayRig()


def written(offset: int = 0) -> ProduceReply:
    return ProduceReply(topic="t", partition=0, offset=offset, timestamp=1, count=3)


def codes(rig: GatewayRig) -> list[int]:
    return [part.error_code.value for topic in rig.response().responses for part in topic.partition_responses]


@pytest.mark.parametrize(("acks", "native"), [(-1, "all"), (1, 1)])
def test_each_batch_goes_to_its_partition_as_it_came(rig: GatewayRig, acks: int, native: object) -> None:
    other = make_batch(1, payload=b"other")
    rig.ask(PRODUCE, 7, produce_body({("t", 1): BATCH, ("t", 0): other}, acks))
    first, second = rig.take()
    assert (first.address, second.address) == ("partition:t-1", "partition:t-0")
    assert (first.payload, second.payload) == ((BATCH,), (other,))
    request = first.request
    assert isinstance(request, Produce)
    assert (request.topic, request.partition, request.acks, request.format) == ("t", 1, native, "batch")
    rig.answer(second, written(40))
    assert rig.replies == []
    stamped = written(10)
    stamped.log_append_time = 77
    rig.answer(first, stamped)
    (topic,) = rig.response().responses
    assert [(part.index, part.base_offset) for part in topic.partition_responses] == [(1, 10), (0, 40)]
    assert topic.partition_responses[0].log_append_time.timestamp() * 1000 == pytest.approx(77)
    assert topic.partition_responses[1].log_append_time is None


def test_acks_0_is_bounded_like_any_other_and_answered_by_nothing(rig: GatewayRig) -> None:
    rig.ask(PRODUCE, 7, produce_body({("t", 0): BATCH}, acks=0))
    (forward,) = rig.take()
    assert isinstance(forward.request, Produce)
    assert forward.request.acks == 1
    rig.answer(forward, written())
    (reply,) = rig.replies
    assert (reply.body, reply.closes) == (None, False)


def test_acks_0_that_was_not_written_ends_the_connection(rig: GatewayRig) -> None:
    rig.ask(PRODUCE, 7, produce_body({("nowhere", 0): BATCH}, acks=0))
    (reply,) = rig.replies
    assert (reply.body, reply.closes) == (None, True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LeaderNotAvailable("x"), 6),
        (NetworkException("x"), 7),
        (RequestTimedOut("x"), 7),
        (ThrottlingQuotaExceeded("x"), 19),
        (OutOfOrderSequenceNumber("x"), 45),
        (KafkaStorageError("x"), 56),
    ],
)
def test_failures_in_the_words_of_kafkas_clients(rig: GatewayRig, error: OdradekError, code: int) -> None:
    rig.ask(PRODUCE, 7, produce_body({("t", 0): BATCH}))
    rig.answer(rig.take()[0], failure(error))
    assert codes(rig) == [code]


def zstd(batch: bytes) -> bytes:
    changed = bytearray(batch)
    changed[22] = 4
    return bytes(changed)


def with_attributes(bits: int) -> bytes:
    changed = bytearray(BATCH)
    changed[22] = bits
    return bytes(changed)


@pytest.mark.parametrize(
    ("records", "version", "code"),
    [
        (None, 7, 87),
        (b"", 7, 87),
        (b"short", 7, 87),
        (BATCH[:16] + b"\x01" + BATCH[17:], 7, 87),
        (BATCH[:16] + b"\x00" + BATCH[17:], 7, 87),
        (BATCH + BATCH, 7, 87),
        (BATCH[:40], 7, 2),
        (with_attributes(0x10), 7, 87),
        (with_attributes(0x20), 7, 87),
        (with_attributes(7), 7, 2),
        (zstd(BATCH), 6, 76),
        (make_batch(payload=bytes(1_000_001)), 7, 10),
        (BATCH, 2, 35),
        (BATCH, 0, 35),
    ],
)
def test_what_is_not_one_good_batch_is_refused_here(
    rig: GatewayRig, records: bytes | None, version: int, code: int
) -> None:
    rig.ask(PRODUCE, version, produce_body({("t", 0): records}))
    assert rig.take() == []
    if version >= 3:
        assert codes(rig) == [code]
    else:
        assert rig.replies[0].body is not None
        part = rig.replies[0].body["responses"][0]["partition_responses"][0]
        assert part["error_code"] == code


def test_zstd_is_taken_from_version_7(rig: GatewayRig) -> None:
    rig.ask(PRODUCE, 7, produce_body({("t", 0): zstd(BATCH)}))
    assert len(rig.take()) == 1


def test_one_bad_partition_does_not_spoil_the_others(rig: GatewayRig) -> None:
    rig.route({"t": 2}, down=["partition:t-1"])
    rig.ask(PRODUCE, 7, produce_body({("t", 7): BATCH, ("t", 0): BATCH, ("t", 1): BATCH, ("no", 0): BATCH}))
    (forward,) = rig.take()
    rig.answer(forward, written(4))
    assert codes(rig) == [3, 0, 6, 3]


@pytest.mark.parametrize("acks", [2, -2, 100])
def test_acks_that_mean_nothing(rig: GatewayRig, acks: int) -> None:
    rig.ask(PRODUCE, 7, produce_body({("t", 0): BATCH}, acks))
    assert codes(rig) == [21]


def test_a_transaction_is_refused(rig: GatewayRig) -> None:
    rig.ask(PRODUCE, 7, {**produce_body({("t", 0): BATCH}), "transactional_id": "tx"})
    assert codes(rig) == [42]


@pytest.mark.parametrize(("timeout_ms", "native_ms"), [(1_500, 1_500), (0, 1), (-5, 1), (2**31 - 1, 600_000)])
def test_the_clients_time_is_the_partitions(rig: GatewayRig, timeout_ms: int, native_ms: int) -> None:
    rig.ask(PRODUCE, 7, produce_body({("t", 0): BATCH}, timeout_ms=timeout_ms))
    assert rig.take()[0].request.timeout_ms == native_ms

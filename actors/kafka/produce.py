"""Produce (0), versions 0 to 7: one batch for each partition, written as it came.

0 to 2 are advertised for the sake of old clients and refused: they carry record formats before v2.
3: exactly one RecordBatch v2 for each partition. 5: the log's start is told. 7: zstd is allowed.
acks=0 gets no answer; where something was not written the connection ends, so that the client looks up.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from actors.kafka.handling import Ask, Body, Context, Outcome, Steps, Wait
from actors.kafka.places import write_error_code
from actors.operations import Operation, ResourceType
from odradek.protocol.batch import COMPRESSIONS, BatchHeader, Buffer, read_header
from odradek.protocol.errors import (
    CorruptMessage,
    InvalidRecord,
    InvalidRequest,
    MessageTooLarge,
    OdradekError,
    TopicAuthorizationFailed,
    UnknownProducerId,
    UnsupportedCompressionType,
    UnsupportedVersion,
)
from odradek.protocol.messages import (
    TIMEOUT_MS_MAX,
    ListOffsets,
    ListOffsetsReply,
    Produce,
    ProduceReply,
)

FORMAT_VERSION = 3
ZSTD_VERSION = 7
INVALID_REQUIRED_ACKS = 21
MAGIC_POSITION = 16
MAGIC = 2
TRANSACTION_BITS = 0x30
"""Of a batch's attributes: it belongs to a transaction; it is a control batch."""
UNKNOWN_START = -1
GRACE_S = 5.0
"""How much longer the gateway waits for a partition than the client says."""


def handle(request: Any, context: Context) -> Steps:
    """Append what is there for each partition; each has an error of its own."""
    terms = _terms(request, context)
    parts: list[Ask | int] = []
    asks: list[Ask] = []
    for topic in request.topic_data:
        for data in topic.partition_data:
            part = _part(topic.name, data, terms, context)
            parts.append(part)
            if isinstance(part, Ask):
                asks.append(part)
    written = yield asks
    outcomes = _in_order(parts, written)
    has_failed = any(map(_error_code, outcomes))
    if request.acks == 0:
        context.connection.closing |= has_failed
        return None
    starts: dict[int, int] = {}
    if has_failed and any(map(_is_forgotten, outcomes)):
        starts = yield from _log_starts(parts, outcomes)
    return _body(request, outcomes, starts)


def _in_order(parts: Sequence[Ask | int], written: Sequence[Outcome]) -> Sequence[Outcome | int]:
    """What became of each part: its outcome, or the code of why it was not asked."""
    if len(written) == len(parts):
        return written
    left = iter(written)
    return [next(left) if isinstance(part, Ask) else part for part in parts]


class _Terms(msgspec.Struct, frozen=True):
    """What holds for every partition of a request, or the code of why nothing of it is written."""

    acks: Literal["all", 1]
    timeout_ms: int
    error_code: int = 0


def _terms(request: Any, context: Context) -> _Terms:
    # acks=0 is asked with acks=1: the client hears nothing, but what is on its way here is bounded.
    acks: Literal["all", 1] = "all" if request.acks == -1 else 1
    timeout_ms = min(max(1, request.timeout_ms), TIMEOUT_MS_MAX)
    if request.acks not in (-1, 0, 1):
        return _Terms(acks, timeout_ms, INVALID_REQUIRED_ACKS)
    if context.version < FORMAT_VERSION:
        return _Terms(acks, timeout_ms, UnsupportedVersion.code)  # record formats before v2
    if request.transactional_id is not None:
        return _Terms(acks, timeout_ms, InvalidRequest.code)  # transactions are not served
    return _Terms(acks, timeout_ms)


def _part(topic: str, data: Any, terms: _Terms, context: Context) -> Ask | int:
    """What is asked of a partition, or the code of why nothing is."""
    if terms.error_code:
        return terms.error_code
    try:
        return _ask(topic, data.index, data.records, terms, context)
    except OdradekError as error:
        return write_error_code(error)


def _ask(topic: str, partition: int, records: Buffer | None, terms: _Terms, context: Context) -> Ask:
    """Raises what the client is told."""
    if not context.authorize(Operation.WRITE, ResourceType.TOPIC, topic):
        raise TopicAuthorizationFailed(f"{context.principal} may not write to {topic!r}")
    address = context.routes.served(topic, partition)
    batch_bytes_max = int(context.routes.topics[topic].config["max.message.bytes"])
    batch = _checked(records, context.version, batch_bytes_max)
    native = Produce(
        topic=topic, partition=partition, acks=terms.acks, format="batch", timeout_ms=terms.timeout_ms
    )
    return Ask(address, native, (batch,), terms.timeout_ms / 1000 + GRACE_S)


def _checked(records: Buffer | None, version: int, batch_bytes_max: int) -> Buffer:
    """Raises for what is not one batch of the present format; the partition checks what is inside."""
    if records is None or len(records) <= MAGIC_POSITION:
        raise InvalidRecord("there is no record batch")
    if records[MAGIC_POSITION] != MAGIC:
        raise InvalidRecord(f"record format v{records[MAGIC_POSITION]} is not taken, only v{MAGIC}")
    if len(records) > batch_bytes_max:
        raise MessageTooLarge(f"the batch has {len(records)} bytes, max.message.bytes is {batch_bytes_max}")
    header = read_header(records)
    if header.size_bytes < len(records):
        raise InvalidRecord("there is more than one record batch for a partition")
    if header.attributes:
        _check_attributes(header, version)
    return records


def _check_attributes(header: BatchHeader, version: int) -> None:
    if header.attributes & TRANSACTION_BITS:
        raise InvalidRecord("a batch of a transaction, or a control batch: transactions are not served")
    codec = header.compression
    if not 0 <= codec < len(COMPRESSIONS):
        raise CorruptMessage(f"compression {codec} is unknown")
    if COMPRESSIONS[codec] == "zstd" and version < ZSTD_VERSION:
        raise UnsupportedCompressionType("zstd needs version 7 of produce")


def _error_code(outcome: Outcome | int) -> int:
    if isinstance(outcome, int):
        return outcome
    return 0 if outcome.error is None else write_error_code(outcome.error)


def _is_forgotten(outcome: Outcome | int) -> bool:
    return not isinstance(outcome, int) and outcome.error_code == UnknownProducerId.code


def _log_starts(
    parts: Sequence[Ask | int], outcomes: Sequence[Outcome | int]
) -> Generator[Sequence[Ask] | Wait, Sequence[Outcome], dict[int, int]]:
    """Where the logs start that do not know the producer, by number of the part.

    Java's producer begins anew where it knows that its records may have been deleted; told nothing, it sends
    the batch again until its time is over.
    """
    asks: dict[int, Ask] = {}
    for number, (part, outcome) in enumerate(zip(parts, outcomes, strict=True)):
        if isinstance(part, Ask) and isinstance(part.request, Produce) and _is_forgotten(outcome):
            topic, partition = part.request.topic, part.request.partition
            assert partition is not None
            asks[number] = Ask(part.address, ListOffsets(topic=topic, partition=partition, at="earliest"))
    found = yield list(asks.values())
    return {
        number: outcome.reply.offset
        for number, outcome in zip(asks, found, strict=True)
        if isinstance(outcome.reply, ListOffsetsReply) and isinstance(outcome.reply.offset, int)
    }


def _body(request: Any, outcomes: Sequence[Outcome | int], starts: Mapping[int, int]) -> Body:
    """``outcomes``: of each partition in the order of the request, or the code of why it was not asked."""
    left = iter(enumerate(outcomes))
    topics: list[Body] = []
    for topic in request.topic_data:
        responses: list[Body] = []
        for data in topic.partition_data:
            number, outcome = next(left)
            responses.append(_described(data.index, outcome, starts.get(number, UNKNOWN_START)))
        topics.append({"name": topic.name, "partition_responses": responses})
    return {"responses": topics}


def _described(partition: int, outcome: Outcome | int, log_start: int) -> Body:
    error_code = _error_code(outcome)
    offset = stamped = -1
    if not error_code:
        assert isinstance(outcome, Outcome)
        reply = outcome.expect(ProduceReply)
        assert isinstance(reply.offset, int)
        offset = reply.offset
        stamped = reply.log_append_time if isinstance(reply.log_append_time, int) else -1
    return {
        "index": partition,
        "error_code": error_code,
        "base_offset": offset,
        "log_append_time": stamped,
        "log_start_offset": log_start,
    }

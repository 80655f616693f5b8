"""Produce (0), versions 0 to 7: one batch for each partition, written as it came.

0 to 2 are advertised for the sake of old clients and refused: they carry record formats before v2.
3: exactly one RecordBatch v2 for each partition. 5: the log's start is told. 7: zstd is allowed.
acks=0 gets no answer; where something was not written the connection ends, so that the client looks up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from actors.kafka.handling import Ask, Body, Context, Outcome, Steps, milliseconds
from actors.kafka.places import write_error_code
from actors.operations import Operation, ResourceType
from odradek.protocol.batch import COMPRESSIONS, read_header
from odradek.protocol.errors import (
    CorruptMessage,
    InvalidRecord,
    InvalidRequest,
    MessageTooLarge,
    OdradekError,
    TopicAuthorizationFailed,
    UnsupportedCompressionType,
    UnsupportedVersion,
)
from odradek.protocol.messages import TIMEOUT_MS_MAX, Produce, ProduceReply

FORMAT_VERSION = 3
ZSTD_VERSION = 7
INVALID_REQUIRED_ACKS = 21
MAGIC_POSITION = 16
MAGIC = 2
TRANSACTION_BITS = 0x30
"""Of a batch's attributes: it belongs to a transaction; it is a control batch."""
GRACE_S = 5.0
"""How much longer the gateway waits for a partition than the client says."""


class _Part(NamedTuple):
    """One partition's share of a request: what is asked, or the code of why nothing is."""

    topic: str
    partition: int
    ask: Ask | None
    error_code: int = 0


def handle(request: Any, context: Context) -> Steps:
    """Append what is there for each partition; each has an error of its own."""
    parts = [
        _part(topic.name, data, request, context)
        for topic in request.topic_data
        for data in topic.partition_data
    ]
    outcomes = yield [part.ask for part in parts if part.ask is not None]
    answered = iter(outcomes)
    written = [_written(part, next(answered) if part.ask is not None else None) for part in parts]
    if request.acks == 0:
        context.connection.closing |= any(each["error_code"] for each in written)
        return None
    topics: list[Body] = []
    described = iter(written)
    for topic in request.topic_data:
        responses = [next(described) for _ in topic.partition_data]
        topics.append({"name": topic.name, "partition_responses": responses})
    return {"responses": topics}


def _part(topic: str, data: Any, request: Any, context: Context) -> _Part:
    try:
        if request.acks not in (-1, 0, 1):
            return _Part(topic, data.index, None, INVALID_REQUIRED_ACKS)
        return _Part(topic, data.index, _ask(topic, data, request, context))
    except OdradekError as error:
        return _Part(topic, data.index, None, write_error_code(error))


def _ask(topic: str, data: Any, request: Any, context: Context) -> Ask:
    """What is asked of the partition. Raises what the client is told."""
    if context.version < FORMAT_VERSION:
        raise UnsupportedVersion("record formats before v2 are not taken")
    if request.transactional_id is not None:
        raise InvalidRequest("transactions are not served")
    if not context.authorize(Operation.WRITE, ResourceType.TOPIC, topic):
        raise TopicAuthorizationFailed(f"{context.principal} may not write to {topic!r}")
    address = context.routes.served(topic, data.index)
    _check(data.records, context.version, int(context.routes.topics[topic].config["max.message.bytes"]))
    timeout_ms = min(max(1, milliseconds(request.timeout)), TIMEOUT_MS_MAX)
    native = Produce(
        topic=topic,
        partition=data.index,
        acks="all" if request.acks == -1 else 1,
        format="batch",
        timeout_ms=timeout_ms,
    )
    # acks=0 is asked with acks=1: the client hears nothing, but what is on its way here is bounded.
    return Ask(address, native, (data.records,), timeout_ms / 1000 + GRACE_S)


def _check(records: bytes | None, version: int, batch_bytes_max: int) -> None:
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
    if header.attributes & TRANSACTION_BITS:
        raise InvalidRecord("a batch of a transaction, or a control batch: transactions are not served")
    codec = header.compression
    if not 0 <= codec < len(COMPRESSIONS):
        raise CorruptMessage(f"compression {codec} is unknown")
    if COMPRESSIONS[codec] == "zstd" and version < ZSTD_VERSION:
        raise UnsupportedCompressionType("zstd needs version 7 of produce")


def _written(part: _Part, outcome: Outcome | None) -> Body:
    if outcome is None:
        return _not_written(part.partition, part.error_code)
    if outcome.error is not None:
        return _not_written(part.partition, write_error_code(outcome.error))
    reply = outcome.expect(ProduceReply)
    stamped = reply.log_append_time
    return {
        "index": part.partition,
        "error_code": 0,
        "base_offset": reply.offset,
        "log_append_time": stamped if isinstance(stamped, int) else -1,
        "log_start_offset": -1,
    }


def _not_written(index: int, error_code: int) -> Body:
    return {
        "index": index,
        "error_code": error_code,
        "base_offset": -1,
        "log_append_time": -1,
        "log_start_offset": -1,
    }

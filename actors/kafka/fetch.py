"""Fetch (1), versions 4 to 12: batches of several partitions, or a wait until there are some.

5: the log's start. 7: fetch sessions, which are declined: session 0 in the answer makes a client say all
that it wants each time. 9: the leader epoch that the client knows. 11: the rack, which matters not here.
12: compact form.

Partitions are read in the order in which the client names them, which it turns round itself, in rounds
that cannot bring more than the client takes. Whoever finds nothing waits for the shared watches, and reads
again only what has moved.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any

import msgspec

from actors.kafka.handling import Ask, Body, Context, Outcome, Steps, Wait, Watched, milliseconds
from actors.kafka.places import NO_EPOCH, epoch_error_code, read_error_code
from actors.operations import Operation, ResourceType
from odradek.protocol.batch import Buffer
from odradek.protocol.errors import OdradekError, TopicAuthorizationFailed
from odradek.protocol.messages import FETCH_BYTES_MAX, INT64_MAX, MAX_WAIT_MS_MAX, Fetch, FetchReply

RESPONSE_BYTES_MAX = 16 << 20
"""However much a client wants at once; it asks again."""
PARTITIONS_PER_ROUND_MAX = 64
FETCH_SESSION_ID_NOT_FOUND = 70


class _Part(msgspec.Struct, eq=False):
    """One partition of a request, and what is known of it so far."""

    topic: str
    index: int
    offset: int
    bytes_max: int
    address: str = ""
    error_code: int = 0
    high_watermark: int = -1
    log_start_offset: int = -1
    records: Sequence[Buffer] = ()
    size_bytes: int = 0
    """Of the batches that were read."""
    is_read: bool = False


class _Reading(msgspec.Struct, eq=False):
    """All partitions of one request, and what the client wants of them together."""

    parts: list[_Part]
    bytes_max: int
    bytes_min: int
    has_failed: bool = False
    size_bytes: int = 0
    """Of all batches that were read."""

    @property
    def is_enough(self) -> bool:
        """Whether the client need not wait."""
        return self.has_failed or self.size_bytes >= self.bytes_min


def handle(request: Any, context: Context) -> Steps:
    """Read, wait for more if that is not enough, and read what has moved."""
    if getattr(request, "session_id", 0):
        return {"error_code": FETCH_SESSION_ID_NOT_FOUND, "responses": []}
    bytes_max = min(max(0, request.max_bytes), RESPONSE_BYTES_MAX)
    reading = _Reading([], bytes_max, min(max(0, request.min_bytes), bytes_max))
    for topic in request.topics:
        for each in topic.partitions:
            part = _part(topic.topic, each, context)
            reading.parts.append(part)
            reading.has_failed |= part.error_code != 0
    wait_s = min(milliseconds(request.max_wait), MAX_WAIT_MS_MAX) / 1000
    until_s = context.now.monotonic_s + wait_s
    yield from _read(reading, context)
    while not reading.is_enough and context.now.monotonic_s < until_s and reading.parts:
        yield Wait(until_s, [_watched(part) for part in reading.parts])
        for part in reading.parts:
            part.is_read = part.is_read and _is_quiet(part, context, part.high_watermark)
        yield from _read(reading, context)
    return _body(request, reading.parts)


# -- which partitions ----------------------------------------------------------------------------------


def _part(topic: str, asked: Any, context: Context) -> _Part:
    bytes_max = min(asked.partition_max_bytes, FETCH_BYTES_MAX)
    part = _Part(topic, asked.partition, asked.fetch_offset, bytes_max)
    try:
        if not context.authorize(Operation.READ, ResourceType.TOPIC, topic):
            raise TopicAuthorizationFailed(f"{context.principal} may not read {topic!r}")
        part.address = context.routes.served(topic, part.index)
    except OdradekError as error:
        part.error_code = read_error_code(error)
        return part
    epoch = getattr(asked, "current_leader_epoch", NO_EPOCH)
    part.error_code = epoch_error_code(context, topic, part.index, epoch)
    return part


def _is_quiet(part: _Part, context: Context, offset: int) -> bool:
    """Whether it is known, without a question, that nothing stands at the offset yet."""
    known = context.watches.quiet_at((part.topic, part.index)) if context.watches is not None else None
    if known is None or known[0] != offset:
        return False
    part.high_watermark, part.log_start_offset = known
    return True


def _watched(part: _Part) -> Watched:
    return Watched(part.topic, part.index, part.high_watermark, part.log_start_offset)


# -- reading -------------------------------------------------------------------------------------------


def _read(reading: _Reading, context: Context) -> Generator[Sequence[Ask] | Wait, Sequence[Outcome], None]:
    """Read what is not read yet, in rounds, until the answer is full."""
    for part in reading.parts:
        if not part.is_read:
            reading.size_bytes -= part.size_bytes
            part.records, part.size_bytes = (), 0
            part.is_read = part.error_code != 0 or _is_quiet(part, context, part.offset)
    waiting = [part for part in reading.parts if not part.is_read]
    while waiting:
        left_bytes = reading.bytes_max - reading.size_bytes
        if left_bytes <= 0 and reading.size_bytes:
            # Full. However little the client takes, one batch is given to it where there is one.
            return
        chosen = _round(waiting, left_bytes)
        del waiting[: len(chosen)]
        outcomes = yield [_ask(part, left_bytes) for part in chosen]
        for part, outcome in zip(chosen, outcomes, strict=True):
            _take(part, outcome, reading)


def _round(waiting: Sequence[_Part], left_bytes: int) -> list[_Part]:
    """The next partitions to ask, of which all that they may answer is taken."""
    chosen: list[_Part] = []
    sum_bytes = 0
    for part in waiting[:PARTITIONS_PER_ROUND_MAX]:
        sum_bytes += part.bytes_max
        if chosen and sum_bytes > left_bytes:
            break
        chosen.append(part)
    return chosen


def _ask(part: _Part, left_bytes: int) -> Ask:
    native = Fetch(
        topic=part.topic,
        partition=part.index,
        offset=min(part.offset, INT64_MAX),
        max_bytes=max(0, min(part.bytes_max, left_bytes)),
        min_bytes=0,
        max_wait_ms=0,
        format="batch",
    )
    return Ask(part.address, native)


def _take(part: _Part, outcome: Outcome, reading: _Reading) -> None:
    part.is_read = True
    reply = outcome.reply
    if isinstance(reply, FetchReply) and isinstance(reply.high_watermark, int):
        assert isinstance(reply.log_start_offset, int)
        part.high_watermark, part.log_start_offset = reply.high_watermark, reply.log_start_offset
    if outcome.error is not None:
        part.error_code = read_error_code(outcome.error)
        reading.has_failed = True
        return
    size_bytes = sum(map(len, outcome.payload))
    # A partition gives one batch, however large. Only the first of all may go beyond what the client takes.
    if not reading.size_bytes or reading.size_bytes + size_bytes <= reading.bytes_max:
        part.records, part.size_bytes = outcome.payload, size_bytes
        reading.size_bytes += size_bytes


# -- the answer ----------------------------------------------------------------------------------------


def _body(request: Any, parts: Sequence[_Part]) -> Body:
    described = iter(parts)
    responses = []
    for topic in request.topics:
        partitions = list(map(_described, islice(described, len(topic.partitions))))
        responses.append({"topic": topic.topic, "partitions": partitions})
    return {"responses": responses}


def _described(part: _Part) -> Body:
    return {
        "partition_index": part.index,
        "error_code": part.error_code,
        "high_watermark": part.high_watermark,
        "log_start_offset": part.log_start_offset,
        "records": part.records,
    }

"""Questions to partitions that Kafka asks many at a time: one ask for each, one answer for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from actors.kafka.handling import Ask, Body, Context, Handler, Outcome, Steps, Wait
from actors.kafka.places import NO_EPOCH, epoch_error_code, read_error_code
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import InvalidRequest, OdradekError, TopicAuthorizationFailed
from odradek.protocol.messages import Request


class Lookup(NamedTuple):
    """One partition's question. ``asked`` is kio's part of the request for it."""

    topic: str
    partition: int
    asked: Any


class Found(NamedTuple):
    """What became of it: an outcome, or the code of why it was not asked or failed."""

    partition: int
    leader_epoch: int
    error_code: int
    outcome: Outcome | None


Native = Callable[[Lookup], Request]
"""The question to one partition. Raises what the client is to be told."""


def handler(name: str, index: str, native: Native, described: Callable[[Found], Body]) -> Handler:
    """The handler of such an API. ``name`` and ``index`` are what it calls a topic's name and a partition."""

    def handle(request: Any, context: Context) -> Steps:
        topics = [
            (
                getattr(topic, name),
                [Lookup(getattr(topic, name), getattr(each, index), each) for each in topic.partitions],
            )
            for topic in request.topics
        ]
        found = yield from look_up(topics, native, context)
        return {
            "topics": [
                {name: topic, "partitions": [described(each) for each in parts]} for topic, parts in found
            ]
        }

    return handle


def look_up(
    topics: Sequence[tuple[str, Sequence[Lookup]]], native: Native, context: Context
) -> Generator[Sequence[Ask] | Wait, Sequence[Outcome], list[tuple[str, list[Found]]]]:
    """Ask every partition that may be asked; what was found, in the order of the request.

    A partition that is named twice is asked nothing, as in Kafka: one request could fill all that is pending.
    """
    count = Counter((lookup.topic, lookup.partition) for _, lookups in topics for lookup in lookups)

    def asked_once(lookup: Lookup) -> Request:
        if count[lookup.topic, lookup.partition] > 1:
            raise InvalidRequest(f"{lookup.topic}-{lookup.partition} is there twice")
        return native(lookup)

    prepared = [
        (name, [_prepare(lookup, asked_once, context) for lookup in lookups]) for name, lookups in topics
    ]
    outcomes = yield [ask for _, asks in prepared for _, ask in asks if ask is not None]
    left = iter(outcomes)
    return [(name, [_found(found, ask, left) for found, ask in asks]) for name, asks in prepared]


def _prepare(lookup: Lookup, native: Native, context: Context) -> tuple[Found, Ask | None]:
    try:
        if not context.authorize(Operation.DESCRIBE, ResourceType.TOPIC, lookup.topic):
            raise TopicAuthorizationFailed(f"{context.principal} may not describe {lookup.topic!r}")
        address = context.routes.served(lookup.topic, lookup.partition)
        epoch = getattr(lookup.asked, "current_leader_epoch", NO_EPOCH)
        error_code = epoch_error_code(context, lookup.topic, lookup.partition, epoch)
        ask = Ask(address, native(lookup)) if not error_code else None
    except OdradekError as error:
        return Found(lookup.partition, NO_EPOCH, read_error_code(error), None), None
    current = context.routes.topics[lookup.topic].partitions[lookup.partition].leader_epoch
    return Found(lookup.partition, current, error_code, None), ask


def _found(found: Found, ask: Ask | None, outcomes: Iterator[Outcome]) -> Found:
    if ask is None:
        return found
    outcome = next(outcomes)
    if outcome.error is not None:
        return found._replace(error_code=read_error_code(outcome.error))
    return found._replace(outcome=outcome)

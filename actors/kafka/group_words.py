"""What the handlers of group requests have in common: errors in the words that clients act on, and limits."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

from actors.kafka.handling import Ask, Context, Outcome, Wait
from odradek.protocol.errors import (
    CoordinatorNotAvailable,
    GroupAuthorizationFailed,
    InvalidRequest,
    InvalidTopic,
    KafkaStorageError,
    LeaderNotAvailable,
    NetworkException,
    NotCoordinator,
    OdradekError,
    RequestTimedOut,
    ThrottlingQuotaExceeded,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import TIMEOUT_MS_MAX

ASKS_AT_ONCE_MAX = 100
"""Groups of one request that are asked about at the same time."""
GROUPS_PER_REQUEST_MAX = 10_000
"""Groups, or members of one, that a request may name: all that there can be."""
OFFSETS_PER_REQUEST_MAX = 100_000
"""Partitions that a request may name: as many as the coordinator takes."""
CLIENT_TEXT_BYTES_MAX = 255
"""What is kept of a client's name and address."""
BARRIER_WAIT_S = 86_400.0 + TIMEOUT_MS_MAX / 1000
"""A join or a sync waits for the other members, for as long as the slowest of them may take."""
NO_GENERATION = -1
DENIED = GroupAuthorizationFailed.code

_TRY_AGAIN = frozenset(
    error.code for error in (LeaderNotAvailable, RequestTimedOut, NetworkException, ThrottlingQuotaExceeded)
)


def group_code(error: OdradekError | None) -> int:
    """Kafka's number for what happened to a request about a group.

    Clients know what to do about the errors of a coordinator, and give up over those of a partition.
    """
    if error is None:
        return 0
    if error.code in _TRY_AGAIN:
        return CoordinatorNotAvailable.code
    return NotCoordinator.code if error.code == KafkaStorageError.code else error.code


def offset_code(code: int) -> int:
    """Kafka's number for what happened to the offset of one partition."""
    return UnknownTopicOrPartition.code if code == InvalidTopic.code else code


def check_count(what: str, count: int, most: int) -> None:
    """Raises InvalidRequest, which ends the connection, before anything is made of what is too long."""
    if count > most:
        raise InvalidRequest(f"a request names {count} {what}; {most} are the most")


def check_offsets(topics: Iterable[Any]) -> None:
    """Raises InvalidRequest where a request names too many partitions."""
    counts = (
        len(getattr(topic, "partitions", ()) or getattr(topic, "partition_indexes", ())) for topic in topics
    )
    check_count("partitions", sum(counts), OFFSETS_PER_REQUEST_MAX)


def client_name(context: Context) -> str | None:
    """What is kept of the client's id; None where it has none."""
    return shortened(context.client_id) or None


def shortened(text: str) -> str:
    """The text, or as much of it as CLIENT_TEXT_BYTES_MAX holds."""
    return text.encode()[:CLIENT_TEXT_BYTES_MAX].decode(errors="ignore")


def ask_all(asks: Sequence[Ask]) -> Generator[Sequence[Ask] | Wait, Sequence[Outcome], list[Outcome]]:
    """``outcomes = yield from ask_all(asks)``: however many there are, ASKS_AT_ONCE_MAX at a time."""
    outcomes: list[Outcome] = []
    for start in range(0, len(asks), ASKS_AT_ONCE_MAX):
        outcomes += yield asks[start : start + ASKS_AT_ONCE_MAX]
    return outcomes

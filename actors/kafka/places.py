"""Partitions as Kafka's clients see them: whether one serves, in which epoch, and its errors in their words.

librdkafka and the Java client know by heart which errors mean "look up the leader and try again". A
partition that starts anew is to them a leader that moved.
"""

from __future__ import annotations

from actors.kafka.handling import Context
from odradek.protocol.errors import (
    LeaderNotAvailable,
    NetworkException,
    OdradekError,
    RequestTimedOut,
    ThrottlingQuotaExceeded,
)

NO_EPOCH = -1
NOT_LEADER_OR_FOLLOWER = 6
NOT_ENOUGH_REPLICAS = 19
FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 75
_OUTCOME_UNKNOWN = (NetworkException.code, RequestTimedOut.code)


def epoch_error_code(context: Context, topic: str, partition: int, epoch: int) -> int:
    """Kafka's number where a client knows another leader epoch than this gateway; else 0."""
    current = context.routes.topics[topic].partitions[partition].leader_epoch
    if epoch in (NO_EPOCH, current):
        return 0
    return FENCED_LEADER_EPOCH if epoch < current else UNKNOWN_LEADER_EPOCH


def read_error_code(error: OdradekError) -> int:
    """Kafka's number for a read that failed: what passes by itself is a leader that moved."""
    passing = (LeaderNotAvailable.code, ThrottlingQuotaExceeded.code, *_OUTCOME_UNKNOWN)
    return NOT_LEADER_OR_FOLLOWER if error.code in passing else error.code


def write_error_code(error: OdradekError) -> int:
    """Kafka's number for a write that failed: retriable, and true to whether it may have happened."""
    if error.code == LeaderNotAvailable.code:
        return NOT_LEADER_OR_FOLLOWER
    if error.code == ThrottlingQuotaExceeded.code:
        return NOT_ENOUGH_REPLICAS  # the one error that says: nothing was appended, send it again later
    return RequestTimedOut.code if error.code in _OUTCOME_UNKNOWN else error.code

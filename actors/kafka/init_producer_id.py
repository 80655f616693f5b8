"""InitProducerId (22), versions 0 to 3: an id for idempotent producers. 2: compact form. 3: a known id.

A producer that asks again, with the id that it had, gets a new one: what it wrote with the old one is
settled. Transactions are not served.

What passes by itself is COORDINATOR_LOAD_IN_PROGRESS to every producer, as in Kafka: Java's retries that in
every version. Older ones end for most others, and all look for a coordinator of transactions for 15 and 16.
"""

from __future__ import annotations

from typing import Any

from actors.kafka.group_words import group_code
from actors.kafka.handling import Ask, Body, Context, Steps, ask_one
from actors.messages import COORDINATOR
from actors.operations import Operation, ResourceType
from odradek.protocol.errors import (
    ClusterAuthorizationFailed,
    CoordinatorNotAvailable,
    InvalidRequest,
    NotCoordinator,
)
from odradek.protocol.messages import InitProducerId, InitProducerIdReply

COORDINATOR_LOAD_IN_PROGRESS = 14
_PASSING = (CoordinatorNotAvailable.code, NotCoordinator.code)


def handle(request: Any, context: Context) -> Steps:
    """Take an id from the coordinator."""
    if request.transactional_id is not None:
        return _refused(InvalidRequest.code)
    # Who may write to some topic may do so idempotently, as in Kafka since 2.8.
    if not context.authorize(Operation.IDEMPOTENT_WRITE, ResourceType.CLUSTER) and not (
        context.authorizer.allows_any(
            context.principal, context.client_host, Operation.WRITE, ResourceType.TOPIC
        )
    ):
        return _refused(ClusterAuthorizationFailed.code)
    outcome = yield from ask_one(Ask(COORDINATOR, InitProducerId()))
    if outcome.error is not None:
        code = group_code(outcome.error)
        return _refused(COORDINATOR_LOAD_IN_PROGRESS if code in _PASSING else code)
    reply = outcome.expect(InitProducerIdReply)
    return {"error_code": 0, "producer_id": reply.producer_id, "producer_epoch": reply.producer_epoch}


def _refused(error_code: int) -> Body:
    return {"error_code": error_code, "producer_id": -1, "producer_epoch": -1}

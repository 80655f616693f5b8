"""DescribeClientQuotas (48), versions 0 and 1: there are none; tools ask for them along with users."""

from __future__ import annotations

from typing import Any

from actors.kafka.handling import Context, Steps, answer
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.errors import ClusterAuthorizationFailed


def handle(_request: Any, context: Context) -> Steps:
    """Nobody's requests are held back here, whatever the filter is."""
    may_ask = context.authorize(Operation.DESCRIBE_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME)
    return answer(
        {
            "throttle_time": 0,
            "error_code": 0 if may_ask else ClusterAuthorizationFailed.code,
            "error_message": None if may_ask else f"{context.principal} may not see the quotas",
            "entries": [] if may_ask else None,
        }
    )

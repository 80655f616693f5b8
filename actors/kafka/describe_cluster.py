"""DescribeCluster (60), versions 0 and 1: the gateways that serve, as brokers."""

from __future__ import annotations

from typing import Any

from actors.kafka.handling import Context, Steps, answer
from actors.kafka.permitted import operations_mask
from actors.operations import CLUSTER_NAME, ResourceType

BROKERS = 1
UNSUPPORTED_ENDPOINT_TYPE = 115


def handle(request: Any, context: Context) -> Steps:
    """The brokers. There are no controllers apart from them, so nothing else can be asked for."""
    endpoint_type = getattr(request, "endpoint_type", BROKERS)
    asked = request.include_cluster_authorized_operations
    is_known = endpoint_type == BROKERS
    return answer(
        {
            "throttle_time": 0,
            "error_code": 0 if is_known else UNSUPPORTED_ENDPOINT_TYPE,
            "error_message": None if is_known else "the brokers are their own controllers: ask for brokers",
            "endpoint_type": endpoint_type,
            "cluster_id": context.routes.cluster_id,
            "controller_id": context.controller_id,
            "brokers": [
                {"broker_id": broker.node_id, "host": broker.host, "port": broker.port, "rack": None}
                for broker in context.brokers
            ],
            "cluster_authorized_operations": operations_mask(
                asked, ResourceType.CLUSTER, CLUSTER_NAME, context
            ),
        }
    )

"""DescribeAcls (29), versions 1 and 2: the access rules that a filter means, sorted by resource."""

from __future__ import annotations

from typing import Any

from actors.kafka.acl_words import acl_to_kafka, filter_from_kafka
from actors.kafka.handling import Ask, Body, Context, Steps
from actors.messages import SUPERVISOR
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.errors import ClusterAuthorizationFailed, OdradekError, SecurityDisabled
from odradek.protocol.messages import DescribeAcls, DescribeAclsReply


def handle(request: Any, context: Context) -> Steps:
    """Administrators only."""
    try:
        check_administrator(Operation.DESCRIBE, context)
        (outcome,) = yield (Ask(SUPERVISOR, DescribeAcls(filter=filter_from_kafka(request))),)
        reply = outcome.expect(DescribeAclsReply)
        refuse_where_disabled(reply.enforced)
        acls: Any = reply.acls
    except OdradekError as error:
        return {"throttle_time": 0, "error_code": error.code, "error_message": error.message, "resources": []}
    resources: dict[tuple[int, str, int], Body] = {}
    for rule in map(acl_to_kafka, acls):
        key = rule["resource_type"], rule["resource_name"], rule["pattern_type"]
        resources.setdefault(key, {**rule, "acls": []})["acls"].append(rule)
    return {
        "throttle_time": 0,
        "error_code": 0,
        "error_message": None,
        "resources": [resources[key] for key in sorted(resources)],
    }


def check_administrator(operation: Operation, context: Context) -> None:
    """Raises ClusterAuthorizationFailed for whoever may not do that to the cluster."""
    if not context.authorize(operation, ResourceType.CLUSTER, CLUSTER_NAME):
        raise ClusterAuthorizationFailed(f"{context.principal} may not {operation.name.lower()} the cluster")


def refuse_where_disabled(enforced: object) -> None:
    """Raises SecurityDisabled where the broker does not ask the rules, as Kafka does too."""
    if enforced is not True:
        raise SecurityDisabled("no access rules are enforced: start the broker with --authorization acls")

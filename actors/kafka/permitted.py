"""What a client may do to a resource, as the bits that Metadata, DescribeCluster and others tell."""

from __future__ import annotations

from actors.kafka.handling import Context
from actors.operations import Operation, ResourceType

OPERATIONS = {
    ResourceType.TOPIC: (
        Operation.READ,
        Operation.WRITE,
        Operation.CREATE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.CLUSTER: (
        Operation.CREATE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
    ),
    ResourceType.GROUP: (Operation.READ, Operation.DELETE, Operation.DESCRIBE),
}
NOT_ASKED = -(2**31)


def operations_mask(asked: bool, resource_type: ResourceType, name: str, context: Context) -> int:
    """A bit for each operation that is allowed; NOT_ASKED where the client does not want to know."""
    if not asked:
        return NOT_ASKED
    allowed = (each for each in OPERATIONS[resource_type] if context.authorize(each, resource_type, name))
    return sum(1 << each for each in allowed)

"""Every API against every lack of a right: who may not, gets Kafka's error, and nothing is asked of anybody.

The table below has a line for each API that is served; an API without one fails the test.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from actors.actor import Envelope
from actors.effects import Forward, Sender
from actors.kafka.handling import GatewayOptions
from actors.kafka.registry import HANDLERS, SERVED
from actors.messages import Access
from odradek.protocol.access import ANONYMOUS, CLUSTER_NAME, Acl, Permission
from odradek.protocol.codec import Encoding
from odradek.protocol.messages import CreateTopics
from tests.support.batches import make_batch
from tests.support.kafka import GatewayRig, fetch_body, produce_body

TOPIC_DENIED, GROUP_DENIED, CLUSTER_DENIED, ID_DENIED = 29, 30, 31, 53
DENIED = {TOPIC_DENIED, GROUP_DENIED, CLUSTER_DENIED, ID_DENIED}
T, G = "orders", "billing"


class Right(NamedTuple):
    """What a request needs: an operation on a resource, as a rule would allow it."""

    operation: str
    resource_type: str
    name: str

    def acl(self, permission: Permission = "allow") -> Acl:
        fields: Any = {"operation": self.operation, "resource_type": self.resource_type}
        return Acl(principal=ANONYMOUS, resource_name=self.name, permission=permission, **fields)


class Case(NamedTuple):
    """A request, the errors of one who may nothing, and what is enough (all of it is needed)."""

    body: Mapping[str, Any]
    errors: frozenset[int]
    rights: tuple[Right, ...] = ()
    version: int | None = None
    asks_before: bool = False
    """Whether something is asked before rights are: a list, which is filtered then."""


def topic(operation: str) -> Right:
    return Right(operation, "topic", T)


def group(operation: str) -> Right:
    return Right(operation, "group", G)


def cluster(operation: str) -> Right:
    return Right(operation, "cluster", CLUSTER_NAME)


def denied(*codes: int) -> frozenset[int]:
    return frozenset(codes)


MEMBER = {"group_id": G, "generation_id": 1, "member_id": "m"}
FILTER = {
    "resource_type_filter": 1,
    "resource_name_filter": None,
    "pattern_type_filter": 1,
    "principal_filter": None,
    "host_filter": None,
    "operation": 1,
    "permission_type": 1,
}
RULE = {
    "resource_type": 2,
    "resource_name": T,
    "resource_pattern_type": 3,
    "principal": "User:x",
    "host": "*",
    "operation": 3,
    "permission_type": 3,
}
METADATA = {
    "include_cluster_authorized_operations": False,
    "include_topic_authorized_operations": False,
}
PLACES = [{"name": T, "partitions": [{"partition_index": 0}]}]
CONFIG = {"resource_type": 2, "resource_name": T}
NEW = {"num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}

CASES: dict[int, list[Case]] = {
    0: [Case(produce_body({(T, 0): make_batch(1)}), denied(TOPIC_DENIED), (topic("write"),))],
    1: [Case(fetch_body([(T, 0, 0)]), denied(TOPIC_DENIED), (topic("read"),))],
    2: [
        Case(
            {
                "replica_id": -1,
                "isolation_level": 0,
                "topics": [{"name": T, "partitions": [{"partition_index": 0, "timestamp": -1}]}],
            },
            denied(TOPIC_DENIED),
            (topic("describe"),),
            version=5,
        )
    ],
    3: [
        Case(
            {"topics": [{"name": T}], "allow_auto_topic_creation": False, **METADATA},
            denied(TOPIC_DENIED),
            (topic("describe"),),
        ),
        Case(
            {"topics": [{"name": "new"}], "allow_auto_topic_creation": True, **METADATA},
            denied(TOPIC_DENIED),
            (Right("create", "topic", "new"), Right("describe", "topic", "new")),
        ),
    ],
    8: [
        Case(
            {
                "group_id": G,
                "generation_id_or_member_epoch": 1,
                "member_id": "m",
                "topics": [
                    {
                        "name": T,
                        "partitions": [
                            {"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}
                        ],
                    }
                ],
            },
            denied(GROUP_DENIED),
            (group("read"), topic("read")),
        )
    ],
    9: [
        Case(
            {
                "groups": [{"group_id": G, "topics": [{"name": T, "partition_indexes": [0]}]}],
                "require_stable": False,
            },
            denied(GROUP_DENIED),
            (group("describe"), topic("describe")),
        )
    ],
    10: [Case({"key_type": 0, "coordinator_keys": [G]}, denied(GROUP_DENIED), (group("describe"),))],
    11: [
        Case(
            {
                "group_id": G,
                "session_timeout": 10_000,
                "rebalance_timeout": 10_000,
                "member_id": "",
                "protocol_type": "consumer",
                "protocols": [{"name": "range", "metadata": b""}],
            },
            denied(GROUP_DENIED),
            (group("read"),),
        )
    ],
    12: [Case(MEMBER, denied(GROUP_DENIED), (group("read"),))],
    13: [Case({"group_id": G, "members": [{"member_id": "m"}]}, denied(GROUP_DENIED), (group("read"),))],
    14: [
        Case(
            {**MEMBER, "assignments": [], "protocol_type": "consumer", "protocol_name": "range"},
            denied(GROUP_DENIED),
            (group("read"),),
        )
    ],
    15: [
        Case(
            {"groups": [G], "include_authorized_operations": False},
            denied(GROUP_DENIED),
            (group("describe"),),
        )
    ],
    16: [Case({"states_filter": [], "types_filter": []}, denied(), asks_before=True)],
    17: [Case({"mechanism": "PLAIN"}, denied())],
    18: [Case({"client_software_name": "x", "client_software_version": "1"}, denied())],
    19: [
        Case({"topics": [{"name": "new", **NEW}]}, denied(TOPIC_DENIED), (Right("create", "topic", "new"),)),
        Case({"topics": [{"name": "new", **NEW}]}, denied(TOPIC_DENIED), (cluster("create"),)),
    ],
    20: [
        Case(
            {"topics": [{"name": T, "topic_id": None}], "timeout": 1_000},
            denied(TOPIC_DENIED),
            (topic("delete"),),
        )
    ],
    21: [
        Case(
            {
                "topics": [{"name": T, "partitions": [{"partition_index": 0, "offset": -1}]}],
                "timeout": 1_000,
            },
            denied(TOPIC_DENIED),
            (topic("delete"),),
        )
    ],
    22: [
        Case({"transactional_id": None, "transaction_timeout": 1}, denied(CLUSTER_DENIED), (topic("write"),)),
        Case(
            {"transactional_id": None, "transaction_timeout": 1},
            denied(CLUSTER_DENIED),
            (cluster("idempotent_write"),),
        ),
    ],
    23: [
        Case(
            {"replica_id": -1, "topics": [{"topic": T, "partitions": [{"partition": 0, "leader_epoch": 1}]}]},
            denied(TOPIC_DENIED),
            (topic("describe"),),
        )
    ],
    29: [Case(FILTER, denied(CLUSTER_DENIED), (cluster("describe"),))],
    30: [Case({"creations": [RULE]}, denied(CLUSTER_DENIED), (cluster("alter"),))],
    31: [Case({"filters": [FILTER]}, denied(CLUSTER_DENIED), (cluster("alter"),))],
    32: [
        Case(
            {"resources": [{**CONFIG, "configuration_keys": None}]},
            denied(TOPIC_DENIED),
            (topic("describe_configs"),),
        ),
        Case(
            {"resources": [{"resource_type": 4, "resource_name": "0", "configuration_keys": None}]},
            denied(CLUSTER_DENIED),
            (cluster("describe_configs"),),
        ),
    ],
    33: [
        Case(
            {"resources": [{**CONFIG, "configs": []}], "validate_only": False},
            denied(TOPIC_DENIED),
            (topic("alter_configs"),),
        ),
        Case(
            {
                "resources": [{"resource_type": 4, "resource_name": "0", "configs": []}],
                "validate_only": False,
            },
            denied(CLUSTER_DENIED),
            (cluster("alter_configs"),),
        ),
    ],
    35: [Case({"topics": None}, denied(CLUSTER_DENIED), (cluster("describe"),))],
    36: [Case({"auth_bytes": b""}, denied())],
    37: [
        Case(
            {
                "topics": [{"name": T, "count": 2, "assignments": None}],
                "timeout": 1_000,
                "validate_only": False,
            },
            denied(TOPIC_DENIED),
            (topic("alter"),),
        )
    ],
    42: [Case({"groups_names": [G]}, denied(GROUP_DENIED), (group("delete"),))],
    44: [
        Case(
            {"resources": [{**CONFIG, "configs": []}], "validate_only": False},
            denied(TOPIC_DENIED),
            (topic("alter_configs"),),
        )
    ],
    47: [Case({"group_id": G, "topics": PLACES}, denied(GROUP_DENIED), (group("delete"), topic("read")))],
    48: [Case({"components": [], "strict": False}, denied(CLUSTER_DENIED), (cluster("describe_configs"),))],
    50: [Case({"users": None}, denied(CLUSTER_DENIED), (cluster("describe"),))],
    51: [
        Case(
            {"deletions": [{"name": "till", "mechanism": 1}], "upsertions": []},
            denied(CLUSTER_DENIED),
            (cluster("alter"),),
        )
    ],
    60: [Case({"include_cluster_authorized_operations": True, "endpoint_type": 1}, denied())],
}
ANSWERED_HERE = {3, 10, 17, 18, 32, 33, 36, 48, 60}
"""APIs that need ask nobody."""
PARAMETERS = [
    pytest.param(key, case, id=f"{key}-{number}")
    for key, cases in CASES.items()
    for number, case in enumerate(cases)
]


def codes(part: Any) -> Iterator[int]:
    """Every error code in a response."""
    if isinstance(part, tuple | list):
        for each in part:
            yield from codes(each)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if "error_code" in field.name:
                yield value.value if isinstance(value, enum.Enum) else value
            else:
                yield from codes(value)


def outcome(key: int, case: Case, *acls: Acl) -> tuple[list[Forward], set[int]]:
    """What a client with these rules causes: what is asked first, and the error codes of an answer."""
    rig = GatewayRig(GatewayOptions(index=0, is_access_enforced=True), topics={T: 1})
    sender = Sender("control", b"", False, Encoding.MSGPACK, None)
    rig.tell(Envelope(sender, Access(version=1, enforced=True, acls=list(acls))))
    rig.ask(key, case.version or SERVED[key][1], case.body)
    asked = rig.take()
    rig.clock.advance(1)
    rig.settle()
    found = set(codes(rig.response())) if rig.replies else set()
    return asked, found & DENIED


def test_every_api_has_its_line() -> None:
    assert CASES.keys() == HANDLERS.keys()


@pytest.mark.parametrize(("key", "case"), PARAMETERS)
def test_whoever_may_nothing_gets_kafkas_error_and_moves_nothing(key: int, case: Case) -> None:
    asked, found = outcome(key, case)
    assert found == case.errors
    assert not asked or case.asks_before


@pytest.mark.parametrize(("key", "case"), PARAMETERS)
def test_the_rights_of_a_request_are_enough(key: int, case: Case) -> None:
    asked, found = outcome(key, case, *(right.acl() for right in case.rights))
    assert not found
    assert asked or key in ANSWERED_HERE


@pytest.mark.parametrize(("key", "case"), PARAMETERS)
def test_each_of_the_rights_is_needed(key: int, case: Case) -> None:
    for missing in case.rights:
        others = [right.acl() for right in case.rights if right != missing]
        asked, found = outcome(key, case, *others)
        refused = bool(found) or not any(_is_about(forward, missing.name) for forward in asked)
        assert refused, f"{key} needs no {missing}"


@pytest.mark.parametrize(("key", "case"), PARAMETERS)
def test_a_denial_outweighs_the_right(key: int, case: Case) -> None:
    for denied_right in case.rights:
        acls = [right.acl() for right in case.rights]
        asked, found = outcome(key, case, *acls, denied_right.acl("deny"))
        assert found or not any(_is_about(forward, denied_right.name) for forward in asked)


def _is_about(forward: Forward, name: str) -> bool:
    """Whether the ask has anything to do with the resource of that name."""
    return name in str(forward.request) or name == CLUSTER_NAME


def test_metadata_for_all_shows_what_the_client_may_know_of() -> None:
    rig = GatewayRig(GatewayOptions(index=0, is_access_enforced=True), topics={"a": 1, "b": 1})
    sender = Sender("control", b"", False, Encoding.MSGPACK, None)
    shown = Right("read", "topic", "b").acl()
    rig.tell(Envelope(sender, Access(version=1, enforced=True, acls=[shown])))
    rig.ask(3, 9, {"topics": None, "allow_auto_topic_creation": True, **METADATA})
    assert [each.name for each in rig.response().topics] == ["b"]


def test_who_may_describe_but_not_create_has_no_topic_made() -> None:
    case = CASES[3][1]
    asked, found = outcome(3, case, Right("describe", "topic", "new").acl())
    assert not any(isinstance(forward.request, CreateTopics) for forward in asked)
    # Told that it does not exist, a producer would wait for it as long as it waits for anything.
    assert found == {TOPIC_DENIED}

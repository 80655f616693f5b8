"""The table of access rules: what it decides, against a model that asks every rule in turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.acls import DECISIONS_MAX, EVERYTHING_ALLOWED, RESOURCE_NAME_MAX, AclTable
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.access import ANONYMOUS, OPERATIONS_OF, Acl, AclFilter, check_acl
from odradek.protocol.errors import (
    ClusterAuthorizationFailed,
    GroupAuthorizationFailed,
    InvalidRequest,
    OdradekError,
    TopicAuthorizationFailed,
    TransactionalIdAuthorizationFailed,
)

TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
READ, WRITE, DESCRIBE = Operation.READ, Operation.WRITE, Operation.DESCRIBE
TILL = "User:till"


def rule(operation: str = "read", name: str = "events", **fields: str) -> Acl:
    settings = {"principal": TILL, "resource_type": "topic"} | fields
    return Acl(operation=operation, resource_name=name, **settings)  # type: ignore[arg-type]


def allows(*acls: Acl, operation: Operation = READ, name: str = "events", host: str = "10.0.0.1") -> bool:
    return AclTable(acls).allows(TILL, host, operation, TOPIC, name)


# -- single rules --------------------------------------------------------------------------------------


def test_what_no_rule_allows_is_not_allowed() -> None:
    assert not allows()
    assert not allows(rule(name="other"))
    assert not allows(rule(principal="User:jan"))
    assert not allows(rule(resource_type="group"))


def test_a_rule_allows_its_operation_on_its_resource_to_its_principal() -> None:
    assert allows(rule())
    assert not allows(rule(), operation=WRITE)
    assert not allows(rule(), name="events-2")
    assert allows(rule("all"), operation=WRITE)


def test_everybody_and_every_name() -> None:
    assert allows(rule(principal="User:*"))
    assert allows(rule(name="*"), name="anything")
    assert not allows(rule(name="*", resource_type="group"))
    assert AclTable([rule(principal=ANONYMOUS)]).allows(ANONYMOUS, "", READ, TOPIC, "events")


def test_a_prefix_covers_what_begins_so() -> None:
    prefixed = rule(name="sales-", pattern_type="prefixed")
    assert allows(prefixed, name="sales-2026")
    assert allows(prefixed, name="sales-")
    assert not allows(prefixed, name="sales")
    assert not allows(prefixed, name="old-sales-1")


def test_a_literal_star_is_not_a_prefix_and_a_topic_cannot_pretend_to_be_one() -> None:
    assert not allows(rule(name="sales-*"), name="sales-1")
    assert allows(rule(name="sales-*"), name="sales-*")


def test_a_denial_outweighs_whatever_allows_in_any_order() -> None:
    denial = rule(permission="deny")
    for acls in ((denial, rule("all", "*")), (rule("all", "*"), denial), (rule(), denial)):
        assert not allows(*acls)
    assert allows(denial, rule("all", "*"), name="other")
    assert not allows(rule("all", "ev", pattern_type="prefixed", permission="deny"), rule())


def test_a_denial_of_everybody_reaches_each() -> None:
    assert not allows(rule(principal="User:*", permission="deny"), rule())


@pytest.mark.parametrize("operation", ["read", "write", "delete", "alter", "describe", "all"])
def test_whoever_may_work_with_something_may_describe_it(operation: str) -> None:
    assert allows(rule(operation), operation=DESCRIBE)
    assert not allows(rule("create"), operation=DESCRIBE)


def test_settings_that_may_be_altered_may_be_seen() -> None:
    assert allows(rule("alter_configs"), operation=Operation.DESCRIBE_CONFIGS)
    assert not allows(rule("describe_configs"), operation=Operation.ALTER_CONFIGS)
    assert not allows(rule("alter"), operation=Operation.DESCRIBE_CONFIGS)


def test_a_denial_means_only_what_it_names() -> None:
    """Whoever may write and not read may still describe, as in Kafka."""
    assert allows(rule("write"), rule("read", permission="deny"), operation=DESCRIBE)
    assert not allows(rule("write"), rule("describe", permission="deny"), operation=DESCRIBE)


# -- hosts ---------------------------------------------------------------------------------------------


def test_a_rule_for_a_host_is_for_that_host() -> None:
    assert allows(rule(host="10.0.0.1"))
    assert not allows(rule(host="10.0.0.2"))
    assert allows(rule(), rule(host="10.0.0.2", permission="deny"))
    assert not allows(rule(), rule(host="10.0.0.1", permission="deny"))


def test_a_client_whose_host_nobody_knows_gets_the_worst_of_both() -> None:
    assert not allows(rule(host="10.0.0.1"), host="")
    assert not allows(rule(), rule(host="10.0.0.1", permission="deny"), host="")
    assert allows(rule(), host="")


# -- the table as a whole --------------------------------------------------------------------------------


def test_a_super_user_may_do_everything_even_what_is_denied() -> None:
    table = AclTable([rule("all", "*", principal="User:*", permission="deny")], [TILL])
    assert table.allows(TILL, "", WRITE, TOPIC, "events")
    assert table.allows_any(TILL, "", WRITE, TOPIC)
    assert not table.allows("User:jan", "", WRITE, TOPIC, "events")


def test_a_table_that_is_not_enforced_allows_everything() -> None:
    assert EVERYTHING_ALLOWED.allows(ANONYMOUS, "", WRITE, TOPIC, "events")
    assert EVERYTHING_ALLOWED.allows_any(ANONYMOUS, "", WRITE, TOPIC)
    assert AclTable([rule(permission="deny")], enforced=False).allows(TILL, "", READ, TOPIC, "events")


@pytest.mark.parametrize(
    ("resource_type", "error"),
    [
        (TOPIC, TopicAuthorizationFailed),
        (GROUP, GroupAuthorizationFailed),
        (CLUSTER, ClusterAuthorizationFailed),
        (ResourceType.TRANSACTIONAL_ID, TransactionalIdAuthorizationFailed),
    ],
)
def test_a_refusal_has_kafkas_error_and_says_who_may_not_do_what(
    resource_type: ResourceType, error: type[OdradekError]
) -> None:
    with pytest.raises(error, match=r"User:till may not describe configs (the cluster|.* 'payroll')"):
        AclTable().require(TILL, "", Operation.DESCRIBE_CONFIGS, resource_type, "payroll")


def test_the_name_of_the_cluster_need_not_be_said() -> None:
    table = AclTable([rule("alter", CLUSTER_NAME, resource_type="cluster")])
    assert table.allows(TILL, "", Operation.ALTER, CLUSTER)
    table.require(TILL, "", Operation.ALTER, CLUSTER)


def test_decisions_are_remembered_within_a_bound() -> None:
    table = AclTable([rule(name="t-", pattern_type="prefixed")])
    for number in range(DECISIONS_MAX + 10):
        assert table.allows(TILL, "", READ, TOPIC, f"t-{number}")
    assert len(table._decisions) <= DECISIONS_MAX
    assert not table.allows(TILL, "", WRITE, TOPIC, "t-1")


def test_no_names_are_remembered_that_nothing_here_can_have() -> None:
    """A request may name things of 32 KiB, and ten thousand of them would be kept for good."""
    table = AclTable([rule(name="t-", pattern_type="prefixed")])
    assert table.allows(TILL, "", READ, TOPIC, "t-".ljust(RESOURCE_NAME_MAX, "x"))
    assert len(table._decisions) == 1
    assert table.allows(TILL, "", READ, TOPIC, "t-".ljust(RESOURCE_NAME_MAX + 1, "x"))
    assert not table.allows(TILL, "", WRITE, TOPIC, "t-".ljust(32_767, "x"))
    assert len(table._decisions) == 1


def test_any_resource_of_a_type() -> None:
    def may(*acls: Acl) -> bool:
        return AclTable(acls).allows_any(TILL, "10.0.0.1", WRITE, TOPIC)

    everywhere = rule("write", "*", permission="deny")
    assert may(rule("write"))
    assert may(rule("write"), rule("write", "other", permission="deny"))
    assert may(rule("write", "*"), rule("write", "events", permission="deny"))
    assert may(rule("write", "a", pattern_type="prefixed"), rule("write", "a", permission="deny"))
    assert not may()
    assert not may(rule("read"))
    assert not may(rule("write"), rule("write", permission="deny"))
    assert not may(rule("write"), everywhere)
    assert not may(rule("write"), rule("all", "ev", pattern_type="prefixed", permission="deny"))
    prefixes = rule("write", "ev", pattern_type="prefixed"), rule("write", "e", pattern_type="prefixed")
    assert may(prefixes[1], replace(prefixes[0], permission="deny"))
    assert not may(prefixes[0], replace(prefixes[1], permission="deny"))


# -- against a model -------------------------------------------------------------------------------------

NAMES = st.sampled_from(["*", "a", "ab", "abc", "b", "ba", ""])
PRINCIPALS = st.sampled_from([TILL, "User:jan", "User:*"])
HOSTS = st.sampled_from(["*", "10.0.0.1", "10.0.0.2"])
WORDS = st.sampled_from(["all", "read", "write", "describe", "describe_configs", "alter_configs", "alter"])
ACLS = st.builds(
    Acl,
    principal=PRINCIPALS,
    operation=WORDS,
    resource_type=st.sampled_from(["topic", "group"]),
    resource_name=NAMES.filter(bool),
    pattern_type=st.sampled_from(["literal", "prefixed"]),
    permission=st.sampled_from(["allow", "deny"]),
    host=HOSTS,
)
IMPLIED = {"describe": {"read", "write", "delete", "alter"}, "describe_configs": {"alter_configs"}}


def model(acls: list[Acl], principal: str, host: str, operation: str, kind: str, name: str) -> bool:
    def meets(acl: Acl) -> bool:
        if acl.pattern_type == "prefixed":
            is_named = name.startswith(acl.resource_name)
        else:
            is_named = acl.resource_name in ("*", name)
        at_host = acl.host in ("*", host) or (host == "" and acl.permission == "deny")
        return is_named and at_host and acl.resource_type == kind and acl.principal in (principal, "User:*")

    met = [acl for acl in acls if meets(acl)]
    if any(acl.permission == "deny" and acl.operation in ("all", operation) for acl in met):
        return False
    enough = {"all", operation} | IMPLIED.get(operation, set())
    return any(acl.permission == "allow" and acl.operation in enough for acl in met)


@given(
    st.lists(ACLS, max_size=8),
    st.sampled_from([TILL, "User:jan"]),
    st.sampled_from(["", "10.0.0.1"]),
    st.sampled_from(["read", "write", "describe", "describe_configs", "alter_configs"]),
    st.sampled_from(["topic", "group"]),
    NAMES,
)
def test_the_table_decides_as_the_model(
    acls: list[Acl], principal: str, host: str, operation: str, kind: str, name: str
) -> None:
    table = AclTable(acls)
    asked = principal, host, Operation[operation.upper()], ResourceType[kind.upper()], name
    assert table.allows(*asked) is model(acls, principal, host, operation, kind, name)
    assert table.allows(*asked) is table.allows(*asked)


@given(st.lists(ACLS, max_size=6), st.sampled_from(["read", "write", "describe"]))
def test_any_is_never_less_than_one(acls: list[Acl], operation: str) -> None:
    """Whoever may do something to a topic that exists may do it to any, in the eyes of ``allows_any``."""
    asked = Operation[operation.upper()]
    names = ["a", "ab", "abc", "b", "ba", "zzz"]
    some = any(AclTable(acls).allows(TILL, "10.0.0.1", asked, TOPIC, name) for name in names)
    assert not some or AclTable(acls).allows_any(TILL, "10.0.0.1", asked, TOPIC)


# -- which rules there can be ----------------------------------------------------------------------------


def test_every_operation_and_type_of_a_rule_has_a_number() -> None:
    for kind, operations in OPERATIONS_OF.items():
        assert ResourceType[kind.upper()] is not ResourceType.ANY
        assert all(Operation[operation.upper()] is not Operation.ANY for operation in operations)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"principal": "till"}, "not a principal"),
        ({"principal": "User:"}, "not a principal"),
        ({"principal": "Group:x"}, "not a principal"),
        ({"principal": "User:" + "x" * 600}, "not a principal"),
        ({"principal": "User:a\nb"}, "printable"),
        ({"name": ""}, "1 to 255 characters"),
        ({"name": "x" * 256}, "1 to 255 characters"),
        ({"name": "a\0b"}, "printable"),
        ({"operation": "cluster_action"}, "nobody can cluster_action a topic; its operations: all, read"),
        ({"resource_type": "group", "operation": "write"}, "nobody can write a group"),
        ({"resource_type": "cluster", "operation": "alter"}, "the only resource of type cluster"),
        ({"name": "*", "pattern_type": "prefixed"}, "use a literal"),
        ({"host": "localhost"}, "must be an IP address"),
        ({"host": "10.0.0.0/8"}, "must be an IP address"),
    ],
)
def test_rules_that_cannot_be_kept_say_why(fields: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        check_acl(rule(**fields))


@pytest.mark.parametrize("host", ["*", "127.0.0.1", "::1"])
def test_rules_that_can_be_kept(host: str) -> None:
    assert check_acl(rule(host=host)) == rule(host=host)
    assert check_acl(rule("alter", CLUSTER_NAME, resource_type="cluster"))


# -- filters ---------------------------------------------------------------------------------------------


def test_a_filter_means_what_agrees_with_all_that_it_says() -> None:
    acl = rule(host="10.0.0.1")
    assert AclFilter().matches(acl)
    assert AclFilter(principal=TILL, operation="read", permission="allow", host="10.0.0.1").matches(acl)
    for other in (
        AclFilter(principal="User:*"),
        AclFilter(operation="all"),
        AclFilter(permission="deny"),
        AclFilter(host="*"),
        AclFilter(resource_type="group"),
        AclFilter(pattern_type="prefixed"),
        AclFilter(resource_name="event"),
    ):
        assert not other.matches(acl)


def test_match_finds_every_rule_that_concerns_a_name() -> None:
    wanted = AclFilter(resource_name="sales-1", pattern_type="match")
    assert wanted.matches(rule(name="sales-1"))
    assert wanted.matches(rule(name="*"))
    assert wanted.matches(rule(name="sales", pattern_type="prefixed"))
    assert not wanted.matches(rule(name="sales"))
    literal = AclFilter(resource_name="sales-1", pattern_type="literal")
    assert not literal.matches(rule(name="*")) and not AclFilter(resource_name="sales-1").matches(
        rule(name="*")
    )

"""Who may do what: one table of access rules, for both protocols. Pure.

Rule 1. A super user may do everything.
Rule 2. A rule that denies outweighs every rule that allows.
Rule 3. What no rule allows is not allowed.
Rule 4. Whoever may read, write, delete or alter something may describe it; whoever may alter its
        settings may see them. A rule that denies means only the operation that it names.
Rule 5. A client whose host is not known ("") may be at any: rules that deny one host concern it, rules
        that allow one do not.

The router and the gateway ask the same table with the principal that their transport proved:
``User:<name>``, or ``User:ANONYMOUS`` where a client did not say who it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.access import ANYBODY, WILDCARD, Acl, concerns
from odradek.protocol.errors import (
    ClusterAuthorizationFailed,
    GroupAuthorizationFailed,
    OdradekError,
    TopicAuthorizationFailed,
    TransactionalIdAuthorizationFailed,
)

DECISIONS_MAX = 10_000
"""Decisions remembered at one time; then all are forgotten."""
RESOURCE_NAME_MAX = 255
"""Characters of the name of a topic or a group at most; strangers may name what is longer, and often."""
ALLOWED_BY: dict[Operation, frozenset[Operation]] = {
    Operation.DESCRIBE: frozenset(
        {
            Operation.DESCRIBE,
            Operation.READ,
            Operation.WRITE,
            Operation.DELETE,
            Operation.ALTER,
            Operation.ALL,
        }
    ),
    Operation.DESCRIBE_CONFIGS: frozenset(
        {Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS, Operation.ALL}
    ),
}
"""Operations that others allow; any other is allowed by itself and by ALL."""
_ERROR_OF: dict[ResourceType, type[OdradekError]] = {
    ResourceType.TOPIC: TopicAuthorizationFailed,
    ResourceType.GROUP: GroupAuthorizationFailed,
    ResourceType.CLUSTER: ClusterAuthorizationFailed,
    ResourceType.TRANSACTIONAL_ID: TransactionalIdAuthorizationFailed,
}


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule in the numbers that requests are decided in."""

    acl: Acl
    operation: Operation
    allowing: bool

    @classmethod
    def of(cls, acl: Acl) -> _Rule:
        return cls(acl, Operation[acl.operation.upper()], acl.permission == "allow")

    def is_about(self, principal: str, host: str) -> bool:
        """Whether it concerns this client."""
        if self.acl.principal not in (principal, ANYBODY):
            return False
        return self.acl.host in (WILDCARD, host) or not (host or self.allowing)

    def denies(self, operation: Operation) -> bool:
        return not self.allowing and self.operation in (operation, Operation.ALL)

    def allows(self, operation: Operation) -> bool:
        return self.allowing and self.operation in ALLOWED_BY.get(operation, (operation, Operation.ALL))

    def covers(self, other: _Rule) -> bool:
        """Whether it concerns every resource that the other does."""
        mine, theirs = self.acl, other.acl
        if mine.pattern_type == "literal" and mine.resource_name == WILDCARD:
            return True
        if theirs.pattern_type == "literal":
            return theirs.resource_name != WILDCARD and concerns(mine, theirs.resource_name)
        return mine.pattern_type == "prefixed" and concerns(mine, theirs.resource_name)


@dataclass(slots=True)
class _Rules:
    """The rules of one resource type, found by name: literal ones, and prefixed ones by their prefix."""

    literal: dict[str, list[_Rule]] = field(default_factory=lambda: defaultdict(list))
    prefixed: dict[str, list[_Rule]] = field(default_factory=lambda: defaultdict(list))
    prefix_lengths: tuple[int, ...] = ()

    def add(self, acl: Acl) -> None:
        if acl.pattern_type == "literal":
            self.literal[acl.resource_name].append(_Rule.of(acl))
            return
        self.prefixed[acl.resource_name].append(_Rule.of(acl))
        self.prefix_lengths = tuple(sorted({*self.prefix_lengths, len(acl.resource_name)}))

    def about(self, name: str) -> Iterator[_Rule]:
        """Every rule that concerns the resource of that name, once."""
        yield from self.literal.get(name, ())
        if name != WILDCARD:
            yield from self.literal.get(WILDCARD, ())
        for length in self.prefix_lengths:
            if length > len(name):
                return
            yield from self.prefixed.get(name[:length], ())

    def every(self) -> Iterator[_Rule]:
        for rules in (*self.literal.values(), *self.prefixed.values()):
            yield from rules


class AclTable:
    """Rules and super users; a change makes a new table. Where it is not enforced, it allows everything."""

    def __init__(
        self, acls: Iterable[Acl] = (), super_users: Iterable[str] = (), *, enforced: bool = True
    ) -> None:
        self.enforced = enforced
        self._super_users = frozenset(super_users)
        self._rules: dict[ResourceType, _Rules] = {kind: _Rules() for kind in _ERROR_OF}
        for acl in acls:
            self._rules[ResourceType[acl.resource_type.upper()]].add(acl)
        self._decisions: dict[tuple[str, str, Operation, ResourceType, str], bool] = {}

    def allows(
        self,
        principal: str,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str = CLUSTER_NAME,
    ) -> bool:
        """Whether the principal, at ``host``, may do that to the resource of that name."""
        if not self.enforced or principal in self._super_users:
            return True
        if len(name) > RESOURCE_NAME_MAX:
            return self._decide(principal, host, operation, resource_type, name)
        asked = (principal, host, operation, resource_type, name)
        decision = self._decisions.get(asked)
        if decision is None:
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions.clear()
            decision = self._decisions[asked] = self._decide(*asked)
        return decision

    def require(
        self,
        principal: str,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str = CLUSTER_NAME,
    ) -> None:
        """Raises Kafka's error for that type of resource where the principal may not do that."""
        if not self.allows(principal, host, operation, resource_type, name):
            raise refusal(principal, operation, resource_type, name)

    def allows_any(
        self, principal: str, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Whether there can be a resource of that type to which the principal may do that."""
        if not self.enforced or principal in self._super_users:
            return True
        rules = [rule for rule in self._rules[resource_type].every() if rule.is_about(principal, host)]
        denying = [rule for rule in rules if rule.denies(operation)]
        return any(
            rule.allows(operation) and not any(deny.covers(rule) for deny in denying) for rule in rules
        )

    def _decide(
        self, principal: str, host: str, operation: Operation, resource_type: ResourceType, name: str
    ) -> bool:
        allowed = False
        for rule in self._rules[resource_type].about(name):
            if not rule.is_about(principal, host):
                continue
            if rule.denies(operation):
                return False
            allowed = allowed or rule.allows(operation)
        return allowed


EVERYTHING_ALLOWED = AclTable(enforced=False)


def refusal(
    principal: str, operation: Operation, resource_type: ResourceType, name: str = CLUSTER_NAME
) -> OdradekError:
    """The error for a principal that may not do that."""
    what = "the cluster" if resource_type is ResourceType.CLUSTER else f"{_word(resource_type)} {name!r}"
    return _ERROR_OF[resource_type](
        f"{principal} may not {_word(operation)} {what}: an administrator can add a rule that allows it"
    )


def _word(member: Operation | ResourceType) -> str:
    return member.name.lower().replace("_", " ")

"""Client keys: who may come in over CURVE, and in which roles. Roles are short for access rules."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from odradek.protocol.access import (
    CLUSTER_NAME,
    USER_PREFIX,
    WILDCARD,
    Acl,
    Operation,
    ResourceType,
    check_user_name,
)
from odradek.protocol.errors import UnacceptableCredential
from transport.keys import KEY_CHARACTERS, is_key

CLIENTS_MAX = 10_000
PATTERNS_MAX = 1_000
FORMAT = 1
EVERYTHING: tuple[tuple[ResourceType, str], ...] = (
    ("cluster", CLUSTER_NAME),
    ("topic", WILDCARD),
    ("group", WILDCARD),
    ("transactional_id", WILDCARD),
)


class ClientKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One client: its name, its public key, what it may do. ``logs-*`` is every name that begins so."""

    name: str
    public_key: str
    admin: bool = False
    produce: list[str] = []
    """Topics that it may write to."""
    consume: list[str] = []
    """Topics that it may read."""
    groups: list[str] = []
    """Groups in which it may read them; none: those that begin with its name and a dash, and that name."""

    @property
    def principal(self) -> str:
        """Its name in access rules."""
        return USER_PREFIX + self.name

    def acls(self) -> Iterator[Acl]:
        """What its roles allow."""
        if self.admin:
            for kind, name in EVERYTHING:
                yield self._allow("all", kind, name)
        for pattern in self.produce:
            yield self._allow("write", "topic", pattern)
        for pattern in self.consume:
            yield self._allow("read", "topic", pattern)
        if self.consume:
            for pattern in self.groups or (self.name, f"{self.name}-*"):
                yield self._allow("read", "group", pattern)

    def _allow(self, operation: Operation, kind: ResourceType, pattern: str) -> Acl:
        is_prefix = pattern.endswith(WILDCARD) and pattern != WILDCARD
        return Acl(
            principal=self.principal,
            operation=operation,
            resource_type=kind,
            resource_name=pattern.removesuffix(WILDCARD) if is_prefix else pattern,
            pattern_type="prefixed" if is_prefix else "literal",
        )

    def problem(self) -> str | None:
        """Why it cannot be used, or None."""
        try:
            check_user_name(self.name)
        except UnacceptableCredential as error:
            return error.message
        if not is_key(self.public_key):
            return f"the public key of {self.name!r} is not a key of {KEY_CHARACTERS} characters (Z85)"
        patterns = (*self.produce, *self.consume, *self.groups)
        if len(patterns) > PATTERNS_MAX:
            return f"{self.name!r} has {len(patterns)} patterns; {PATTERNS_MAX} are allowed"
        for pattern in patterns:
            if not pattern or WILDCARD in pattern[:-1] or not pattern.isprintable():
                return f"{pattern!r} (of {self.name!r}) is neither a name nor a beginning and a star"
        return None


class ClientList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every client that may come in."""

    format: int = FORMAT
    clients: list[ClientKey] = []

    def problem(self) -> str | None:
        """Why it cannot be used, or None."""
        if self.format != FORMAT:
            return f"its format is {self.format}; this version reads {FORMAT}"
        if len(self.clients) > CLIENTS_MAX:
            return f"it has {len(self.clients)} clients; {CLIENTS_MAX} are allowed"
        return (
            _twice("name", [client.name for client in self.clients])
            or _twice("public key", [client.public_key for client in self.clients])
            or next((problem for client in self.clients if (problem := client.problem())), None)
        )

    def principals(self) -> dict[str, str]:
        """Who comes in with which public key."""
        return {client.public_key: client.principal for client in self.clients}

    def acls(self) -> list[Acl]:
        """What the roles of all clients allow."""
        return [acl for client in self.clients for acl in client.acls()]

    def find(self, name: str) -> ClientKey | None:
        """The client of this name."""
        return next((client for client in self.clients if client.name == name), None)

    def with_client(self, client: ClientKey) -> ClientList:
        """This list with the client, in the place of one of its name."""
        others = [each for each in self.clients if each.name != client.name]
        return ClientList(clients=sorted([*others, client], key=lambda each: each.name))

    def without(self, name: str) -> ClientList:
        """This list without the client of this name."""
        return ClientList(clients=[client for client in self.clients if client.name != name])


def _twice(what: str, values: list[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return f"two clients have the {what} {value!r}"
        seen.add(value)
    return None

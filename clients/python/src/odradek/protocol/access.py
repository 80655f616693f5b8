"""Access rules (ACLs) and the credentials of users: what both are, and which are allowed.

The words are Kafka's. A rule says that a principal, from a host, may or may not do an operation to the
resources that a pattern names. What such rules mean together is decided by the broker.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from odradek.protocol.errors import InvalidRequest, UnacceptableCredential

ResourceType = Literal["topic", "group", "cluster", "transactional_id"]
PatternType = Literal["literal", "prefixed"]
Permission = Literal["allow", "deny"]
Operation = Literal[
    "all",
    "read",
    "write",
    "create",
    "delete",
    "alter",
    "describe",
    "cluster_action",
    "describe_configs",
    "alter_configs",
    "idempotent_write",
]

WILDCARD = "*"
"""As the name of a literal pattern: every resource of the type. As a host: every host."""
CLUSTER_NAME = "kafka-cluster"
"""The one name that a resource of type ``cluster`` has."""
USER_PREFIX = "User:"
ANYBODY = USER_PREFIX + WILDCARD
"""The principal of a rule about everybody."""
ANONYMOUS = USER_PREFIX + "ANONYMOUS"
"""The principal of a client that did not say who it is."""
RESOURCE_NAME_CHARACTERS_MAX = 255
PRINCIPAL_CHARACTERS_MAX = 512
"""A principal may be the distinguished name of a certificate."""

OPERATIONS_OF: dict[ResourceType, frozenset[Operation]] = {
    "topic": frozenset(
        {"all", "read", "write", "create", "delete", "alter", "describe", "describe_configs", "alter_configs"}
    ),
    "group": frozenset({"all", "read", "delete", "describe"}),
    "cluster": frozenset(
        {
            "all",
            "create",
            "alter",
            "describe",
            "cluster_action",
            "describe_configs",
            "alter_configs",
            "idempotent_write",
        }
    ),
    "transactional_id": frozenset({"all", "write", "describe"}),
}
"""What can be done to a resource of each type."""


class Acl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule. A field that the broker does not know is refused: without it the rule would be wider."""

    principal: Annotated[str, Meta(description="User:<name>; User:* for everybody.")]
    operation: Annotated[Operation, Meta(description='What is done; "all" for every operation.')]
    resource_type: Annotated[ResourceType, Meta(description="What it is done to.")]
    resource_name: Annotated[str, Meta(description='The name, or its beginning; literal "*" for every name.')]
    pattern_type: Annotated[
        PatternType, Meta(description='"prefixed": every name that begins with resource_name.')
    ] = "literal"
    permission: Annotated[Permission, Meta(description='A "deny" outweighs every "allow".')] = "allow"
    host: Annotated[str, Meta(description='The IP address of the client; "*" for every one.')] = WILDCARD

    def __str__(self) -> str:
        name = repr(self.resource_name) + (" and what begins so" if self.pattern_type == "prefixed" else "")
        where = "" if self.host == WILDCARD else f" from {self.host}"
        return f"{self.permission} {self.principal}{where} to {self.operation} {self.resource_type} {name}"


class AclFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules are meant: those that agree with every field that is not null."""

    principal: Annotated[str | None, Meta(description="null: every principal; as the others.")] = None
    operation: Operation | None = None
    resource_type: ResourceType | None = None
    resource_name: str | None = None
    pattern_type: Annotated[
        Literal["literal", "prefixed", "match"] | None,
        Meta(description='"match": every rule that concerns the resource of that name.'),
    ] = None
    permission: Permission | None = None
    host: str | None = None

    def matches(self, acl: Acl) -> bool:
        """Whether the filter means this rule."""
        return (
            self.principal in (None, acl.principal)
            and self.operation in (None, acl.operation)
            and self.resource_type in (None, acl.resource_type)
            and self.permission in (None, acl.permission)
            and self.host in (None, acl.host)
            and self.pattern_type in (None, "match", acl.pattern_type)
            and self._matches_name(acl)
        )

    def _matches_name(self, acl: Acl) -> bool:
        if self.resource_name is None or self.resource_name == acl.resource_name:
            return True
        return self.pattern_type == "match" and concerns(acl, self.resource_name)


def concerns(acl: Acl, name: str) -> bool:
    """Whether a rule's pattern covers the resource of that name."""
    if acl.pattern_type == "prefixed":
        return name.startswith(acl.resource_name)
    return acl.resource_name in (WILDCARD, name)


def check_acl(acl: Acl) -> Acl:
    """The rule itself where it can be kept, else InvalidRequest that says what is wrong with it."""
    check_principal(acl.principal)
    if acl.operation not in OPERATIONS_OF[acl.resource_type]:
        allowed = ", ".join(name for name in get_args(Operation) if name in OPERATIONS_OF[acl.resource_type])
        raise InvalidRequest(f"nobody can {acl.operation} a {acl.resource_type}; its operations: {allowed}")
    if not 1 <= len(acl.resource_name) <= RESOURCE_NAME_CHARACTERS_MAX:
        raise InvalidRequest(f"the name of a resource has 1 to {RESOURCE_NAME_CHARACTERS_MAX} characters")
    _check_text("the name of a resource", acl.resource_name)
    if acl.resource_type == "cluster" and (acl.resource_name, acl.pattern_type) != (CLUSTER_NAME, "literal"):
        raise InvalidRequest(f"the only resource of type cluster is the literal {CLUSTER_NAME!r}")
    if acl.pattern_type == "prefixed" and acl.resource_name == WILDCARD:
        raise InvalidRequest("a prefixed '*' would be the names that begin with a star; use a literal '*'")
    if acl.host != WILDCARD and not _is_address(acl.host):
        raise InvalidRequest(f"host is {acl.host!r}; it must be an IP address, or '*' for every host")
    return acl


def check_principal(principal: str) -> str:
    """The principal itself where it is one, else InvalidRequest."""
    name = principal.removeprefix(USER_PREFIX)
    if name == principal or not name or len(principal) > PRINCIPAL_CHARACTERS_MAX:
        raise InvalidRequest(
            f"{principal[:80]!r} is not a principal, which is User:<name> of at most "
            f"{PRINCIPAL_CHARACTERS_MAX} characters"
        )
    return _check_text("a principal", principal)


def _check_text(what: str, text: str) -> str:
    if not text.isprintable():
        raise InvalidRequest(f"{what} has only printable characters, this one is {text!r}")
    return text


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# -- users -----------------------------------------------------------------------------------------

ScramMechanism = Literal["SCRAM-SHA-256", "SCRAM-SHA-512"]
SCRAM_HASHES: dict[ScramMechanism, str] = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
ITERATIONS_MIN = 4_096
ITERATIONS_MAX = 16_384
"""Kafka's bounds; each log-in costs so many hashes."""
ITERATIONS_DEFAULT = 8_192
USER_NAME_CHARACTERS_MAX = 200
SALT_BYTES_MIN = 8
SALT_BYTES_MAX = 256


class ScramCredential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the broker keeps instead of a password (RFC 5802): nobody can log in with it."""

    mechanism: ScramMechanism
    iterations: Annotated[int, Meta(description=f"Hashes a log-in costs, from {ITERATIONS_MIN}.")]
    salt: Annotated[str, Meta(description="base64.")]
    stored_key: Annotated[str, Meta(description="base64: the hash of the client's key.")]
    server_key: Annotated[str, Meta(description="base64: what the broker proves itself with.")]


def check_user_name(name: str) -> str:
    """The name itself where a user may have it, else UnacceptableCredential."""
    if not 1 <= len(name) <= USER_NAME_CHARACTERS_MAX or not name.isprintable() or name != name.strip():
        raise UnacceptableCredential(
            f"{name[:80]!r} is not a user's name: 1 to {USER_NAME_CHARACTERS_MAX} printable characters, "
            "with no space around them"
        )
    if name == WILDCARD or USER_PREFIX + name == ANONYMOUS:
        raise UnacceptableCredential(f"no user can have the name {name!r}: it means something in rules")
    return name


def check_credential(credential: ScramCredential) -> ScramCredential:
    """The credential itself where somebody can log in with it, else UnacceptableCredential."""
    if not ITERATIONS_MIN <= credential.iterations <= ITERATIONS_MAX:
        raise UnacceptableCredential(
            f"iterations is {credential.iterations}; it must be from {ITERATIONS_MIN} to {ITERATIONS_MAX}"
        )
    salt = _decoded("salt", credential.salt)
    if not SALT_BYTES_MIN <= len(salt) <= SALT_BYTES_MAX:
        raise UnacceptableCredential(
            f"a salt has {SALT_BYTES_MIN} to {SALT_BYTES_MAX} bytes, not {len(salt)}"
        )
    size_bytes = 32 if credential.mechanism == "SCRAM-SHA-256" else 64
    for what, text in (("stored_key", credential.stored_key), ("server_key", credential.server_key)):
        if len(_decoded(what, text)) != size_bytes:
            raise UnacceptableCredential(f"the {what} of {credential.mechanism} has {size_bytes} bytes")
    return credential


def _decoded(what: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnacceptableCredential(f"{what} is not base64") from None

"""Access rules in Kafka's numbers and in ours."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from actors.operations import Operation, ResourceType
from odradek.protocol.access import Acl, AclFilter
from odradek.protocol.errors import InvalidRequest

ANY = 1
MATCH = 2
PATTERNS = {3: "literal", 4: "prefixed"}
PERMISSIONS = {2: "deny", 3: "allow"}
KindT = TypeVar("KindT", Acl, AclFilter)
_PATTERN_NUMBERS = {word: number for number, word in PATTERNS.items()}
_PERMISSION_NUMBERS = {word: number for number, word in PERMISSIONS.items()}


def acl_from_kafka(creation: Any) -> Acl:
    """The rule of a creation. Raises InvalidRequest, also for what rules are about elsewhere only."""
    return _converted(
        {
            "principal": creation.principal,
            "host": creation.host,
            "operation": _operation(creation.operation),
            "permission": _word("permission", PERMISSIONS, creation.permission_type),
            "resource_type": _resource_type(creation.resource_type),
            "resource_name": creation.resource_name,
            "pattern_type": _word("pattern", PATTERNS, getattr(creation, "resource_pattern_type", 3)),
        },
        Acl,
    )


def filter_from_kafka(given: Any) -> AclFilter:
    """A filter of a request; ANY is null here. Raises InvalidRequest."""
    pattern = getattr(given, "pattern_type_filter", 3)
    return _converted(
        {
            "principal": given.principal_filter,
            "host": given.host_filter,
            "operation": None if given.operation == ANY else _operation(given.operation),
            "permission": None
            if given.permission_type == ANY
            else _word("permission", PERMISSIONS, given.permission_type),
            "resource_type": None
            if given.resource_type_filter == ANY
            else _resource_type(given.resource_type_filter),
            "resource_name": given.resource_name_filter,
            "pattern_type": {ANY: None, MATCH: "match"}.get(pattern)
            if pattern in (ANY, MATCH)
            else _word("pattern", PATTERNS, pattern),
        },
        AclFilter,
    )


def acl_to_kafka(acl: Acl) -> dict[str, Any]:
    """A rule with every field that any answer has."""
    return {
        "resource_type": int(ResourceType[acl.resource_type.upper()]),
        "resource_name": acl.resource_name,
        "pattern_type": _PATTERN_NUMBERS[acl.pattern_type],
        "principal": acl.principal,
        "host": acl.host,
        "operation": int(Operation[acl.operation.upper()]),
        "permission_type": _PERMISSION_NUMBERS[acl.permission],
    }


def _converted(fields: dict[str, Any], kind: type[KindT]) -> KindT:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"this is no access rule: {error}") from None


def _operation(number: int) -> str:
    known = {each.value: each.name.lower() for each in Operation if each is not Operation.ANY}
    return _word("operation", known, number)


def _resource_type(number: int) -> str:
    known = {each.value: each.name.lower() for each in ResourceType if each is not ResourceType.ANY}
    return _word("resource type", known, number)


def _word(what: str, known: dict[int, str], number: int) -> str:
    word = known.get(number)
    if word is None:
        raise InvalidRequest(f"{what} {number} has no meaning here")
    return word

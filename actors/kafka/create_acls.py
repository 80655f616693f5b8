"""CreateAcls (30), versions 1 and 2: access rules, in force for every request that comes after the answer."""

from __future__ import annotations

from typing import Any

from actors.kafka.acl_words import acl_from_kafka
from actors.kafka.describe_acls import check_administrator, refuse_where_disabled
from actors.kafka.handling import Ask, Body, Context, Steps
from actors.messages import SUPERVISOR
from actors.operations import Operation
from odradek.protocol.access import Acl
from odradek.protocol.errors import InvalidRequest, OdradekError
from odradek.protocol.messages import CreateAcls, CreateAclsReply, DescribeAcls, DescribeAclsReply

CREATIONS_MAX = 1_000


def handle(request: Any, context: Context) -> Steps:
    """Every rule on its own."""
    creations = request.creations
    if len(creations) > CREATIONS_MAX:
        raise InvalidRequest(f"CreateAcls has {len(creations)} rules; {CREATIONS_MAX} is the most")
    try:
        check_administrator(Operation.ALTER, context)
        (known,) = yield (Ask(SUPERVISOR, DescribeAcls()),)
        refuse_where_disabled(known.expect(DescribeAclsReply).enforced)
    except OdradekError as error:
        return _answer([error] * len(creations))
    errors: list[OdradekError | None] = [None] * len(creations)
    acls: dict[int, Acl] = {}
    for number, creation in enumerate(creations):
        try:
            acls[number] = acl_from_kafka(creation)
        except OdradekError as error:
            errors[number] = error
    if acls:
        (outcome,) = yield (Ask(SUPERVISOR, CreateAcls(acls=list(acls.values()))),)
        try:
            results: Any = outcome.expect(CreateAclsReply).results
        except OdradekError as error:
            errors = [error if number in acls else own for number, own in enumerate(errors)]
        else:
            for number, result in zip(acls, results, strict=True):
                errors[number] = result.error
    return _answer(errors)


def _answer(errors: list[Any]) -> Body:
    results = [
        {
            "error_code": error.code if error is not None else 0,
            "error_message": error.message if error is not None else None,
        }
        for error in errors
    ]
    return {"throttle_time": 0, "results": results}

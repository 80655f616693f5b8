"""DeleteAcls (31), versions 1 and 2: the access rules that filters mean are gone; the answer names them."""

from __future__ import annotations

from typing import Any

from actors.kafka.acl_words import acl_to_kafka, filter_from_kafka
from actors.kafka.describe_acls import check_administrator, refuse_where_disabled
from actors.kafka.handling import Ask, Body, Context, Steps
from actors.messages import SUPERVISOR
from actors.operations import Operation
from odradek.protocol.access import Acl, AclFilter
from odradek.protocol.errors import InvalidRequest, OdradekError
from odradek.protocol.messages import DeleteAcls, DeleteAclsReply, DescribeAcls, DescribeAclsReply

FILTERS_MAX = 1_000


def handle(request: Any, context: Context) -> Steps:
    """Every filter on its own."""
    given = request.filters
    if len(given) > FILTERS_MAX:
        raise InvalidRequest(f"DeleteAcls has {len(given)} filters; {FILTERS_MAX} is the most")
    try:
        check_administrator(Operation.ALTER, context)
        (known,) = yield (Ask(SUPERVISOR, DescribeAcls()),)
        refuse_where_disabled(known.expect(DescribeAclsReply).enforced)
    except OdradekError as error:
        return {"throttle_time": 0, "filter_results": [_result([], error) for _ in given]}
    answers: list[Body] = [{} for _ in given]
    filters: dict[int, AclFilter] = {}
    for number, each in enumerate(given):
        try:
            filters[number] = filter_from_kafka(each)
        except OdradekError as error:
            answers[number] = _result([], error)
    if filters:
        (outcome,) = yield (Ask(SUPERVISOR, DeleteAcls(filters=list(filters.values()))),)
        try:
            results: Any = outcome.expect(DeleteAclsReply).results
        except OdradekError as error:
            answers = [_result([], error) if number in filters else own for number, own in enumerate(answers)]
        else:
            for number, result in zip(filters, results, strict=True):
                answers[number] = _result(result.acls, result.error)
    return {"throttle_time": 0, "filter_results": answers}


def _result(acls: list[Acl], error: Any) -> Body:
    return {
        "error_code": error.code if error is not None else 0,
        "error_message": error.message if error is not None else None,
        "matching_acls": [{"error_code": 0, "error_message": None, **acl_to_kafka(acl)} for acl in acls],
    }

"""`odradek acl`: who may do what, as rules that the broker asks for both protocols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Annotated

import typer

from odradek.cli.connect import connect
from odradek.cli.exits import BadInput, Failed, reports
from odradek.cli.options import BOOTSTRAP_DEFAULT, AsJson, Bootstrap, example
from odradek.cli.output import Column, print_json, print_table, say
from odradek.protocol.access import (
    CLUSTER_NAME,
    OPERATIONS_OF,
    USER_PREFIX,
    WILDCARD,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    ResourceType,
    check_acl,
)
from odradek.protocol.errors import InvalidRequest

COLUMNS = tuple(map(Column, ("Permission", "Principal", "Host", "Operation", "Resource", "Pattern", "Name")))
NOT_ENFORCED = "the broker does not ask the rules: it was started without --authorization acls"

Principals = Annotated[
    list[str] | None,
    typer.Option("--principal", "-p", metavar="USER", help="A user, or '*' for everybody; repeatable."),
]
Operations = Annotated[
    list[str] | None,
    typer.Option("--operation", "-o", metavar="WORD", help="read, write, create ..., or all; repeatable."),
]
TopicName = Annotated[str | None, typer.Option("--topic", metavar="NAME", help="A topic; '*' for every one.")]
GroupName = Annotated[str | None, typer.Option("--group", metavar="NAME", help="A group; '*' for every one.")]
TransactionalId = Annotated[
    str | None, typer.Option("--transactional-id", metavar="NAME", help="A transactional id.")
]
Cluster = Annotated[bool, typer.Option("--cluster", help="The broker itself.")]
Prefixed = Annotated[bool, typer.Option("--prefixed", help="Every name that begins so.")]
Host = Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Only from this IP address.")]


def build() -> typer.Typer:
    """The subcommand with its own subcommands."""
    app = typer.Typer(help="Add, list and remove access rules.", no_args_is_help=True)
    app.command(
        epilog=example(
            "odradek acl add -p till -o write --topic sales- --prefixed",
            "odradek acl add -p till -o read --topic sales-2026",
            "odradek acl add -p till -o read --group billing",
            "odradek acl add -p '*' -o read --topic secrets --deny",
        )
    )(reports(add))
    app.command("list", epilog=example("odradek acl list", "odradek acl list --topic sales-2026"))(
        reports(list_acls)
    )
    app.command(
        epilog=example("odradek acl remove -p till --topic sales-2026", "odradek acl remove -p till --yes")
    )(reports(remove))
    return app


def add(
    principals: Principals = None,
    operations: Operations = None,
    topic: TopicName = None,
    group: GroupName = None,
    transactional_id: TransactionalId = None,
    cluster: Cluster = False,
    prefixed: Prefixed = False,
    deny: Annotated[bool, typer.Option("--deny", help="Forbid it; that outweighs what allows it.")] = False,
    host: Host = None,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
) -> None:
    """Let principals do something, or forbid it to them; in force at once."""
    if not principals or not operations:
        raise BadInput("say who (--principal) may do what (--operation)")
    resources = _resources(topic, group, transactional_id, cluster=cluster)
    if not resources:
        raise BadInput("say to what: --topic, --group, --transactional-id or --cluster")
    try:
        acls = [
            check_acl(
                Acl(
                    principal=_principal(principal),
                    operation=_operation(operation),
                    resource_type=resource_type,
                    resource_name=name,
                    pattern_type=_pattern_type(resource_type, prefixed=prefixed),
                    permission="deny" if deny else "allow",
                    host=host or WILDCARD,
                )
            )
            for principal in principals
            for operation in operations
            for resource_type, name in resources
        ]
    except InvalidRequest as error:
        raise BadInput(error.message) from error
    with connect(bootstrap) as admin:
        admin.create_acls(acls)
        if not admin.describe_acls(AclFilter(principal=acls[0].principal)).enforced:
            say(f"note: {NOT_ENFORCED}")
    for acl in acls:
        say(f"added: {acl}")


def list_acls(
    principals: Principals = None,
    operations: Operations = None,
    topic: TopicName = None,
    group: GroupName = None,
    transactional_id: TransactionalId = None,
    cluster: Cluster = False,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List the rules; with --topic and the like, every rule that concerns that name."""
    resources = _resources(topic, group, transactional_id, cluster=cluster)
    with connect(bootstrap) as admin:
        replies = [
            admin.describe_acls(wanted) for wanted in _filters(principals, operations, resources, match=True)
        ]
    acls = sorted(
        {acl for reply in replies for acl in reply.acls or ()},
        key=lambda acl: (acl.resource_type, acl.resource_name, acl.principal, acl.operation),
    )
    if as_json:
        print_json(acls)
        return
    print_table(COLUMNS, map(_row, acls))
    if not replies[0].enforced:
        say(f"note: {NOT_ENFORCED}")


def remove(
    principals: Principals = None,
    operations: Operations = None,
    topic: TopicName = None,
    group: GroupName = None,
    transactional_id: TransactionalId = None,
    cluster: Cluster = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Also where several rules would go.")] = False,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
) -> None:
    """Remove the rules that agree with all that is said; names are those of the rules themselves."""
    resources = _resources(topic, group, transactional_id, cluster=cluster)
    if not (principals or operations or resources):
        raise BadInput("say which rules: --principal, --operation, --topic, --group or the like")
    filters = list(_filters(principals, operations, resources, match=False))
    with connect(bootstrap) as admin:
        found = {acl for wanted in filters for acl in admin.describe_acls(wanted).acls or ()}
        if not found:
            raise Failed("there is no such rule; `odradek acl list` shows all")
        if len(found) > 1 and not yes:
            for acl in sorted(found, key=str):
                say(f"would go: {acl}")
            raise Failed(f"this means {len(found)} rules; nothing was removed. Say --yes, or say more")
        removed = admin.delete_acls(filters)
    for acl in removed:
        say(f"removed: {acl}")


def _filters(
    principals: list[str] | None,
    operations: list[str] | None,
    resources: list[tuple[ResourceType, str]],
    *,
    match: bool,
) -> Iterator[AclFilter]:
    who: Sequence[str | None] = [_principal(word) for word in principals or ()] or [None]
    does: Sequence[Operation | None] = [_operation(word) for word in operations or ()] or [None]
    what: Sequence[tuple[ResourceType | None, str | None]] = [*resources] or [(None, None)]
    for principal, operation, (resource_type, name) in product(who, does, what):
        yield AclFilter(
            principal=principal,
            operation=operation,
            resource_type=resource_type,
            resource_name=name,
            pattern_type="match" if match and name is not None else None,
        )


def _resources(
    topic: str | None, group: str | None, transactional_id: str | None, *, cluster: bool
) -> list[tuple[ResourceType, str]]:
    named: list[tuple[ResourceType, str | None]] = [
        ("topic", topic),
        ("group", group),
        ("transactional_id", transactional_id),
        ("cluster", CLUSTER_NAME if cluster else None),
    ]
    return [(kind, name) for kind, name in named if name is not None]


def _pattern_type(resource_type: ResourceType, *, prefixed: bool) -> PatternType:
    return "prefixed" if prefixed and resource_type != "cluster" else "literal"


def _principal(word: str) -> str:
    return word if word.startswith(USER_PREFIX) else USER_PREFIX + word


def _operation(word: str) -> Operation:
    operation = word.lower().replace("-", "_")
    known = sorted(set().union(*OPERATIONS_OF.values()))
    if operation not in known:
        raise BadInput(f"{word!r} is not an operation; there are {', '.join(known)}")
    return operation


def _row(acl: Acl) -> list[str]:
    return [
        acl.permission,
        acl.principal,
        acl.host,
        acl.operation,
        acl.resource_type,
        acl.pattern_type,
        acl.resource_name,
    ]

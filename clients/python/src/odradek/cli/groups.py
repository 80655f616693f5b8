"""`odradek group`: list, describe and delete consumer groups."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from odradek.cli.connect import connect
from odradek.cli.exits import reports
from odradek.cli.options import BOOTSTRAP_DEFAULT, AsJson, Bootstrap, example
from odradek.cli.output import Column, print_json, print_pairs, print_table, say
from odradek.protocol.messages import GroupDescribeReply, GroupMember, GroupOffset

MEMBER_ID_CHARACTERS_SHOWN = 12

Group = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")]


def build() -> typer.Typer:
    """The subcommand with its own subcommands."""
    app = typer.Typer(help="List, describe and delete consumer groups.", no_args_is_help=True)
    app.command("list", epilog=example("odradek group list", "odradek group list --json"))(
        reports(list_groups)
    )
    app.command(epilog=example("odradek group describe billing"))(reports(describe))
    app.command(epilog=example("odradek group delete billing"))(reports(delete))
    return app


def list_groups(bootstrap: Bootstrap = BOOTSTRAP_DEFAULT, as_json: AsJson = False) -> None:
    """List the groups."""
    with connect(bootstrap) as admin:
        groups = admin.list_groups()
    if as_json:
        print_json(groups)
        return
    columns = [Column("Group"), Column("State"), Column("Members", "right")]
    print_table(columns, [[group.group, group.state, str(group.members)] for group in groups])


def describe(group: Group, bootstrap: Bootstrap = BOOTSTRAP_DEFAULT, as_json: AsJson = False) -> None:
    """Show a group: its members, what each holds, and how far behind it is."""
    with connect(bootstrap) as admin:
        described = admin.describe_group(group)
    if as_json:
        print_json(described)
        return
    _print_description(described)


def delete(group: Group, bootstrap: Bootstrap = BOOTSTRAP_DEFAULT) -> None:
    """Forget an empty group and its committed offsets."""
    with connect(bootstrap) as admin:
        admin.delete_groups([group])
    say(f"group {group} deleted")


def _print_description(described: GroupDescribeReply) -> None:
    members = _members(described)
    print_pairs(
        [
            ("Group", str(described.group)),
            ("State", str(described.state)),
            ("Epoch", str(described.epoch)),
            ("Assignor", str(described.assignor)),
            ("Members", str(len(members))),
        ]
    )
    if members:
        sys.stdout.write("\n")
        columns = [Column("Member"), Column("Client"), Column("State"), Column("Partitions")]
        print_table(columns, [_member_row(member) for member in members])
    offsets = _offsets(described)
    if offsets:
        sys.stdout.write("\n")
        columns = [
            Column("Topic"),
            *(Column(title, "right") for title in ("Partition", "Committed", "End", "Lag")),
            Column("Member"),
        ]
        print_table(columns, [_offset_row(offset) for offset in offsets])


def _members(described: GroupDescribeReply) -> list[GroupMember]:
    return described.members if isinstance(described.members, list) else []


def _offsets(described: GroupDescribeReply) -> list[GroupOffset]:
    found = described.offsets if isinstance(described.offsets, list) else []
    return sorted(found, key=lambda offset: (offset.topic, offset.partition))


def _member_row(member: GroupMember) -> list[str]:
    held = "; ".join(
        f"{entry.topic}: {','.join(map(str, sorted(entry.partitions)))}" for entry in member.assignment
    )
    return [_short(member.member_id), member.client_id or "-", member.state, held or "-"]


def _offset_row(offset: GroupOffset) -> list[str]:
    return [
        offset.topic,
        str(offset.partition),
        "-" if offset.offset < 0 else str(offset.offset),
        "-" if offset.end_offset is None else str(offset.end_offset),
        "-" if offset.lag is None else str(offset.lag),
        _short(offset.member_id or "-"),
    ]


def _short(member_id: str) -> str:
    return member_id[:MEMBER_ID_CHARACTERS_SHOWN]

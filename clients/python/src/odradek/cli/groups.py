"""`odradek group`: list, describe, reset and delete consumer groups."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from odradek.cli.connect import connect
from odradek.cli.exits import BadInput, Failed, reports
from odradek.cli.options import BOOTSTRAP_DEFAULT, AsJson, Bootstrap, example
from odradek.cli.output import Column, human_duration, print_json, print_pairs, print_table, say
from odradek.cli.resets import Move, choose, plan, read_goal, read_scope
from odradek.protocol.errors import GroupIdNotFound, InvalidGroupId, UnknownMemberId
from odradek.protocol.messages import GroupDescribeReply, GroupMember, GroupOffset
from odradek.protocol.names import check_group_name

if TYPE_CHECKING:
    from odradek.admin import Admin

MEMBER_ID_CHARACTERS_SHOWN = 12
CLASSIC = "classic"
"""The type of groups whose members use the older protocol of Kafka's clients."""

Group = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")]


def build() -> typer.Typer:
    """The subcommand with its own subcommands."""
    app = typer.Typer(help="List, describe, reset and delete consumer groups.", no_args_is_help=True)
    app.command("list", epilog=example("odradek group list", "odradek group list --json"))(
        reports(list_groups)
    )
    app.command(epilog=example("odradek group describe billing", "odradek group describe billing --json"))(
        reports(describe)
    )
    app.command(
        epilog=example(
            "odradek group reset billing --all-topics --to-earliest --dry-run",
            "odradek group reset billing --topic events --to-datetime 2024-05-31T12:00",
            "odradek group reset billing --topic events --to-datetime 2h",
            "odradek group reset billing --topic events:0 --topic events:3 --shift-by -100",
            "odradek group reset billing --topic events:0 --to-offset 4711",
        )
    )(reports(reset))
    app.command(epilog=example("odradek group delete billing"))(reports(delete))
    return app


def list_groups(bootstrap: Bootstrap = BOOTSTRAP_DEFAULT, as_json: AsJson = False) -> None:
    """List the groups."""
    with connect(bootstrap) as admin:
        groups = admin.list_groups()
    if as_json:
        print_json(groups)
        return
    columns = [Column("Group"), Column("State"), Column("Type"), Column("Members", "right")]
    rows = [[group.group, group.state, group.type, str(group.members)] for group in groups]
    print_table(columns, rows)


def describe(group: Group, bootstrap: Bootstrap = BOOTSTRAP_DEFAULT, as_json: AsJson = False) -> None:
    """Show a group: its members, what each holds, how far behind it is, and since its last commits."""
    with connect(bootstrap) as admin:
        described = admin.describe_group(group)
    if as_json:
        print_json(described)
        return
    _print_description(described)


def reset(
    group: Group,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            "-t",
            metavar="TOPIC[:PARTITION]",
            help="Every partition of a topic, or one of them; repeatable.",
        ),
    ] = None,
    all_topics: Annotated[
        bool, typer.Option("--all-topics", help="Every partition that the group has committed.")
    ] = False,
    to_earliest: Annotated[
        bool, typer.Option("--to-earliest", help="To the first record that is kept.")
    ] = False,
    to_latest: Annotated[bool, typer.Option("--to-latest", help="To the end: only what comes.")] = False,
    to_offset: Annotated[int | None, typer.Option("--to-offset", metavar="N", help="To this offset.")] = None,
    to_datetime: Annotated[
        str | None,
        typer.Option(
            "--to-datetime",
            metavar="TIME",
            help="To the first record as late as 2024-05-31T12:00 (UTC unless it says otherwise), "
            "or as 15m, 2h, 7d ago; to the end where there is none.",
        ),
    ] = None,
    shift_by: Annotated[
        int | None,
        typer.Option("--shift-by", metavar="N", help="N records on, or back where N is negative."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Move the committed offsets of a group that has no members, all of them at once.

    An offset outside of the log becomes the end of the log that is nearest to it.
    """
    if bool(topic) == all_topics:
        raise BadInput("say what to reset: --topic TOPIC or --topic TOPIC:PARTITION, or --all-topics")
    try:
        goal = read_goal(
            earliest=to_earliest,
            latest=to_latest,
            offset=to_offset,
            datetime=to_datetime,
            shift=shift_by,
            now_ms=time.time_ns() // 1_000_000,
        )
        check_group_name(group)
    except (ValueError, InvalidGroupId) as error:
        raise BadInput(str(error)) from error
    with connect(bootstrap) as admin:
        members, committed = _members_and_offsets(admin, group, must_exist=all_topics)
        if members and not dry_run:
            raise _has_members(group, members)
        partitions = sorted(committed) if all_topics else choose(admin, read_scope(topic or []))
        if not partitions:
            raise Failed(f"group {group} has committed no offsets; name topics with --topic")
        moves = plan(admin, partitions, committed, goal)
        if not dry_run:
            _apply(admin, group, moves)
    if as_json:
        print_json(moves)
    else:
        columns = [Column("Topic"), *(Column(title, "right") for title in ("Partition", "From", "To"))]
        print_table(columns, [_move_row(move) for move in moves])
    _say_what_happened(group, moves, members, dry_run=dry_run)


def _members_and_offsets(
    admin: Admin, group: str, *, must_exist: bool
) -> tuple[int, dict[tuple[str, int], int]]:
    """How many members there are, and what is committed; nothing of both in a group yet to come."""
    try:
        described = admin.describe_group(group)
    except GroupIdNotFound:
        if must_exist:
            raise
        return 0, {}
    committed = {(item.topic, item.partition): item.offset for item in _offsets(described)}
    return len(_members(described)), {key: offset for key, offset in committed.items() if offset >= 0}


def _has_members(group: str, count: int | None) -> Failed:
    members = "members" if count is None else "1 member" if count == 1 else f"{count} members"
    return Failed(
        f"group {group} has {members}, which would go on from where they are: stop them first "
        f"(`odradek group describe {group}` lists them), then reset it; nothing was changed"
    )


def _apply(admin: Admin, group: str, moves: list[Move]) -> None:
    from odradek.fetcher import TopicPartition

    offsets = {TopicPartition(move.topic, move.partition): move.to_offset for move in moves}
    try:
        admin.alter_group_offsets(group, offsets)
    except UnknownMemberId as error:  # one has joined since the group was looked at
        raise _has_members(group, None) from error


def _say_what_happened(group: str, moves: list[Move], members: int, *, dry_run: bool) -> None:
    for move in moves:
        if move.wanted is not None:
            say(
                f"{move.topic}:{move.partition}: offset {move.wanted} is outside of the log; "
                f"{move.to_offset} is the nearest in it"
            )
    partitions = "1 partition" if len(moves) == 1 else f"{len(moves)} partitions"
    if not dry_run:
        say(f"group {group} reset: {partitions}")
        return
    say(f"dry run: nothing was changed; without --dry-run {partitions} of group {group} would be reset")
    if members:
        say(f"a reset would be refused now: the group has members ({members})")


def _move_row(move: Move) -> list[str]:
    before = "-" if move.from_offset is None else str(move.from_offset)
    return [move.topic, str(move.partition), before, str(move.to_offset)]


def delete(group: Group, bootstrap: Bootstrap = BOOTSTRAP_DEFAULT) -> None:
    """Forget an empty group and its committed offsets."""
    with connect(bootstrap) as admin:
        admin.delete_groups([group])
    say(f"group {group} deleted")


def _print_description(described: GroupDescribeReply) -> None:
    members = _members(described)
    offsets = _offsets(described)
    lags = [offset.lag for offset in offsets if offset.lag is not None]
    print_pairs(
        [
            ("Group", str(described.group)),
            ("State", str(described.state)),
            ("Type", str(described.type)),
            ("Generation" if described.type == CLASSIC else "Epoch", str(described.epoch)),
            ("Assignor", str(described.assignor or "-")),
            ("Members", str(len(members))),
            ("Lag", str(sum(lags)) if lags else "-"),
        ]
    )
    if members:
        sys.stdout.write("\n")
        titles = ("Member", "Client", "Host", "State", "Subscribed to", "Partitions")
        print_table([Column(title) for title in titles], [_member_row(member) for member in members])
    if offsets:
        sys.stdout.write("\n")
        clients = {member.member_id: member.client_id for member in members}
        columns = [
            Column("Topic"),
            *(Column(title, "right") for title in ("Partition", "Committed", "End", "Lag", "Last commit")),
            Column("Owner"),
            Column("Client"),
        ]
        now_ms = time.time_ns() // 1_000_000
        print_table(columns, [_offset_row(offset, clients, now_ms) for offset in offsets])


def _members(described: GroupDescribeReply) -> list[GroupMember]:
    return described.members if isinstance(described.members, list) else []


def _offsets(described: GroupDescribeReply) -> list[GroupOffset]:
    found = described.offsets if isinstance(described.offsets, list) else []
    return sorted(found, key=lambda offset: (offset.topic, offset.partition))


def _member_row(member: GroupMember) -> list[str]:
    held = "; ".join(
        f"{entry.topic}: {','.join(map(str, sorted(entry.partitions)))}" for entry in member.assignment
    )
    pattern = [f"/{member.topic_pattern}/"] if member.topic_pattern else []
    subscribed = ", ".join([*member.topics, *pattern])
    client, host = member.client_id or "-", member.host or "-"
    return [_short(member.member_id), client, host, member.state, subscribed or "-", held or "-"]


def _offset_row(offset: GroupOffset, clients: dict[str, str | None], now_ms: int) -> list[str]:
    owner = offset.member_id
    return [
        offset.topic,
        str(offset.partition),
        "-" if offset.offset < 0 else str(offset.offset),
        "-" if offset.end_offset is None else str(offset.end_offset),
        "-" if offset.lag is None else str(offset.lag),
        _ago(offset.committed_at_ms, now_ms),
        _short(owner or "-"),
        (clients.get(owner) if owner else None) or "-",
    ]


def _short(member_id: str) -> str:
    return member_id[:MEMBER_ID_CHARACTERS_SHOWN]


def _ago(at_ms: int | None, now_ms: int) -> str:
    return "-" if at_ms is None else f"{human_duration(max(0, now_ms - at_ms) / 1000)} ago"

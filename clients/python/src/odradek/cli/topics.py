"""`odradek topic`: create, list, describe, alter and delete topics."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from odradek.cli.connect import connect
from odradek.cli.exits import BadInput, Failed, reports
from odradek.cli.options import BOOTSTRAP_DEFAULT, AsJson, Bootstrap, Topic, example, pairs
from odradek.cli.output import Column, print_json, print_pairs, print_table, say
from odradek.protocol.errors import TopicAlreadyExists, WireError
from odradek.protocol.messages import ConfigValue, TopicMetadata

if TYPE_CHECKING:
    from odradek.admin import Admin

PARTITION_COLUMNS = (
    Column("Partition", "right"),
    Column("Start", "right"),
    Column("End", "right"),
    Column("Epoch", "right"),
    Column("State"),
)
SETTING_COLUMNS = (Column("Setting"), Column("Value", "right"), Column("Default", "right"))

Config = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        "-c",
        metavar="NAME=VALUE",
        help="A topic setting, such as segment.bytes=100000000; repeatable.",
    ),
]
Names = Annotated[list[str], typer.Argument(metavar="TOPIC...", help="Names of topics.")]


class PartitionDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One partition; its offsets are null where it does not serve. `end_offset` is the next one."""

    partition: int
    start_offset: int | None
    end_offset: int | None
    leader_epoch: int
    endpoints: list[str]
    error: WireError | None


class TopicDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What `topic describe --json` writes, in a list."""

    name: str
    topic_id: str | None
    internal: bool
    partitions: list[PartitionDescription]
    config: dict[str, ConfigValue]


def build() -> typer.Typer:
    """The subcommand with its own subcommands."""
    app = typer.Typer(help="Create, list, describe, alter and delete topics.", no_args_is_help=True)
    app.command(
        epilog=example(
            "odradek topic create events --partitions 8",
            "odradek topic create audit -c max.message.bytes=4000000",
        )
    )(reports(create))
    app.command("list", epilog=example("odradek topic list", "odradek topic list --json"))(
        reports(list_topics)
    )
    app.command(epilog=example("odradek topic describe events"))(reports(describe))
    app.command(
        epilog=example(
            "odradek topic alter events -c segment.ms=3600000",
            "odradek topic alter events --partitions 16",
            "odradek topic alter events --reset segment.ms",
        )
    )(reports(alter))
    app.command(epilog=example("odradek topic delete events --yes"))(reports(delete))
    return app


def create(
    names: Names,
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions", "-p", min=1, help="How many partitions; without it the broker's default."
        ),
    ] = None,
    config: Config = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="A topic that exists already is no error.")
    ] = False,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
) -> None:
    """Create topics; returns when every partition of them serves."""
    settings = pairs(config or [], "--config")
    with connect(bootstrap) as admin:
        for name in names:
            try:
                admin.create_topic(name, partitions, settings)
            except TopicAlreadyExists:
                if not if_not_exists:
                    raise
                say(f"topic {name} exists already")
            else:
                say(f"topic {name} created")


def list_topics(
    internal: Annotated[bool, typer.Option("--internal", help="The broker's own topics, too.")] = False,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List the topics."""
    with connect(bootstrap) as admin:
        topics = [topic for topic in admin.describe_topics() if internal or not topic.internal]
    topics.sort(key=lambda topic: topic.name)
    if as_json:
        print_json(topics)
        return
    rows = [
        [topic.name, str(len(topic.partitions)), "internal" if topic.internal else "", _troubles(topic)]
        for topic in topics
    ]
    columns = [Column("Topic"), Column("Partitions", "right"), Column(""), Column("State")]
    print_table(columns, rows)


def describe(names: Names, bootstrap: Bootstrap = BOOTSTRAP_DEFAULT, as_json: AsJson = False) -> None:
    """Show topics: partitions with their offsets and endpoints, and all settings."""
    with connect(bootstrap) as admin:
        found = [_description(admin, topic) for topic in admin.describe_topics(names)]
    if as_json:
        print_json(found)
        return
    for index, description in enumerate(found):
        if index:
            sys.stdout.write("\n")
        _print_description(description)


def alter(
    name: Topic,
    config: Config = None,
    reset: Annotated[
        list[str] | None, typer.Option("--reset", metavar="NAME", help="Back to the default; repeatable.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option("--partitions", "-p", min=1, help="The new total; a topic only grows.")
    ] = None,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
) -> None:
    """Change a topic's settings, all of them or none, or add partitions, while it serves."""
    settings: dict[str, Any] = {**pairs(config or [], "--config"), **dict.fromkeys(reset or [])}
    if not settings and partitions is None:
        raise BadInput("nothing to change: give --config NAME=VALUE, --reset NAME or --partitions N")
    with connect(bootstrap) as admin:
        if settings:
            admin.alter_configs(name, settings)
        if partitions is not None:
            admin.create_partitions(name, partitions)
    say(f"topic {name} altered")


def delete(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
) -> None:
    """Delete topics and all that they hold."""
    if not yes:
        _confirm(names)
    with connect(bootstrap) as admin:
        admin.delete_topics(names)
    for name in names:
        say(f"topic {name} deleted")


def _confirm(names: list[str]) -> None:
    if not sys.stdin.isatty():
        raise BadInput("deleting needs --yes where nobody can be asked")
    say(f"Delete {', '.join(names)} and all records in {'it' if len(names) == 1 else 'them'}? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed("nothing was deleted")


def _description(admin: Admin, topic: TopicMetadata) -> TopicDescription:
    serving = [part.partition for part in topic.partitions if part.error is None]
    starts = admin.list_offsets(topic.name, "earliest", partitions=serving)
    ends = admin.list_offsets(topic.name, "latest", partitions=serving)
    return TopicDescription(
        name=topic.name,
        topic_id=topic.topic_id,
        internal=topic.internal,
        partitions=[
            PartitionDescription(
                partition=part.partition,
                start_offset=starts.get(part.partition),
                end_offset=ends.get(part.partition),
                leader_epoch=part.leader_epoch,
                endpoints=part.endpoints,
                error=part.error,
            )
            for part in topic.partitions
        ],
        config=admin.describe_configs(topic.name),
    )


def _print_description(topic: TopicDescription) -> None:
    records = sum((part.end_offset or 0) - (part.start_offset or 0) for part in topic.partitions)
    print_pairs(
        [
            ("Topic", topic.name),
            ("Topic id", topic.topic_id or "-"),
            ("Partitions", str(len(topic.partitions))),
            ("Offsets", f"{records:,}"),
        ]
    )
    sys.stdout.write("\n")
    print_table(PARTITION_COLUMNS, [_partition_row(partition) for partition in topic.partitions])
    sys.stdout.write("\n")
    settings = sorted(topic.config.items())
    print_table(
        SETTING_COLUMNS,
        [[name, _shown(entry.value), _shown(entry.default)] for name, entry in settings],
    )


def _partition_row(partition: PartitionDescription) -> list[str]:
    offsets = ["-" if at is None else str(at) for at in (partition.start_offset, partition.end_offset)]
    state = "serving" if partition.error is None else partition.error.name
    return [str(partition.partition), *offsets, str(partition.leader_epoch), state]


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _troubles(topic: TopicMetadata) -> str:
    """ "serving", or which partitions are not."""
    if topic.error is not None:
        return topic.error.name
    broken = [part for part in topic.partitions if part.error is not None]
    if not broken:
        return "serving"
    names = sorted({part.error.name for part in broken if part.error is not None})
    return f"{len(broken)} of {len(topic.partitions)}: {', '.join(names)}"

"""`odradek consume`: records out, from a place in a topic or as a member of a group."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from odradek.cli.connect import connect, partition_numbers
from odradek.cli.exits import BadInput, Failed
from odradek.cli.lines import WriteOptions
from odradek.cli.options import BOOTSTRAP_DEFAULT, Bootstrap, Topic
from odradek.cli.positions import BEGINNING, END, Start, first_offset, read_offset, read_since
from odradek.protocol.errors import UnknownTopicOrPartition

if TYPE_CHECKING:
    from odradek.admin import Admin
    from odradek.consumer import Consumer, Record, TopicPartition
    from odradek.options import OffsetReset

POLL_TIMEOUT_S = 0.2
POLL_RECORDS_MAX = 2000
COMMIT_INTERVAL_S = 1.0
ASSIGN_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read: `partitions` None for all; `records_max` None for no limit."""

    topic: str
    start: Start
    partitions: Sequence[int] | None
    records_max: int | None
    follow: bool


def consume(
    topic: Topic,
    group: Annotated[
        str | None,
        typer.Option("--group", "-g", metavar="NAME", help="Read as a member of this group and commit."),
    ] = None,
    from_beginning: Annotated[
        bool,
        typer.Option(
            "--from-beginning",
            help="Start at the earliest record; a group does only where it has committed nothing.",
        ),
    ] = False,
    offset: Annotated[
        str | None,
        typer.Option(
            "--offset",
            "-o",
            metavar="OFFSET",
            help="Start here: a number, -N for the last N, beginning, end.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Start at this time: 2024-05-31T12:00 (UTC), or 15m, 2h, 7d ago."
        ),
    ] = None,
    partition: Annotated[
        list[int] | None,
        typer.Option("--partition", "-p", min=0, metavar="N", help="Only this one; repeatable."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more; without it, stop at the end of the log.")
    ] = False,
    records_max: Annotated[
        int | None, typer.Option("--max", "-n", min=1, metavar="N", help="Stop after so many records.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with everything.")] = False,
    show_key: Annotated[bool, typer.Option("--show-key", "-k", help="The key before the value.")] = False,
    show_partition: Annotated[bool, typer.Option("--show-partition", help="The partition's number.")] = False,
    show_offset: Annotated[bool, typer.Option("--show-offset", help="The offset.")] = False,
    show_timestamp: Annotated[bool, typer.Option("--show-timestamp", help="The time, in UTC.")] = False,
    show_headers: Annotated[bool, typer.Option("--show-headers", help="The headers: name=value,...")] = False,
    key_separator: Annotated[
        str,
        typer.Option(
            "--key-separator",
            "-K",
            metavar="TEXT",
            show_default=False,
            help="Between what is shown; a tab without it.",
        ),
    ] = "\t",
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
) -> None:
    """Write a topic's records to stdout, one a line.

    Stops at the end of the log unless told to --follow. Starts at the beginning; with --follow at the end;
    with --group where the group has committed, else at the beginning. Records of one partition come in
    order.
    """
    options = WriteOptions(
        json=as_json,
        key_separator=key_separator,
        show_key=show_key,
        show_partition=show_partition,
        show_offset=show_offset,
        show_timestamp=show_timestamp,
        show_headers=show_headers,
        terminal=sys.stdout.isatty(),
    )
    start = _start(from_beginning, offset, since, follow)
    wanted = Wanted(topic, start, partition or None, records_max, follow)
    if group is not None:
        _check_group_options(offset, since, partition)
    with connect(bootstrap) as admin:
        numbers = _partitions(admin, wanted)
    if group is None:
        _read_partitions(bootstrap, wanted, numbers, options)
    else:
        _read_as_member(bootstrap, group, wanted, numbers, options)


def _start(from_beginning: bool, offset: str | None, since: str | None, follow: bool) -> Start:
    if sum((from_beginning, offset is not None, since is not None)) > 1:
        raise BadInput("--from-beginning, --offset and --since each say where to start: give one")
    try:
        if offset is not None:
            return read_offset(offset)
        if since is not None:
            return read_since(since, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return END if follow and not from_beginning else BEGINNING


def _check_group_options(offset: str | None, since: str | None, partition: list[int] | None) -> None:
    for name, value in (("--offset", offset), ("--since", since), ("--partition", partition or None)):
        if value is not None:
            raise BadInput(f"{name} goes without --group: a group gives its members partitions and positions")


def _read_partitions(bootstrap: str, wanted: Wanted, numbers: Sequence[int], options: WriteOptions) -> None:
    """Read from a place, without a group."""
    from odradek.consumer import Consumer, TopicPartition

    partitions = [TopicPartition(wanted.topic, number) for number in numbers]
    reset: OffsetReset = "latest" if wanted.start.kind == "end" else "earliest"
    with Consumer(bootstrap, auto_offset_reset=reset) as consumer:
        ends = consumer.end_offsets(*partitions)
        starts = _first_offsets(consumer, wanted.start, ends)
        consumer.assign(partitions)
        for partition, offset in starts.items():
            if consumer.position(partition) != offset:
                consumer.seek(partition, offset)
        Reading(consumer, wanted, options, ends).run()


def _first_offsets(
    consumer: Consumer, start: Start, ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    if start.kind == "time":
        found = consumer.offsets_for_times(dict.fromkeys(ends, start.number))
        return {partition: ends[partition] if at is None else at for partition, at in found.items()}
    beginnings = consumer.beginning_offsets(*ends)
    return {partition: first_offset(start, beginnings[partition], end) for partition, end in ends.items()}


def _partitions(admin: Admin, wanted: Wanted) -> list[int]:
    """The numbers of the partitions to read. Raises UnknownTopicOrPartition."""
    known = partition_numbers(admin, wanted.topic)
    for number in wanted.partitions or ():
        if number not in known:
            raise UnknownTopicOrPartition(
                f"topic {wanted.topic} has partitions 0 to {len(known) - 1}, not {number}"
            )
    return sorted(set(wanted.partitions)) if wanted.partitions else known


def _read_as_member(
    bootstrap: str, group: str, wanted: Wanted, numbers: Sequence[int], options: WriteOptions
) -> None:
    """Read what the group gives this member; commit what was written."""
    from odradek.consumer import Consumer, TopicPartition

    with Consumer(
        bootstrap,
        group=group,
        topics=[wanted.topic],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        on_revoked=lambda _: reading.commit(),
    ) as consumer:
        ends = consumer.end_offsets(*(TopicPartition(wanted.topic, number) for number in numbers))
        reading = Reading(consumer, wanted, options, ends, commits=True)
        try:
            reading.run()
        finally:
            reading.commit()


class Reading:
    """Records from a consumer to stdout, up to the ends of the log as they were at the start."""

    def __init__(
        self,
        consumer: Consumer,
        wanted: Wanted,
        options: WriteOptions,
        ends: Mapping[TopicPartition, int],
        *,
        commits: bool = False,
    ) -> None:
        self._consumer = consumer
        self._wanted = wanted
        self._options = options
        self._ends = ends
        self._commits = commits
        self._records_left = wanted.records_max
        self._written: dict[tuple[str, int], int] = {}
        self._commit_at = time.monotonic() + COMMIT_INTERVAL_S
        self._assigned = False
        self._give_up_at = time.monotonic() + ASSIGN_TIMEOUT_S

    def run(self) -> None:
        """Until the end of the log, the maximum, or for ever."""
        while not self._done():
            self._write(self._consumer.poll(POLL_TIMEOUT_S, self._poll_records_max()))
            if self._commits and time.monotonic() >= self._commit_at:
                self.commit()

    def commit(self) -> None:
        """Commit what has been written, no more, of the partitions that are still held."""
        self._commit_at = time.monotonic() + COMMIT_INTERVAL_S
        held = self._consumer.assignment()
        offsets = {partition: self._written[partition] for partition in held if partition in self._written}
        self._written.clear()
        if offsets:
            self._consumer.commit(offsets)

    def _poll_records_max(self) -> int:
        """No more than may be written: what is polled and not written would be lost to the group."""
        if self._records_left is None:
            return POLL_RECORDS_MAX
        return min(POLL_RECORDS_MAX, self._records_left)

    def _write(self, records: Sequence[Record]) -> None:
        write = self._options.write
        out = sys.stdout.buffer
        for record in records:
            out.write(
                write(
                    record.topic,
                    record.partition,
                    record.offset,
                    record.timestamp,
                    record.key,
                    record.value,
                    record.headers,
                )
            )
        if not records:
            return
        out.flush()
        for number, record in {record.partition: record for record in records}.items():
            self._written[record.topic, number] = record.offset + 1
        if self._records_left is not None:
            self._records_left -= len(records)

    def _done(self) -> bool:
        if self._records_left == 0:
            return True
        if self._wanted.follow:
            return False
        held = self._consumer.assignment()
        if not held:
            return self._without_partitions()
        self._assigned = True
        return all(self._consumer.position(each) >= self._ends.get(each, 0) for each in held)

    def _without_partitions(self) -> bool:
        """A member that never gets a partition ends in time; one that lost all has nothing left to read."""
        if not self._assigned and time.monotonic() > self._give_up_at:
            raise Failed(
                f"the group gave this member no partition of {self._wanted.topic} within "
                f"{ASSIGN_TIMEOUT_S:.0f} s: others hold them all"
            )
        return self._assigned

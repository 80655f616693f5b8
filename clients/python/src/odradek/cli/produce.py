"""`odradek produce`: lines in, acknowledged records out, and a loud end where one was not acknowledged."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from odradek.cli.connect import connect
from odradek.cli.exits import BadInput, Failed
from odradek.cli.lines import LineError, ReadOptions, RecordToSend
from odradek.cli.options import BOOTSTRAP_DEFAULT, Bootstrap, Topic, pairs
from odradek.cli.output import human_bytes, say
from odradek.protocol.errors import InvalidTopic, OdradekError
from odradek.protocol.names import check_topic_name

if TYPE_CHECKING:
    from odradek.delivery import Delivery
    from odradek.producer import Producer

UNACKNOWLEDGED_MAX = 200_000
"""So many records are on their way at once at most; then the oldest is waited for."""
STDIN_NAME = "-"


class Compression(StrEnum):
    """The codecs of a batch."""

    NONE = "none"
    GZIP = "gzip"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    ZSTD = "zstd"


class Acks(StrEnum):
    """When a record counts as written."""

    ALL = "all"
    WRITTEN = "1"


def produce(
    topic: Topic,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Files to read; none or - reads stdin.")
    ] = None,
    key_separator: Annotated[
        str | None,
        typer.Option("--key-separator", "-K", metavar="TEXT", help="A line is KEY, this text, VALUE."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line is a record as `consume --json` writes it.")
    ] = False,
    whole_files: Annotated[
        bool, typer.Option("--whole-files", help="A file, not a line, is a record.")
    ] = False,
    null_marker: Annotated[
        str | None,
        typer.Option("--null-marker", metavar="TEXT", help="This key or value means null (a tombstone)."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="NAME=VALUE", help="A header of every record; repeatable."),
    ] = None,
    partition: Annotated[
        int | None,
        typer.Option(
            "--partition", "-p", min=0, metavar="N", help="Send here; without it the key's hash decides."
        ),
    ] = None,
    compression: Annotated[
        Compression, typer.Option("--compression", "-z", help="How batches are packed.")
    ] = Compression.NONE,
    acks: Annotated[
        Acks, typer.Option("--acks", help="all: once it is on disk; 1: once it is written.")
    ] = Acks.ALL,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
) -> None:
    """Send lines of stdin or files as records.

    Ends when every record is acknowledged. The topic is created where the broker allows that. Counts go to
    stderr; the exit code is 0 only if every record was acknowledged.
    """
    try:
        check_topic_name(topic)
    except InvalidTopic as error:
        raise BadInput(error.message) from error
    options = _read_options(key_separator, as_json, null_marker, header, whole_files)
    paths = files or [Path(STDIN_NAME)]
    with connect(bootstrap):
        pass
    from odradek.producer import Producer

    with Producer(
        bootstrap, compression=compression.value, acks="all" if acks is Acks.ALL else 1
    ) as producer:
        sending = Sending(producer, topic, partition)
        with sending.counted():
            for record in _records(paths, options, whole_files):
                sending.send(record)


def _read_options(
    key_separator: str | None,
    as_json: bool,
    null_marker: str | None,
    header: list[str] | None,
    whole_files: bool,
) -> ReadOptions:
    if as_json and (key_separator is not None or null_marker is not None or whole_files):
        raise BadInput("--json says it all; it goes without --key-separator, --null-marker and --whole-files")
    if key_separator == "":
        raise BadInput("--key-separator is empty; give the text that stands between key and value")
    return ReadOptions(
        json=as_json,
        key_separator=None if key_separator is None else key_separator.encode(),
        null_marker=None if null_marker is None else null_marker.encode(),
        headers=[(name, value.encode()) for name, value in pairs(header or [], "--header").items()],
    )


def _records(paths: list[Path], options: ReadOptions, whole_files: bool) -> Iterator[RecordToSend]:
    for path in paths:
        with _opened(path) as file:
            lines = [file.read()] if whole_files else map(_without_line_end, file)
            for number, line in enumerate(lines, 1):
                try:
                    yield options.read(line)
                except LineError as error:
                    raise BadInput(f"{_shown(path)}, line {number}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if str(path) == STDIN_NAME:
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def _without_line_end(line: bytes) -> bytes:
    if line.endswith(b"\r\n"):
        return line[:-2]
    return line.removesuffix(b"\n")


def _shown(path: Path) -> str:
    return "stdin" if str(path) == STDIN_NAME else str(path)


class Sending:
    """Records on their way to a topic, and what became of each."""

    def __init__(self, producer: Producer, topic: str, partition: int | None) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._waiting: deque[Delivery] = deque()
        self._sent = 0
        self._acknowledged = 0
        self._sent_bytes = 0

    def send(self, record: RecordToSend) -> None:
        """Send one. Raises the error of an earlier one that was refused."""
        self._waiting.append(
            self._producer.send(
                self._topic,
                record.value,
                key=record.key,
                partition=self._partition,
                headers=record.headers,
                timestamp=record.timestamp,
            )
        )
        self._sent += 1
        self._sent_bytes += len(record.value or b"") + len(record.key or b"")
        if len(self._waiting) >= UNACKNOWLEDGED_MAX:
            self._take_oldest()
        while self._waiting and self._waiting[0].done():
            self._take_oldest()

    def _take_oldest(self) -> None:
        self._waiting.popleft().result()
        self._acknowledged += 1

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Wait for all at the end, whatever ended it, and say the counts. Raises Failed."""
        try:
            yield
        except (BadInput, KeyboardInterrupt, SystemExit, OSError):
            # What was read before is good and on its way: it counts, and then the error, or Ctrl-C or
            # SIGTERM (a SystemExit), does.
            self._finish()
            raise
        except OdradekError as error:
            self._finish(error)
        else:
            self._finish()

    def _finish(self, first_error: OdradekError | None = None) -> None:
        """Count every record that is still on its way. Raises Failed where one was not acknowledged."""
        for delivery in self._waiting:
            error = delivery.exception()
            self._acknowledged += error is None
            first_error = first_error or error
        self._waiting.clear()
        lost = self._sent - self._acknowledged
        size = human_bytes(self._sent_bytes)
        say(f"{self._acknowledged:,} of {self._sent:,} records ({size}) acknowledged by {self._topic}")
        if first_error is not None:
            what = (
                f"{lost:,} {'record was' if lost == 1 else 'records were'} not acknowledged"
                if lost
                else f"record {self._sent + 1:,} was not taken"
            )
            raise Failed(f"{what}: {first_error}") from first_error

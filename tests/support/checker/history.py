"""The history: what each process asked for, was told and saw, as JSON lines, one file a process.

An operation is an ``invoke`` and, later, its outcome: ``ok``, ``fail`` (the broker said "not done") or
``info`` (nobody knows; a time-out is that). What has no outcome is ``info`` too: its process was killed.
A send of several records may have several outcomes, each naming the records that it speaks of. Every
value is unique, so it names the one record that carried it.

``t_ns`` is CLOCK_MONOTONIC, which all processes of a machine share. A line is handed to the kernel before
the process goes on, so kill -9 takes nothing back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["invoke", "ok", "fail", "info"]
Function = Literal[
    "send", "poll", "commit", "fetch_commit", "assign", "subscribe", "crash", "ends", "stored", "fault"
]
FINAL = "final"
"""The process that, at the end, reads every partition from its start to its end."""
NO_OFFSET = -1


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record as it was sent (offset -1), acknowledged or seen; ``digest`` is of all its bytes."""

    key: str
    offset: int
    value: str
    digest: int = 0


class Event(msgspec.Struct, omit_defaults=True, frozen=True):
    """One line. ``key`` is "topic-partition" wherever it stands.

    send: ``records``; ``atomic`` where all of them stand in one batch.
    poll: ``records`` seen, ``group`` where it was a member's, ``rebalanced`` keys that came or went since
        the poll before, ``ends`` where the reply told them; ``fail`` where no later poll would do better.
    assign: reading goes on at ``positions``. crash: the process begins anew and remembers nothing.
    commit, fetch_commit: ``positions`` (-1: none), ``generation`` of the member.
    ends: ``starts`` and ``ends`` of partitions. stored: ``records`` found in the files, whole partitions.
    fault: ``detail`` says what was done to the broker.
    """

    t_ns: int
    proc: str
    type: Kind
    f: Function
    op: int = 0
    records: list[Record] = []
    positions: dict[str, int] = {}
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    group: str = ""
    generation: int = 0
    rebalanced: list[str] = []
    atomic: bool = False
    detail: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


class Journal:
    """Writes one process's part of the history."""

    def __init__(self, directory: Path, proc: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.proc = proc
        self._descriptor = os.open(directory / f"{proc}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: Event) -> None:
        """Hands the line to the kernel."""
        os.write(self._descriptor, _encoder.encode(event) + b"\n")

    def note(self, kind: Kind, function: Function, **fields: object) -> None:
        """Writes an event of now."""
        self.write(Event(time.monotonic_ns(), self.proc, kind, function, **fields))  # type: ignore[arg-type]

    def close(self) -> None:
        os.close(self._descriptor)


def read_histories(directory: Path) -> list[Event]:
    """Every event under ``directory``, in the order of time; a last line that was cut is left out."""
    events: list[Event] = []
    for path in sorted(directory.glob("*.jsonl")):
        *lines, _rest = path.read_bytes().split(b"\n")
        events += [_decoder.decode(line) for line in lines]
    return in_order(events)


def in_order(events: Iterable[Event]) -> list[Event]:
    """By time; what one process wrote keeps its order."""
    return sorted(events, key=lambda event: event.t_ns)

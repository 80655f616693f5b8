"""An extension: a subcommand that another distribution adds, by an entry point of `odradek.commands`.

Its entry point is a function `(args: list[str]) -> int`: it gets all arguments after its name, `--help`
included, and returns the exit code. Its attribute `help` is the sentence that `odradek --help` shows.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

ENTRY_POINT_GROUP = "odradek.commands"

BROKER_DISTRIBUTION = "odradek-broker"
BROKER_COMMANDS = {
    "supervisor": "Start a broker: the supervisor and all its actors.",
    "keys": "Make keys, and say which clients a broker lets in and what for.",
    "log": "Look inside log files: dump, stat, verify and repair.",
    "demo": "Send the flights of 2013 through a broker and check every one.",
    "loadtest": "Put load on a broker from many processes; throughput, latency, CPU.",
}
"""What `odradek-broker` adds; named here so that the command can say how to get them."""

Extension = Callable[[list[str]], int]


def is_extension(name: str) -> bool:
    """Whether a subcommand of this name is not one of this distribution's own."""
    return name in BROKER_COMMANDS or name in _entry_points()


def load_extension(name: str) -> Extension | None:
    """The function behind a subcommand; None where its distribution is not installed."""
    found = _entry_points().get(name)
    return None if found is None else cast(Extension, found.load())


def extension_sentences() -> dict[str, str]:
    """Every extension's name and sentence. Nothing is imported for those of the broker."""
    installed = _entry_points()
    sentences = {
        name: sentence if name in installed else f"{sentence} (pip install {BROKER_DISTRIBUTION})"
        for name, sentence in BROKER_COMMANDS.items()
    }
    for name, entry_point in installed.items():
        if name not in sentences:
            sentences[name] = getattr(entry_point.load(), "help", "")
    return sentences


def _entry_points() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}

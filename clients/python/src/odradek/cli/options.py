"""Options that several subcommands share, each defined once."""

from __future__ import annotations

from typing import Annotated

import typer

BOOTSTRAP_DEFAULT = "tcp://127.0.0.1:5559"

Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap",
        "-b",
        envvar="ODRADEK_BOOTSTRAP",
        metavar="ENDPOINT",
        help="A router of the broker; several with commas between them.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs instead of a table for people.")]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name.")]


def example(*lines: str) -> str:
    """The end of a help text: one command or more, each on a line of its own."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\b\n" + "\n".join([title, *(f"  {line}" for line in lines)])


def pairs(words: list[str], option: str) -> dict[str, str]:
    """`name=value` words as a mapping. Raises typer.BadParameter that names the option."""
    found: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{word!r} is not name=value, as in {option} name=value")
        found[name] = value
    return found

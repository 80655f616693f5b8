"""The app: every subcommand under its name. Help is plain text, so that it comes at once and pipes well."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from odradek.cli import acls, extensions, groups, topics, users
from odradek.cli.consume import consume
from odradek.cli.exits import reports
from odradek.cli.options import example
from odradek.cli.produce import produce
from odradek.cli.status import status
from odradek.security import FILE_VARIABLE

_EPILOG = example(
    "odradek supervisor --data ./odradek-data",
    "odradek topic create events --partitions 8",
    "echo hello | odradek produce events",
    "odradek consume events --json",
)


def build_app() -> typer.Typer:
    """The whole command."""
    app = typer.Typer(
        name="odradek",
        help="A durable log broker over ZeroMQ: run it, look at it, write to it, read from it.",
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_options)
    app.command("status", epilog=example("odradek status", "odradek status --json"))(reports(status))
    app.add_typer(topics.build(), name="topic")
    app.command(
        "produce",
        epilog=example(
            "echo hello | odradek produce events",
            "odradek produce events access.log --compression zstd",
            "echo 'user-7:login' | odradek produce events --key-separator :",
            "odradek consume events --json | odradek produce copy --json",
        ),
    )(reports(produce))
    app.command(
        "consume",
        epilog=example(
            "odradek consume events",
            "odradek consume events --offset=-10 --show-key",
            "odradek consume events --follow --json",
            "odradek consume events --group billing --max 100",
        ),
    )(reports(consume))
    app.add_typer(groups.build(), name="group")
    app.add_typer(acls.build(), name="acl")
    app.add_typer(users.build(), name="users")
    for name, sentence in extensions.extension_sentences().items():
        app.command(name, help=sentence)(_never_run)
    return app


def _never_run() -> None:
    """Extensions run before this app is built; here they only stand in the list of commands."""
    raise AssertionError("an extension is run by odradek.cli.__main__")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"odradek {version('odradek')}\n")
        raise typer.Exit


def _use_keys(keys: Path | None) -> None:
    if keys is not None:
        # Where every client of this command, in whichever process, looks for them.
        os.environ[FILE_VARIABLE] = str(keys)


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            envvar="ODRADEK_CURVE_FILE",
            help="Keys for a broker that demands some, made by `odradek keys client`.",
            is_eager=True,
            callback=_use_keys,
        ),
    ] = None,
) -> None:
    """Options of the command itself; each acts in its callback."""

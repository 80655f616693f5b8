"""`odradek users`: who may log in over SASL. Passwords come from a terminal or a pipe, never an argument."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import sys
from typing import Annotated

import typer

from odradek.cli.connect import connect
from odradek.cli.exits import BadInput, reports
from odradek.cli.options import BOOTSTRAP_DEFAULT, AsJson, Bootstrap, example
from odradek.cli.output import Column, print_json, print_table, say
from odradek.protocol.access import ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN
from odradek.protocol.scram import PASSWORD_BYTES_MAX

COLUMNS = (Column("User"), Column("Mechanisms"), Column("Iterations", "right"))

Names = Annotated[list[str], typer.Argument(metavar="USER...", help="Names of users.")]


def build() -> typer.Typer:
    """The subcommand with its own subcommands."""
    app = typer.Typer(help="Add, list and remove users of the Kafka listener.", no_args_is_help=True)
    app.command(
        epilog=example("odradek users add till", "odradek users add till --password-stdin < password-file")
    )(reports(add))
    app.command("list", epilog=example("odradek users list", "odradek users list --json"))(
        reports(list_users)
    )
    app.command(epilog=example("odradek users remove till"))(reports(remove))
    return app


def add(
    name: Annotated[str, typer.Argument(metavar="USER", help="The user's name.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin: its first line.")
    ] = False,
    iterations: Annotated[
        int,
        typer.Option(
            min=ITERATIONS_MIN, max=ITERATIONS_MAX, help="Hashes a log-in costs; more make guessing slower."
        ),
    ] = ITERATIONS_DEFAULT,
    bootstrap: Bootstrap = BOOTSTRAP_DEFAULT,
) -> None:
    """Add a user, or change a user's password; the broker keeps salted hashes of it."""
    password = _piped_password() if password_stdin else _typed_password(name)
    with connect(bootstrap) as admin:
        admin.set_password(name, password, iterations=iterations)
    say(f"user {name} can log in as User:{name}")


def list_users(bootstrap: Bootstrap = BOOTSTRAP_DEFAULT, as_json: AsJson = False) -> None:
    """List the users."""
    with connect(bootstrap) as admin:
        users = admin.list_users()
    if as_json:
        print_json(users)
        return
    rows = [
        [
            user.name,
            ", ".join(sorted(each.mechanism for each in user.mechanisms)),
            ", ".join(str(number) for number in sorted({each.iterations for each in user.mechanisms})),
        ]
        for user in users
    ]
    print_table(COLUMNS, rows)


def remove(names: Names, bootstrap: Bootstrap = BOOTSTRAP_DEFAULT) -> None:
    """Remove users: they log in no more. Rules about them stay; see `odradek acl`."""
    with connect(bootstrap) as admin:
        admin.delete_users(names)
    for name in names:
        say(f"user {name} removed")


def _piped_password() -> str:
    line = sys.stdin.readline(PASSWORD_BYTES_MAX + 2)
    password = line.rstrip("\r\n")
    if not password:
        raise BadInput("no password came on stdin")
    return password


def _typed_password(name: str) -> str:
    from getpass import getpass

    if not sys.stdin.isatty():
        raise BadInput("where nobody can be asked, give the password on stdin with --password-stdin")
    password = getpass(f"Password of {name}: ")
    if getpass("Once more: ") != password:
        raise BadInput("the two passwords are not the same")
    return password

"""``odradek keys``: the server's keys, a client's, and which clients a broker lets in and what for.

| code | what happened |
|---|---|
| 0 | it worked |
| 1 | a file of keys is missing, damaged or open to others, or could not be written |
| 2 | the command line is wrong |
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from supervisor.clientkeys import ClientKey, ClientList
from supervisor.keydirectory import KeyDirectory, KeysUnusable, write_private
from supervisor.privacy import NotPrivate
from transport.keys import is_key, new_key_pair

DONE = 0
FAILED = 1
DATA_DEFAULT = Path("odradek-data")

_DESCRIPTION = """\
Keys for a broker that runs with --security-curve required: its own, those of clients, and the list of the
clients that it lets in. A running broker sees a change of the list within a second.
"""
_EXAMPLES = """\
Examples:
  odradek keys server --data ./odradek-data                 # on the broker's machine, once
  odradek keys client alice --server-key 'rq:rM>}U?@Lns4...' # on alice's machine: writes alice.key
  odradek keys allow alice --public-key 'Yne@$w-vo<fVvi]...' --produce 'events-*' --consume 'events-*'
  odradek keys allow root --public-key 'rq:rM>}U?@Lns4...' --admin
  odradek keys revoke alice
  odradek keys list
"""
_PATTERN = "a topic, or the beginning of topics with a star behind it, or '*'; may be given several times"


class CommandError(Exception):
    """The command cannot be done; the message says why and what to do."""


def keys(args: list[str]) -> int:
    """Run the command with command-line arguments; returns the exit code."""
    options = _parser().parse_args(args)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
        sys.stdout.flush()
    except (CommandError, KeysUnusable, NotPrivate) as error:
        return _complain(str(error))
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        return _complain(f"{error.filename or 'the file'}: {error.strerror or error}")
    return DONE


keys.help = "Make keys, and say which clients a broker lets in and what for."  # type: ignore[attr-defined]


def _complain(message: str) -> int:
    sys.stderr.write(f"odradek keys: {message}\n")
    return FAILED


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


# -- the server and a client -------------------------------------------------------------------------


def _server(options: argparse.Namespace) -> None:
    directory = KeyDirectory(options.data)
    pair, is_new = directory.make_server()
    if is_new:
        sys.stderr.write(
            f"new keys in {directory.server_file}; keep a copy: clients know the broker by them\n"
        )
    _say(pair.public)


def _client(options: argparse.Namespace) -> None:
    problem = ClientKey(name=options.name, public_key=new_key_pair().public).problem()
    if problem is not None:
        raise CommandError(problem)
    if options.server_key is not None and not is_key(options.server_key):
        raise CommandError("--server-key is not a public key, which `odradek keys server` shows")
    path = options.out or Path(f"{options.name}.key")
    pair = new_key_pair()
    document = {"name": options.name, "public_key": pair.public, "secret_key": pair.secret}
    if options.server_key is not None:
        document["server_key"] = options.server_key
    try:
        write_private(path, (json.dumps(document, indent=2) + "\n").encode())
    except FileExistsError:
        raise CommandError(
            f"{path} exists already: choose another file with --out, or move it away"
        ) from None
    lacking = "" if options.server_key else "; it has no server_key yet, which clients need"
    sys.stderr.write(f"new keys in {path}, which nobody else may read{lacking}\n")
    _say(pair.public)


# -- the list of clients -----------------------------------------------------------------------------


def _allow(options: argparse.Namespace) -> None:
    directory = KeyDirectory(options.data)
    with directory.changing() as clients:
        known = clients.find(options.name)
        public_key = options.public_key or (known.public_key if known is not None else None)
        if public_key is None:
            raise CommandError(f"there is no client {options.name!r} yet: give its --public-key")
        if not (options.admin or options.produce or options.consume):
            raise CommandError("say what it may do: --admin, or --produce and --consume with topics")
        client = ClientKey(
            name=options.name,
            public_key=public_key,
            admin=options.admin,
            produce=options.produce,
            consume=options.consume,
            groups=options.group,
        )
        directory.save_clients(clients.with_client(client))
    _say(f"{options.name}: {_roles(client)}")


def _revoke(options: argparse.Namespace) -> None:
    directory = KeyDirectory(options.data)
    with directory.changing() as clients:
        if clients.find(options.name) is None:
            raise CommandError(f"there is no client {options.name!r}; `odradek keys list` shows them")
        directory.save_clients(clients.without(options.name))
    _say(f"{options.name}: no longer let in")


def _list(options: argparse.Namespace) -> None:
    clients: ClientList = KeyDirectory(options.data).load_clients()
    if options.json:
        rows = [
            {
                "name": client.name,
                "public_key": client.public_key,
                "admin": client.admin,
                "produce": client.produce,
                "consume": client.consume,
                "groups": client.groups,
            }
            for client in clients.clients
        ]
        _say(json.dumps(rows, indent=2))
        return
    width = max((len(client.name) for client in clients.clients), default=0)
    for client in clients.clients:
        _say(f"{client.name:<{width}}  {client.public_key}  {_roles(client)}")


def _roles(client: ClientKey) -> str:
    roles = ["admin"] if client.admin else []
    for role, patterns in (
        ("produce", client.produce),
        ("consume", client.consume),
        ("groups", client.groups),
    ):
        if patterns:
            roles.append(f"{role} {', '.join(patterns)}")
    return "; ".join(roles)


# -- arguments ---------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="odradek keys",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    server = commands.add_parser(
        "server", help="make the server's keys, if there are none; shows the public one"
    )
    _add_data(server)
    server.set_defaults(run=_server)

    client = commands.add_parser("client", help="make a client's keys; shows the public one")
    client.add_argument("name", metavar="NAME", help="what the client is called in rules and lists")
    client.add_argument("--out", type=Path, metavar="FILE", help="where to (default: NAME.key)")
    client.add_argument("--server-key", metavar="KEY", help="the broker's public key, for the file")
    client.set_defaults(run=_client)

    allow = commands.add_parser("allow", help="let a client in, or change what it may do")
    allow.add_argument("name", metavar="NAME", help="its name; `User:NAME` in access rules")
    allow.add_argument("--public-key", metavar="KEY", help="its public key; needed the first time")
    allow.add_argument("--admin", action="store_true", help="it may do everything")
    allow.add_argument(
        "--produce", action="append", default=[], metavar="TOPIC", help=f"write to: {_PATTERN}"
    )
    allow.add_argument("--consume", action="append", default=[], metavar="TOPIC", help=f"read: {_PATTERN}")
    allow.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="GROUP",
        help="groups in which it reads, in the same form (default: NAME and 'NAME-*')",
    )
    _add_data(allow)
    allow.set_defaults(run=_allow)

    revoke = commands.add_parser("revoke", help="let a client in no longer")
    revoke.add_argument("name", metavar="NAME")
    _add_data(revoke)
    revoke.set_defaults(run=_revoke)

    listing = commands.add_parser("list", help="the clients that are let in, and what they may do")
    listing.add_argument("--json", action="store_true", help="JSON for programs instead of lines for people")
    _add_data(listing)
    listing.set_defaults(run=_list)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        default=DATA_DEFAULT,
        metavar="DIR",
        help="the broker's (default: ./odradek-data)",
    )

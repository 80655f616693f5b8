"""`odradek`: the command. Subcommands of other distributions run before typer is loaded."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import sys
from collections.abc import Sequence

from odradek.cli import extensions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is listed in `odradek.cli.exits`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-") and extensions.is_extension(words[0]):
        return _run_extension(words[0], words[1:])
    try:
        import typer
    except ModuleNotFoundError:
        return _complain("the command needs typer and rich: pip install 'odradek[cli]'")
    from odradek.cli.app import build_app

    try:
        result = typer.main.get_command(build_app()).main(words, prog_name="odradek", standalone_mode=True)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_gone()
    return int(result or 0)


def _run_extension(name: str, words: list[str]) -> int:
    extension = extensions.load_extension(name)
    if extension is None:
        return _complain(
            f"`odradek {name}` comes with the broker: pip install {extensions.BROKER_DISTRIBUTION}"
        )
    return extension(words)


def _complain(message: str) -> int:
    sys.stderr.write(f"odradek: {message}\n")
    return 1


def _reader_gone() -> int:
    from odradek.cli.exits import READER_GONE, drop_stdout

    drop_stdout()
    return READER_GONE


if __name__ == "__main__":
    sys.exit(main())

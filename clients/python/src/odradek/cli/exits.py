"""An exit: with which code the command ends, and the one line that says why.

| code | what happened |
|---|---|
| 0 | it worked |
| 1 | the broker refused it or could not do it, or a record was not acknowledged |
| 2 | the command line or the input is wrong |
| 3 | no broker answers |
| 130, 141, 143 | interrupted (Ctrl-C), the reader of the output went away, terminated |
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec

import typer

from odradek.cli.output import printable, say
from odradek.protocol.errors import OdradekError

OK = 0
FAILED = 1
USAGE = 2
NO_BROKER = 3
INTERRUPTED = 130
READER_GONE = 141
TERMINATED = 143

P = ParamSpec("P")


class NoBroker(Exception):
    """Nobody answers at the bootstrap endpoints."""


class BadInput(Exception):
    """Something in the arguments, a file or on stdin is wrong."""


class Failed(Exception):
    """The command did not do all that it was asked; the message is for people."""


def reports(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command raises into one line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        previous = signal.signal(signal.SIGTERM, _terminate)
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except OdradekError as error:
            raise _exit(FAILED, str(error)) from error
        except Failed as error:
            raise _exit(FAILED, str(error)) from error
        except BadInput as error:
            raise _exit(USAGE, str(error)) from error
        except NoBroker as error:
            raise _exit(NO_BROKER, str(error)) from error
        except BrokenPipeError as error:
            drop_stdout()
            raise typer.Exit(READER_GONE) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise _exit(USAGE, f"{where}{error.strerror or error}") from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        finally:
            signal.signal(signal.SIGTERM, previous)

    return run


def drop_stdout() -> None:
    """Nobody reads stdout any more: let what is still buffered go nowhere, without a second error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _exit(code: int, message: str) -> typer.Exit:
    say(f"odradek: {printable(message)}")
    return typer.Exit(code)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)

"""`odradek demo` and `python -m demo`: the arguments, and what goes wrong in one line."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from crew.command import run_command
from demo.flights import FLIGHT_COUNT

PARTITIONS_DEFAULT = 8
CONSUMERS_DEFAULT = 3
CONSUMERS_MAX = 32
PARTITIONS_MAX = 256

FAILED = 1

_DESCRIPTION = f"""\
Send the {FLIGHT_COUNT:,} flights that left New York in 2013 through a broker, keyed by aircraft into
{PARTITIONS_DEFAULT} partitions, while {CONSUMERS_DEFAULT} consumer processes of one group compute delay
by carrier and the busiest routes. At the end: the tables, the throughput, and whether every flight that
went in came out, once, unchanged and, for each aircraft, in order. Exit code 0 only if all of that is true.
"""
_EXAMPLES = """\
Examples:
  odradek demo
  odradek demo --flights 20000 --data ./demo-data
  odradek demo --bootstrap tcp://127.0.0.1:5559
"""


def demo(args: list[str]) -> int:
    """Run the demo with command-line arguments; returns the exit code."""
    options = _parser().parse_args(args)
    return run_command("odradek demo", lambda: _show(options), _foreseen, FAILED)


demo.help = "Send the flights of 2013 through a broker and check every one."  # type: ignore[attr-defined]


def _show(options: argparse.Namespace) -> int:
    from demo.flow import Demo, DemoOptions

    wanted = DemoOptions(
        flights=options.flights,
        partitions=options.partitions,
        consumers=options.consumers,
        data=options.data,
        bootstrap=options.bootstrap,
    )
    return 0 if Demo(wanted).run() else FAILED


def _foreseen() -> tuple[type[Exception], ...]:
    from crew.broker import BrokerError
    from crew.processes import ProcessError
    from demo.flights import FlightsFileError
    from demo.flow import DemoError
    from odradek.protocol.errors import OdradekError

    return BrokerError, ProcessError, DemoError, FlightsFileError, OdradekError, OSError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="odradek demo",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--flights", type=_count(FLIGHT_COUNT), default=FLIGHT_COUNT, metavar="N", help="only the first N"
    )
    parser.add_argument(
        "--partitions",
        type=_count(PARTITIONS_MAX),
        default=PARTITIONS_DEFAULT,
        metavar="N",
        help=f"of the topic (default {PARTITIONS_DEFAULT})",
    )
    parser.add_argument(
        "--consumers",
        type=_count(CONSUMERS_MAX),
        default=CONSUMERS_DEFAULT,
        metavar="N",
        help=f"processes in the group (default {CONSUMERS_DEFAULT})",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--data",
        type=Path,
        metavar="DIRECTORY",
        help="start the broker on this directory and keep it (default: a temporary one)",
    )
    where.add_argument("--bootstrap", metavar="ENDPOINT", help="use the broker that runs there")
    return parser


def _count(maximum: int) -> Callable[[str], int]:
    """A reader of whole numbers from 1 to a maximum."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= maximum):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {maximum}")
        return int(text)

    return read

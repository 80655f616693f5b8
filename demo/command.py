"""`odradek demo` and `python -m demo`: the arguments, and what goes wrong in one line."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from demo.flights import FLIGHT_COUNT

PARTITIONS_DEFAULT = 8
CONSUMERS_DEFAULT = 3
CONSUMERS_MAX = 32
PARTITIONS_MAX = 256

FAILED = 1
INTERRUPTED = 130
TERMINATED = 143

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
    from demo.broker import BrokerError
    from demo.flights import FlightsFileError
    from demo.flow import Demo, DemoError, DemoOptions
    from demo.workers import WorkerError
    from odradek.protocol.errors import OdradekError

    wanted = DemoOptions(
        flights=options.flights,
        partitions=options.partitions,
        consumers=options.consumers,
        data=options.data,
        bootstrap=options.bootstrap,
    )
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return 0 if Demo(wanted).run() else FAILED
    except (BrokerError, WorkerError, DemoError, FlightsFileError, OdradekError, OSError) as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        sys.stderr.write(f"odradek demo: {error}{notes}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("odradek demo: interrupted; everything it started is stopped\n")
        return INTERRUPTED


demo.help = "Send the flights of 2013 through a broker and check every one."  # type: ignore[attr-defined]


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Leave by the same way as Ctrl-C does, so that what was started is stopped."""
    raise SystemExit(TERMINATED)


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

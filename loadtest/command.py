"""``odradek loadtest`` and ``python -m loadtest``: the arguments, and what goes wrong in one line."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtest.result import Result
    from loadtest.workload import Target, Workload

UNSOUND = 1
FAILED = 2
INTERRUPTED = 130
TERMINATED = 143

_DESCRIPTION = """\
Put load on a broker from many client processes and show what it does with it: throughput, latency from
the moment each record was due until it was acknowledged and until it was read, and what every process of
the broker uses. Without --bootstrap or --kafka it starts a broker of its own. Exit code 0: everything that
was acknowledged was read, in order; 1: not so; 2: the test could not be done.
"""
_EXAMPLES = """\
Examples:
  odradek loadtest
  odradek loadtest --producers 4 --consumers 4 --partitions 8 --size 1024 --report out.html
  odradek loadtest --rate 20000 --duration 60 --bootstrap tcp://127.0.0.1:5559
  odradek loadtest --sweep partitions=1,2,4,8 --report scaling.html
  odradek loadtest --kafka 127.0.0.1:9092 --rate 1000
"""


def loadtest(args: list[str]) -> int:
    """Run the load test with command-line arguments; returns the exit code."""
    options = _parser().parse_args(args)
    from loadtest.clients import MissingClientError
    from loadtest.crew import CrewError
    from loadtest.workload import WorkloadError
    from odradek.protocol.errors import OdradekError

    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _measure(options)
    except (WorkloadError, CrewError, MissingClientError, OdradekError, OSError, RuntimeError) as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        sys.stderr.write(f"odradek loadtest: {error}{notes}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("odradek loadtest: interrupted; everything it started is stopped\n")
        return INTERRUPTED


loadtest.help = "Put load on a broker from many processes; throughput, latency, CPU."  # type: ignore[attr-defined]


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Leave by the same way as Ctrl-C does, so that what was started is stopped."""
    raise SystemExit(TERMINATED)


def _measure(options: argparse.Namespace) -> int:
    workload = _workload(options)
    if options.sweep is not None:
        return _sweep(workload, options)
    workload.check()
    with _target(options) as target:
        result = _run(target, workload, options)
    _show(result, options)
    return 0 if result.sound else UNSOUND


def _sweep(workload: Workload, options: argparse.Namespace) -> int:
    option, _, values = options.sweep.partition("=")
    planned = [(value, workload.with_field(option, value)) for value in values.split(",")]
    results = []
    with _target(options) as target:
        for value, varied in planned:
            sys.stderr.write(f"{option}={value}\n")
            results.append((value, _run(target, varied, options)))
    _show_sweep(option, results, options)
    return 0 if all(result.sound for _, result in results) else UNSOUND


def _workload(options: argparse.Namespace) -> Workload:
    from loadtest.workload import Workload

    return Workload(
        producers=options.producers,
        consumers=options.consumers,
        partitions=options.partitions,
        value_bytes=options.size,
        rate=options.rate,
        duration_s=options.duration,
        acks=options.acks,
        compression=options.compression,
        batch_records=options.batch,
        linger_ms=options.linger_ms,
        keys=options.keys,
        key_count=options.key_count,
        read_after=options.read_after,
    )


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[Target]:
    """Where the load goes; the topic's name is that of each run."""
    from loadtest.workload import Target

    if options.kafka:
        yield Target(address=options.kafka, client="kafka")
        return
    if options.bootstrap:
        yield Target(address=options.bootstrap)
        return
    from demo.broker import DemoBroker

    with tempfile.TemporaryDirectory(prefix="odradek-loadtest-", dir=options.directory) as own:
        data = Path(own) / "data"
        with DemoBroker(data, Path(own)) as broker:
            yield Target(address=broker.start())


def _run(target: Target, workload: Workload, options: argparse.Namespace) -> Result:
    from loadtest.display import Display
    from loadtest.run import measure
    from loadtest.watching import Watched, WatchedBroker, WatchedProcesses

    watched: Watched | None = None
    if options.watch_pid is not None:
        watched = WatchedProcesses(options.watch_pid)
    elif target.client == "odradek":
        watched = WatchedBroker(target.address)
    with Display(quiet=options.json) as display:
        return measure(target, workload, watched, display.show, keep_topic=options.keep_topic)


def _show(result: Result, options: argparse.Namespace) -> None:
    from loadtest.page import page, result_sections
    from loadtest.report import ACTOR_TITLES, SIDE_TITLES, actor_rows, side_rows, summary
    from odradek.cli.output import print_json

    if options.report is not None:
        options.report.write_text(page("Load test", result_sections(result)))
    if options.json:
        print_json(result)
        return
    for what, value in summary(result):
        sys.stdout.write(f"{what}: {value}\n")
    _print(SIDE_TITLES, side_rows(result))
    if result.actors:
        _print(ACTOR_TITLES, actor_rows(result))


def _show_sweep(option: str, results: list[tuple[str, Result]], options: argparse.Namespace) -> None:
    from loadtest.page import page, sweep_sections
    from loadtest.report import SWEEP_TITLES, sweep_rows
    from odradek.cli.output import print_json

    if options.report is not None:
        options.report.write_text(page(f"Load test by {option}", sweep_sections(option, results)))
    if options.json:
        print_json([{"option": option, "value": value, "result": result} for value, result in results])
        return
    _print(SWEEP_TITLES, sweep_rows(option, results))


def _print(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from odradek.cli.output import Column, print_table

    columns = [Column(title, "left" if index == 0 else "right") for index, title in enumerate(titles)]
    print_table(columns, rows)


def _rate(text: str) -> float | None:
    if text == "max":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither records per second nor 'max'") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="odradek loadtest",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    load = parser.add_argument_group("load")
    load.add_argument("--producers", type=int, default=1, metavar="N", help="processes that send (default 1)")
    load.add_argument("--consumers", type=int, default=1, metavar="N", help="processes that read (default 1)")
    load.add_argument("--partitions", type=int, default=1, metavar="N", help="of the topic (default 1)")
    load.add_argument("--size", type=int, default=100, metavar="BYTES", help="of a value (default 100)")
    load.add_argument(
        "--rate", type=_rate, default=None, metavar="R", help="records/s of all producers, or max (default)"
    )
    load.add_argument("--duration", type=float, default=10.0, metavar="S", help="seconds (default 10)")
    load.add_argument("--acks", choices=("all", "1", "0"), default="all", help="default all")
    load.add_argument(
        "--compression",
        choices=("none", "gzip", "snappy", "lz4", "zstd"),
        default="none",
        help="default none",
    )
    load.add_argument(
        "--batch",
        type=int,
        default=500,
        metavar="N",
        help="records of one call at most; 1 is send() (default 500)",
    )
    load.add_argument(
        "--read-after", action="store_true", help="the consumers begin when the producers are done"
    )
    load.add_argument("--linger-ms", type=float, default=0.0, metavar="MS", help="default 0")
    load.add_argument("--keys", choices=("none", "uniform", "zipf"), default="none", help="default none")
    load.add_argument(
        "--key-count", type=int, default=10_000, metavar="N", help="how many keys (default 10000)"
    )
    where = parser.add_argument_group("target (default: a broker of its own, for the time of the test)")
    where = where.add_mutually_exclusive_group()
    where.add_argument("--bootstrap", metavar="ENDPOINT", help="a broker that runs, by its router")
    where.add_argument("--kafka", metavar="HOST:PORT", help="any Kafka broker, by confluent-kafka")
    parser.add_argument(
        "--directory", type=Path, metavar="DIRECTORY", help="where a broker of its own keeps its data"
    )
    parser.add_argument(
        "--watch-pid", type=int, metavar="PID", help="show what this process and its children use"
    )
    parser.add_argument("--keep-topic", action="store_true", help="leave the topic there")
    parser.add_argument(
        "--sweep",
        metavar="OPTION=A,B,C",
        help="once for each value of partitions, producers, size, rate, ...",
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout, no progress")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write an HTML page with plots")
    return parser

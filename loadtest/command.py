"""``odradek loadtest`` and ``python -m loadtest``: the arguments, and what goes wrong in one line."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from crew.command import INTERRUPTED, run_command

if TYPE_CHECKING:
    from loadtest.result import Result
    from loadtest.stopping import Stopping
    from loadtest.workload import Target, Workload

UNSOUND = 1
FAILED = 2

_DESCRIPTION = """\
Put load on a broker from many client processes and show what it does with it: throughput, latency from
the moment each record was due until it was acknowledged and until it was read, and what every process of
the broker uses. Without --bootstrap or --kafka it starts a broker of its own. Exit code 0: everything that
was acknowledged was read, in order; 1: not so; 2: the test could not be done; 130: Ctrl-C ended the load,
and the figures are of what was done until then.
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
    return run_command("odradek loadtest", lambda: _measure(options), _foreseen, FAILED)


loadtest.help = "Put load on a broker from many processes; throughput, latency, CPU."  # type: ignore[attr-defined]


def _foreseen() -> tuple[type[Exception], ...]:
    from crew.broker import BrokerError
    from crew.processes import ProcessError
    from loadtest.clients import UnusableTargetError
    from loadtest.workload import WorkloadError
    from odradek.protocol.errors import OdradekError

    return WorkloadError, BrokerError, ProcessError, UnusableTargetError, OdradekError, OSError


def _measure(options: argparse.Namespace) -> int:
    from loadtest.stopping import Stopping

    workload = _workload(options)
    planned = _planned(workload, options)
    _check_report(options.report)
    results: list[tuple[str, Result]] = []
    stopping = Stopping()
    with _target(options) as target:
        for value, varied in planned:
            if options.sweep is not None:
                sys.stderr.write(f"{value}\n")
            results.append((value, _run(target, varied, options, stopping)))
            if stopping.wanted:
                break
    if options.sweep is None:
        _show(results[0][1], options)
    else:
        _show_sweep(results, options)
    if stopping.wanted:
        return INTERRUPTED
    return 0 if all(result.sound for _, result in results) else UNSOUND


def _planned(workload: Workload, options: argparse.Namespace) -> list[tuple[str, Workload]]:
    """What to measure, one after the other, and what each is called in a sweep."""
    from loadtest.workload import swept

    if options.sweep is None:
        return [("", workload.check())]
    return swept(workload, options.sweep)


def _check_report(path: Path | None) -> None:
    """Before the load, not after it. Raises WorkloadError."""
    from loadtest.workload import WorkloadError

    if path is None:
        return
    if path.is_dir():
        raise WorkloadError(f"--report {path} is a directory; name a file")
    if not path.absolute().parent.is_dir():
        raise WorkloadError(f"--report {path}: there is no directory {path.absolute().parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise WorkloadError(f"--report {path} cannot be written")


def _workload(options: argparse.Namespace) -> Workload:
    from loadtest.workload import Workload

    return Workload(
        producers=options.producers,
        consumers=options.consumers,
        partitions=options.partitions,
        value_bytes=options.size,
        rate=options.rate,
        duration_s=options.duration,
        warm_up_s=options.warm_up,
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
    from loadtest.workload import Target, WorkloadError

    if options.kafka:
        yield Target(address=options.kafka, client="kafka")
        return
    if options.bootstrap:
        yield Target(address=options.bootstrap)
        return
    from crew.broker import OwnBroker

    if options.directory is not None and not options.directory.is_dir():
        raise WorkloadError(f"--directory {options.directory} is no directory")
    with tempfile.TemporaryDirectory(prefix="odradek-loadtest-", dir=options.directory) as own:
        data = Path(own) / "data"
        with OwnBroker(data, Path(own)) as broker:
            yield Target(address=broker.start())


def _run(target: Target, workload: Workload, options: argparse.Namespace, stopping: Stopping) -> Result:
    from loadtest.display import Display
    from loadtest.run import measure
    from loadtest.watching import Watched, WatchedBroker, WatchedProcesses

    watched: Watched | None = None
    if options.watch_pid is not None:
        watched = WatchedProcesses(options.watch_pid)
    elif target.client == "odradek":
        watched = WatchedBroker(target.address)
    with Display(quiet=options.json) as display:
        return measure(
            target, workload, watched, display.show, keep_topic=options.keep_topic, stopping=stopping
        )


def _show(result: Result, options: argparse.Namespace) -> None:
    from loadtest.page import page, result_sections
    from loadtest.report import ACTOR_TITLES, SIDE_TITLES, actor_rows, side_rows, summary, turned
    from odradek.cli.output import print_json

    if options.report is not None:
        options.report.write_text(page("Load test", result_sections(result)))
    if options.json:
        print_json(result)
        return
    for what, value in summary(result):
        sys.stdout.write(f"{what}: {value}\n")
    _print(*turned(SIDE_TITLES, side_rows(result)))
    if result.actors:
        _print(ACTOR_TITLES, actor_rows(result))


def _show_sweep(results: list[tuple[str, Result]], options: argparse.Namespace) -> None:
    from loadtest.page import page, sweep_sections
    from loadtest.report import SWEEP_TITLES, sweep_rows
    from odradek.cli.output import print_json

    option = options.sweep.partition("=")[0]
    results = [(value.partition("=")[2], result) for value, result in results]
    if options.report is not None:
        options.report.write_text(page(f"Load test by {option}", sweep_sections(option, results)))
    if options.json:
        print_json([{"option": option, "value": value, "result": result} for value, result in results])
        return
    _print((option, *SWEEP_TITLES), sweep_rows(results))


def _print(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
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
    load.add_argument(
        "--warm-up",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds of the same load before it, which count for nothing (default 0)",
    )
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

"""``python -m bench``: run the parts, print the table, keep the numbers.

Exit code 0 when every target is met, 1 when one is not or a part failed, 2 for wrong usage. The numbers are
kept in any case; ``python -m bench.compare`` says what moved since the baseline.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bench import (
    compaction,
    crowd,
    groups,
    kafka,
    lockstep,
    machine,
    restart,
    rooms,
    sdk,
    segments,
    tree,
    yardsticks,
)
from bench.bytecode import compile_as_pip_does
from bench.targets import Outcome, Target, table
from bench.worker import PROJECT

LOAD_PER_CORE_MAX = 0.5
RESULTS = PROJECT / "bench" / "results"
DIRECTORY_DEFAULT = Path("/var/tmp")
FREE_BYTES_MIN = 5 << 30
SOCKET_PATH_BYTES_MAX = 60
"""A socket's path has room for 107 bytes, and ours adds a name to the directory's."""


def main() -> int:
    """Run what the command line asks for."""
    parts: dict[str, Callable[[Path], Outcome]] = {
        "bare": sdk.measure_bare,
        "sdk": sdk.measure,
        "lockstep": lambda directory: lockstep.measure(directory, f"tcp://127.0.0.1:{_free_port()}"),
        "tree": tree.measure,
        "restart": restart.measure,
        "groups": groups.measure,
        "segments": segments.measure,
        "kafka": kafka.measure,
        "rooms": rooms.measure,
        "crowd": crowd.measure,
        "compaction": compaction.measure,
    }
    # sdk measures the bare path itself; the gateway has a command of its own; rooms has no targets; a crowd
    # takes minutes.
    by_default = [name for name in parts if name not in ("bare", "kafka", "rooms", "crowd")]
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Odradek against its parts.")
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="part",
        help=f"of {', '.join(parts)}; all but bare, kafka, rooms and crowd by default",
    )
    parser.add_argument("--directory", type=Path, default=DIRECTORY_DEFAULT, help="where the logs go")
    parser.add_argument("--json", type=Path, help="where the result goes, default bench/results/<time>.json")
    options = parser.parse_args()
    chosen = options.parts or by_default
    unknown = [name for name in chosen if name not in parts]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(parts)}")
    if shutil.disk_usage(options.directory).free < FREE_BYTES_MIN:
        parser.error(f"{options.directory} has less than {FREE_BYTES_MIN >> 30} GiB free; try --directory")
    directory = Path(tempfile.mkdtemp(prefix="odradek-bench-", dir=options.directory))
    if len(str(directory)) > SOCKET_PATH_BYTES_MAX:
        directory.rmdir()
        parser.error(f"the path of {options.directory} is too long for sockets; try --directory")
    try:
        return _run({name: parts[name] for name in chosen}, directory, options.json)
    finally:
        shutil.rmtree(directory)


def _run(parts: dict[str, Callable[[Path], Outcome]], directory: Path, result_file: Path | None) -> int:
    begun = time.monotonic()
    result: dict[str, object] = {"machine": machine.describe(directory)}
    _warn_of_load()
    compile_as_pip_does()
    before = yardsticks.measure()
    targets: list[Target] = []
    failed: list[str] = []
    for name, measure in parts.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        part_begun = time.monotonic()
        try:
            outcome = measure(directory)
        except Exception:
            # One broken part must not hide the numbers of the others; the exit code tells.
            traceback.print_exc()
            failed.append(name)
            continue
        targets += outcome.targets
        result[name] = {
            "seconds": round(time.monotonic() - part_begun, 1),
            "numbers": outcome.numbers,
            "targets": [_as_json(each) for each in outcome.targets],
        }
        for note in outcome.notes:
            print(note)
    after = yardsticks.measure()
    result["yardsticks"] = [before, after]
    result["failed"] = failed
    path = _write(result, result_file)
    if targets:
        print(table(targets))
    missed = sum(not target.met for target in targets)
    print(f"{len(targets) - missed} of {len(targets)} targets met, {len(failed)} parts failed")
    for change in yardsticks.changed(before, after):
        print(change)
    print(f"{time.monotonic() - begun:.0f} s; numbers in {path}")
    print("what moved since the baseline: make bench-compare")
    return 1 if missed or failed else 0


def _warn_of_load() -> None:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > LOAD_PER_CORE_MAX * cores:
        print(f"others use this machine (load {load:.1f} on {cores} cores): seconds will be too many")


def _as_json(target: Target) -> dict[str, object]:
    return {**asdict(target), "met": target.met}


def _write(result: dict[str, object], path: Path | None) -> Path:
    if path is None:
        now = datetime.datetime.now(datetime.UTC)
        path = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())

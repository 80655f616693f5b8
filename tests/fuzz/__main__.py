"""``python -m tests.fuzz [--seconds S] [--target NAME ...]``: atheris where it is installed, else dice.

atheris follows which branches the bytes reach; without it the examples are spoiled at random, as the test
run does it. Each target gets its share of the time. What breaks a target is written to ``--keep``.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

from tests.fuzz.targets import TARGETS, seeds
from tests.fuzz.test_fuzz import spoil

INPUT_BYTES_MAX = 4_096
PRODUCT = ("odradek.protocol.", "partitions.", "actors.", "transport.frames", "supervisor.catalog")
START_TIMEOUT_S = 120.0


def main() -> int:
    """The exit code is 0 where nothing broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=130.0, help="for all targets together")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    wanted = given.target or sorted(TARGETS)
    share_s = given.seconds / len(wanted)
    if given.in_process:
        _atheris(wanted[0], share_s, given.keep, given.seed)
        return 0
    guided = importlib.util.find_spec("atheris") is not None
    print(f"{len(wanted)} targets, {share_s:.0f} s each, {'atheris' if guided else 'without atheris: dice'}")
    broken = [name for name in wanted if not _run(name, share_s, given.keep, given.seed, guided=guided)]
    print(f"broken: {', '.join(broken)}; see {given.keep}" if broken else "nothing broke")
    return 1 if broken else 0


def _run(name: str, seconds: float, keep: Path, seed: int, *, guided: bool) -> bool:
    """Whether the target held."""
    keep.mkdir(parents=True, exist_ok=True)
    if not guided:
        return _dice(name, seconds, keep, seed)
    command = [sys.executable, "-m", "tests.fuzz", "--in-process", "--target", name]
    command += ["--seconds", str(seconds), "--keep", str(keep), "--seed", str(seed)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds * 3 + START_TIMEOUT_S
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith(("Done", "#")) or "==ERROR" in line]
    print(f"  {name}: {lines[-1] if lines else 'no word from libFuzzer'}")
    if done.returncode != 0:
        print(done.stdout[-3_000:] + done.stderr[-3_000:])
    return done.returncode == 0


def _atheris(name: str, seconds: float, keep: Path, seed: int) -> None:
    import atheris  # noqa: PLC0415  # installed by `make fuzz` only

    corpus = keep / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(example)
    arguments = [sys.argv[0], str(corpus), f"-max_total_time={max(1, int(seconds))}"]
    arguments += [f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={keep}/{name}-", f"-seed={seed + 1}"]
    for function in _functions_of_the_product():
        atheris.instrument_func(function)
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


def _functions_of_the_product() -> Iterator[FunctionType]:
    """Everything that the targets may reach; all of Python would take minutes to instrument."""
    for name, module in list(sys.modules.items()):
        if name.startswith(PRODUCT):
            for found in vars(module).values():
                members = list(vars(found).values()) if isinstance(found, type) else [found]
                for member in members:
                    if isinstance(member, FunctionType) and (member.__module__ or "").startswith(PRODUCT):
                        yield member


def _dice(name: str, seconds: float, keep: Path, seed: int) -> bool:
    dice = random.Random(f"{seed} {name}")
    examples, count = seeds(), 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        count += 1
        data = dice.choice(examples)
        data = dice.randbytes(dice.randint(0, 300)) if dice.random() < 0.1 else spoil(data, dice)
        try:
            TARGETS[name](data[:INPUT_BYTES_MAX])
        except Exception as error:
            path = keep / f"{name}-{count}"
            path.write_bytes(data)
            print(f"  {name}: broken by {path} after {count} runs: {type(error).__name__}: {error}")
            return False
    print(f"  {name}: {count:,} runs")
    return True


if __name__ == "__main__":
    sys.exit(main())

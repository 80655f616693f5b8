"""``python -m tests.mutants``: each protection switched off in turn; each of the named tests must fail."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.mutants.mutations import MUTATIONS, VARIABLE

PROJECT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 600.0
TESTS_FAILED = 1
"""pytest's exit code; 2 to 5 say that it could not run them."""


def run_tests(test: str, mutant: str | None) -> tuple[int, str]:
    """pytest's exit code and last words, on a mutant or on the product as it is."""
    environment = {name: value for name, value in os.environ.items() if name != "ODRADEK_FAULTS"}
    if mutant is not None:
        environment[VARIABLE] = mutant
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "tests.mutants.plugin", "--no-header", test],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr)[-2_000:]


def is_caught(mutant: str, test: str) -> tuple[bool, str]:
    """Whether the test fails on the mutant, and pytest's last words."""
    code, words = run_tests(test, mutant)
    return code == TESTS_FAILED, words


def main() -> int:
    """The exit code is 0 where every mutant is caught by each of its tests, and the product by none."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MUTATIONS, []], help="default: all of them")
    wanted = parser.parse_args().names or list(MUTATIONS)
    bad = 0
    for test in sorted({test for name in wanted for test in MUTATIONS[name].tests}):
        code, words = run_tests(test, None)
        if code != 0:
            bad += 1
            print(f"the product itself fails {test}:\n{words}")
    for name in wanted:
        for test in MUTATIONS[name].tests:
            begun_s = time.monotonic()
            caught, words = is_caught(name, test)
            bad += not caught
            verdict = "caught" if caught else f"NOT CAUGHT\n{words}\n"
            print(f"{name}: {verdict} by {test} in {time.monotonic() - begun_s:.0f} s", flush=True)
    print(f"{len(wanted)} mutants, {bad} bad" if bad else f"{len(wanted)} mutants, all caught")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

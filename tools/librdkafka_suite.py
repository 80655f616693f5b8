"""``make test-kafka``: librdkafka's own test suite, from Debian's source package, against the gateway.

Which tests apply stands in ``tests/kafka/librdkafka.toml``, with a reason for each that does not. The source
is got with ``apt-get source`` and built once, in a directory of its own. Exit code 0: every test that applies
has passed; 1: one has not; 2: the suite cannot be had here, and why.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.support.broker import BrokerProcess  # noqa: E402

LIST = PROJECT / "tests" / "kafka" / "librdkafka.toml"
DIRECTORY = Path("~/.cache/odradek/librdkafka").expanduser()
NEEDED = ("apt-get", "gcc", "g++", "make")
SOURCES = """Types: deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
FEATURES_LEFT_OUT = (
    "--disable-ssl",
    "--disable-gssapi",
    "--disable-curl",
    "--disable-lz4-ext",
    "--disable-zstd",
)
BUILD_SECONDS_MAX = 900
TEST_SECONDS_MAX = 180
PARTITIONS_BY_DEFAULT = 4
"""What the suite expects of a topic that is made by asking for it."""


class Unavailable(Exception):
    """The suite cannot be built here; the message says what is missing."""


def main() -> int:
    """Run the tests that are named, or all that apply."""
    parser = argparse.ArgumentParser(prog="librdkafka_suite", description=__doc__)
    parser.add_argument("tests", nargs="*", metavar="number", help="four digits; all that apply by default")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the suite is built")
    options = parser.parse_args()
    listed = tomllib.loads(LIST.read_text())
    try:
        suite = build(options.directory, listed["version"])
    except (Unavailable, subprocess.SubprocessError) as error:
        print(f"librdkafka's suite cannot be had here: {error}", file=sys.stderr)  # noqa: T201
        return 2
    failed = run(suite, options.tests or listed["applies"])
    for number, reason in sorted(listed["does_not_apply"].items()):
        if not options.tests:
            print(f"{number} not run: {reason}")  # noqa: T201
    print(f"failed: {', '.join(failed)}" if failed else "all passed")  # noqa: T201
    return 1 if failed else 0


def build(directory: Path, version: str) -> Path:
    """The directory of the built tests. Raises Unavailable, or what a step of the build raises."""
    tests = directory / f"librdkafka-{version}" / "tests"
    if (tests / "test-runner").exists():
        return tests
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise Unavailable(f"{', '.join(missing)} not found")
    _fetch(directory, version)
    root = tests.parent
    _do(["./configure", *FEATURES_LEFT_OUT], root)
    _do(["make", "-C", "src"], root)
    _do(["make", "-C", "src-cpp"], root)
    _do(["make", "build"], tests)
    return tests


def _fetch(directory: Path, version: str) -> None:
    """Debian's source package, by its ordinary client and with lists of our own."""
    lists, parts = directory / "lists", directory / "parts"
    for each in (lists, parts):
        each.mkdir(parents=True, exist_ok=True)
    (parts / "source.sources").write_text(SOURCES)
    apt = [
        "apt-get",
        "-o", "Dir::Etc::sourcelist=/dev/null",
        "-o", f"Dir::Etc::sourceparts={parts}",
        "-o", f"Dir::State::lists={lists}",
    ]  # fmt: skip
    _do([*apt, "update"], directory)
    _do([*apt, "source", "--download-only", "librdkafka"], directory)
    archive = directory / f"librdkafka_{version}.orig.tar.gz"
    if not archive.exists():
        raise Unavailable(f"Debian does not have version {version} any more")
    _do(["tar", "xzf", str(archive)], directory)


def _do(command: list[str], directory: Path) -> None:
    done = subprocess.run(  # noqa: S603  # commands that stand in this file
        command,
        cwd=directory,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=BUILD_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        last_lines = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise Unavailable(f"{' '.join(command)} ended with {done.returncode}\n{last_lines}")


def run(suite: Path, numbers: list[str]) -> list[str]:
    """Each test in a process of its own, one after the other; those that failed."""
    failed: list[str] = []
    with BrokerProcess(default_partitions=PARTITIONS_BY_DEFAULT, group_initial_rebalance_delay_s=0) as broker:
        where = f"bootstrap.servers={broker.ready['kafka']}\n"
        (suite / "test.conf").write_text(where + "test.timeout.multiplier=3\n")
        for number in numbers:
            begun_s = time.monotonic()
            passed = _passes(suite, number)
            verdict = "passed" if passed else "FAILED"
            print(f"{number} {verdict} in {time.monotonic() - begun_s:.1f} s", flush=True)  # noqa: T201
            if not passed:
                failed.append(number)
    return failed


def _passes(suite: Path, number: str) -> bool:
    """Whether a test ran to its end and found nothing wrong; what it said stands beside it otherwise."""
    environment = {
        **os.environ,
        "TESTS": number,
        "TEST_KAFKA_VERSION": "2.8.0",
        "LD_LIBRARY_PATH": f"{suite.parent / 'src'}:{suite.parent / 'src-cpp'}",
    }
    with (suite / f"said-{number}.txt").open("wb") as said:
        try:
            done = subprocess.run(
                ["./test-runner", "-p1", "-Q"],
                cwd=suite,
                env=environment,
                stdout=said,
                stderr=said,
                timeout=TEST_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())

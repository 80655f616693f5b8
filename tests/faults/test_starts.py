"""Rows 8 and 35: what must not be started, is not; it says why, and has touched nothing.

More of the same is in ``tests/processes/test_supervisor.py`` (ports, damaged catalogues) and in
``tests/security/test_private.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.exits import Exit
from supervisor.rundirectory import run_directory_path
from tests.support.broker import BrokerProcess
from tests.support.load import Load
from tests.support.rawclient import RawClient
from tests.support.tiers import long
from tests.support.victims import eventually

pytestmark = [pytest.mark.processes, pytest.mark.faults]

PATIENCE_S = 60.0
RACERS = 20
NOBODY = 65_534
READ_ONLY = """
set -e
mount -t tmpfs -o size=4m odradek "$1"
mkdir -m 700 "$1/data"
mount -o remount,ro "$1"
shift
exec "$@"
"""

AS_NOBODY = """
import os, pathlib, sys
from supervisor.datadirectory import DataDirectory
from supervisor.privacy import NotPrivate
os.setresuid(*[int(sys.argv[2])] * 3)
try:
    DataDirectory(pathlib.Path(sys.argv[1]))
except NotPrivate as refusal:
    print(refusal)
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")


def attempt(
    data: Path, *, runtime: Path | None = None, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """A start that is expected to end by itself."""
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    if runtime is not None:
        environment["XDG_RUNTIME_DIR"] = str(runtime)
    command = [*prefix, sys.executable, "-m", "supervisor", "--data", str(data), "--port", "0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)


def assert_refused(result: subprocess.CompletedProcess[str], code: Exit, *sentences: str) -> None:
    assert result.returncode == code, result.stderr
    for sentence in sentences:
        assert sentence in result.stderr
    assert result.stderr.count("\n") == 1, "one line, no trace"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for the names of sockets, as pytest's do not."""
    with tempfile.TemporaryDirectory(prefix="odr-") as path:
        yield Path(path)


@pytest.fixture
def run(short: Path, data: Path) -> Path:
    """Where the sockets of a broker on ``data`` would be, with XDG_RUNTIME_DIR=``short``."""
    path = run_directory_path(data, os.geteuid(), str(short))
    path.parent.mkdir(mode=0o700)
    return path


# -- row 8 -----------------------------------------------------------------------------------------------


def test_a_second_broker_is_refused_whatever_its_run_directory_and_path(tmp_path: Path) -> None:
    """The lock belongs to the data, so neither another name of it nor another place of sockets helps."""
    link = tmp_path / "link"
    with BrokerProcess() as broker:
        link.symlink_to(broker.data)
        with RawClient(broker.bootstrap) as client:
            client.create("events", 1)
        with Load(lambda: broker.bootstrap, "events", 1) as load:
            load.wait_for(20)
            before = sorted(entry.name for entry in broker.data.iterdir())
            for path in (broker.data, link, broker.data / ".." / "data"):
                runtime = tmp_path / "elsewhere"
                result = attempt(path, runtime=runtime)
                assert_refused(result, Exit.LOCKED, f"another broker (process {broker.pid}) runs on")
                assert not runtime.exists(), "refused, yet it made a run directory"
            assert sorted(entry.name for entry in broker.data.iterdir()) == before
            load.wait_for(20)
        print(load.judge())
        assert broker.events("process ended") == []


@long
def test_of_racing_starts_over_different_names_exactly_one_runs(short: Path) -> None:
    link = short / "link"
    link.symlink_to(short / "data")
    (short / "data").mkdir(mode=0o700)
    racers = [
        BrokerProcess(
            (link, short / "data")[number % 2],
            environment={"XDG_RUNTIME_DIR": str(short / f"run-{number % 3}")},
        )
        for number in range(RACERS)
    ]
    try:
        for racer in racers:
            racer.start(wait=False)
        eventually(lambda: sum(not racer.running for racer in racers) == RACERS - 1, 90)
        (winner,) = [racer for racer in racers if racer.running]
        winner.wait_ready()
        assert {racer.wait() for racer in racers if racer is not winner} == {Exit.LOCKED}
        with RawClient(winner.bootstrap) as client:
            client.create("events", 1)
    finally:
        for racer in racers:
            racer.close()


# -- row 35 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, pytest.param(0o702, marks=long), pytest.param(0o1777, marks=long)])
def test_a_data_directory_that_everybody_may_write_is_refused(data: Path, mode: int) -> None:
    data.chmod(mode)
    assert_refused(attempt(data), Exit.NOT_PRIVATE, "may write to the data directory", "chmod go-w")
    assert list(data.iterdir()) == []


@needs_root
def test_another_users_data_directory_is_refused(short: Path) -> None:
    """By an ordinary user, on root's directory that all may read."""
    short.chmod(0o755)
    (short / "data").mkdir(mode=0o755)
    result = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(short / "data"), str(NOBODY)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "belongs to user 0, and the broker runs as user 65534" in result.stdout
    assert list((short / "data").iterdir()) == []


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    prefix = ("unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(mount))
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"nothing may be mounted here: {tried.stderr.strip()}")
    result = attempt(mount / "data", prefix=prefix)
    assert_refused(result, Exit.DATA, "the data directory", "cannot be used: Read-only file system")


def test_a_run_directory_whose_socket_paths_do_not_fit_is_refused(tmp_path: Path, data: Path) -> None:
    long = tmp_path / ("x" * 100)
    assert_refused(attempt(data, runtime=long), Exit.DATA, "socket paths", "XDG_RUNTIME_DIR", "shorter path")
    assert not long.exists()


def test_a_run_directory_that_is_a_symbolic_link_is_refused(short: Path, data: Path, run: Path) -> None:
    elsewhere = short / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "kept").write_text("somebody's")
    run.symlink_to(elsewhere)
    assert_refused(attempt(data, runtime=short), Exit.DATA, "a symbolic link is not taken")
    assert (elsewhere / "kept").read_text() == "somebody's"


@pytest.mark.parametrize("mode", [pytest.param(0o777, marks=long), pytest.param(0o755, marks=long), 0o710])
def test_a_run_directory_that_others_may_enter_is_refused(
    short: Path, data: Path, run: Path, mode: int
) -> None:
    for directory in (run, run.parent):
        with suppress(FileExistsError):
            directory.mkdir()
        directory.chmod(mode)
        assert_refused(attempt(data, runtime=short), Exit.NOT_PRIVATE, "may read or enter", "chmod go-rwx")
        directory.chmod(0o700)


@needs_root
def test_another_users_run_directory_is_refused(short: Path, data: Path, run: Path) -> None:
    run.mkdir(mode=0o700)
    os.chown(run, NOBODY, NOBODY)
    assert_refused(attempt(data, runtime=short), Exit.NOT_PRIVATE, f"belongs to user {NOBODY}")

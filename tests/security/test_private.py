"""Row 35: a broker starts only where nobody else can change what it keeps, or stand in for it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.exits import Exit
from supervisor.privacy import OTHERS_MAY_ANYTHING, OTHERS_MAY_WRITE, NotPrivate, check_parent, check_private
from tests.support.broker import BrokerProcess

NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away or mount one")


# -- what is private ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o500])
def test_what_others_may_only_read_is_good_enough_for_data(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    check_private("data directory", tmp_path, OTHERS_MAY_WRITE)


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o710, 0o777])
def test_what_others_may_enter_is_no_place_for_sockets(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(NotPrivate, match=rf"\(mode 0{mode:o}\): chmod go-rwx it"):
        check_private("run directory", tmp_path, OTHERS_MAY_ANYTHING)


def test_a_symbolic_link_is_never_private(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(NotPrivate, match="symbolic link"):
        check_private("run directory", tmp_path / "link", OTHERS_MAY_ANYTHING)


@needs_root
def test_what_belongs_to_somebody_else_is_not_private(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    with pytest.raises(NotPrivate, match=f"belongs to user {NOBODY}, and the broker runs as user 0"):
        check_private("data directory", tmp_path, OTHERS_MAY_WRITE)


@pytest.mark.parametrize(("mode", "is_safe"), [(0o755, True), (0o1777, True), (0o777, False), (0o770, False)])
def test_nobody_else_may_put_another_in_its_place(tmp_path: Path, mode: int, is_safe: bool) -> None:
    tmp_path.chmod(mode)
    if is_safe:
        check_parent("run directory", tmp_path / "run")
        return
    with pytest.raises(NotPrivate, match="may replace"):
        check_parent("run directory", tmp_path / "run")


# -- starts that are refused ---------------------------------------------------------------------------


def refused(data: Path, **environment: str) -> tuple[int, str]:
    """The exit code of a start, and what it said; it has changed nothing in the data directory."""
    before = sorted(entry.name for entry in data.iterdir()) if data.is_dir() else []
    broker = BrokerProcess(data, environment=environment)
    try:
        code = broker.start(wait=False).wait()
        return code, broker.log()
    finally:
        broker.close()
        if data.is_dir() and before == []:
            assert {entry.name for entry in data.iterdir()} <= {"odradek.lock"}


@pytest.mark.processes
def test_a_data_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    code, said = refused(data)
    assert code == Exit.NOT_PRIVATE, said
    assert f"may write to the data directory {data} (mode 0777): chmod go-w it" in said


@needs_root
@pytest.mark.processes
def test_a_data_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, NOBODY, NOBODY)
    code, said = refused(data)
    assert code == Exit.NOT_PRIVATE, said
    assert f"belongs to user {NOBODY}" in said


@pytest.mark.processes
def test_a_run_directory_that_others_can_enter_or_that_is_a_link_is_refused(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="o") as short:
        refuse_runtime(Path(short), tmp_path)


def refuse_runtime(runtime: Path, tmp_path: Path) -> None:
    (runtime / "odradek").mkdir(mode=0o755)
    code, said = refused(tmp_path / "data", XDG_RUNTIME_DIR=str(runtime))
    assert code == Exit.NOT_PRIVATE, said
    assert "chmod go-rwx it" in said
    (runtime / "odradek").rmdir()
    (runtime / "odradek").symlink_to(tmp_path)
    code, said = refused(tmp_path / "data", XDG_RUNTIME_DIR=str(runtime))
    assert code == Exit.DATA, said
    assert "a symbolic link is not taken" in said
    assert not list(tmp_path.glob("*/control"))


@pytest.mark.processes
def test_sockets_whose_paths_would_be_too_long_are_refused(tmp_path: Path) -> None:
    code, said = refused(tmp_path / "data", XDG_RUNTIME_DIR=str(tmp_path / ("x" * 90)))
    assert code == Exit.DATA, said
    assert "set XDG_RUNTIME_DIR to a directory with a shorter path" in said


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that nothing can be written to."""
    place = tmp_path / "ro"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro,size=1m,mode=0700", "odradek-test", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@needs_root
@pytest.mark.processes
def test_a_read_only_file_system_is_refused(read_only: Path) -> None:
    code, said = refused(read_only)
    assert code == Exit.DATA, said
    assert "Read-only file system" in said

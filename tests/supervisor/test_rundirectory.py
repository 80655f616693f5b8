"""The run directory: private, short, and without orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import rundirectory
from supervisor.privacy import NotPrivate
from supervisor.rundirectory import (
    JOURNAL_GONE_MAX,
    SOCKET_PATH_BYTES_MAX,
    RunDirectory,
    RunDirectoryUnusable,
    run_directory_path,
    socket_name,
    start_time,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "r" / "123")


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])


def test_its_place_follows_from_the_data_directory_alone() -> None:
    first = run_directory_path(Path("/data/a"), 7, None)
    assert first == run_directory_path(Path("/data/a"), 7, None)
    assert first != run_directory_path(Path("/data/b"), 7, None)
    assert first.parent == Path("/tmp/odradek-7")
    assert run_directory_path(Path("/data/a"), 7, "/run/user/7").parent == Path("/run/user/7/odradek")


def test_it_is_private_and_a_second_start_finds_it(run: RunDirectory) -> None:
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert RunDirectory(run.path).control == run.control == f"ipc://{run.path}/control"


def test_the_longest_topic_name_has_a_short_socket() -> None:
    names = {socket_name(f"partition:{'t' * 249}-{number}", "inner") for number in range(100)}
    assert len(names) == 100
    assert max(map(len, names)) == len("0123456789abcdef.inner")


def test_a_path_that_no_socket_fits_into_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryUnusable, match=f"the system takes {SOCKET_PATH_BYTES_MAX}"):
        RunDirectory(tmp_path / ("x" * 100))


def test_a_link_or_an_open_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "r" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunDirectoryUnusable, match="a symbolic link is not taken"):
        RunDirectory(tmp_path / "r" / "link")
    (tmp_path / "r" / "open").mkdir()
    (tmp_path / "r" / "open").chmod(0o755)
    with pytest.raises(NotPrivate, match="chmod go-rwx it"):
        RunDirectory(tmp_path / "r" / "open")


def test_a_place_that_others_could_replace_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(NotPrivate, match="may replace the run directory"):
        RunDirectory(tmp_path / "odradek" / "run")
    tmp_path.chmod(0o1777)
    assert RunDirectory(tmp_path / "odradek" / "run").path.is_dir()


def test_what_a_former_supervisor_left_is_ended_even_if_it_is_stopped(run: RunDirectory) -> None:
    orphan = sleeper()
    try:
        run.remember(orphan.pid)
        (run.path / socket_name("partition:gone-0", "direct")).touch()
        os.kill(orphan.pid, signal.SIGSTOP)
        assert run.end_orphans() == [orphan.pid]
        assert orphan.wait(30) == -signal.SIGKILL
        assert [entry.name for entry in run.path.iterdir()] == ["processes"]
        assert run.end_orphans() == []
    finally:
        orphan.kill()
        orphan.wait()


def test_a_process_that_only_has_the_number_is_left_alone(run: RunDirectory) -> None:
    other = sleeper()
    try:
        started = start_time(other.pid)
        assert started is not None
        gone = sleeper()
        gone.kill()
        gone.wait()
        (run.path / "processes").write_text(
            f"{other.pid} {started - 1}\n{gone.pid} 5\ntorn line\n{other.pid}"
        )
        assert run.end_orphans() == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_remove_takes_sockets_away(run: RunDirectory) -> None:
    (run.path / "control").write_text("")
    run.remove()
    assert not run.path.exists()


def test_the_sockets_of_an_actor_that_is_gone_are_unlinked_and_no_others(run: RunDirectory) -> None:
    names = [socket_name(address, kind) for address in ("a", "b") for kind in ("inner", "direct")]
    for name in (*names, "control", "processes"):
        (run.path / name).touch()
    run.unlink_sockets("a")
    left = {entry.name for entry in run.path.iterdir()}
    assert left == {socket_name("b", "inner"), socket_name("b", "direct"), "control", "processes"}
    run.unlink_sockets("a")


def test_the_journal_is_bounded_and_keeps_those_that_live(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = sleeper()
    try:
        run.end_orphans()
        run.remember(living.pid)
        monkeypatch.setattr(rundirectory, "start_time", lambda pid: pid)
        journal = run.path / "processes"
        longest = 0
        first = 5_000_000  # beyond every process id that the system gives, that of the living one too
        for pid in range(first, first + 3 * JOURNAL_GONE_MAX):
            run.remember(pid)
            run.forget(pid)
            longest = max(longest, journal.read_bytes().count(b"\n"))
        assert JOURNAL_GONE_MAX <= longest <= JOURNAL_GONE_MAX + 2
        monkeypatch.undo()
        assert run.end_orphans() == [living.pid]
    finally:
        living.kill()
        living.wait()

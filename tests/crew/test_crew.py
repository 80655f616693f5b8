"""Children that speak by lines, and how a command ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew.command import INTERRUPTED, run_command
from crew.processes import Child, Processes

WAIT_S = 60.0
FAILED = 2


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.close()


def hear(processes: Processes, child: Child, count: int) -> list[bytes]:
    """So many lines of one child, or all until it ended."""
    lines: list[bytes] = []
    while len(lines) < count and not child.ended:
        heard = processes.hear(WAIT_S)
        assert heard, "nothing came"
        lines += [line for each, said in heard if each is child for line in said]
    return lines


@pytest.mark.processes
def test_lines_go_both_ways_and_each_child_has_its_own(processes: Processes) -> None:
    first, second = (processes.start(name, "tests.crew.echo") for name in ("first", "second"))
    first.tell(b"a")
    first.tell(b"b")
    assert hear(processes, first, 2) == [b"heard a", b"heard b"]
    second.tell(b"c")
    assert hear(processes, second, 1) == [b"heard c"]
    first.hang_up()
    assert hear(processes, first, 1) == []
    assert first.ended and first.process.wait(WAIT_S) == 0 and not second.ended


@pytest.mark.processes
def test_who_fails_has_a_story_and_hears_no_more(processes: Processes) -> None:
    child = processes.start("poet", "tests.crew.echo")
    child.tell(b"die")
    assert hear(processes, child, 1) == [] and child.ended
    assert child.process.wait(WAIT_S) == 3
    assert child.story("ended with code 3") == ("poet: ended with code 3\nits last lines:\n  the last words")
    child.tell(b"nobody is there")


@pytest.mark.processes
def test_who_does_not_end_is_killed(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    children = [processes.start(name, "tests.crew.echo") for name in ("stopped", "well")]
    for child in children:
        child.tell(b"a")
        hear(processes, child, 1)
    children[0].process.send_signal(signal.SIGSTOP)
    processes.close(patience_s=0.2)
    assert children[0].process.returncode == -signal.SIGKILL


class Foreseen(Exception):
    """What the body raises."""


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def command(body: type[BaseException] | int) -> int:
    def run() -> int:
        if isinstance(body, int):
            return body
        error = body("it went wrong")
        error.add_note("more of it")
        raise error

    return run_command("odradek thing", run, lambda: (Foreseen,), FAILED)


@pytest.mark.usefixtures("_handlers")
def test_what_was_foreseen_is_one_story_and_the_rest_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(0) == 0
    assert command(Foreseen) == FAILED
    assert capsys.readouterr().err == "odradek thing: it went wrong\nmore of it\n"
    assert command(KeyboardInterrupt) == INTERRUPTED
    assert "interrupted; everything it started is stopped" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        command(ZeroDivisionError)

"""ProcessStarter: what it starts runs any function, is killed for certain, and is reaped."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.processes import Ended, Process, ProcessStarter

WAIT_S_MAX = 60.0

pytestmark = pytest.mark.processes


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessStarter]:
    monkeypatch.setenv("PYTHONSAFEPATH", "")  # put back at the end: the starter sets it
    starter = ProcessStarter()
    starter.warm_up(partitions_max=1)
    yield starter
    starter.close()


def end_of(process: Process) -> Ended:
    for _ in range(2):  # the fork server's answer, or the pidfd where that is gone
        ready, _, _ = select.select([process.fd], [], [], WAIT_S_MAX)
        assert ready, f"process {process.pid} has not ended"
        ended = process.poll()
        if ended is not None:
            return ended
    raise AssertionError(f"nobody says how process {process.pid} ended")


def test_a_closure_travels_and_its_exit_code_comes_back(starter: ProcessStarter, tmp_path: Path) -> None:
    said = tmp_path / "said"

    def speak(word: object) -> None:
        said.write_text(f"{word} from {os.getpid()}")

    process = starter.start(speak, "hello")
    assert end_of(process) == Ended(0)
    assert said.read_text() == f"hello from {process.pid}"


def test_a_killed_process_is_reaped(starter: ProcessStarter) -> None:
    def wait_for_ever(_: object) -> None:
        select.select([], [], [])

    process = starter.start(wait_for_ever, None)
    process.kill()
    assert end_of(process) == Ended(-9)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    process.kill()  # once more does no harm, and hits nobody else

"""Watching the broker's processes: it must not take a noticeable part of the machine itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from loadtest import watching
from loadtest.result import actor_uses
from loadtest.watching import PROCESSES_PER_S_MAX, SAMPLE_INTERVAL_S, Usage, WatchedProcesses, pause_s

CHILDREN = 3
PARENT = f"""
import subprocess, sys
wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
children = [subprocess.Popen(wait, stdin=subprocess.PIPE) for _ in range({CHILDREN})]
print("started", flush=True)
sys.stdin.read()
for child in children:
    child.communicate()
"""


@pytest.fixture
def family() -> Iterator[int]:
    """A process with CHILDREN more; they end with its input."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        yield process.pid
        process.stdin.close()


def _count_countings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process of each counting of memory, as it happens."""
    counted: list[int] = []
    count = psutil.Process.memory_full_info

    def counting(process: psutil.Process) -> object:
        counted.append(process.pid)
        return count(process)

    monkeypatch.setattr(psutil.Process, "memory_full_info", counting)
    return counted


def test_a_look_counts_the_memory_of_some_in_turns(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = _count_countings(monkeypatch)
    watched = WatchedProcesses(family)
    everybody = set(counted)
    assert len(counted) == len(everybody) == 1 + CHILDREN
    monkeypatch.setattr(watching, "MEMORY_COUNTS_MAX", 2)
    counted.clear()
    first = watched.look()
    assert len(counted) == 2
    assert len(first) == 1 + CHILDREN and all(usage.pss_bytes > 0 for usage in first)
    watched.look()
    assert set(counted) == everybody and len(counted) == 1 + CHILDREN
    watched.close()


def test_a_process_that_ended_is_no_trouble(family: int) -> None:
    watched = WatchedProcesses(family)
    child, *others = psutil.Process(family).children()
    child.kill()
    pids = {int(usage.name.rpartition(":")[2]) for usage in watched.look()}
    assert {family, *(other.pid for other in others)} <= pids
    watched.close()


def test_a_crowd_is_looked_at_less_often() -> None:
    assert pause_s(0) == pause_s(PROCESSES_PER_S_MAX) == SAMPLE_INTERVAL_S
    assert pause_s(8 * PROCESSES_PER_S_MAX) == 8 * SAMPLE_INTERVAL_S


def test_a_use_knows_when_it_was_looked_at() -> None:
    early, late = Usage(name="a", cpu_percent=1.0, pss_bytes=1), Usage(name="a", cpu_percent=2.0, pss_bytes=5)
    other = Usage(name="b", cpu_percent=0.5, pss_bytes=2)
    first, second = actor_uses([[early], [late, other]], [1.0, 9.0, 17.0])
    assert (first.name, first.at_s, first.cpu_percent) == ("a", [1.0, 9.0], [1.0, 2.0])
    assert (second.name, second.at_s, second.pss_bytes_max) == ("b", [9.0], 2)

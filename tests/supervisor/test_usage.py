"""Samples of real processes: this one and some that sleep."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from odradek.protocol.messages import ActorStatus
from supervisor import usage
from supervisor.usage import UsageSampler

SLEEPERS = 3


@pytest.fixture
def pids() -> Iterator[list[int]]:
    command = [sys.executable, "-c", "input()"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(SLEEPERS)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.communicate()


def row(pid: int | None) -> ActorStatus:
    return ActorStatus(
        name=str(pid),
        role="partition",
        pid=pid,
        state="serving",
        restarts=0,
        uptime_s=10.0,
        pss_bytes=None,
        cpu_percent=None,
    )


def test_a_process_has_memory_and_a_rate_and_one_that_is_gone_has_neither() -> None:
    ours, gone, none = UsageSampler().complete((row(os.getpid()), row(2**22 - 1), row(None)))
    assert ours.pss_bytes is not None
    assert ours.pss_bytes > 1 << 20
    assert ours.cpu_percent is not None
    assert gone.pss_bytes is gone.cpu_percent is none.pss_bytes is None


def test_where_counting_takes_long_each_answer_counts_some_and_the_others_keep_what_they_had(
    pids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MEMORY_COUNTS_MIN", 1)
    seconds = itertools.count(0.0, 10.0)
    sampler = UsageSampler(lambda: next(seconds))
    rows = tuple(row(pid) for pid in pids)
    counted = [
        sum(answer.pss_bytes is not None for answer in sampler.complete(rows)) for _ in range(SLEEPERS + 1)
    ]
    assert counted == [1, 2, 3, 3]
    assert all(answer.cpu_percent is not None for answer in sampler.complete(rows))

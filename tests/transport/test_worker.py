"""Worker: jobs run one after the other, away from the loop, and every one comes back."""

from __future__ import annotations

import errno
import select
import threading
from collections.abc import Iterator

import pytest

from actors.actor import Worked
from transport.worker import Worker

WAIT_S = 30.0


class Slices:
    """A job of ``count`` slices that says on which thread each ran."""

    def __init__(self, count: int, error: Exception | None = None):
        self.count, self.error = count, error
        self.threads: list[int] = []
        self.started = threading.Event()
        self.closed = False
        self.bytes_per_s_max: int | None = None

    def run(self) -> Iterator[int]:
        try:
            for _ in range(self.count):
                self.threads.append(threading.get_ident())
                self.started.set()
                yield 1
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def take(worker: Worker, count: int) -> list[Worked]:
    taken: list[Worked] = []
    while len(taken) < count:
        assert select.select([worker.wakeup_fd], [], [], WAIT_S)[0], "nothing came back"
        taken += worker.take()
    return taken


def test_jobs_come_back_in_order_from_another_thread(worker: Worker) -> None:
    failed = OSError(errno.EIO, "lost")
    jobs = [Slices(3), Slices(1, failed), Slices(0)]
    for job in jobs:
        worker.run(job)
    assert take(worker, 3) == [Worked(jobs[0]), Worked(jobs[1], failed), Worked(jobs[2])]
    assert len(jobs[0].threads) == 3
    assert threading.get_ident() not in jobs[0].threads


def test_a_job_that_breaks_in_another_way_comes_back_too(worker: Worker) -> None:
    worker.run(Slices(1, ValueError("odd")))
    [worked] = take(worker, 1)
    assert worked.error is not None
    assert "odd" in str(worked.error)


def test_between_slices_it_rests(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    rests: list[float] = []

    def wait(seconds: float) -> bool:
        rests.append(seconds)
        return False

    monkeypatch.setattr(worker._closing, "wait", wait)
    worker.run(Slices(4))
    take(worker, 1)
    assert len(rests) == 4
    assert all(0 <= rest <= 1.0 for rest in rests)


def test_close_gives_up_the_job_between_two_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.worker.REST_FACTOR", 1e9)
    worker = Worker()
    endless, behind = Slices(10**9), Slices(1)
    worker.run(endless)
    worker.run(behind)
    assert endless.started.wait(WAIT_S)
    worker.close()
    assert endless.closed
    assert behind.threads == []

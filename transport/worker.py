"""Works for the actor in the background: long jobs on files, one after the other, on a thread of their own.

A job yields after each slice of its work. After each the thread rests REST_FACTOR times as long as the
slice took, so that the loop has the disk and the interpreter's lock for most of the time, and longer where
the job would move more bytes than it may.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time
from collections import deque

from actors.actor import Worked
from actors.effects import Job

REST_FACTOR = 1.0
"""Rest for each second of work; 1 leaves the loop at least half of the disk."""
REST_S_MAX = 1.0


class Worker:
    """Runs jobs one after the other; ``wakeup_fd`` becomes readable when one has come to its end."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: deque[Worked] = deque()
        self._closing = threading.Event()
        self.wakeup_fd, self._notify_fd = os.pipe()
        os.set_blocking(self.wakeup_fd, False)
        os.set_blocking(self._notify_fd, False)
        self._thread = threading.Thread(target=self._serve, name="worker", daemon=True)
        self._thread.start()

    def run(self, job: Job) -> None:
        """Takes a job; it is done behind those that were taken before."""
        self._jobs.put(job)

    def take(self) -> list[Worked]:
        """What has come to its end since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup_fd, 4096)
        taken = []
        while self._done:
            taken.append(self._done.popleft())
        return taken

    def close(self) -> None:
        """Waits for the slice that runs; the rest of its job and all others are given up."""
        self._closing.set()
        self._jobs.put(None)
        self._thread.join()
        os.close(self.wakeup_fd)
        os.close(self._notify_fd)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None and not self._closing.is_set():
            self._done.append(self._work(job))
            # A full pipe has woken the loop already.
            with contextlib.suppress(BlockingIOError):
                os.write(self._notify_fd, b"\0")

    def _work(self, job: Job) -> Worked:
        try:
            started_s = time.monotonic()
            for moved_bytes in job.run():
                worked_s = time.monotonic() - started_s
                if self._closing.wait(_rest_s(worked_s, moved_bytes, job.bytes_per_s_max)):
                    break
                started_s = time.monotonic()
        except OSError as error:
            return Worked(job, error)
        except Exception as error:
            # A thread that died here would leave the actor waiting for ever.
            return Worked(job, OSError(errno.EIO, f"a job ended with {error!r}"))
        return Worked(job)


def _rest_s(worked_s: float, moved_bytes: int, bytes_per_s_max: int | None) -> float:
    """How long to rest after a slice."""
    rest_s = worked_s * REST_FACTOR
    if bytes_per_s_max is not None:
        rest_s = max(rest_s, moved_bytes / bytes_per_s_max - worked_s)
    return min(rest_s, REST_S_MAX)

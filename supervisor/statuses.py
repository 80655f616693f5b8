"""Statuses: answers to ``status``, completed with memory and CPU beside the supervisor's loop.

To count the memory of hundreds of processes takes the kernel a good part of a second. A thread of its
own does that, and wakes the loop, which answers: only the loop may touch the sockets.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable

from actors.effects import Sender
from odradek.protocol.messages import ActorStatus, StatusReply
from supervisor.effects import RespondStatus

STATUSES_WAITING_MAX = 100
"""So many requests wait for their turn at most; the next is refused, and may come again."""

Complete = Callable[[tuple[ActorStatus, ...]], list[ActorStatus]]


def new_sampler() -> Complete:
    """Completes rows; psutil loads when somebody asks."""
    from supervisor.usage import UsageSampler  # noqa: PLC0415

    return UsageSampler().complete


class StatusSampling:
    """Requests in, replies out, in order; the thread starts with the first request."""

    def __init__(self, sampler: Callable[[], Complete] = new_sampler) -> None:
        """``sampler`` makes, in the thread, what completes the rows."""
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Becomes readable when ``take`` has something."""
        self._sampler = sampler
        self._asked: queue.Queue[RespondStatus] = queue.Queue(STATUSES_WAITING_MAX)
        self._done: queue.SimpleQueue[tuple[Sender, StatusReply]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, request: RespondStatus) -> bool:
        """Complete these rows some time soon; False where too many wait. Never blocks."""
        try:
            self._asked.put_nowait(request)
        except queue.Full:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="statuses", daemon=True)
            self._thread.start()
        return True

    def take(self) -> list[tuple[Sender, StatusReply]]:
        """What is completed, and to whom it goes. Never blocks."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        replies = []
        while not self._done.empty():
            replies.append(self._done.get())
        return replies

    def _run(self) -> None:
        complete = self._sampler()
        while True:
            request = self._asked.get()
            self._done.put((request.to, StatusReply(actors=complete(request.rows))))
            os.eventfd_write(self.fd, 1)

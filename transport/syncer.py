"""One thread that waits for the disk, so that the loop does not."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque

from actors.actor import Synced
from actors.effects import SyncTicket


class Syncer:
    """Runs tickets one after the other; ``wakeup_fd`` becomes readable when one has come back."""

    def __init__(self) -> None:
        self._tickets: queue.SimpleQueue[SyncTicket | None] = queue.SimpleQueue()
        self._done: deque[Synced] = deque()
        self.wakeup_fd, self._notify_fd = os.pipe()
        os.set_blocking(self.wakeup_fd, False)
        os.set_blocking(self._notify_fd, False)
        self._in_flight = 0
        self._thread = threading.Thread(target=self._run, name="syncer", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """No ticket is out whose result was not taken."""
        return self._in_flight == 0

    def submit(self, ticket: SyncTicket) -> None:
        self._in_flight += 1
        self._tickets.put(ticket)

    def take(self) -> list[Synced]:
        """What has come back since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup_fd, 4096)
        taken = []
        while self._done:
            taken.append(self._done.popleft())
        self._in_flight -= len(taken)
        return taken

    def close(self) -> None:
        """Waits for the ticket that runs."""
        self._tickets.put(None)
        self._thread.join()
        os.close(self.wakeup_fd)
        os.close(self._notify_fd)

    def _run(self) -> None:
        while (ticket := self._tickets.get()) is not None:
            try:
                ticket.run()
                outcome = Synced(ticket)
            except OSError as error:
                outcome = Synced(ticket, error)
            self._done.append(outcome)
            # A full pipe has woken the loop already.
            with contextlib.suppress(BlockingIOError):
                os.write(self._notify_fd, b"\0")

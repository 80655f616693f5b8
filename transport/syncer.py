"""Waits for the disk: on a thread of its own, so that the loop does not, or at once where that is quicker.

Handing a sync to a thread and back costs two wake-ups and a fight for the interpreter's lock, about
0.1 ms. While syncs take less than INLINE_SYNC_S_MAX they run on the loop: requests that arrive meanwhile
gather in ZeroMQ's queue all the same. One slow sync, and the next goes to the thread.

The first runs on the loop, too: the log was opened there with syncs of its own, so a disk that hangs has
hung before. The thread starts with the first ticket that is for it, which with a quick disk never comes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time
from collections import deque

from actors.actor import Synced
from actors.effects import SyncTicket

INLINE_SYNC_S_MAX = 0.001
"""A loop that is deaf for so long is no loss; a disk that was this quick last time mostly is again."""


class Syncer:
    """Runs tickets one after the other; ``wakeup_fd`` becomes readable when one has come back."""

    def __init__(self) -> None:
        self._tickets: queue.SimpleQueue[SyncTicket | None] = queue.SimpleQueue()
        self._done: deque[Synced] = deque()
        self.wakeup_fd, self._notify_fd = os.pipe()
        os.set_blocking(self.wakeup_fd, False)
        os.set_blocking(self._notify_fd, False)
        self._in_flight = 0
        self._last_sync_s = 0.0
        self._thread: threading.Thread | None = None

    @property
    def idle(self) -> bool:
        """No ticket is out whose result was not taken."""
        return self._in_flight == 0

    def run(self, ticket: SyncTicket) -> Synced | None:
        """The outcome where the disk is quick, else None: then it is taken later."""
        if self._in_flight == 0 and self._last_sync_s < INLINE_SYNC_S_MAX:
            return self._sync(ticket)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="syncer", daemon=True)
            self._thread.start()
        self._in_flight += 1
        self._tickets.put(ticket)
        return None

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
        if self._thread is not None:
            self._tickets.put(None)
            self._thread.join()
        os.close(self.wakeup_fd)
        os.close(self._notify_fd)

    def _sync(self, ticket: SyncTicket) -> Synced:
        started_s = time.monotonic()
        try:
            ticket.run()
            return Synced(ticket)
        except OSError as error:
            return Synced(ticket, error)
        except Exception as error:
            # Whatever it was, nobody knows what is durable; a thread that died here would hang the actor.
            return Synced(ticket, OSError(errno.EIO, f"a sync ended with {error!r}"))
        finally:
            self._last_sync_s = time.monotonic() - started_s

    def _serve(self) -> None:
        while (ticket := self._tickets.get()) is not None:
            self._done.append(self._sync(ticket))
            # A full pipe has woken the loop already.
            with contextlib.suppress(BlockingIOError):
                os.write(self._notify_fd, b"\0")

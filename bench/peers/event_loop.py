"""Event loop: asyncio's, in a thread of its own, for client libraries that are called without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bench.peers.window import Window
from loadtest.clients import Settled

ASK_S_MAX = 60.0


class EventLoop:
    """Runs until ``close``."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], timeout_s: float = ASK_S_MAX) -> Any:
        """What ``work`` returns. Raises what it raises, and TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def soon(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call in the loop's thread, without waiting."""
        self.loop.call_soon_threadsafe(call, *arguments)

    def close(self) -> None:
        """Stop the thread; what still runs in the loop is dropped."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


Publish = Callable[[int, Sequence[bytes], Settled], Coroutine[Any, Any, None]]
"""Publishes to one of the partitions; ``settled`` is called when the answers came."""


class Outbox:
    """Calls of the load test's thread, done one after the other in the loop's; partitions take turns."""

    def __init__(self, loop: EventLoop, partitions: int, pending_max: int, publish: Publish) -> None:
        self._loop = loop
        self._partitions = partitions
        self._publish = publish
        self._window = Window(pending_max)
        self._turn = 0
        # The window is its bound.
        self._calls: asyncio.Queue[tuple[int, Sequence[bytes], Settled] | None] = asyncio.Queue()
        self._doing = asyncio.run_coroutine_threadsafe(self._do(), loop.loop)

    def send(self, values: Sequence[bytes], settled: Settled) -> None:
        """As loadtest.clients.ProducerClient. Raises what publishing raised."""
        leave = self._window.enter(len(values), settled)
        partition = self._turn % self._partitions
        self._turn += 1
        self._loop.soon(self._calls.put_nowait, (partition, values, leave))

    async def _do(self) -> None:
        try:
            while (call := await self._calls.get()) is not None:
                await self._publish(*call)
        except Exception as error:
            # Nobody waits for this coroutine; whoever sends next gets the error.
            self._window.fail(error)

    def finish(self) -> None:
        """Wait until all is settled. Raises what publishing raised."""
        self._window.empty()
        self._loop.soon(self._calls.put_nowait, None)
        self._doing.result(ASK_S_MAX)


class Inbox:
    """Records that came in the loop's thread, until the load test's thread takes them."""

    def __init__(self) -> None:
        self._records: list[tuple[int, bytes]] = []
        self._some = threading.Event()

    def put(self, partition: int, value: bytes) -> None:
        """One more; in the loop's thread."""
        self._records.append((partition, value))
        if not self._some.is_set():
            self._some.set()

    def take(self, timeout_s: float) -> list[tuple[int, bytes]]:
        """All that are there; waits for the first. In the other thread."""
        if not self._some.wait(timeout_s):
            return []
        # Cleared first: what is put from here on either is taken now, or sets it again.
        self._some.clear()
        count = len(self._records)
        records = self._records[:count]
        del self._records[:count]
        return records

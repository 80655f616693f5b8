"""The consumer for asyncio.

A thread of its own polls; the loop gets records in lists and hands them out one by one. What lies in such
a list is not yet the user's: its positions are held back from every commit.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar, Unpack

from odradek import consumer as sync
from odradek.consumer import Record
from odradek.fetcher import TopicPartition
from odradek.options import Bootstrap, ConsumerKeywords

RECORDS_PER_POLL: Final = 500
POLL_S: Final = 0.5
"""How long the thread waits at a time: cancelling or closing is never held up for longer."""

_Result = TypeVar("_Result")
_Callback: TypeAlias = Callable[[list[TopicPartition]], object]

_in_callback: contextvars.ContextVar[bool] = contextvars.ContextVar("odradek_in_callback", default=False)
"""Whether this code was called back: the consumer's thread waits for it and can do nothing else."""


class Consumer:
    """Reads records from coroutines; takes the options of odradek.Consumer.

    Iterate with ``async for``, or ``await poll()``. Its callbacks may be coroutine functions; they run in
    the event loop, and the rebalance waits for them: ``await consumer.commit()`` in on_revoked is in time.
    """

    def __init__(
        self, bootstrap: Bootstrap = "tcp://127.0.0.1:5559", **options: Unpack[ConsumerKeywords]
    ) -> None:
        options["on_assigned"] = self._bridge(options.get("on_assigned"))
        options["on_revoked"] = self._bridge(options.get("on_revoked"))
        options["on_lost"] = self._bridge(options.get("on_lost"))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sync = sync.Consumer(bootstrap, **options)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="odradek-aio-consumer")
        self._ahead: deque[Record] = deque()
        self._closed = False

    async def poll(self, timeout_s: float = 1.0, max_records: int = 500) -> list[Record]:
        """Up to ``max_records`` records; see odradek.Consumer.poll."""
        records: list[Record] = []
        while self._ahead and len(records) < max_records:
            records.append(self._ahead.popleft())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not records:
            left_s = max(0.0, deadline - loop.time())
            # In slices: a caller that is cancelled leaves the thread busy only for one of them, and what
            # that one brings is kept for the next call.
            await self._run(self._fill, min(left_s, POLL_S), max_records)
            while self._ahead and len(records) < max_records:
                records.append(self._ahead.popleft())
            if left_s <= 0:
                break
        return records

    def __aiter__(self) -> AsyncIterator[Record]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Record]:
        idle_timeout_s = self._sync.options.idle_timeout_s
        loop = asyncio.get_running_loop()
        arrived_at = loop.time()
        while not self._closed:
            if not self._ahead:
                left_s = POLL_S
                if idle_timeout_s is not None:
                    left_s = min(POLL_S, arrived_at + idle_timeout_s - loop.time())
                    if left_s <= 0:
                        return
                await self._run(self._fill, left_s, RECORDS_PER_POLL)
                arrived_at = loop.time() if self._ahead else arrived_at
            elif self._sync.needs_care:
                await self._run(self._care)
            if self._ahead:
                yield self._ahead.popleft()

    # -- in the consumer's thread --------------------------------------------------------------

    def _fill(self, timeout_s: float, records_max: int) -> None:
        if not self._ahead and not self._closed:
            self._sync.hold({})
            self._ahead.extend(self._sync.poll(timeout_s, records_max))

    def _care(self) -> None:
        """Rebalance and commit between two records; drop what is not this member's any more."""
        self._hold()
        kept = self._sync.take_care()
        self._ahead = deque(
            record for record in self._ahead if TopicPartition(record.topic, record.partition) in kept
        )
        self._hold()

    def _hold(self) -> None:
        held: dict[TopicPartition, int] = {}
        for record in self._ahead:
            held.setdefault(TopicPartition(record.topic, record.partition), record.offset)
        self._sync.hold(held)

    def _held(self, function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        self._hold()
        return function(*arguments, **options)

    async def _run(self, function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        self._loop = loop = asyncio.get_running_loop()
        thread = None if _in_callback.get() else self._thread
        return await loop.run_in_executor(thread, lambda: function(*arguments, **options))

    def _bridge(self, callback: _Callback | None) -> _Callback | None:
        """The same callback for the consumer's thread, which waits until the loop has run it."""
        if callback is None:
            return None

        async def run(partitions: list[TopicPartition]) -> None:
            _in_callback.set(True)
            result = callback(partitions)
            if inspect.isawaitable(result):
                await result

        def bridged(partitions: list[TopicPartition]) -> None:
            assert self._loop is not None, "callbacks come out of calls, and each call notes its loop"
            asyncio.run_coroutine_threadsafe(run(partitions), self._loop).result()

        return bridged

    async def _move(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """A call that changes what comes next: records that were polled ahead are handed back first."""
        return await self._run(self._rewind_and, function, *arguments)

    def _rewind_and(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        self._hold()
        self._sync.rewind_held()
        self._ahead.clear()
        return function(*arguments)

    # -- the rest, as odradek.Consumer ---------------------------------------------------------

    async def commit(
        self, offsets: Mapping[TopicPartition, int] | None = None, *, wait: bool = True
    ) -> dict[TopicPartition, int]:
        """Store positions in the group; see odradek.Consumer.commit."""
        return await self._run(self._held, self._sync.commit, offsets, wait=wait)

    async def committed(self, *partitions: TopicPartition) -> dict[TopicPartition, int | None]:
        """The group's committed offset of each, None where there is none."""
        return await self._run(self._sync.committed, *partitions)

    async def position(self, partition: TopicPartition) -> int:
        """The offset of the next record that will be handed out."""
        return await self._run(self._held, self._sync.position, partition)

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at ``offset``."""
        await self._move(self._sync.seek, partition, offset)

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on at the first record that is kept."""
        await self._move(self._sync.seek_to_beginning, *partitions)

    async def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on behind the last record."""
        await self._move(self._sync.seek_to_end, *partitions)

    async def pause(self, *partitions: TopicPartition) -> None:
        """Hand out nothing of these (or all) until ``resume``."""
        await self._move(self._sync.pause, *partitions)

    async def resume(self, *partitions: TopicPartition) -> None:
        """Hand out records of these (or all) again."""
        await self._run(self._sync.resume, *partitions)

    async def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these; see odradek.Consumer.assign."""
        await self._move(self._sync.assign, partitions)

    def assignment(self) -> set[TopicPartition]:
        """The partitions that this consumer reads now."""
        return self._sync.assignment()

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return self._sync.paused()

    async def beginning_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The first offset that is kept, of each."""
        return await self._run(self._sync.beginning_offsets, *partitions)

    async def end_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The offset after the last durable record, of each."""
        return await self._run(self._sync.end_offsets, *partitions)

    async def offsets_for_times(
        self, times: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int | None]:
        """The first offset at or after a time in milliseconds."""
        return await self._run(self._sync.offsets_for_times, times)

    async def lag(self, partition: TopicPartition) -> int:
        """How many records lie between the position and the end."""
        return await self._run(self._held, self._sync.lag, partition)

    async def close(self, timeout_s: float = 5.0) -> None:
        """Commit what was handed out, leave, close; see odradek.Consumer.close."""
        await self._close(timeout_s, done=True)

    async def _close(self, timeout_s: float, *, done: bool) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self._run(self._held, self._sync.close_after, timeout_s, done=done)
        finally:
            self._thread.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close(5.0, done=error is None)

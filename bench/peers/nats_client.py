"""The load test's client of NATS JetStream: as loadtest.clients.ClientModule. nats-py is made for asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from loadtest.clients import FLUSH_S_MAX, Settled
from loadtest.workload import Target, Workload

PENDING_MAX = 4_000
"""Messages that were published and not acknowledged."""
FETCH_MESSAGES = 500
ASK_S_MAX = 30.0


class _Loop:
    """An event loop in a thread of its own, for a client that is called without one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], timeout_s: float = ASK_S_MAX) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def _name(target: Target, partition: int) -> str:
    return f"{target.topic}-{partition}"


@contextmanager
def topic_of(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    """A stream of files for each partition."""
    loop = _Loop()
    connection = loop.run(nats.connect(target.address))
    context = connection.jetstream()
    for partition in range(partitions):
        name = _name(target, partition)
        loop.run(context.add_stream(StreamConfig(name=name, subjects=[name], storage=StorageType.FILE)))
    try:
        yield
    finally:
        if not keep:
            for partition in range(partitions):
                loop.run(context.delete_stream(_name(target, partition)))
        loop.run(connection.close())
        loop.close()


class ClientProducer:
    """Publishes without waiting, at most PENDING_MAX on their way; calls take the partitions in turn."""

    def __init__(self, target: Target, workload: Workload) -> None:
        self._loop = _Loop()
        self._connection = self._loop.run(nats.connect(target.address))
        self._context = self._connection.jetstream(publish_async_max_pending=PENDING_MAX)
        self._subjects = [_name(target, partition) for partition in range(workload.partitions)]
        self._turn = 0

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """As ProducerClient."""
        subject = self._subjects[self._turn % len(self._subjects)]
        self._turn += 1
        self._loop.run(self._publish(subject, values, settled), FLUSH_S_MAX)

    async def _publish(self, subject: str, values: Sequence[bytes], settled: Settled) -> None:
        last: Any = None
        for value in values:
            last = await self._context.publish_async(subject, value)
        count = len(values)
        last.add_done_callback(lambda future: settled(count, future.exception() is None))

    def finish(self) -> None:
        """As ProducerClient."""
        self._loop.run(self._context.publish_async_completed(), FLUSH_S_MAX)
        self._loop.run(self._connection.close())
        self._loop.close()


class ClientConsumer:
    """A pull consumer for each of its streams, without acknowledgements."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        self._loop = _Loop()
        self._connection = self._loop.run(nats.connect(target.address))
        self._subscriptions = {
            partition: self._loop.run(self._subscribe(_name(target, partition))) for partition in partitions
        }

    async def _subscribe(self, name: str) -> Any:
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
        return await self._connection.jetstream().pull_subscribe(name, stream=name, config=config)

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """As ConsumerClient."""
        return list(self._loop.run(self._fetch(timeout_s)))

    async def _fetch(self, timeout_s: float) -> list[tuple[int, Any]]:
        records: list[tuple[int, Any]] = []
        for partition, subscription in self._subscriptions.items():
            try:
                messages = await subscription.fetch(FETCH_MESSAGES, timeout=timeout_s)
            except nats.errors.TimeoutError:
                continue
            records += [(partition, message.data) for message in messages]
        return records

    def close(self) -> None:
        """As ConsumerClient."""
        self._loop.run(self._connection.close())
        self._loop.close()

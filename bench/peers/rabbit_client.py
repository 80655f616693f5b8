"""The load test's client of RabbitMQ Streams: as loadtest.clients.ClientModule. rstream is made for asyncio.

A partition is a stream, as in RabbitMQ's super streams. Messages are plain bytes: AMQP's encoding, which
rstream writes in Python, would be most of what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rstream
from rstream.utils import RawMessage

from bench.peers.event_loop import EventLoop, Inbox, Outbox
from loadtest.clients import FLUSH_S_MAX, Settled
from loadtest.workload import Target, Workload

USER = "guest"
PENDING_MAX = 10_000
"""Messages that were published and not confirmed."""
STREAMS_PER_CLIENT_MAX = 150
"""rstream numbers the publishers of a client up to 200."""
CREDIT_CHUNKS = 10


def _stream(target: Target, partition: int) -> str:
    return f"{target.topic}-{partition}"


def _where(target: Target) -> dict[str, Any]:
    host, _, port = target.address.partition(":")
    return {"host": host, "port": int(port), "username": USER, "password": USER}


async def _producer(target: Target) -> Any:
    producer = rstream.Producer(**_where(target))
    await producer.start()
    return producer


@contextmanager
def topic_of(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    """A stream for each partition."""
    loop = EventLoop()
    names = [_stream(target, partition) for partition in range(partitions)]
    loop.run(_create(target, names), FLUSH_S_MAX)
    try:
        yield
    finally:
        if not keep:
            loop.run(_delete(target, names), FLUSH_S_MAX)
        loop.close()


async def _create(target: Target, names: Sequence[str]) -> None:
    producer = await _producer(target)
    client = await producer.default_client
    for name in names:
        await client.create_stream(name, None)
    await producer.close()


async def _delete(target: Target, names: Sequence[str]) -> None:
    producer = await _producer(target)
    client = await producer.default_client
    for name in names:
        await client.delete_stream(name)
    await producer.close()


class _Publishing:
    """What is on its way to one stream. Confirmations come message by message, by their numbers."""

    def __init__(self, stream: str, producer: Any) -> None:
        self._stream = stream
        self._producer = producer
        self._number = 0
        self._last_of: dict[int, tuple[int, Settled]] = {}
        self._failed = 0

    async def publish(self, values: Sequence[bytes], settled: Settled) -> None:
        first = self._number + 1
        self._number += len(values)
        self._last_of[self._number] = (len(values), settled)
        messages = [RawMessage(value, number) for number, value in enumerate(values, first)]
        await self._producer.send_batch(self._stream, messages, on_publish_confirm=self.confirmed)

    def confirmed(self, status: Any) -> None:
        """The broker confirms a stream's messages in order, so the last of a call stands for all of it."""
        if not status.is_confirmed:
            self._failed += 1
        waiting = self._last_of.pop(status.message_id, None)
        if waiting is not None:
            count, settled = waiting
            failed, self._failed = min(self._failed, count), 0
            if count > failed:
                settled(count - failed, True)
            if failed:
                settled(failed, False)


class ClientProducer:
    """Publishes without waiting, at most PENDING_MAX on their way; calls take the streams in turn."""

    def __init__(self, target: Target, workload: Workload) -> None:
        self._loop = EventLoop()
        self._producers: list[Any] = []
        self._streams: list[_Publishing] = []
        self._loop.run(self._open(target, workload.partitions))
        self._outbox = Outbox(self._loop, workload.partitions, PENDING_MAX, self._publish)

    async def _open(self, target: Target, partitions: int) -> None:
        for partition in range(partitions):
            if partition % STREAMS_PER_CLIENT_MAX == 0:
                self._producers.append(await _producer(target))
            self._streams.append(_Publishing(_stream(target, partition), self._producers[-1]))

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """As ProducerClient."""
        self._outbox.send(values, settled)

    async def _publish(self, partition: int, values: Sequence[bytes], settled: Settled) -> None:
        await self._streams[partition].publish(values, settled)

    def finish(self) -> None:
        """As ProducerClient."""
        self._outbox.finish()
        self._loop.run(self._close(), FLUSH_S_MAX)
        self._loop.close()

    async def _close(self) -> None:
        for producer in self._producers:
            await producer.close()


class ClientConsumer:
    """Subscribes to each of its streams from the first message, with credit for CREDIT_CHUNKS chunks."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        self._loop = EventLoop()
        self._inbox = Inbox()
        self._unsubscribed = [(_stream(target, partition), partition) for partition in partitions]
        self._consumer = self._loop.run(self._open(target))

    async def _open(self, target: Target) -> Any:
        consumer = rstream.Consumer(**_where(target))
        await consumer.start()
        return consumer

    async def _subscribe_all(self) -> None:
        for stream, partition in self._unsubscribed:
            await self._subscribe(stream, partition)
        self._unsubscribed = []

    async def _subscribe(self, stream: str, partition: int) -> None:
        await self._consumer.subscribe(
            stream,
            lambda message, _context: self._inbox.put(partition, message),
            offset_specification=rstream.ConsumerOffsetSpecification(rstream.OffsetType.FIRST, None),
            initial_credit=CREDIT_CHUNKS,
        )

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """As ConsumerClient. The server sends from the moment of the subscription on."""
        if self._unsubscribed:
            self._loop.run(self._subscribe_all())
        return list(self._inbox.take(timeout_s))

    def close(self) -> None:
        """As ConsumerClient."""
        self._loop.run(self._consumer.close())
        self._loop.close()

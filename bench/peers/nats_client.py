"""The load test's client of NATS JetStream: as loadtest.clients.ClientModule. nats-py is made for asyncio.

A topic is one stream of files, a partition is a subject of it: so do its users.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nats
from nats.js.api import ConsumerConfig, StorageType, StreamConfig
from nats.js.errors import ServiceUnavailableError

from bench.peers.event_loop import EventLoop, Inbox, Outbox
from loadtest.clients import Settled
from loadtest.workload import Target, Workload

PENDING_MAX = 4_000
"""Messages that were published and not acknowledged."""
ATTEMPTS_MAX = 20
ATTEMPT_AGAIN_S = 0.25
ASK_S_MAX = 10.0


def _subject(target: Target, partition: int) -> str:
    return f"{target.topic}.{partition}"


async def _connect(target: Target) -> Any:
    return await nats.connect(target.address, connect_timeout=ASK_S_MAX, error_cb=_on_error)


async def _on_error(_error: Exception) -> None:
    """Instead of a traceback for each attempt to connect again; whoever asks for something gets an error."""


async def _insist(ask: Any) -> Any:
    """What ``ask()`` returns. JetStream answers "unavailable" while it is busy or only just starts."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return await ask()
        except (ServiceUnavailableError, nats.errors.NoRespondersError, nats.errors.TimeoutError):
            if attempt == ATTEMPTS_MAX:
                raise
            await asyncio.sleep(ATTEMPT_AGAIN_S)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def topic_of(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    """A stream of files with a subject for each partition."""
    loop = EventLoop()
    connection = loop.run(_connect(target))
    context = connection.jetstream(timeout=ASK_S_MAX)
    subjects = [_subject(target, partition) for partition in range(partitions)]
    config = StreamConfig(name=target.topic, subjects=subjects, storage=StorageType.FILE)
    loop.run(_insist(lambda: context.add_stream(config)))
    try:
        yield
    finally:
        if not keep:
            loop.run(_insist(lambda: context.delete_stream(target.topic)))
        loop.run(connection.close())
        loop.close()


class ClientProducer:
    """Publishes without waiting, at most PENDING_MAX on their way; calls take the partitions in turn."""

    def __init__(self, target: Target, workload: Workload) -> None:
        self._loop = EventLoop()
        self._connection = self._loop.run(_connect(target))
        self._context = self._connection.jetstream(publish_async_max_pending=PENDING_MAX, timeout=ASK_S_MAX)
        self._subjects = [_subject(target, partition) for partition in range(workload.partitions)]
        self._outbox = Outbox(self._loop, workload.partitions, PENDING_MAX, self._publish)

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """As ProducerClient."""
        self._outbox.send(values, settled)

    async def _publish(self, partition: int, values: Sequence[bytes], settled: Settled) -> None:
        subject = self._subjects[partition]
        futures = [await self._context.publish_async(subject, value) for value in values]
        futures[-1].add_done_callback(lambda _: _settle(futures, settled))

    def finish(self) -> None:
        """As ProducerClient."""
        self._outbox.finish()
        self._loop.run(self._connection.close())
        self._loop.close()


def _settle(futures: Sequence[Any], settled: Settled) -> None:
    """The last one is answered, and so are those before it: a connection's answers come in order."""
    acknowledged = sum(1 for future in futures if future.done() and future.exception() is None)
    if acknowledged:
        settled(acknowledged, True)
    if acknowledged < len(futures):
        settled(len(futures) - acknowledged, False)


class ClientConsumer:
    """An ordered push consumer: the server sends on, flow control holds it back, no acknowledgements."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        self._loop = EventLoop()
        self._inbox = Inbox()
        self._partitions = {_subject(target, partition): partition for partition in partitions}
        self._connection = self._loop.run(_connect(target))
        self._target = target
        self._subscribed = False

    async def _subscribe(self) -> None:
        target = self._target
        context = self._connection.jetstream(timeout=ASK_S_MAX)
        stream = await context.stream_info(target.topic)
        config = ConsumerConfig()
        if set(stream.config.subjects) != set(self._partitions):
            config.filter_subjects = list(self._partitions)
        await context.subscribe(
            f"{target.topic}.*", stream=target.topic, config=config, ordered_consumer=True, cb=self._note
        )

    async def _note(self, message: Any) -> None:
        self._inbox.put(self._partitions[message.subject], message.data)

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """As ConsumerClient. The server sends from the moment of the subscription on."""
        if not self._subscribed:
            self._loop.run(_insist(self._subscribe))
            self._subscribed = True
        return list(self._inbox.take(timeout_s))

    def close(self) -> None:
        """As ConsumerClient."""
        self._loop.run(self._connection.close())
        self._loop.close()

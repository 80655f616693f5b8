"""The load test's client of Redis Streams: as loadtest.clients.ClientModule.

XADDs go out without waiting for the replies of those before, so that the server, which syncs once for all
that it read from its sockets, can write many with one sync. redis-py has no call for that; its connection
has.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from bench.peers.window import Window
from loadtest.clients import FLUSH_S_MAX, POLL_RECORDS_MAX, Settled
from loadtest.workload import Target, Workload

FIELD = b"v"
PENDING_MAX = 10_000
"""XADDs without a reply. A call with more of them waits until it is alone on its way."""
DELETED_AT_ONCE_MAX = 500


def _connect(target: Target) -> Any:
    host, _, port = target.address.partition(":")
    return redis.Redis(host=host, port=int(port))


def _connection(host: str, port: int) -> Any:
    connection: Any = redis.Connection  # it has no types
    return connection(host=host, port=port, protocol=2, socket_timeout=FLUSH_S_MAX)


def _stream(target: Target, partition: int) -> bytes:
    return f"{target.topic}-{partition}".encode()


@contextmanager
def topic_of(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    """Streams come with their first entry."""
    yield
    if keep:
        return
    client = _connect(target)
    streams = [_stream(target, partition) for partition in range(partitions)]
    for first in range(0, partitions, DELETED_AT_ONCE_MAX):
        client.delete(*streams[first : first + DELETED_AT_ONCE_MAX])
    client.close()


class ClientProducer:
    """Sends without waiting, at most PENDING_MAX on their way; calls take the partitions in turn."""

    def __init__(self, target: Target, workload: Workload) -> None:
        host, _, port = target.address.partition(":")
        connection: Any = redis.Connection  # which has no types
        self._connection = connection(host=host, port=int(port), protocol=2, socket_timeout=FLUSH_S_MAX)
        self._connection.connect()
        self._streams = [_stream(target, partition) for partition in range(workload.partitions)]
        self._turn = 0
        self._window = Window(PENDING_MAX)
        self._sent: queue.SimpleQueue[tuple[int, Settled] | None] = (
            queue.SimpleQueue()
        )  # the window bounds it
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """As ProducerClient."""
        stream = self._streams[self._turn % len(self._streams)]
        self._turn += 1
        self._sent.put((len(values), self._window.enter(len(values), settled)))
        commands = [(b"XADD", stream, b"*", FIELD, value) for value in values]
        self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)

    def _read(self) -> None:
        try:
            while (sent := self._sent.get()) is not None:
                self._replies(*sent)
        except Exception as error:
            # In a thread of its own nobody would see it; whoever sends next gets it.
            self._window.fail(error)

    def _replies(self, count: int, settled: Settled) -> None:
        failed = 0
        for _ in range(count):
            try:
                self._connection.read_response(disable_decoding=True, disconnect_on_error=False)
            except (redis.ResponseError, redis.exceptions.BusyLoadingError):
                failed += 1
        if count > failed:
            settled(count - failed, True)
        if failed:
            settled(failed, False)

    def finish(self) -> None:
        """As ProducerClient."""
        self._window.empty()
        self._sent.put(None)
        self._reader.join()
        self._connection.disconnect()


class ClientConsumer:
    """XREAD of its streams from their start."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        self._redis = _connect(target)
        self._partitions = {_stream(target, partition): partition for partition in partitions}
        self._last: dict[bytes, bytes] = dict.fromkeys(self._partitions, b"0-0")

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """As ConsumerClient. redis-py brings a dict or pairs, as the protocol's version has it."""
        found = self._redis.xread(self._last, count=POLL_RECORDS_MAX, block=max(1, int(timeout_s * 1000)))
        records: list[tuple[int, Any]] = []
        for stream, entries in found.items() if isinstance(found, dict) else found:
            partition = self._partitions[stream]
            records += [(partition, fields[FIELD]) for _, fields in entries]
            self._last[stream] = entries[-1][0]
        return records

    def close(self) -> None:
        """As ConsumerClient."""
        self._redis.close()

"""The load test's client of Redis Streams: as loadtest.clients.ClientModule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from loadtest.clients import POLL_RECORDS_MAX, Settled
from loadtest.workload import Target, Workload

FIELD = b"v"


def _connect(target: Target) -> Any:
    host, _, port = target.address.partition(":")
    return redis.Redis(host=host, port=int(port))


def _stream(target: Target, partition: int) -> bytes:
    return f"{target.topic}-{partition}".encode()


@contextmanager
def topic_of(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    """Streams come with their first entry."""
    yield
    if not keep:
        _connect(target).delete(*(_stream(target, partition) for partition in range(partitions)))


class ClientProducer:
    """A call is one pipeline; calls take the partitions in turn."""

    def __init__(self, target: Target, workload: Workload) -> None:
        self._redis = _connect(target)
        self._streams = [_stream(target, partition) for partition in range(workload.partitions)]
        self._turn = 0

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """As ProducerClient; waits for the replies, because this client has no other way."""
        stream = self._streams[self._turn % len(self._streams)]
        self._turn += 1
        pipeline = self._redis.pipeline(transaction=False)
        for value in values:
            pipeline.xadd(stream, {FIELD: value})
        pipeline.execute()
        settled(len(values), True)

    def finish(self) -> None:
        """As ProducerClient."""
        self._redis.close()


class ClientConsumer:
    """XREAD of its streams from their start."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        self._redis = _connect(target)
        self._partitions = {_stream(target, partition): partition for partition in partitions}
        self._last: dict[bytes, bytes] = dict.fromkeys(self._partitions, b"0-0")

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """As ConsumerClient."""
        found = self._redis.xread(self._last, count=POLL_RECORDS_MAX, block=max(1, int(timeout_s * 1000)))
        records: list[tuple[int, Any]] = []
        for stream, entries in found:
            partition = self._partitions[stream]
            records += [(partition, fields[FIELD]) for _, fields in entries]
            self._last[stream] = entries[-1][0]
        return records

    def close(self) -> None:
        """As ConsumerClient."""
        self._redis.close()

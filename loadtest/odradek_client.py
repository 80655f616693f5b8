"""The client of our own SDK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from loadtest.clients import BUFFER_BYTES, FLUSH_S_MAX, POLL_RECORDS_MAX, LookedUp, Polled, Settled
from loadtest.workload import Target, Workload
from odradek import Admin, Consumer, Producer, Record, TopicPartition

REACH_TIMEOUT_MS: Final = 10_000
"""Who does not answer so soon is not there; making a topic may take longer."""
TOPIC_TIMEOUT_MS: Final = 150_000
"""A thousand partitions are a thousand processes to start."""


@contextmanager
def topic_of(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    """As clients.ClientModule."""
    with Admin(target.address, timeout_ms=REACH_TIMEOUT_MS) as admin:
        admin.metadata([])
    with Admin(target.address, timeout_ms=TOPIC_TIMEOUT_MS) as admin:
        admin.create_topic(target.topic, partitions)
        try:
            yield
        finally:
            if not keep:
                admin.delete_topics([target.topic])


class ClientProducer:
    """Our own SDK."""

    def __init__(self, target: Target, workload: Workload) -> None:
        self._topic = target.topic
        self._answers = workload.acks != "0"
        self._producer = Producer(
            target.address,
            acks=workload.acks if workload.acks == "all" else (1 if workload.acks == "1" else 0),
            compression=workload.compression,  # type: ignore[arg-type]
            linger_ms=workload.linger_ms,
            buffer_bytes_max=BUFFER_BYTES,
        )
        self._producer.partitions_for(self._topic)

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """As ProducerClient."""
        count = len(values)
        if count == 1:
            last = self._producer.send(self._topic, values[0], key=keys[0] if keys else None)
        else:
            last = self._producer.send_many(self._topic, values, keys=keys)[-1]
        if self._answers:
            last.add_done_callback(lambda delivery: settled(count, delivery.exception(0) is None))
        else:
            settled(count, True)

    def finish(self) -> None:
        """As ProducerClient."""
        self._producer.close(FLUSH_S_MAX)


def _look(record: Record) -> tuple[int, Any]:
    return record.partition, record.value


class ClientConsumer:
    """Our own SDK."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        self._consumer = Consumer(target.address, auto_offset_reset="earliest")
        self._unassigned = [TopicPartition(target.topic, partition) for partition in partitions]

    def poll(self, timeout_s: float) -> Polled:
        """As ConsumerClient."""
        if self._unassigned:
            # Not before: the consumer begins to fetch at once.
            self._consumer.assign(self._unassigned)
            self._unassigned = []
        return LookedUp(self._consumer.poll(timeout_s, POLL_RECORDS_MAX), _look)

    def close(self) -> None:
        """As ConsumerClient."""
        self._consumer.close()

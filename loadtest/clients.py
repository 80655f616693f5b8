"""Clients: one narrow face for our SDK and for any Kafka client, so that both carry the same workload."""

# ruff: noqa: PLC0415  # the client that is not used is not imported

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from loadtest.workload import Target, Workload

Settled = Callable[[int, bool], None]
"""Called with how many records were settled, and whether they were acknowledged."""
BUFFER_BYTES: Final = 64 << 20
FETCH_BYTES: Final = 1 << 20
QUEUE_MESSAGES_MAX: Final = 500_000
POLL_RECORDS_MAX: Final = 10_000
FLUSH_S_MAX: Final = 120.0
BATCH_BYTES: Final = 1_000_000
SHORT_WAIT_S: Final = 0.05


class MissingClientError(RuntimeError):
    """The package for this kind of broker is not installed."""


class ProducerClient(Protocol):
    """Sends; tells of acknowledgements by the callback that came with the records."""

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """Take the records; may wait for room. ``settled`` may be called from another thread."""

    def finish(self) -> None:
        """Wait until every record is settled, then close."""


class ConsumerClient(Protocol):
    """Reads some partitions from their start."""

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """(partition, value) of some records, in order within a partition."""

    def close(self) -> None:
        """End."""


def new_producer(target: Target, workload: Workload) -> ProducerClient:
    """The producer for this target."""
    return KafkaProducer(target, workload) if target.kafka else OdradekProducer(target, workload)


def new_consumer(target: Target, partitions: Sequence[int]) -> ConsumerClient:
    """The consumer for this target."""
    return KafkaConsumer(target, partitions) if target.kafka else OdradekConsumer(target, partitions)


class OdradekProducer:
    """Our own SDK."""

    def __init__(self, target: Target, workload: Workload) -> None:
        from odradek import Producer

        assert target.bootstrap is not None
        self._topic = target.topic
        self._answers = workload.acks != "0"
        self._producer = Producer(
            target.bootstrap,
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


class OdradekConsumer:
    """Our own SDK."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        from odradek import Consumer, TopicPartition

        assert target.bootstrap is not None
        self._consumer = Consumer(target.bootstrap, auto_offset_reset="earliest")
        self._consumer.assign([TopicPartition(target.topic, partition) for partition in partitions])

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """As ConsumerClient."""
        return [
            (record.partition, record.value) for record in self._consumer.poll(timeout_s, POLL_RECORDS_MAX)
        ]

    def close(self) -> None:
        """As ConsumerClient."""
        self._consumer.close()


def confluent() -> Any:
    try:
        import confluent_kafka
    except ImportError:
        raise MissingClientError(
            "--kafka needs the confluent-kafka package: pip install confluent-kafka"
        ) from None
    return confluent_kafka


class KafkaProducer:
    """librdkafka, by confluent-kafka, with settings that match those of our SDK."""

    def __init__(self, target: Target, workload: Workload) -> None:
        self._topic = target.topic
        self._producer = confluent().Producer(
            {
                "bootstrap.servers": target.kafka,
                "acks": workload.acks,
                "enable.idempotence": workload.acks == "all",
                "compression.type": workload.compression,
                "linger.ms": workload.linger_ms,
                "batch.size": BATCH_BYTES,
                "batch.num.messages": 10_000,
                "queue.buffering.max.messages": QUEUE_MESSAGES_MAX,
                "queue.buffering.max.kbytes": BUFFER_BYTES >> 10,
            }
        )

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """As ProducerClient."""
        count = len(values)
        for position, value in enumerate(values):
            options: dict[str, Any] = {} if keys is None else {"key": keys[position]}
            if position == count - 1:
                options["on_delivery"] = lambda error, _message: settled(count, error is None)
            self._produce(value, options)
        self._producer.poll(0)

    def _produce(self, value: bytes, options: dict[str, Any]) -> None:
        give_up_at = time.monotonic() + FLUSH_S_MAX
        while True:
            try:
                self._producer.produce(self._topic, value, **options)
                return
            except BufferError:
                if time.monotonic() > give_up_at:
                    raise
                self._producer.poll(SHORT_WAIT_S)

    def finish(self) -> None:
        """As ProducerClient."""
        self._producer.flush(FLUSH_S_MAX)


class KafkaConsumer:
    """librdkafka, by confluent-kafka."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        package = confluent()
        self._error: Any = package.KafkaException
        self._consumer = package.Consumer(
            {
                "bootstrap.servers": target.kafka,
                "group.id": f"{target.topic}-readers",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": FETCH_BYTES,
                "fetch.wait.max.ms": 500,
            }
        )
        self._consumer.assign(
            [package.TopicPartition(target.topic, partition, 0) for partition in partitions]
        )

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """As ConsumerClient."""
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(POLL_RECORDS_MAX, 0)]
        for message in messages:
            if message.error():
                raise self._error(message.error())
        return [(message.partition(), message.value()) for message in messages]

    def close(self) -> None:
        """As ConsumerClient."""
        self._consumer.close()

"""The client of any Kafka broker: librdkafka, by confluent-kafka."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from loadtest.clients import (
    BATCH_BYTES,
    BUFFER_BYTES,
    FETCH_BYTES,
    FLUSH_S_MAX,
    POLL_RECORDS_MAX,
    SHORT_WAIT_S,
    LookedUp,
    Polled,
    Settled,
    UnusableTargetError,
)
from loadtest.workload import Target, Workload

QUEUE_MESSAGES_MAX: Final = 500_000
TOPIC_TIMEOUT_S: Final = 60.0
REACH_TIMEOUT_S: Final = 10.0
LOG_EMERGENCIES: Final = 0
"""librdkafka writes each failed attempt to stderr; what failed is said once, by an exception."""


def confluent(module: str = "confluent_kafka") -> Any:
    """The package, or one of its modules. Raises UnusableTargetError."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UnusableTargetError(
            "a Kafka broker needs the confluent-kafka package: pip install confluent-kafka"
        ) from None


@contextmanager
def topic_of(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    """As clients.ClientModule."""
    package = confluent("confluent_kafka.admin")
    admin = package.AdminClient({"bootstrap.servers": target.address, "log_level": LOG_EMERGENCIES})
    _reach(admin, target.address)
    made = admin.create_topics(
        [package.NewTopic(target.topic, partitions, 1)], operation_timeout=TOPIC_TIMEOUT_S
    )
    try:
        made[target.topic].result(TOPIC_TIMEOUT_S)
    except confluent().KafkaException as error:
        raise UnusableTargetError(
            f"{target.address} did not make the topic {target.topic}: {error.args[0].str()}"
        ) from None
    try:
        yield
    finally:
        if not keep:
            gone = admin.delete_topics([target.topic], operation_timeout=TOPIC_TIMEOUT_S)
            gone[target.topic].result(TOPIC_TIMEOUT_S)


def _reach(admin: Any, address: str) -> None:
    """Raises UnusableTargetError where nobody answers."""
    try:
        admin.list_topics(timeout=REACH_TIMEOUT_S)
    except confluent().KafkaException as error:
        raise UnusableTargetError(
            f"no Kafka broker answers at {address} within {REACH_TIMEOUT_S:g} s "
            f"({error.args[0].str()}); is it running, and is its listener plaintext?"
        ) from None


class ClientProducer:
    """librdkafka, by confluent-kafka, with settings that match those of our SDK."""

    def __init__(self, target: Target, workload: Workload) -> None:
        self._topic = target.topic
        self._producer = confluent().Producer(
            {
                "bootstrap.servers": target.address,
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


def _look(message: Any) -> tuple[int, Any]:
    return message.partition(), message.value()


class ClientConsumer:
    """librdkafka, by confluent-kafka."""

    def __init__(self, target: Target, partitions: Sequence[int]) -> None:
        package = confluent()
        self._error: Any = package.KafkaException
        self._consumer = package.Consumer(
            {
                "bootstrap.servers": target.address,
                "group.id": f"{target.topic}-readers",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": FETCH_BYTES,
                "fetch.wait.max.ms": 500,
            }
        )
        self._unassigned = [package.TopicPartition(target.topic, partition, 0) for partition in partitions]

    def poll(self, timeout_s: float) -> Polled:
        """As ConsumerClient."""
        if self._unassigned:
            # Not before: librdkafka begins to fetch at once.
            self._consumer.assign(self._unassigned)
            self._unassigned = []
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(POLL_RECORDS_MAX, 0)]
        for message in messages:
            if message.error():
                raise self._error(message.error())
        return LookedUp(messages, _look)

    def close(self) -> None:
        """As ConsumerClient."""
        self._consumer.close()

"""The roles of the benchmark of the gateway, each in a process of its own; confluent-kafka does the work.

``python -m bench.kafka_roles produce ADDRESS RECORDS`` with the address ``sink`` writes to the mock cluster
that librdkafka brings along: nothing is stored and nothing travels, so that is what the client itself can do.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import confluent_kafka
from confluent_kafka import TopicPartition

from bench.targets import percentile
from bench.worker import say

VALUE = b"x" * 100
TOPIC = "bench"
SINK = "sink"
FLUSH_SECONDS_MAX = 120
READ_SECONDS_MAX = 120
PER_SECOND = 1_000
RECORDS_PER_READ = 50_000


def _producer(address: str, **config: Any) -> confluent_kafka.Producer:
    where = {"test.mock.num.brokers": 1} if address == SINK else {"bootstrap.servers": address}
    return confluent_kafka.Producer({**where, "acks": "all", "log_level": 2, **config})


def produce(address: str, records: int) -> None:
    """As many records as the client can bring out, every one acknowledged."""
    producer = _producer(
        address,
        **{
            "linger.ms": 10,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
            "batch.num.messages": 10_000,
        },
    )
    producer.produce(TOPIC, VALUE)
    producer.flush(FLUSH_SECONDS_MAX)
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(records):
        producer.produce(TOPIC, VALUE)
    left = producer.flush(FLUSH_SECONDS_MAX)
    seconds = time.perf_counter() - begun_s
    if left:
        raise RuntimeError(f"{left} records were not acknowledged in {FLUSH_SECONDS_MAX} s")
    say(records_per_s=records / seconds, cpu_s=time.process_time() - cpu_s)


def consume(address: str, records: int) -> None:
    """As many records, from the start.

    With its default of 100,000 records read ahead, librdkafka pauses for a second each time it has these.
    """
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "bench",
            "enable.auto.commit": False,
            "queued.min.messages": 1_000_000,
            "log_level": 2,
        }
    )
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    read = 0
    begun_s = time.perf_counter()
    while read < records:
        read += len(consumer.consume(min(RECORDS_PER_READ, records - read), timeout=1))
        if time.perf_counter() - begun_s > READ_SECONDS_MAX:
            raise RuntimeError(f"{read} of {records} records were read in {READ_SECONDS_MAX} s")
    seconds = time.perf_counter() - begun_s
    consumer.close()
    say(records_per_s=records / seconds)


def paced(address: str, seconds: int) -> None:
    """1,000 records a second, one a request; how long each took from the moment that it was due."""
    producer = _producer(address, **{"linger.ms": 0})
    producer.produce(TOPIC, VALUE)
    producer.flush(FLUSH_SECONDS_MAX)
    took_ms: list[float] = []
    done = threading.Event()

    def take_deliveries() -> None:
        while not done.is_set():
            producer.poll(0.1)

    # A thread of its own: librdkafka's timeouts are whole milliseconds, and a busy loop takes a core.
    taking = threading.Thread(target=take_deliveries)
    taking.start()
    begun_s = time.perf_counter()
    for number in range(PER_SECOND * seconds):
        due_s = begun_s + number / PER_SECOND
        if (wait_s := due_s - time.perf_counter()) > 0:
            time.sleep(wait_s)

        def delivered(_error: object, _message: object, due_s: float = due_s) -> None:
            took_ms.append((time.perf_counter() - due_s) * 1000)

        producer.produce(TOPIC, VALUE, on_delivery=delivered)
    producer.flush(FLUSH_SECONDS_MAX)
    done.set()
    taking.join()
    say(p50_ms=percentile(took_ms, 50), p99_ms=percentile(took_ms, 99), requests=len(took_ms))


if __name__ == "__main__":
    role, where, count = sys.argv[1:]
    {"produce": produce, "consume": consume, "paced": paced}[role](where, int(count))

"""What is measured of the SDK, each role in a process of its own: ``send``, ``send-many``, ``consume``."""

from __future__ import annotations

import argparse
import itertools
import time

from bench.records import values
from bench.worker import say
from odradek import Consumer, Producer, TopicPartition

SEND_MANY_CHUNK = 10_000


def send(bootstrap: str, topic: str, record_count: int) -> None:
    """One call of ``send`` for each record; the clock stops when all are acknowledged."""
    pool = values()
    rounds, rest = divmod(record_count - 1, len(pool))
    with Producer(bootstrap) as producer:
        producer.send(topic, b"warm up").result(30)
        begun = time.perf_counter()
        send_one = producer.send
        for values_of_round in [*itertools.repeat(pool, rounds), pool[:rest]]:
            for value in values_of_round:
                send_one(topic, value)
        last = send_one(topic, pool[rest])
        producer.flush()
        last.result(30)
        say(records=record_count, seconds=time.perf_counter() - begun)


def send_many(bootstrap: str, topic: str, record_count: int) -> None:
    """Chunks of SEND_MANY_CHUNK values; the clock stops when all are acknowledged."""
    chunk = list(itertools.islice(itertools.cycle(values()), SEND_MANY_CHUNK))
    with Producer(bootstrap) as producer:
        producer.send(topic, b"warm up").result(30)
        begun = time.perf_counter()
        for start in range(0, record_count, SEND_MANY_CHUNK):
            producer.send_many(topic, chunk[: record_count - start])
        producer.flush()
        say(records=record_count, seconds=time.perf_counter() - begun)


def consume(bootstrap: str, topic: str, record_count: int) -> None:
    """Iterate from the start and touch each record's offset, key and value."""
    seen, value_bytes = 0, 0
    with Consumer(bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        begun = time.perf_counter()
        for record in consumer:
            if record.offset != seen or record.key is not None or record.value is None:
                raise RuntimeError(f"record {seen} came back as offset {record.offset}")
            value_bytes += len(record.value)
            seen += 1
            if seen == record_count:
                break
        say(records=seen, seconds=time.perf_counter() - begun, value_bytes=value_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description="A role of the path through the SDK.")
    roles = {"send": send, "send-many": send_many, "consume": consume}
    parser.add_argument("role", choices=roles)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    roles[options.role](options.bootstrap, options.topic, options.records)


if __name__ == "__main__":
    main()

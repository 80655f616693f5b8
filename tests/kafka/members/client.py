"""A client in Python that does one thing: ``client.py LIBRARY MODE BOOTSTRAP TOPIC [ARGUMENT ...]``.

``produce CODEC IDEMPOTENT``: the lines of its input to partition 0; says "acked N" as it goes.
``read COUNT``: says so many values of partition 0, from its start.
``offsets MILLISECONDS``: says the first offset, the end, and the first that is not older.
``admin``: makes a topic of 3 partitions, says how many it sees, has 5 made of them, deletes it.
The programs of other languages beside this one do the same.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Iterator
from typing import Any

WAIT_S = 60.0
RETENTION = {"retention.ms": "60000"}


def lines() -> Iterator[bytes]:
    for line in sys.stdin.buffer:
        yield line.rstrip(b"\n")


def say(*words: object) -> None:
    print(*words, flush=True)


class KafkaPython:
    """kafka-python."""

    def produce(self, bootstrap: str, topic: str, codec: str, idempotent: str) -> None:
        import kafka  # noqa: PLC0415

        producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent == "1",
            retry_backoff_ms=50,
            linger_ms=5,
        )
        acked = 0
        sent = []
        for line in lines():
            sent.append(producer.send(topic, line, partition=0))
            if len(sent) >= 50:
                acked += len([future.get(WAIT_S) for future in sent])
                sent = []
                say("acked", acked)
        acked += len([future.get(WAIT_S) for future in sent])
        say("acked", acked)
        producer.close()

    def _consumer(self, bootstrap: str) -> Any:
        import kafka  # noqa: PLC0415

        return kafka.KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest")

    def read(self, bootstrap: str, topic: str, count: str) -> None:
        import kafka  # noqa: PLC0415

        consumer = self._consumer(bootstrap)
        consumer.assign([kafka.TopicPartition(topic, 0)])
        for _, record in zip(range(int(count)), consumer, strict=False):
            say(record.value.decode())
        consumer.close()

    def offsets(self, bootstrap: str, topic: str, milliseconds: str) -> None:
        import kafka  # noqa: PLC0415

        place = kafka.TopicPartition(topic, 0)
        consumer = self._consumer(bootstrap)
        first, end = consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]
        say(first, end, consumer.offsets_for_times({place: int(milliseconds)})[place].offset)
        consumer.close()

    def admin(self, bootstrap: str, topic: str) -> None:
        import kafka.admin as api  # noqa: PLC0415

        admin = api.KafkaAdminClient(bootstrap_servers=bootstrap)
        admin.create_topics([api.NewTopic(topic, 3, 1, topic_configs=RETENTION)])
        say("created", len(admin.describe_topics([topic])[0]["partitions"]))
        admin.create_partitions({topic: api.NewPartitions(5)})
        say("grown", len(admin.describe_topics([topic])[0]["partitions"]))
        admin.delete_topics([topic])
        say("deleted", topic not in admin.list_topics())
        admin.close()


class Aiokafka:
    """aiokafka."""

    def produce(self, *words: str) -> None:
        asyncio.run(self._produce(*words))

    async def _produce(self, bootstrap: str, topic: str, codec: str, idempotent: str) -> None:
        import aiokafka  # noqa: PLC0415

        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent == "1",
            retry_backoff_ms=50,
            linger_ms=5,
        )
        await producer.start()
        acked = 0
        sent = []
        source = lines()
        while (line := await asyncio.to_thread(next, source, None)) is not None:
            sent.append(await producer.send(topic, line, partition=0))
            if len(sent) >= 50:
                acked += len(await asyncio.wait_for(asyncio.gather(*sent), WAIT_S))
                sent = []
                say("acked", acked)
        acked += len(await asyncio.wait_for(asyncio.gather(*sent), WAIT_S))
        say("acked", acked)
        await producer.stop()

    def read(self, bootstrap: str, topic: str, count: str) -> None:
        async def run() -> None:
            import aiokafka  # noqa: PLC0415

            consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
            consumer.assign([aiokafka.TopicPartition(topic, 0)])
            await consumer.start()
            for _ in range(int(count)):
                say((await asyncio.wait_for(consumer.getone(), WAIT_S)).value.decode())
            await consumer.stop()

        asyncio.run(run())

    def offsets(self, bootstrap: str, topic: str, milliseconds: str) -> None:
        async def run() -> None:
            import aiokafka  # noqa: PLC0415

            place = aiokafka.TopicPartition(topic, 0)
            consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap)
            await consumer.start()
            first, end = await consumer.beginning_offsets([place]), await consumer.end_offsets([place])
            timed = await consumer.offsets_for_times({place: int(milliseconds)})
            say(first[place], end[place], timed[place].offset)
            await consumer.stop()

        asyncio.run(run())

    def admin(self, bootstrap: str, topic: str) -> None:
        async def run() -> None:
            import aiokafka.admin as api  # noqa: PLC0415

            admin = api.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            await admin.create_topics([api.NewTopic(topic, 3, 1, topic_configs=RETENTION)])
            say("created", len((await admin.describe_topics([topic]))[0]["partitions"]))
            await admin.create_partitions({topic: api.NewPartitions(5)})
            say("grown", len((await admin.describe_topics([topic]))[0]["partitions"]))
            await admin.delete_topics([topic])
            say("deleted", topic not in await admin.list_topics())
            await admin.close()

        asyncio.run(run())


def main() -> None:
    warnings.simplefilter("ignore")
    library: Any = {"kafka-python": KafkaPython, "aiokafka": Aiokafka}[sys.argv[1]]()
    getattr(library, sys.argv[2])(*sys.argv[3:])


if __name__ == "__main__":
    main()

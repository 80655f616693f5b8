"""The clients for asyncio, with the names and options of the synchronous ones.

    async with Producer("tcp://127.0.0.1:5559") as producer:
        delivery = await producer.send("events", b"hello")   # taken
        metadata = await delivery                            # acknowledged

    async with Consumer("tcp://127.0.0.1:5559", group="readers", topics=["events"]) as consumer:
        async for record in consumer:
            ...

The work is done by the same I/O thread; a loop is woken once for a batch, not for each record. What would
wait (for room in the buffer, for an unknown topic) waits in a thread, so the loop never does.
"""

from odradek.aio.admin import Admin
from odradek.aio.consumer import Consumer
from odradek.aio.producer import Producer
from odradek.consumer import Record
from odradek.delivery import Deliveries, Delivery, RecordMetadata
from odradek.fetcher import TopicPartition
from odradek.protocol.messages import NewTopic

__all__ = [
    "Admin",
    "Consumer",
    "Deliveries",
    "Delivery",
    "NewTopic",
    "Producer",
    "Record",
    "RecordMetadata",
    "TopicPartition",
]

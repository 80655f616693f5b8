"""Odradek: a durable log broker over ZeroMQ; this is its Python SDK.

    from odradek import Consumer, Producer

    with Producer("tcp://127.0.0.1:5559") as producer:
        producer.send("events", b"hello", key="user-7").result()

    with Consumer("tcp://127.0.0.1:5559", group="readers", topics=["events"]) as consumer:
        for record in consumer:
            print(record.offset, record.value)

``odradek.aio`` has the same names for asyncio. Errors are exceptions with Kafka's names, all of them
OdradekError.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odradek.admin import Admin
    from odradek.consumer import Consumer, Record
    from odradek.delivery import Deliveries, Delivery, RecordMetadata
    from odradek.fetcher import TopicPartition
    from odradek.producer import BufferExhausted, Producer
    from odradek.protocol import errors
    from odradek.protocol.errors import OdradekError
    from odradek.protocol.messages import NewTopic
    from odradek.security import Curve
    from odradek.session import ClientClosed, ClientForked

__all__ = [
    "Admin",
    "BufferExhausted",
    "ClientClosed",
    "ClientForked",
    "Consumer",
    "Curve",
    "Deliveries",
    "Delivery",
    "NewTopic",
    "OdradekError",
    "Producer",
    "Record",
    "RecordMetadata",
    "TopicPartition",
    "errors",
]

_HOMES = {
    "Admin": "odradek.admin",
    "BufferExhausted": "odradek.accumulator",
    "ClientClosed": "odradek.session",
    "ClientForked": "odradek.session",
    "Consumer": "odradek.consumer",
    "Curve": "odradek.security",
    "Deliveries": "odradek.delivery",
    "Delivery": "odradek.delivery",
    "NewTopic": "odradek.protocol.messages",
    "OdradekError": "odradek.protocol.errors",
    "Producer": "odradek.producer",
    "Record": "odradek.consumer",
    "RecordMetadata": "odradek.delivery",
    "TopicPartition": "odradek.fetcher",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: whoever needs only ``odradek.protocol`` loads no sockets."""
    if name == "errors":
        found: Any = importlib.import_module("odradek.protocol.errors")
    elif name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'odradek' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)

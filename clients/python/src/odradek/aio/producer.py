"""The producer for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self, Unpack

from odradek import producer as sync
from odradek.delivery import Deliveries, Delivery
from odradek.options import Bootstrap, ProducerKeywords
from odradek.producer import Data, Headers
from odradek.protocol.errors import OdradekError


class Producer:
    """Sends records from coroutines; takes the options of odradek.Producer.

    ``await send(...)`` takes a record and gives its handle; ``await`` the handle for its RecordMetadata.
    """

    def __init__(
        self, bootstrap: Bootstrap = "tcp://127.0.0.1:5559", **options: Unpack[ProducerKeywords]
    ) -> None:
        self._sync = sync.Producer(bootstrap, **options)

    async def send(
        self,
        topic: str,
        value: Data | None,
        *,
        key: Data | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp: int | None = None,
    ) -> Delivery:
        """Take one record; see odradek.Producer.send. Waits, without blocking the loop, for room."""
        taken = self._sync.try_send(topic, value, key, partition, headers, timestamp)
        if taken is not None:
            return taken
        return await asyncio.to_thread(
            self._sync.send,
            topic,
            value,
            key=key,
            partition=partition,
            headers=headers,
            timestamp=timestamp,
        )

    async def send_many(
        self,
        topic: str,
        values: Iterable[Data | None],
        *,
        keys: Iterable[Data | None] | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp: int | None = None,
    ) -> Deliveries:
        """Take many records, in order; see odradek.Producer.send_many. They are encoded in a thread."""
        return await asyncio.to_thread(
            self._sync.send_many,
            topic,
            values,
            keys=keys,
            partition=partition,
            headers=headers,
            timestamp=timestamp,
        )

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything sent before is acknowledged; see odradek.Producer.flush."""
        await asyncio.to_thread(self._sync.flush, timeout)

    async def partitions_for(self, topic: str) -> int:
        """How many partitions a topic has."""
        return await asyncio.to_thread(self._sync.partitions_for, topic)

    async def close(self, timeout: float | None = None) -> None:
        """Flush and close; see odradek.Producer.close."""
        await asyncio.to_thread(self._sync.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except OdradekError as lost:
            if error is None:
                raise
            error.add_note(f"besides, closing the producer: {lost}")

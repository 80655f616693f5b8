"""Clients: one narrow face for every client library, so that all carry the same workload.

Each library has a module of its own, imported only where it is used: ``odradek_client``, ``kafka_client``,
and whatever a benchmark brings along.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, cast

from loadtest.workload import Target, Workload

Settled = Callable[[int, bool], None]
"""Called with how many records were settled, and whether they were acknowledged."""
CLIENT_MODULES: Final = {"odradek": "loadtest.odradek_client", "kafka": "loadtest.kafka_client"}
BUFFER_BYTES: Final = 64 << 20
FETCH_BYTES: Final = 4 << 20
"""What our own SDK asks for at most, so that no client is held to less."""
POLL_RECORDS_MAX: Final = 10_000
FLUSH_S_MAX: Final = 120.0
BATCH_BYTES: Final = 1_000_000
SHORT_WAIT_S: Final = 0.05


class UnusableTargetError(RuntimeError):
    """The target does not answer, or the package for its kind is not installed."""


class ProducerClient(Protocol):
    """Sends; tells of acknowledgements by the callback that came with the records."""

    def send(self, values: Sequence[bytes], keys: Sequence[bytes] | None, settled: Settled) -> None:
        """Take the records; may wait for room. ``settled`` may be called from another thread."""

    def finish(self) -> None:
        """Wait until every record is settled, then close."""


class Polled(Protocol):
    """The records of one poll: (partition, value) of each, by its place."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> tuple[int, Any]: ...


class LookedUp:
    """Records as their library has made them; a pair is made where one is looked at, and few are.

    A pair for each took a fifth of the reading thread's time, which was the tester's and not the client's.
    """

    __slots__ = ("_look", "_records")

    def __init__(self, records: Sequence[Any], look: Callable[[Any], tuple[int, Any]]) -> None:
        self._records = records
        self._look = look

    def __len__(self) -> int:
        """How many records came."""
        return len(self._records)

    def __getitem__(self, position: int, /) -> tuple[int, Any]:
        """(partition, value) of one."""
        return self._look(self._records[position])


class ConsumerClient(Protocol):
    """Reads some partitions from their start. It asks for no record before the first poll, which is timed."""

    def poll(self, timeout_s: float) -> Polled:
        """(partition, value) of some records, in order within a partition."""

    def close(self) -> None:
        """End."""


class ClientModule(Protocol):
    """What a client library's module has."""

    def ClientProducer(self, target: Target, workload: Workload) -> ProducerClient:  # noqa: N802  # a class
        """A producer for this target."""

    def ClientConsumer(self, target: Target, partitions: Sequence[int]) -> ConsumerClient:  # noqa: N802
        """A consumer of some partitions."""

    def topic_of(self, target: Target, partitions: int, *, keep: bool) -> AbstractContextManager[None]:
        """The target's topic, empty, for as long as the context lasts; ``keep`` leaves it there."""


def client_module(target: Target) -> ClientModule:
    """The module of the target's client."""
    name = CLIENT_MODULES.get(target.client, target.client)
    return cast(ClientModule, importlib.import_module(name))

"""What every client process under torture has: how it calls records, a journal, dice, and its end."""

from __future__ import annotations

import itertools
import random
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from tests.support.checker.history import Journal, Kind, Record
from tests.torture.options import TOPIC

CHUNK_RECORDS_MAX = 12
FILLER_BYTES_MAX = 400
OPEN_SENDS_MAX = 200
DELIVERY_TIMEOUT_MS = 60_000
REQUEST_TIMEOUT_MS = 2_000
POLL_S = 0.25
END_TIMEOUT_S = 60.0
BEHIND_S_MAX = 1.0
"""What a sender that was held up catches up at most."""

Chunk = list[tuple[Record, bytes]]
Outcome = tuple[Kind, str, int]
"""What became of a record: kind, detail, offset."""


def key_of(partition: int) -> str:
    """How the history calls a partition."""
    return f"{TOPIC}-{partition}"


def body_of(value: str, filler: bytes) -> bytes:
    """A record's bytes: its name, and something to carry."""
    return value.encode() + b"|" + filler


def seen_as(key: str, offset: int, body: bytes | None) -> Record:
    """What the history says of a record that was read."""
    content = body or b""
    return Record(key, offset, content.split(b"|", 1)[0].decode(errors="replace"), zlib.crc32(content))


class Worker(ABC):
    """What every role has: a name, dice, a journal and the wish to end."""

    def __init__(self, name: str, bootstrap: str, directory: Path, partitions: int, seed: int) -> None:
        self.name, self.bootstrap, self.partitions = name, bootstrap, partitions
        self.dice = random.Random(f"{seed} {name}")
        self.journal = Journal(directory, name)
        self.ops = itertools.count(1)
        self.ending = threading.Event()

    @abstractmethod
    def run(self) -> None:
        """The worker's whole life."""


class Sender(Worker):
    """Sends chunks of uniquely named records and writes down what became of each."""

    rate = 300.0
    records_max = 1_000_000

    @abstractmethod
    def send(self, op: int, partition: int, chunk: Chunk) -> None:
        """Hands the records to the client; their invocation is written down."""

    @abstractmethod
    def collect(self) -> None:
        """Writes down what is decided; waits where too much is open."""

    def send_all(self) -> None:
        """Chunk after chunk, at the rate, until the end."""
        names = itertools.count(1)
        due_s = time.monotonic()
        sent = 0
        while not self.ending.is_set() and sent < self.records_max:
            partition = self.dice.randrange(self.partitions)
            chunk = self._chunk(partition, [f"{self.name}-{next(names)}" for _ in range(self._count())])
            op = next(self.ops)
            self.journal.note("invoke", "send", op=op, records=[record for record, _ in chunk])
            self.send(op, partition, chunk)
            self.collect()
            sent += len(chunk)
            due_s = max(due_s + len(chunk) / self.rate, time.monotonic() - BEHIND_S_MAX)
            self.ending.wait(max(0.0, due_s - time.monotonic()))

    def _count(self) -> int:
        return self.dice.randint(1, CHUNK_RECORDS_MAX)

    def _chunk(self, partition: int, values: list[str]) -> Chunk:
        fillers = [self.dice.randbytes(self.dice.randint(0, FILLER_BYTES_MAX)) for _ in values]
        bodies = [body_of(value, filler) for value, filler in zip(values, fillers, strict=True)]
        return [
            (Record(key_of(partition), -1, value, zlib.crc32(body)), body)
            for value, body in zip(values, bodies, strict=True)
        ]

    def note_outcomes(self, op: int, outcomes: Iterable[tuple[Record, Outcome]]) -> None:
        """A line for each kind of outcome that the records of one send had."""
        by_kind: dict[tuple[Kind, str], list[Record]] = {}
        for record, (kind, detail, offset) in outcomes:
            told = Record(record.key, offset, record.value, record.digest)
            by_kind.setdefault((kind, detail), []).append(told)
        for (kind, detail), records in by_kind.items():
            self.journal.note(kind, "send", op=op, records=records, detail=detail)

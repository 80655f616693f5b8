"""A client process under torture: ``python -m tests.torture.worker ROLE NAME BOOTSTRAP DIRECTORY [options]``.

It writes the history of what it did and saw, and ends in order when it is told to by SIGTERM.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
import threading
import time
import zlib
from collections import deque
from pathlib import Path

from odradek import Consumer, Delivery, OdradekError, Producer, TopicPartition
from odradek.protocol.errors import MessageTooLarge
from tests.support.checker.history import Journal, Kind, Record
from tests.torture.options import GROUP, TOPIC

CHUNK_RECORDS_MAX = 12
FILLER_BYTES_MAX = 400
OPEN_SENDS_MAX = 200
DELIVERY_TIMEOUT_MS = 60_000
REQUEST_TIMEOUT_MS = 2_000
POLL_S = 0.25
END_TIMEOUT_S = 60.0


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


class Worker:
    """What every role has: a name, dice, a journal and the wish to end."""

    def __init__(self, name: str, bootstrap: str, directory: Path, partitions: int, seed: int) -> None:
        self.name, self.bootstrap, self.partitions = name, bootstrap, partitions
        self.dice = random.Random(f"{seed} {name}")
        self.journal = Journal(directory, name)
        self.ops = itertools.count(1)
        self.ending = threading.Event()

    def keys(self) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, number) for number in range(self.partitions)]

    def run(self) -> None:
        """The worker's whole life."""
        raise NotImplementedError


class Sender(Worker):
    """Sends chunks of uniquely named records and writes down what became of each."""

    rate = 300.0
    records_max = 1_000_000

    def run(self) -> None:
        self._names = itertools.count(1)
        self._open: deque[tuple[int, list[tuple[Record, Delivery]]]] = deque()
        with Producer(
            self.bootstrap,
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            linger_ms=1,
            client_id=self.name,
        ) as producer:
            due_s = time.monotonic()
            sent = 0
            while not self.ending.is_set() and sent < self.records_max:
                count = self.dice.randint(1, CHUNK_RECORDS_MAX)
                self._send(producer, count)
                sent += count
                due_s = max(due_s + count / self.rate, time.monotonic() - 1.0)
                self._collect(self._open[0][1][0][1] if len(self._open) >= OPEN_SENDS_MAX else None)
                self.ending.wait(max(0.0, due_s - time.monotonic()))
            self._flush(producer)

    def _send(self, producer: Producer, count: int) -> None:
        partition = self.dice.randrange(self.partitions)
        bodies = []
        for _ in range(count):
            value = f"{self.name}-{next(self._names)}"
            bodies.append(
                (value, body_of(value, self.dice.randbytes(self.dice.randint(0, FILLER_BYTES_MAX))))
            )
        records = [Record(key_of(partition), -1, value, zlib.crc32(body)) for value, body in bodies]
        op = next(self.ops)
        self.journal.note("invoke", "send", op=op, records=records)
        deliveries = [producer.send(TOPIC, body, partition=partition) for _, body in bodies]
        self._open.append((op, list(zip(records, deliveries, strict=True))))

    def _collect(self, first: Delivery | None = None) -> None:
        """Write down what is decided; with ``first``, wait until that one is."""
        if first is not None:
            first.exception(END_TIMEOUT_S * 2)
        while self._open and all(delivery.done() for _, delivery in self._open[0][1]):
            op, sent = self._open.popleft()
            outcomes: dict[tuple[Kind, str], list[Record]] = {}
            for record, delivery in sent:
                kind, detail, offset = _outcome(delivery)
                outcome = Record(record.key, offset, record.value, record.digest)
                outcomes.setdefault((kind, detail), []).append(outcome)
            for (kind, detail), records in outcomes.items():
                self.journal.note(kind, "send", op=op, records=records, detail=detail)

    def _flush(self, producer: Producer) -> None:
        try:
            producer.flush(END_TIMEOUT_S)
        except OdradekError as error:
            print(f"{self.name}: the last flush: {error}", file=sys.stderr)
        self._collect()


def _outcome(delivery: Delivery) -> tuple[Kind, str, int]:
    error = delivery.exception(0)
    if error is None:
        return "ok", "", delivery.result(0).offset
    # Of several attempts one may have had effect, whatever became of the last: only this one never has.
    return "fail" if isinstance(error, MessageTooLarge) else "info", error.name, -1


class Reader(Worker):
    """Reads all partitions outside of any group, asks for their ends, and now and then goes back."""

    def run(self) -> None:
        with Consumer(
            self.bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS, fetch_wait_ms_max=200, client_id=self.name
        ) as consumer:
            self._assign(consumer)
            while not self.ending.is_set():
                self._poll(consumer)
                if self.dice.random() < 0.1:
                    self._ask_for_ends(consumer)
                if self.dice.random() < 0.02:
                    self._go_back(consumer)

    def _assign(self, consumer: Consumer) -> None:
        while not self.ending.is_set():
            try:
                consumer.assign(self.keys())
            except OdradekError as error:
                self.journal.note("info", "assign", detail=error.name)
            else:
                self.journal.note("ok", "assign")
                return

    def _poll(self, consumer: Consumer) -> None:
        op = next(self.ops)
        try:
            found = consumer.poll(POLL_S)
        except OdradekError as error:
            self.journal.note("info" if error.retriable else "fail", "poll", op=op, detail=str(error))
            return
        if found:
            records = [seen_as(key_of(each.partition), each.offset, each.value) for each in found]
            self.journal.note("ok", "poll", op=op, records=records)

    def _ask_for_ends(self, consumer: Consumer) -> None:
        op = next(self.ops)
        self.journal.note("invoke", "ends", op=op)
        try:
            ends = consumer.end_offsets(*self.keys())
            starts = consumer.beginning_offsets(*self.keys())
        except OdradekError as error:
            self.journal.note("info", "ends", op=op, detail=error.name)
            return
        self.journal.note(
            "ok",
            "ends",
            op=op,
            starts={key_of(key.partition): offset for key, offset in starts.items()},
            ends={key_of(key.partition): offset for key, offset in ends.items()},
        )

    def _go_back(self, consumer: Consumer) -> None:
        """A little: the whole log again and again would be all that the run does."""
        key = self.dice.choice(self.keys())
        positions = {each: consumer.position(each) for each in self.keys()}
        positions[key] = max(0, positions[key] - self.dice.randint(1, 300))
        consumer.seek(key, positions[key])
        self.journal.note(
            "ok", "assign", positions={key_of(each.partition): offset for each, offset in positions.items()}
        )


class Member(Worker):
    """Reads as a member of a group and commits what it was given, after it was written down."""

    def run(self) -> None:
        self._rebalanced: set[str] = set()
        with Consumer(
            self.bootstrap,
            group=GROUP,
            topics=[TOPIC],
            enable_auto_commit=False,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_lost=self._lost,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            fetch_wait_ms_max=200,
            client_id=self.name,
        ) as consumer:
            self._consumer = consumer
            self._delivered: dict[TopicPartition, int] = {}
            while not self.ending.is_set():
                self._poll()
                if self.dice.random() < 0.4:
                    self._commit(self._delivered)
                if self.dice.random() < 0.1:
                    self._fetch_commit()

    def _assigned(self, keys: list[TopicPartition]) -> None:
        self._rebalanced |= {key_of(key.partition) for key in keys}

    def _revoked(self, keys: list[TopicPartition]) -> None:
        self._commit({key: offset for key, offset in self._delivered.items() if key in keys})
        self._lost(keys)

    def _lost(self, keys: list[TopicPartition]) -> None:
        self._rebalanced |= {key_of(key.partition) for key in keys}
        for key in keys:
            self._delivered.pop(key, None)

    def _poll(self) -> None:
        op = next(self.ops)
        try:
            found = self._consumer.poll(POLL_S)
        except OdradekError as error:
            self.journal.note("info", "poll", op=op, group=GROUP, detail=str(error))
            return
        if not found:
            return
        rebalanced, self._rebalanced = sorted(self._rebalanced), set()
        records = [seen_as(key_of(each.partition), each.offset, each.value) for each in found]
        self.journal.note("ok", "poll", op=op, records=records, group=GROUP, rebalanced=rebalanced)
        for each in found:
            self._delivered[TopicPartition(each.topic, each.partition)] = each.offset + 1

    def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        membership = self._consumer._membership
        if not offsets or membership is None:
            return
        op = next(self.ops)
        positions = {key_of(key.partition): offset for key, offset in offsets.items()}
        self.journal.note(
            "invoke", "commit", op=op, positions=positions, group=GROUP, generation=membership.epoch
        )
        try:
            self._consumer.commit(dict(offsets))
        except OdradekError as error:
            # Refused or not, an attempt before the last one may have had its effect.
            self.journal.note("info", "commit", op=op, group=GROUP, detail=error.name)
        else:
            self.journal.note("ok", "commit", op=op, group=GROUP)

    def _fetch_commit(self) -> None:
        op = next(self.ops)
        self.journal.note("invoke", "fetch_commit", op=op, group=GROUP)
        try:
            found = self._consumer.committed(*self.keys())
        except OdradekError as error:
            self.journal.note("info", "fetch_commit", op=op, group=GROUP, detail=error.name)
            return
        positions = {key_of(key.partition): -1 if offset is None else offset for key, offset in found.items()}
        self.journal.note("ok", "fetch_commit", op=op, group=GROUP, positions=positions)


ROLES: dict[str, type[Worker]] = {"producer": Sender, "reader": Reader, "member": Member}


def main() -> None:
    """Lives until SIGTERM, or until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("name")
    parser.add_argument("bootstrap")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=Sender.rate)
    parser.add_argument("--records-max", type=int, default=Sender.records_max)
    given = parser.parse_args()
    worker = ROLES[given.role](given.name, given.bootstrap, given.directory, given.partitions, given.seed)
    if isinstance(worker, Sender):
        worker.rate, worker.records_max = given.rate, given.records_max
    signal.signal(signal.SIGTERM, lambda *_: worker.ending.set())
    if os.getppid() == 1:
        return  # whoever started this is gone already
    worker.run()
    worker.journal.close()


if __name__ == "__main__":
    main()

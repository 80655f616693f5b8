"""The roles that speak Kafka's protocol, through librdkafka and the gateways."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.support.checker.history import Kind, Record
from tests.torture.client import (
    DELIVERY_TIMEOUT_MS,
    END_TIMEOUT_S,
    OPEN_SENDS_MAX,
    POLL_S,
    REQUEST_TIMEOUT_MS,
    Chunk,
    Outcome,
    Sender,
    Worker,
    key_of,
    seen_as,
)
from tests.torture.options import KAFKA_GROUP, TOPIC

SESSION_MS = 6_000
"""The shortest that the coordinator takes, as Kafka's."""
CLOSE_TIMEOUT_S = 30.0
CHUNK_MESSAGES_MAX = 200
"""So many of one poll are one line of the history."""
METADATA_MAGIC = b"CGMDv2:"
PASSING = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.REBALANCE_IN_PROGRESS,
}
"""Errors that librdkafka tells of and mends itself, though it does not call them retriable."""
COMMON = {
    "socket.timeout.ms": 10_000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "topic.metadata.refresh.interval.ms": 5_000,
}


def places(partitions: int, offsets: dict[int, int] | None = None) -> list[TopicPartition]:
    """All partitions of the topic; ``offsets`` by number."""
    return [TopicPartition(TOPIC, number, (offsets or {}).get(number, 0)) for number in range(partitions)]


# -- writing -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sent:
    """One send, and what was told of its records so far."""

    op: int
    open: int
    outcomes: list[tuple[Record, Outcome]] = field(default_factory=list)


class KafkaSender(Sender):
    """librdkafka's idempotent producer, acks=all."""

    def run(self) -> None:
        self._sent: deque[_Sent] = deque()
        self._producer = confluent_kafka.Producer(
            {
                **COMMON,
                "bootstrap.servers": self.bootstrap,
                "client.id": self.name,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
                "request.timeout.ms": REQUEST_TIMEOUT_MS,
                "message.timeout.ms": DELIVERY_TIMEOUT_MS,
                "retry.backoff.ms": 50,
            }
        )
        self.send_all()
        if self._producer.flush(END_TIMEOUT_S):
            print(f"{self.name}: not everything was settled at the end", file=sys.stderr)
        self.collect()

    def send(self, op: int, partition: int, chunk: Chunk) -> None:
        sent = _Sent(op, len(chunk))
        self._sent.append(sent)
        for record, body in chunk:

            def told(error: Any, message: Any, record: Record = record) -> None:
                sent.outcomes.append((record, _outcome(error, message)))
                sent.open -= 1

            self._producer.produce(TOPIC, body, partition=partition, on_delivery=told)

    def collect(self) -> None:
        self._producer.poll(0)
        deadline_s = time.monotonic() + 2 * END_TIMEOUT_S
        while len(self._sent) >= OPEN_SENDS_MAX and self._sent[0].open and time.monotonic() < deadline_s:
            self._producer.poll(POLL_S)
        while self._sent and not self._sent[0].open:
            sent = self._sent.popleft()
            self.note_outcomes(sent.op, sent.outcomes)


def _outcome(error: Any, message: Any) -> Outcome:
    if error is None:
        return "ok", "", int(message.offset())
    # As with the native producer: of several attempts one may have had effect.
    return "fail" if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else "info", error.name(), -1


# -- reading -------------------------------------------------------------------------------------------


class _Consuming(Worker):
    """What both kinds of consumer do with messages."""

    group = ""

    def consumer(self, **config: object) -> Any:
        return confluent_kafka.Consumer(
            {
                **COMMON,
                "bootstrap.servers": self.bootstrap,
                "client.id": self.name,
                "group.id": self.group or f"{self.name}-alone",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 200,
                "fetch.error.backoff.ms": 50,
                **config,
            }
        )

    def close(self, consumer: Any) -> None:
        """Leaves. Where librdkafka does not come back, the process ends as if it had been killed."""
        closing = threading.Thread(target=consumer.close, daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT_S)
        if closing.is_alive():
            print(
                f"{self.name}: librdkafka still closes after {CLOSE_TIMEOUT_S:g} s",
                file=sys.stderr,
                flush=True,
            )
            self.journal.close()
            os._exit(0)

    def note_found(self, found: list[Any], rebalanced: list[str]) -> None:
        """One poll of the history."""
        records = [seen_as(key_of(each.partition()), each.offset(), each.value()) for each in found]
        self.journal.note(
            "ok", "poll", op=next(self.ops), records=records, group=self.group, rebalanced=rebalanced
        )

    def note_error(self, error: Any) -> None:
        """What librdkafka goes on after by itself is unknown; the rest no later poll would do better."""
        passing = error.retriable() or error.code() < 0 or error.code() in PASSING
        kind: Kind = "info" if passing and not error.fatal() else "fail"
        self.journal.note(kind, "poll", op=next(self.ops), group=self.group, detail=error.str())


class KafkaReader(_Consuming):
    """Reads all partitions by assignment, asks for their ends, and now and then goes back."""

    def run(self) -> None:
        self._next = dict.fromkeys(range(self.partitions), 0)
        consumer = self.consumer()
        self._assign(consumer)
        while not self.ending.is_set():
            self._poll(consumer)
            if self.dice.random() < 0.05:
                self._ask_for_ends(consumer)
            if self.dice.random() < 0.01:
                number = self.dice.randrange(self.partitions)
                self._next[number] = max(0, self._next[number] - self.dice.randint(1, 300))
                self._assign(consumer)
        self.close(consumer)

    def _assign(self, consumer: Any) -> None:
        consumer.assign(places(self.partitions, self._next))
        positions = {key_of(number): offset for number, offset in self._next.items()}
        self.journal.note("ok", "assign", positions=positions)

    def _poll(self, consumer: Any) -> None:
        found = []
        for message in consumer.consume(CHUNK_MESSAGES_MAX, POLL_S):
            if message.error() is not None:
                self.note_error(message.error())
                continue
            found.append(message)
            self._next[message.partition()] = message.offset() + 1
        if found:
            self.note_found(found, [])

    def _ask_for_ends(self, consumer: Any) -> None:
        op = next(self.ops)
        self.journal.note("invoke", "ends", op=op)
        starts, ends = {}, {}
        for place in places(self.partitions):
            try:
                told = consumer.get_watermark_offsets(place, REQUEST_TIMEOUT_MS / 1000)
            except KafkaException as error:
                self.journal.note("info", "ends", op=op, detail=error.args[0].name())
                return
            starts[key_of(place.partition)], ends[key_of(place.partition)] = told
        self.journal.note("ok", "ends", op=op, starts=starts, ends=ends)


class KafkaMember(_Consuming):
    """Reads as a member of a classic group and commits what it was given, after it was written down."""

    group = KAFKA_GROUP

    def run(self) -> None:
        self._found: list[Any] = []
        self._rebalanced: set[str] = set()
        self._delivered: dict[int, int] = {}
        self._consumer = self.consumer(
            **{"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 60_000}
        )
        self._consumer.subscribe(
            [TOPIC], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )
        while not self.ending.is_set():
            self._poll()
            if self.dice.random() < 0.4:
                self._commit()
            if self.dice.random() < 0.1:
                self._fetch_commit()
        self.close(self._consumer)

    # -- partitions come and go, always within a poll

    def _assigned(self, _: Any, partitions: list[TopicPartition]) -> None:
        self._write_found()
        self._rebalanced |= {key_of(place.partition) for place in partitions}

    def _revoked(self, _: Any, partitions: list[TopicPartition]) -> None:
        """Closing within a rebalance, librdkafka has left the group before it calls this: then a commit would
        be refused, and librdkafka might wait for ever."""
        self._write_found()
        if not self.ending.is_set():
            self._commit()
        self._lost(_, partitions)

    def _lost(self, _: Any, partitions: list[TopicPartition]) -> None:
        self._write_found()
        self._rebalanced |= {key_of(place.partition) for place in partitions}
        for place in partitions:
            self._delivered.pop(place.partition, None)

    # -- what it does

    def _poll(self) -> None:
        timeout_s = POLL_S
        for _ in range(CHUNK_MESSAGES_MAX):
            message = self._consumer.poll(timeout_s)
            if message is None:
                break
            timeout_s = 0.0
            if message.error() is not None:
                self.note_error(message.error())
                continue
            self._found.append(message)
        self._write_found()

    def _write_found(self) -> None:
        """What was given before partitions came or went stands in a line of its own, before that."""
        found, self._found = self._found, []
        if not found:
            return
        rebalanced, self._rebalanced = sorted(self._rebalanced), set()
        self.note_found(found, rebalanced)
        for message in found:
            self._delivered[message.partition()] = message.offset() + 1

    def _commit(self) -> None:
        generation = generation_of(self._consumer)
        if not self._delivered or generation < 0:
            return
        op = next(self.ops)
        positions = {key_of(number): offset for number, offset in self._delivered.items()}
        about = {"op": op, "group": self.group}
        self.journal.note("invoke", "commit", **about, positions=positions, generation=generation)
        offsets = [TopicPartition(TOPIC, number, offset) for number, offset in self._delivered.items()]
        try:
            told = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # Refused or not, an attempt before the last one may have had its effect.
            self.journal.note("info", "commit", **about, detail=error.args[0].name())
            return
        refused = [place.error.name() for place in told if place.error is not None]
        self.journal.note("info" if refused else "ok", "commit", **about, detail=" ".join(refused))

    def _fetch_commit(self) -> None:
        op = next(self.ops)
        about = {"op": op, "group": self.group}
        self.journal.note("invoke", "fetch_commit", **about)
        try:
            told = self._consumer.committed(places(self.partitions), REQUEST_TIMEOUT_MS / 1000)
        except KafkaException as error:
            self.journal.note("info", "fetch_commit", **about, detail=error.args[0].name())
            return
        refused = [place.error.name() for place in told if place.error is not None]
        if refused:
            self.journal.note("info", "fetch_commit", **about, detail=" ".join(refused))
            return
        positions = {key_of(place.partition): max(-1, place.offset) for place in told}
        self.journal.note("ok", "fetch_commit", **about, positions=positions)


def generation_of(consumer: Any) -> int:
    """The member's generation, -1 where it has none.

    It stands in what librdkafka keeps for transactions, in the machine's own byte order, behind a word that
    names the form.
    """
    metadata: bytes = consumer.consumer_group_metadata()
    assert metadata.startswith(METADATA_MAGIC), metadata
    return int(struct.unpack_from("=i", metadata, len(METADATA_MAGIC))[0])

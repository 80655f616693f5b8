"""The roles that speak the native protocol, through the SDK."""

from __future__ import annotations

import sys
from collections import deque

from odradek import Consumer, Delivery, OdradekError, Producer, TopicPartition
from odradek.protocol.errors import MessageTooLarge
from tests.support.checker.history import Record
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
from tests.torture.options import GROUP, TOPIC


def places(partitions: int) -> list[TopicPartition]:
    """All partitions of the topic."""
    return [TopicPartition(TOPIC, number) for number in range(partitions)]


class NativeSender(Sender):
    """The SDK's producer, idempotent as it is by default."""

    def run(self) -> None:
        self._open: deque[tuple[int, list[tuple[Record, Delivery]]]] = deque()
        with Producer(
            self.bootstrap,
            delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            linger_ms=1,
            client_id=self.name,
        ) as producer:
            self._producer = producer
            self.send_all()
            try:
                producer.flush(END_TIMEOUT_S)
            except OdradekError as error:
                print(f"{self.name}: the last flush: {error}", file=sys.stderr)
            self.collect()

    def send(self, op: int, partition: int, chunk: Chunk) -> None:
        deliveries = [self._producer.send(TOPIC, body, partition=partition) for _, body in chunk]
        records = [record for record, _ in chunk]
        self._open.append((op, list(zip(records, deliveries, strict=True))))

    def collect(self) -> None:
        if len(self._open) >= OPEN_SENDS_MAX:
            self._open[0][1][0][1].exception(END_TIMEOUT_S * 2)
        while self._open and all(delivery.done() for _, delivery in self._open[0][1]):
            op, sent = self._open.popleft()
            self.note_outcomes(op, [(record, _outcome(delivery)) for record, delivery in sent])


def _outcome(delivery: Delivery) -> Outcome:
    error = delivery.exception(0)
    if error is None:
        return "ok", "", delivery.result(0).offset
    # Of several attempts one may have had effect, whatever became of the last: only this one never has.
    return "fail" if isinstance(error, MessageTooLarge) else "info", error.name, -1


class NativeReader(Worker):
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
                consumer.assign(places(self.partitions))
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
            ends = consumer.end_offsets(*places(self.partitions))
            starts = consumer.beginning_offsets(*places(self.partitions))
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
        key = self.dice.choice(places(self.partitions))
        positions = {each: consumer.position(each) for each in places(self.partitions)}
        positions[key] = max(0, positions[key] - self.dice.randint(1, 300))
        consumer.seek(key, positions[key])
        self.journal.note(
            "ok", "assign", positions={key_of(each.partition): offset for each, offset in positions.items()}
        )


class NativeMember(Worker):
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
            found = self._consumer.committed(*places(self.partitions))
        except OdradekError as error:
            self.journal.note("info", "fetch_commit", op=op, group=GROUP, detail=error.name)
            return
        positions = {key_of(key.partition): -1 if offset is None else offset for key, offset in found.items()}
        self.journal.note("ok", "fetch_commit", op=op, group=GROUP, positions=positions)

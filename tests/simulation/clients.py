"""Clients of a simulated broker. They speak the protocol, and write the history that the checker judges."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import msgspec

from odradek.protocol.codec import REPLY_DECODERS, Encoding, encode
from odradek.protocol.errors import (
    CorruptMessage,
    FencedMemberEpoch,
    OffsetOutOfRange,
    OutOfOrderSequenceNumber,
    StaleMemberEpoch,
    UnknownMemberId,
    UnknownProducerId,
)
from odradek.protocol.messages import (
    CommitOffset,
    DeleteRecords,
    Fetch,
    GroupHeartbeat,
    OffsetCommit,
    OffsetFetch,
    Produce,
    Reply,
    Request,
    TopicPartitions,
)
from odradek.protocol.records import decode_batches, new_builder
from tests.simulation.cluster import TOPIC, Cluster
from tests.support.checker.history import Event, Function, Kind, Record
from tests.support.clock import START_MS
from tests.support.network import ROUTER

IN_FLIGHT_MAX = 5
GROUP = "g"
HEARTBEAT_S = 1.0
REPLY_TIMEOUT_S = 2.0
Then = Callable[[Any, Sequence[bytes]], None]
_id = msgspec.msgpack.Decoder(Reply)


def key_of(partition: int) -> str:
    """How the history calls a partition."""
    return f"{TOPIC}-{partition}"


class Chronicle:
    """The history so far; its clock ticks with each line, so that what happened earlier is earlier."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, proc: str, kind: Kind, f: Function, **fields: Any) -> None:
        self.events.append(Event(len(self.events) + 1, proc, kind, f, **fields))


class Client:
    """Asks, and hears the first answer to each question if it comes at all."""

    def __init__(self, name: str, cluster: Cluster, chronicle: Chronicle, dice: random.Random) -> None:
        self.name, self.cluster, self.chronicle, self.dice = name, cluster, chronicle, dice
        self.ops = count(1)
        self.due_s = 0.0
        self._asked: dict[int, tuple[type[Request], Then]] = {}
        cluster.network.client(name, self._receive)

    @property
    def now_s(self) -> float:
        return self.cluster.clock.now().monotonic_s

    def note(self, kind: Kind, f: Function, **fields: Any) -> None:
        self.chronicle.note(self.name, kind, f, **fields)

    def ask(self, request: Request, then: Then, *payload: bytes) -> int:
        """Send; ``then`` gets the reply and its payload."""
        request.id = number = next(self.ops)
        self._asked[number] = type(request), then
        self.cluster.network.send(self.name, ROUTER, [encode(request, Encoding.MSGPACK), *payload])
        return number

    def forget(self) -> None:
        """No answer to what was asked is wanted any more."""
        self._asked.clear()

    def _receive(self, frames: list[bytes]) -> None:
        number = _id.decode(frames[0]).id
        asked = self._asked.pop(number, None) if isinstance(number, int) else None
        if asked is not None:
            kind, then = asked
            then(REPLY_DECODERS[kind].decode(frames[0]), frames[1:])

    def turn(self) -> None:
        """Do what is due."""
        if self.now_s >= self.due_s:
            self.due_s = self.now_s + self.act()

    def act(self) -> float:
        """Act; the seconds until the next time."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """Whether there is nothing left that it must do."""
        return True


class SimProducer(Client):
    """Idempotent, several batches in flight; what is not acknowledged in time is sent again, in order."""

    def __init__(self, *given: Any, number: int, batches: int) -> None:
        super().__init__(*given)
        self.number, self.partition = number, number % len(self.cluster.partitions)
        self.acked: dict[int, int] = {}
        self.attempts = self.refusals = 0
        self._sizes = [self.dice.randint(1, 3) for _ in range(batches)]
        self._sequences = [sum(self._sizes[:place]) for place in range(batches)]
        self._records: dict[int, list[Record]] = {}

    @property
    def first_open(self) -> int:
        """The first batch that is not acknowledged."""
        return next(place for place in range(len(self._sizes) + 1) if place not in self.acked)

    @property
    def done(self) -> bool:
        return self.first_open == len(self._sizes)

    def act(self) -> float:
        first = self.first_open
        for place in range(first, min(first + IN_FLIGHT_MAX, len(self._sizes))):
            if place not in self.acked:
                self._send(place, follows=place == first)
        if self.dice.random() < 0.2:
            self._send_broken()
        return self.dice.uniform(0.4, 2.0)

    def _bodies(self, place: int) -> list[bytes]:
        return [
            b"%s-%d-%d|" % (self.name.encode(), place, each) + bytes(60 + 40 * each)
            for each in range(self._sizes[place])
        ]

    def _batch(self, bodies: list[bytes], sequence: int) -> bytes:
        idempotent = sequence >= 0
        builder = new_builder(
            producer_id=self.number if idempotent else -1,
            producer_epoch=0 if idempotent else -1,
            base_sequence=sequence,
        )
        for place, body in enumerate(bodies):
            builder.append(place, START_MS, None, body, [])
        return bytes(builder.build())

    def _send(self, place: int, *, follows: bool) -> None:
        bodies = self._bodies(place)
        if place not in self._records:
            self._records[place] = self._invoke(place + 1, bodies)
        self.attempts += 1

        def then(reply: Any, _: Sequence[bytes]) -> None:
            if reply.error is not None:
                self._refused(reply.error, place, follows)
                return
            self.acked.setdefault(place, reply.offset)
            self._outcome("ok", place + 1, self._records[place], reply.offset)

        self._produce(self._batch(bodies, self._sequences[place]), then)

    def _produce(self, batch: bytes, then: Then) -> None:
        request = Produce(topic=TOPIC, partition=self.partition, format="batch", timeout_ms=1_000)
        self.ask(request, then, batch)

    def _invoke(self, op: int, bodies: list[bytes]) -> list[Record]:
        records = [seen_as(self.partition, -1, body) for body in bodies]
        self.note("invoke", "send", op=op, records=records, atomic=True)
        return records

    def _outcome(self, kind: Kind, op: int, records: list[Record], offset: int) -> None:
        placed = [
            Record(each.key, offset + place if kind == "ok" else -1, each.value, each.digest)
            for place, each in enumerate(records)
        ]
        self.note(kind, "send", op=op, records=placed)

    def _refused(self, error: Any, place: int, follows: bool) -> None:
        """A batch may overtake the one before it and is refused then; the one whose turn it is never."""
        if error.code in (OutOfOrderSequenceNumber.code, UnknownProducerId.code):
            self.refusals += 1
            assert place in self.acked or not follows, (self.name, place, error)
        else:
            assert error.retriable, error

    def _send_broken(self) -> None:
        """Damaged on its way: it must be refused, and nobody may ever read it."""
        self.attempts += 1
        op = 100_000 + self.attempts
        body = b"%s-broken-%d|" % (self.name.encode(), op)
        records = self._invoke(op, [body])
        batch = bytearray(self._batch([body], -1))
        batch[-1] ^= 1

        def then(reply: Any, _: Sequence[bytes]) -> None:
            assert reply.error is not None, "a batch with a wrong checksum was taken"
            if reply.error.code == CorruptMessage.code:
                self._outcome("fail", op, records, -1)

        self._produce(bytes(batch), then)


def seen_as(partition: int, offset: int, body: bytes) -> Record:
    """What the history says of a record."""
    return Record(key_of(partition), offset, body.split(b"|", 1)[0].decode(), zlib.crc32(body))


class SimReader(Client):
    """Reads partitions over and over from where it was; now and then deletes what is old."""

    deletes = 0.0
    """The chance, at each turn, of a delete_records."""

    def __init__(self, *given: Any, partitions: Sequence[int]) -> None:
        super().__init__(*given)
        self.positions = dict.fromkeys(partitions, 0)
        self.ends = dict.fromkeys(partitions, -1)
        self._assign()

    def _assign(self) -> None:
        self.note("ok", "assign", positions={key_of(each): at for each, at in self.positions.items()})

    @property
    def done(self) -> bool:
        """Whether it has read all that the last replies told of."""
        return all(self.positions[each] >= self.ends[each] >= 0 for each in self.positions)

    def act(self) -> float:
        self.forget()
        for partition, position in self.positions.items():
            self._fetch(partition, position)
        if self.dice.random() < self.deletes:
            self._delete(self.dice.choice(list(self.positions)))
        return self.dice.uniform(0.3, 1.0)

    def _fetch(self, partition: int, position: int) -> None:
        request = Fetch(topic=TOPIC, partition=partition, offset=position, format="batch", max_wait_ms=200)
        request.max_bytes = self.dice.choice((1, 500, 1 << 20))

        def then(reply: Any, payload: Sequence[bytes]) -> None:
            if reply.error is not None:
                self._refused(reply, partition)
            elif self.positions[partition] == position:
                self._fetched(op, reply, partition, b"".join(payload))

        op = self.ask(request, then)
        self.note("invoke", "poll", op=op)

    def _refused(self, reply: Any, partition: int) -> None:
        if reply.error.code == OffsetOutOfRange.code:
            start = reply.log_start_offset
            assert self.positions[partition] < start, "what was read once is there, or was deleted"
            self.positions[partition] = start
            self.note("ok", "ends", starts={key_of(partition): start})
            self._assign()
        else:
            assert reply.error.retriable, reply.error

    def _fetched(self, op: int, reply: Any, partition: int, content: bytes) -> None:
        key, position = key_of(partition), self.positions[partition]
        records = [
            seen_as(partition, record.offset, record.value or b"")
            for record in decode_batches(content)
            if record.offset >= position
        ]
        if records:
            self.positions[partition] = records[-1].offset + 1
        self.ends[partition] = reply.high_watermark
        self.note(
            "ok",
            "poll",
            op=op,
            records=records,
            ends={key: reply.high_watermark},
            starts={key: reply.log_start_offset},
        )

    def _delete(self, partition: int) -> None:
        request = DeleteRecords(
            topic=TOPIC, partition=partition, before_offset=self.positions[partition] // 3
        )

        def then(reply: Any, _: Sequence[bytes]) -> None:
            if reply.error is None:
                self.note("ok", "ends", starts={key_of(partition): reply.log_start_offset})

        self.ask(request, then)


class SimMember(Client):
    """A member of the group as KIP-848 wants it: lets go before it takes up, commits what it was given."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.epoch = 0
        self.lives = 1
        self.owned: dict[int, int | None] = {}
        """By partition, the next offset; None until the committed one is known."""
        self.rebalanced: set[int] = set()
        self._beat_at_s = 0.0
        self._heard_s = 0.0
        self._busy: dict[int, float] = {}
        self._committing_until_s = 0.0

    @property
    def member_id(self) -> str:
        return f"{self.name}.{self.lives}"

    def act(self) -> float:
        if self.now_s >= self._beat_at_s:
            self._beat()
        for partition, position in list(self.owned.items()):
            if self._busy.get(partition, 0) <= self.now_s:
                self._busy[partition] = self.now_s + REPLY_TIMEOUT_S
                if position is None:
                    self._locate(partition)
                else:
                    self._fetch(partition, position)
        if self.dice.random() < 0.4:
            self._commit()
        return self.dice.uniform(0.1, 0.4)

    def die(self) -> None:
        """Without a word; what comes next is another process."""
        self.lives += 1
        self._join_anew()

    def _join_anew(self) -> None:
        self.forget()
        self.epoch = 0
        self.rebalanced |= set(self.owned)
        self.owned.clear()
        self._busy.clear()
        self._committing_until_s = 0.0
        self._beat_at_s = self.now_s

    def _beat(self) -> None:
        self._beat_at_s = self.now_s + HEARTBEAT_S
        if self.epoch and self.now_s > self._heard_s + 2 * REPLY_TIMEOUT_S:
            self.lives += 1  # nobody heard of it for long: as a client that gives up and starts again
            self._join_anew()
        asked_epoch, life = self.epoch, self.lives
        request = GroupHeartbeat(
            group=GROUP,
            member_id=self.member_id,
            member_epoch=self.epoch,
            topics=[TOPIC],
            owned=[TopicPartitions(topic=TOPIC, partitions=sorted(self.owned))] if self.owned else [],
            rebalance_timeout_ms=5_000,
        )

        def then(reply: Any, _: Sequence[bytes]) -> None:
            if (asked_epoch, life) != (self.epoch, self.lives):
                return
            self._heard_s = self.now_s
            if reply.error is None:
                self._told(reply)
            elif reply.error.code in (UnknownMemberId.code, FencedMemberEpoch.code, StaleMemberEpoch.code):
                self._join_anew()
            else:
                assert reply.error.retriable, reply.error

        self.ask(request, then)

    def _told(self, reply: Any) -> None:
        self.epoch = reply.member_epoch
        if not isinstance(reply.assignment, list):
            return
        target = {number for item in reply.assignment for number in item.partitions}
        for partition in set(self.owned) - target:
            del self.owned[partition]
            self.rebalanced.add(partition)
            self._beat_at_s = self.now_s
        for partition in target - set(self.owned):
            self.owned[partition] = None
            self._busy.pop(partition, None)
            self.rebalanced.add(partition)

    def _locate(self, partition: int) -> None:
        life = self.lives
        wanted = [TopicPartitions(topic=TOPIC, partitions=[partition])]

        def then(reply: Any, _: Sequence[bytes]) -> None:
            if reply.error is not None or life != self.lives:
                return
            offset = next((item.offset for item in reply.offsets if item.partition == partition), -1)
            self.note("ok", "fetch_commit", op=op, group=GROUP, positions={key_of(partition): offset})
            if self.owned.get(partition, 0) is None:
                self.owned[partition] = max(offset, 0)
                self._busy.pop(partition, None)

        op = self.ask(OffsetFetch(group=GROUP, topics=wanted), then)  # type: ignore[arg-type]
        self.note("invoke", "fetch_commit", op=op, group=GROUP)

    def _fetch(self, partition: int, position: int) -> None:
        life = self.lives
        request = Fetch(topic=TOPIC, partition=partition, offset=position, format="batch", max_wait_ms=100)

        def then(reply: Any, payload: Sequence[bytes]) -> None:
            self._busy.pop(partition, None)
            if life != self.lives or self.owned.get(partition) != position:
                return
            if reply.error is not None:
                if reply.error.code == OffsetOutOfRange.code:
                    assert position < reply.log_start_offset
                    self.owned[partition] = reply.log_start_offset
                    self.rebalanced.add(partition)
                    self.note("ok", "ends", starts={key_of(partition): reply.log_start_offset})
                return
            records = [
                seen_as(partition, record.offset, record.value or b"")
                for record in decode_batches(b"".join(payload))
                if record.offset >= position
            ]
            if records:
                self.owned[partition] = records[-1].offset + 1
                moved = [key_of(partition)] if partition in self.rebalanced else []
                self.rebalanced.discard(partition)
                self.note("ok", "poll", op=op, records=records, group=GROUP, rebalanced=moved)

        op = self.ask(request, then)
        self.note("invoke", "poll", op=op)

    def _commit(self) -> None:
        """One at a time; what got no answer is only followed by the next after a while."""
        offsets = {partition: offset for partition, offset in self.owned.items() if offset}
        if not offsets or not self.epoch or self.now_s < self._committing_until_s:
            return
        self._committing_until_s = self.now_s + 2 * REPLY_TIMEOUT_S
        life = self.lives

        def then(reply: Any, _: Sequence[bytes]) -> None:
            refused = reply.error is not None or any(item.error is not None for item in reply.offsets)
            self.note("info" if refused else "ok", "commit", op=op, group=GROUP)
            if life == self.lives:
                self._committing_until_s = 0.0

        items = [
            CommitOffset(topic=TOPIC, partition=partition, offset=offset)
            for partition, offset in offsets.items()
        ]
        request = OffsetCommit(group=GROUP, offsets=items, member_id=self.member_id, member_epoch=self.epoch)
        op = self.ask(request, then)
        positions = {key_of(partition): offset for partition, offset in offsets.items()}
        self.note("invoke", "commit", op=op, positions=positions, group=GROUP, generation=self.epoch)


class SimAsker(SimMember):
    """No member: it only asks what the group has committed."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.owned = dict.fromkeys(range(len(self.cluster.partitions)))

    @property
    def done(self) -> bool:
        return None not in self.owned.values()

    def act(self) -> float:
        for partition, position in self.owned.items():
            if position is None:
                self._locate(partition)
        return REPLY_TIMEOUT_S

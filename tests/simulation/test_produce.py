"""Producers, a router and partitions under faults that a seed decides; then what was promised is checked.

A seed that fails is named by the test's id and repeats exactly: ``pytest -k 'seed17'``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from odradek.protocol.codec import Encoding, encode
from odradek.protocol.errors import OdradekError, OutOfOrderSequenceNumber, UnknownProducerId, WireError
from odradek.protocol.messages import Fetch, FetchReply, Produce, ProduceReply
from odradek.protocol.records import decode_batches, new_builder
from partitions.log import Log
from partitions.settings import LogSettings
from partitions.tickets import SyncTicket
from tests.mutants.mutations import (
    Put,
    acknowledge_before_the_sync,
    keep_what_follows_a_torn_batch,
    recognize_no_retry,
    sync_nothing,
)
from tests.support.network import ROUTER, MemoryBroker
from transport.memory import Faults

SEEDS = range(40)
PARTITIONS = 2
PRODUCERS = 3
BATCHES = 12
IN_FLIGHT = 5
"""As many as the broker remembers of each producer."""
RETRY_S = 2.0
EVENTS_MAX = 20_000
SETTINGS = LogSettings(segment_bytes=2_048, checkpoint_bytes=4_096, preallocate=False)
FAULTS = Faults(drop=0.05, duplicate=0.05, reorder=0.05, delay_s_max=0.3, sync_s_max=1.0)

_reply = msgspec.msgpack.Decoder(ProduceReply)
_fetched = msgspec.msgpack.Decoder(FetchReply)


@dataclass
class Producer:
    """Idempotent, several batches in flight; what is not acknowledged in time is sent again, in order."""

    name: str
    number: int
    broker: MemoryBroker
    acked: dict[int, int] = field(default_factory=dict)
    sent_at_s: float = -1e9
    attempts: int = 0
    refusals: int = 0
    _sent: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """By request id: the sequence, and whether all before it were acknowledged when it was sent."""

    @property
    def first_open(self) -> int:
        """The first sequence that is not acknowledged."""
        return next(sequence for sequence in range(BATCHES + 1) if sequence not in self.acked)

    @property
    def done(self) -> bool:
        return self.first_open == BATCHES

    def batch(self, sequence: int) -> bytes:
        builder = new_builder(producer_id=self.number, producer_epoch=0, base_sequence=sequence)
        builder.append(0, 1_000, None, value_of(self.number, sequence), [])
        return bytes(builder.build())

    def send(self, now_s: float) -> None:
        self.sent_at_s = now_s
        first = self.first_open
        for sequence in range(first, min(first + IN_FLIGHT, BATCHES)):
            if sequence not in self.acked:
                self._send(sequence, follows=sequence == first)

    def _send(self, sequence: int, *, follows: bool) -> None:
        self.attempts += 1
        self._sent[self.attempts] = sequence, follows
        request = Produce(
            topic="t",
            partition=self.number % PARTITIONS,
            format="batch",
            id=self.attempts,
            timeout_ms=1_000,
        )
        frames = [encode(request, Encoding.MSGPACK), self.batch(sequence)]
        self.broker.network.send(self.name, ROUTER, frames)

    def receive(self, frames: list[bytes]) -> None:
        reply = _reply.decode(frames[0])
        assert isinstance(reply.id, int)
        sequence, follows = self._sent[reply.id]
        if reply.error is not None:
            self._refused(reply.error, sequence, follows)
            return
        assert isinstance(reply.offset, int)
        known = self.acked.get(sequence)
        assert known in (None, reply.offset), "a retry has the offset of the first"
        self.acked[sequence] = reply.offset

    def _refused(self, error: WireError, sequence: int, follows: bool) -> None:
        """A batch may overtake the one before it and is refused then; the one whose turn it is never."""
        if error.code in (OutOfOrderSequenceNumber.code, UnknownProducerId.code):
            self.refusals += 1
            assert sequence in self.acked or not follows, (sequence, error)
        else:
            assert error.retriable, error


def value_of(producer: int, sequence: int) -> bytes:
    return b"%d:%d:" % (producer, sequence) + bytes(100)


@dataclass
class Reader:
    """Fetches over and over; whatever it saw once must be there in the end, and it never meets damage."""

    name: str
    partition: int
    broker: MemoryBroker
    seen: dict[int, bytes] = field(default_factory=dict)
    next_offset: int = 0
    sent_at_s: float = -1e9

    def send(self, now_s: float) -> None:
        self.sent_at_s = now_s
        request = Fetch(
            topic="t",
            partition=self.partition,
            offset=self.next_offset,
            format="batch",
            max_wait_ms=300,
            id=self.next_offset,
        )
        self.broker.network.send(self.name, ROUTER, [encode(request, Encoding.MSGPACK)])

    def receive(self, frames: list[bytes]) -> None:
        reply = _fetched.decode(frames[0])
        if reply.error is not None:
            assert reply.error.retriable, reply.error
            return
        assert isinstance(reply.high_watermark, int)
        for record in decode_batches(b"".join(frames[1:])):
            assert record.offset < reply.high_watermark
            assert record.value is not None
            assert self.seen.setdefault(record.offset, record.value) == record.value, "bytes never change"
            self.next_offset = max(self.next_offset, record.offset + 1)


class Simulation:
    """The broker, its clients and the hand that pulls the plugs."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.seed = seed
        self.broker = MemoryBroker("t", PARTITIONS, seed, SETTINGS)
        self.broker.network.run()
        self.producers = [Producer(f"producer {n}", n, self.broker) for n in range(PRODUCERS)]
        self.readers = [Reader(f"reader {n}", n, self.broker) for n in range(PARTITIONS)]
        self.crashes = 0
        self.cuts = 0
        self._down: dict[int, float] = {}
        self.clients: list[Producer | Reader] = [*self.producers, *self.readers]
        for client in self.clients:
            self.broker.network.client(client.name, client.receive)

    def run(self) -> None:
        self.broker.network.faults = FAULTS
        for _ in range(EVENTS_MAX):
            if all(producer.done for producer in self.producers):
                break
            self._turn()
        else:
            raise AssertionError("the producers never came to their end")
        self.broker.network.faults = Faults()
        for number in list(self._down):
            self._start(number)
        self.broker.network.run()

    def _turn(self) -> None:
        now_s = self.broker.clock.now().monotonic_s
        for client in self.clients:
            working = not (isinstance(client, Producer) and client.done)
            if working and now_s >= client.sent_at_s + RETRY_S * self.dice.uniform(0.2, 1.0):
                client.send(now_s)
        for number, until_s in list(self._down.items()):
            if now_s >= until_s:
                self._start(number)
        if self.dice.random() < 0.01:
            self._crash(self.dice.randrange(PARTITIONS), now_s)
        for _ in range(self.dice.randint(1, 8)):
            self.broker.network.step()
        if self.dice.random() < 0.2:
            self.broker.clock.advance(self.dice.random() * 0.2)

    def _crash(self, number: int, now_s: float) -> None:
        if number in self._down:
            return
        self.crashes += 1
        self._down[number] = now_s + self.dice.random() * 3
        self.broker.lose_power(number, self.dice.randrange(2**32))
        if self.dice.random() < 0.7:
            self.broker.publish()

    def _start(self, number: int) -> None:
        del self._down[number]
        log = self.broker.start(number)
        self.cuts += bool(log.recovery.set_aside)
        self._check_sessions(number, records_of(log))
        self.broker.publish()

    def _check_sessions(self, number: int, records: dict[int, bytes]) -> None:
        """After a power cut, too, a session's batches are there up to one, each once, and none behind it."""
        for producer in self.producers:
            if producer.number % PARTITIONS != number:
                continue
            mark = b"%d:" % producer.number
            mine = [(offset, value) for offset, value in records.items() if value.startswith(mark)]
            expected = [value_of(producer.number, sequence) for sequence in range(len(mine))]
            assert [value for _, value in mine] == expected, "if one batch fails, none after it is durable"
            found = {sequence: offset for sequence, (offset, _) in enumerate(mine)}
            assert producer.acked.items() <= found.items(), "what was acknowledged is durable"

    def stored(self, number: int) -> dict[int, bytes]:
        """What the partition's disk holds after one more power cut."""
        self.broker.lose_power(number, self.seed)
        return records_of(self.broker.log(number))


def records_of(log: Log) -> dict[int, bytes]:
    """The values of a log by their offsets, of which none is missing or damaged."""
    found: dict[int, bytes] = {}
    offset = log.start_offset
    while offset < log.durable_offset:
        for record in decode_batches(log.read(offset, 1 << 20), offset):
            assert record.value is not None
            found[record.offset] = record.value
            offset = record.offset + 1
    assert log.damages == ()
    assert sorted(found) == list(range(log.durable_offset)), "offsets are dense"
    return found


def check(simulation: Simulation) -> None:
    """What was promised of acknowledged records, and of records that were read."""
    stored = [simulation.stored(number) for number in range(PARTITIONS)]
    for producer in simulation.producers:
        mark = b"%d:" % producer.number
        log = stored[producer.number % PARTITIONS]
        mine = [(offset, value) for offset, value in log.items() if value.startswith(mark)]
        expected = [value_of(producer.number, sequence) for sequence in range(BATCHES)]
        assert [value for _, value in mine] == expected, "each once, in order"
        assert {sequence: offset for sequence, (offset, _) in enumerate(mine)} == producer.acked
    for reader in simulation.readers:
        assert reader.seen.items() <= stored[reader.partition].items(), "what was read once was durable"


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed{seed}")
def test_every_acknowledged_record_is_there_once_at_its_offset_and_in_order(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.run()
    check(simulation)


def show_what_is_not_durable(put: Put) -> None:
    begin = Log.sync_begin

    def eager(log: Log) -> SyncTicket | None:
        ticket = begin(log)
        if ticket is not None:
            log._state.durable_offset = ticket.end_offset
            for segment, (size, largest) in zip(ticket.segments, ticket.reach, strict=True):
                segment.durable_size, segment.durable_max = size, largest
        return ticket

    put(Log, "sync_begin", eager)


@pytest.mark.parametrize(
    "sabotage",
    [
        acknowledge_before_the_sync,
        sync_nothing,
        recognize_no_retry,
        show_what_is_not_durable,
        keep_what_follows_a_torn_batch,
    ],
)
def test_without_a_protection_some_seed_fails(
    sabotage: Callable[[Put], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch.setattr)
    for seed in SEEDS:
        simulation = Simulation(seed)
        try:
            simulation.run()
            check(simulation)
        except (AssertionError, OdradekError):
            return
    pytest.fail("the checks would not notice")


def test_the_simulation_is_worth_its_name() -> None:
    """Over all seeds there are crashes, cuts, retries and reads; one seed gives one history."""
    simulations = [Simulation(seed) for seed in SEEDS]
    for simulation in simulations:
        simulation.run()
    assert sum(simulation.crashes for simulation in simulations) > len(SEEDS)
    assert sum(simulation.cuts for simulation in simulations) > 3
    assert sum(p.refusals for s in simulations for p in s.producers) > 5
    assert sum(p.attempts for s in simulations for p in s.producers) > len(SEEDS) * PRODUCERS * BATCHES
    assert all(reader.seen for simulation in simulations for reader in simulation.readers)
    again = Simulation(0)
    again.run()
    assert [p.acked for p in again.producers] == [p.acked for p in simulations[0].producers]
    assert [p.attempts for p in again.producers] == [p.attempts for p in simulations[0].producers]
    assert [r.seen for r in again.readers] == [r.seen for r in simulations[0].readers]

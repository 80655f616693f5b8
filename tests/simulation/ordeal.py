"""An ordeal: a simulated broker and its clients, first under faults, then in peace, then before the checker.

While it lasts, messages are lost, late, doubled and overtaken; actors are killed, lose power, stop and go
on; disks fail and fill; the wall clock jumps. Afterwards everything must come to its end: each batch
acknowledged, each reader at the end, each partition held by one member.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable

from odradek.protocol.records import decode_batches
from tests.simulation.clients import (
    Chronicle,
    Client,
    SimAsker,
    SimMember,
    SimProducer,
    SimReader,
    key_of,
    seen_as,
)
from tests.simulation.cluster import Cluster, settings_of
from tests.support.checker.anomalies import Promises
from tests.support.checker.history import FINAL
from tests.support.checker.judging import Verdict, judge
from tests.support.network import ROUTER
from transport.memory import Faults

PARTITIONS = 2
PRODUCERS = 2
BATCHES = 8
MEMBERS = 2
FAULT_CHANCE = 0.03
TURNS_MIN = 150
TURNS_MAX = 3_000
PEACE_TURNS_MAX = 6_000
DOWN_S_MAX = 3.0
WALL_JUMPS_MS = (-3_600_000, 3_600_000, 10 * 365 * 86_400_000, -10 * 365 * 86_400_000)
STEPS_MAX = 8


class NotLive(AssertionError):
    """The faults are over, and something never came to its end."""


class Ordeal:
    """``seed`` decides everything; ``faults`` counts what was done."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.cluster = Cluster(PARTITIONS, seed, settings_of(self.dice))
        self.chronicle = Chronicle()
        self.faults: Counter[str] = Counter()
        given = self.cluster, self.chronicle, self.dice
        everything = range(PARTITIONS)
        self.producers = [
            SimProducer(f"p{number}", *given, number=number, batches=BATCHES) for number in range(PRODUCERS)
        ]
        self.readers = [SimReader("reader", *given, partitions=everything)]
        self.readers[0].deletes = self.dice.choice((0.0, 0.0, 0.02))
        self.members = [SimMember(f"m{number}", *given) for number in range(MEMBERS)]
        self.cluster.network.orderly |= {member.name for member in self.members}
        self._back_at_s: dict[str, float] = {}
        """By actor: when it is started again, or goes on."""
        self._asleep_until_s: dict[str, float] = {}
        """By client."""
        self._heal_at_s: dict[str, float] = {}
        """By actor: when its disk works again."""

    @property
    def clients(self) -> list[Client]:
        return [*self.producers, *self.readers, *self.members]

    # -- the whole

    def run(self) -> Verdict:
        """All of it; the verdict. Raises NotLive."""
        dice = self.dice
        self.cluster.network.faults = Faults(
            drop=dice.choice((0.0, 0.05, 0.15)),
            duplicate=dice.choice((0.0, 0.05)),
            reorder=dice.choice((0.0, 0.05)),
            delay_s_max=dice.choice((0.0, 0.3)),
            sync_s_max=dice.choice((0.01, 1.0)),
        )
        for turn in range(TURNS_MAX):
            if turn >= TURNS_MIN and all(producer.done for producer in self.producers):
                break
            if dice.random() < FAULT_CHANCE:
                self._strike()
            self._turn()
        self._heal()
        self._come_to_rest()
        self._read_at_last()
        return self.verdict()

    def verdict(self) -> Verdict:
        """What the checker says of the history so far."""
        kept = self.readers[0].deletes == 0.0
        return judge(self.chronicle.events, Promises(kept=kept))

    def _turn(self) -> None:
        now_s = self.cluster.clock.now().monotonic_s
        for client in self.clients:
            if self._asleep_until_s.get(client.name, 0.0) <= now_s:
                client.turn()
        self._supervise(now_s)
        for _ in range(self.dice.randint(1, STEPS_MAX)):
            self.cluster.network.step()
        if self.dice.random() < 0.3:
            self.cluster.clock.advance_to(now_s + self.dice.random() * 0.3)

    # -- what the supervisor does

    def _supervise(self, now_s: float) -> None:
        for address, at_s in list(self._heal_at_s.items()):
            if now_s >= at_s:
                self._mend_disk(address)
        for address in self.cluster.failures():
            self._end(address, self.cluster.kill)
        back = [address for address, at_s in self._back_at_s.items() if now_s >= at_s]
        for address in back:
            self._bring_back(address)
        if back:
            self.cluster.publish()

    def _end(self, address: str, how: Callable[[str], None]) -> None:
        self._mend_disk(address)
        how(address)
        self._back_at_s[address] = self.cluster.clock.now().monotonic_s + self.dice.random() * DOWN_S_MAX
        if self.dice.random() < 0.7:
            self.cluster.publish()

    def _bring_back(self, address: str) -> None:
        del self._back_at_s[address]
        if address in self.cluster.network.paused:
            self.cluster.network.paused.discard(address)
        else:
            self.cluster.start(address)

    def _mend_disk(self, address: str) -> None:
        self._heal_at_s.pop(address, None)
        if address in self.cluster.disks:
            disk = self.cluster.disks[address]
            disk.sync_error, disk.capacity = None, None

    # -- what the world does

    def _strike(self) -> None:
        kind = self.dice.choice(
            ("kill", "kill", "power", "pause", "stop", "sync error", "disk full", "clock", "client")
        )
        address = self.dice.choice(self.cluster.everybody)
        if kind == "clock":
            self.cluster.clock.skew_ms += self.dice.choice(WALL_JUMPS_MS)
        elif kind == "client":
            self._strike_client()
        elif address in self._back_at_s or (kind in ("sync error", "disk full") and address == ROUTER):
            return
        else:
            self._strike_actor(kind, address)
        self.faults[kind] += 1

    def _strike_actor(self, kind: str, address: str) -> None:
        now_s = self.cluster.clock.now().monotonic_s
        if kind == "kill":
            self._end(address, self.cluster.kill)
        elif kind == "stop":
            self._end(address, self.cluster.stop)
        elif kind == "power":
            seed = self.dice.randrange(2**32)
            self._end(address, lambda dead: self.cluster.lose_power(dead, seed))
        elif kind == "pause":
            self.cluster.network.paused.add(address)
            self._back_at_s[address] = now_s + self.dice.random() * DOWN_S_MAX
        elif kind == "sync error":
            self.cluster.disks[address].sync_error = OSError(errno.EIO, "Input/output error")
            self._heal_at_s[address] = now_s + 1.0
        elif kind == "disk full":
            disk = self.cluster.disks[address]
            disk.capacity = disk.used() + self.dice.randint(0, 3_000)
            self._heal_at_s[address] = now_s + self.dice.random() * DOWN_S_MAX

    def _strike_client(self) -> None:
        member = self.dice.choice(self.members)
        if self.dice.random() < 0.5:
            member.die()
        else:  # SIGSTOP, maybe past its session's end
            now_s = self.cluster.clock.now().monotonic_s
            self._asleep_until_s[member.name] = now_s + self.dice.random() * 15

    # -- peace

    def _heal(self) -> None:
        self.cluster.network.faults = Faults()
        self._asleep_until_s.clear()
        for address in self.cluster.everybody:
            self._mend_disk(address)
        for address in self.cluster.failures():
            self._end(address, self.cluster.kill)
        for address in list(self._back_at_s):
            self._bring_back(address)
        self.cluster.publish()

    def _come_to_rest(self) -> None:
        for _ in range(PEACE_TURNS_MAX):
            if self._at_rest():
                return
            self._turn()
        raise NotLive(
            f"seed {self.seed}: of {BATCHES} batches {[producer.first_open for producer in self.producers]}, "
            f"readers {[(reader.positions, reader.ends) for reader in self.readers]}, "
            f"members {[(member.member_id, member.epoch, member.owned) for member in self.members]}"
        )

    def _at_rest(self) -> bool:
        held = sorted(partition for member in self.members for partition in member.owned)
        delivered = all(
            offset == self.readers[0].ends[partition]
            for member in self.members
            for partition, offset in member.owned.items()
        )
        finished = all(client.done for client in (*self.producers, *self.readers))
        return finished and held == list(range(PARTITIONS)) and delivered

    def _read_at_last(self) -> None:
        """One more power cut everywhere; then what is there is read, through the router and in the files."""
        for address in self.cluster.everybody:
            self.cluster.lose_power(address, self.seed, keep="none")
        for address in self.cluster.everybody:
            self.cluster.start(address)
        self.cluster.publish()
        last = SimReader(FINAL, self.cluster, self.chronicle, self.dice, partitions=range(PARTITIONS))
        asker = SimAsker("asker", self.cluster, self.chronicle, self.dice)
        for _ in range(PEACE_TURNS_MAX):
            if last.done and asker.done:
                break
            last.turn()
            asker.turn()
            self.cluster.network.step()
        else:
            raise NotLive(f"seed {self.seed}: after the last start, not everything can be read")
        for number, address in enumerate(self.cluster.partitions):
            self.cluster.kill(address)
            self._look_into(number, address)

    def _look_into(self, number: int, address: str) -> None:
        log = self.cluster.log(address)
        assert log.damages == (), "recovery met damage, and there was none"
        records, offset = [], log.start_offset
        while offset < log.durable_offset:
            for record in decode_batches(log.read(offset, 1 << 20), offset):
                records.append(seen_as(number, record.offset, record.value or b""))
                offset = record.offset + 1
        log.close()
        key = key_of(number)
        self.chronicle.note("files", "ok", "stored", records=records, positions={key: 0})

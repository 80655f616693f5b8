"""A whole broker in one thread: router, coordinator and partitions, each with a disk of its own.

What the real world does to it, a seed decides: see ``ordeal``. It stands in for the supervisor too: what
says that it cannot go on is ended and started again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from actors.actor import Moment
from actors.coordinator import CoordinatorActor, CoordinatorOptions
from actors.messages import COORDINATOR, partition_address
from actors.partition import PartitionActor
from actors.router import RouterActor, RouterOptions
from partitions.log import Log
from partitions.settings import LogSettings
from tests.support.clock import START_MS, START_S
from tests.support.network import ROUTER, routes, topic_route
from tests.support.simdisk import SimDisk
from transport.memory import Faults, MemoryNetwork, Route

TOPIC = "t"
SESSION_TIMEOUT_MS = 6_000
PAUSED_LOOK_S = 0.1
COORDINATOR_SEGMENT_BYTES = 64 << 10
"""What one turn of the coordinator writes has to fit."""


class SkewedClock:
    """The simulation's time: the wall clock may jump, the monotonic one never does."""

    def __init__(self) -> None:
        self._now_s = START_S
        self.skew_ms = 0

    def now(self) -> Moment:
        return Moment(self._now_s, START_MS + round((self._now_s - START_S) * 1000) + self.skew_ms)

    def advance_to(self, monotonic_s: float) -> None:
        self._now_s = max(self._now_s, monotonic_s)


class Network(MemoryNetwork):
    """Processes may be stopped and go on; only produce and fetch requests may come twice or overtake.

    ZeroMQ does neither on one connection: it is what clients do that send again over a new one, and nobody
    may send a commit again without asking what became of the first.
    """

    def __init__(self, clock: SkewedClock, seed: int) -> None:
        super().__init__(clock, seed, Faults())
        self.paused: set[str] = set()
        self.orderly: set[str] = {COORDINATOR}

    def crash(self, address: str) -> None:
        self.paused.discard(address)
        super().crash(address)

    def has(self, address: str) -> bool:
        return address in self._hosts

    @contextmanager
    def _without_the_paused(self) -> Iterator[None]:
        hidden = {address: self._hosts.pop(address) for address in self.paused if address in self._hosts}
        try:
            yield
        finally:
            self._hosts |= hidden

    def _choices(self) -> list:  # type: ignore[type-arg]
        with self._without_the_paused():
            return super()._choices()

    def _pass_time(self) -> bool:
        with self._without_the_paused():
            return super()._pass_time()

    def _arrive(self, route: Route) -> None:
        if route[1] in self.paused:
            self._parcels[route][0].due_s = self._clock.now().monotonic_s + PAUSED_LOOK_S
            return
        super()._arrive(route)

    def _post(self, route: Route, frames: list[bytes], *, asks: bool) -> None:
        if not self.orderly.intersection(route):
            super()._post(route, frames, asks=asks)
            return
        faults = self.faults
        self.faults = Faults(drop=faults.drop, delay_s_max=faults.delay_s_max)
        try:
            super()._post(route, frames, asks=asks)
        finally:
            self.faults = faults


class Cluster:
    """The broker. Addresses name its actors; ``start`` and ``publish`` are what the supervisor does."""

    def __init__(self, partitions: int, seed: int, settings: LogSettings) -> None:
        self.clock = SkewedClock()
        self.network = Network(self.clock, seed)
        self.partitions = [partition_address(TOPIC, number) for number in range(partitions)]
        self.disks = {address: SimDisk() for address in (*self.partitions, COORDINATOR)}
        self.settings = settings
        self._endpoints: dict[str, str | None] = {}
        self._epochs: dict[str, int] = {}
        self._version = 0
        self._member_ids = count(1)
        for address in self.everybody:
            self.start(address)
        self.publish()

    @property
    def everybody(self) -> tuple[str, ...]:
        """Every actor's address."""
        return (*self.partitions, COORDINATOR, ROUTER)

    def running(self, address: str) -> bool:
        return self.network.has(address)

    def log(self, address: str) -> Log:
        """Open the log of a partition or the coordinator, as its actor does."""
        return Log.open(
            Path(f"/simulated/{address.rsplit(':', 1)[-1]}"),
            replace(self.settings, segment_bytes=COORDINATOR_SEGMENT_BYTES)
            if address == COORDINATOR
            else self.settings,
            files=self.disks[address],
            wall_ms=self.clock.now().wall_ms,
            topic_id="id",
        )

    def start(self, address: str) -> None:
        """Start an actor; the next ``publish`` tells the others where it is."""
        if address == ROUTER:
            self.network.host(ROUTER, lambda: RouterActor(RouterOptions(index=0, server="test")))
            return
        log = self.log(address)
        self._epochs[address] = log.leader_epoch
        if address == COORDINATOR:
            options = CoordinatorOptions(
                new_id=lambda: f"made-{next(self._member_ids)}", session_timeout_ms=SESSION_TIMEOUT_MS
            )
            self._endpoints[address] = self.network.host(
                address,
                lambda: CoordinatorActor(log, options),
            )
            return
        number = self.partitions.index(address)
        self._endpoints[address] = self.network.host(address, lambda: PartitionActor(TOPIC, number, log, 5.0))

    def kill(self, address: str) -> None:
        """kill -9: the process is gone, what it wrote is in the page cache."""
        self.network.crash(address)
        self._endpoints[address] = None
        if address in self.disks:
            self.disks[address].release()

    def lose_power(self, address: str, seed: int, keep: str = "subset") -> None:
        """The disk keeps what was synced, and pieces of the rest."""
        self.network.crash(address)
        self._endpoints[address] = None
        if address in self.disks:
            self.disks[address] = self.disks[address].crash(seed, keep=keep)

    def stop(self, address: str) -> None:
        """In order, as at the end of the broker."""
        self.network.stop(address)
        self._endpoints[address] = None
        if address in self.disks:
            self.disks[address].release()

    def publish(self) -> None:
        """Tell the router and the coordinator where everything is now."""
        self._version += 1
        topic = topic_route(TOPIC, *(self._endpoints[address] for address in self.partitions))
        for route in topic.partitions:
            route.leader_epoch = self._epochs[self.partitions[route.partition]]
        table = routes(self._version, topic, coordinator=self._endpoints[COORDINATOR])
        for address in (ROUTER, COORDINATOR):
            if self.running(address):
                self.network.tell(address, table)

    def failures(self) -> list[str]:
        """Actors that said they cannot go on, since the last call."""
        failed = dict.fromkeys(address for address, _ in self.network.failed)
        self.network.failed.clear()
        return [address for address in failed if self.running(address)]


def settings_of(dice: random.Random) -> LogSettings:
    """Small everything, so that a short run rolls, checkpoints and searches; the dice say how small."""
    return LogSettings(
        segment_bytes=dice.choice((1_024, 2_048, 8_192)),
        checkpoint_bytes=dice.choice((1_000, 4_096, 100_000)),
        index_interval_bytes=dice.choice((1, 256, 4_096)),
        open_files_max=dice.choice((1, 16)),
        preallocate=dice.random() < 0.5,
        file_delete_delay_ms=0,
        retention_ms=-1,
    )

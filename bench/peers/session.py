"""Session: one start of a peer in a round, and everything that is measured on it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.peers.acknowledging import FellBehindError, first_acknowledgement, measure, topic
from bench.peers.findings import Failure, Figure, Findings, Value
from bench.peers.peer import Peer, Running
from bench.peers.workloads import OVERHEAD_S, WARM_UP, Case
from loadtest.clients import client_module
from loadtest.watching import Usage
from loadtest.workload import Target, Workload

MIB = 1 << 20
START = "life"
CONNECTIONS = Figure(START, "start until it takes connections", "s", False)
ACKNOWLEDGED = Figure(START, "start until the first acknowledged record", "s", False)
IDLE = Figure(START, "memory, idle", "MiB", False)
ONE_PARTITION = Workload(consumers=0, partitions=1, batch_records=1)
EIGHT_PARTITIONS = Case(
    "8 partitions at 1,000 records/s",
    Workload(consumers=1, partitions=8, rate=1_000, duration_s=3.0, batch_records=1),
    (),
)
LOADED = Figure(EIGHT_PARTITIONS.name, "memory, 8 partitions under load", "MiB", False)

Say = Callable[[str], None]


class OutOfTimeError(RuntimeError):
    """The run's time is over before this could begin."""


class Recorder:
    """Adds what one peer did in one round to the findings, and keeps its failures from ending the run."""

    def __init__(self, findings: Findings, peer: str, number: int, say: Say, out_of_time: float) -> None:
        self._findings = findings
        self._peer = peer
        self._round = str(number)
        self._say = say
        self._out_of_time = out_of_time

    def check_time(self) -> None:
        """Raises OutOfTimeError where nothing more should begin."""
        if time.monotonic() > self._out_of_time:
            raise OutOfTimeError("left out: the time of the run was over")

    def add(self, figure: Figure, value: float) -> None:
        """A number."""
        self._findings.values.append(Value(figure, self._peer, self._round, value))

    def fail(self, case: str, error: BaseException) -> None:
        """No number, and why."""
        why = str(error).strip() or type(error).__name__
        self._findings.failures.append(Failure(case, self._peer, self._round, why))
        self._say(f"  {self._peer}: {case}: failed: {why}")

    @contextmanager
    def trying(self, case: str) -> Iterator[None]:
        """What is raised inside becomes a failure of this case."""
        begun = time.monotonic()
        try:
            yield
        except Exception as error:
            # One peer that fails must not hide the others; the cell says why.
            self.fail(case, error)
        else:
            self._say(f"  {self._peer}: {case}: {time.monotonic() - begun:.1f} s")


class Session:
    """A peer that is started for its cases; one that dies is started again for those that are left."""

    def __init__(self, peer: Peer, directory: Path, recorder: Recorder, *, life: bool) -> None:
        self._peer = peer
        self._directory = directory
        self._recorder = recorder
        self._life = life
        self._left: list[Case] = []

    def run(self, cases: Sequence[Case]) -> None:
        """Measure them all; each has a value or a failure afterwards."""
        # The client's packages are imported now, because no start should have to wait for them.
        client_module(Target(address="", client=self._peer.client))
        self._left = list(cases)
        while self._left or self._life:
            before = len(self._left)
            try:
                self._recorder.check_time()
                self._start_and_measure()
            except Exception as error:
                # It did not start, or it died: what is left gets a new one, as long as there is progress.
                if len(self._left) == before:
                    self._give_up(error)
            self._life = False  # a second start is for the cases that are left

    def _give_up(self, error: Exception) -> None:
        if self._life:
            self._recorder.fail(START, error)
        for case in self._left:
            self._recorder.fail(case.name, error)
        self._left.clear()

    def _start_and_measure(self) -> None:
        data = self._directory / f"session-{time.monotonic_ns()}"
        try:
            running = self._peer.running(data)
            begun = time.monotonic()
            with running:
                self._lives(running, begun)
                self._warm_up(running)
                while self._left and running.alive:
                    # Whether it succeeds or fails, it is not tried again.
                    self._measure(running, self._left.pop(0))
        finally:
            shutil.rmtree(data, ignore_errors=True)

    def _lives(self, running: Running, begun: float) -> None:
        """Start-up and memory, before the load has left its traces."""
        connected_s = time.monotonic() - begun
        if not self._life:
            return
        with self._recorder.trying(START):
            self._recorder.check_time()
            with topic(running.target(), 1) as target:
                acknowledged = first_acknowledgement(target, ONE_PARTITION)
            self._recorder.add(CONNECTIONS, connected_s)
            self._recorder.add(ACKNOWLEDGED, acknowledged - begun)
            self._recorder.add(IDLE, running.pss_bytes() / MIB)
        with self._recorder.trying(EIGHT_PARTITIONS.name):
            self._recorder.check_time()
            self._recorder.add(LOADED, _memory_under_load(running))

    def _warm_up(self, running: Running) -> None:
        try:
            measure(running.target(), WARM_UP.workload)
        except FellBehindError:
            # What is slow is warm, too; whatever else fails would fail in the cases.
            return

    def _measure(self, running: Running, case: Case) -> None:
        # What earlier records left in the page cache is written now, not while this case is measured.
        os.sync()
        with self._recorder.trying(case.name):
            self._recorder.check_time()
            result = measure(running.target(), case.workload)
            if not result.sound:
                raise RuntimeError(
                    f"lost {result.lost}, out of order {result.out_of_order}, failed {result.produce.failed}"
                )
            for measured in case.measured:
                figure = Figure(case.name, measured.name, measured.unit, measured.more_is_better)
                self._recorder.add(figure, measured.of(result))


class _Memory:
    """All processes of a peer as one, for the load test's watcher."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def look(self) -> list[Usage]:
        """As loadtest.watching.Watched."""
        return [Usage(name="all", cpu_percent=0.0, pss_bytes=self._running.pss_bytes())]

    def close(self) -> None:
        """As loadtest.watching.Watched."""


def _memory_under_load(running: Running) -> float:
    """The most that was seen while records flowed, in MiB."""
    result = measure(running.target(), EIGHT_PARTITIONS.workload, watched=_Memory(running))
    if not result.actors:
        raise RuntimeError("no look at the memory came while records flowed")
    return result.actors[0].pss_bytes_max / MIB


def estimate_s(peer: Peer, cases: Sequence[Case], *, life: bool) -> float:
    """How long a session takes on a quiet machine."""
    lives = EIGHT_PARTITIONS.estimate_s + OVERHEAD_S if life else 0.0
    return peer.start_and_stop_s + lives + WARM_UP.estimate_s + sum(case.estimate_s for case in cases)

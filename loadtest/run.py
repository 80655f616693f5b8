"""Run: one load test from its first process to its result."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import msgspec

from loadtest.clients import client_module
from loadtest.course import Course
from loadtest.crew import Crew
from loadtest.result import Result, actor_uses
from loadtest.stopping import Stopping
from loadtest.watching import Watched, Watcher
from loadtest.words import Finished, Interval
from loadtest.workload import Order, Target, Workload

TOPIC_PREFIX: Final = "loadtest-"
TOPIC_BYTES: Final = 4
HEAD_START_S: Final = 0.2
"""Between the word to begin and the beginning, so that all clients have heard it."""
MOMENT_S: Final = 1.0
HEAR_S: Final = 0.1
SETTLE_S_MAX: Final = 150.0
"""How long producers may wait for their last acknowledgements after the load."""
DRAIN_S_MAX: Final = 15.0
"""How long readers may bring nothing before what is missing counts as lost."""

Progress = Callable[[Course, Watcher, float], None]


def measure(
    target: Target,
    workload: Workload,
    watched: Watched | None,
    progress: Progress,
    *,
    keep_topic: bool = False,
    stopping: Stopping | None = None,
) -> Result:
    """Run the workload on a new topic, deleted afterwards. Raises ProcessError, and what the client raises.

    With ``stopping``, Ctrl-C ends the load and gives the result so far; without, it is a KeyboardInterrupt.
    """
    target = msgspec.structs.replace(target, topic=f"{TOPIC_PREFIX}{secrets.token_hex(TOPIC_BYTES)}")
    with client_module(target).topic_of(target, workload.partitions, keep=keep_topic):
        return Run(target, workload, watched, progress, stopping).measure()


class Run:
    """One load test against a target whose topic is there and empty."""

    def __init__(
        self,
        target: Target,
        workload: Workload,
        watched: Watched | None,
        progress: Progress,
        stopping: Stopping | None = None,
    ) -> None:
        self._target = target
        self._workload = workload
        self._watcher = Watcher(watched)
        self._progress = progress
        self._stopping = stopping
        self._all_read = True
        self._course = Course(workload.value_bytes, workload.warm_up_s)
        self._sent = 0
        self._start_ns = 0

    def measure(self) -> Result:
        """Run it. Raises ProcessError where a client process fails."""
        with tempfile.TemporaryDirectory(prefix="odradek-loadtest-") as work:
            crew = Crew(Path(work))
            try:
                crew.start(self._orders())
                with self._stopping or nullcontext():
                    self._begin(crew)
                    self._follow(crew)
                    self._drain(crew)
            finally:
                self._watcher.stop()
                crew.close()
        return self._result()

    def _orders(self) -> list[Order]:
        consumers = [
            Order(role="consumer", index=index, workload=self._workload, target=self._target)
            for index in range(self._workload.consumers)
        ]
        producers = [
            Order(role="producer", index=index, workload=self._workload, target=self._target)
            for index in range(self._workload.producers)
        ]
        return consumers + producers

    def _begin(self, crew: Crew) -> None:
        self._start_ns = self._soon_ns()
        crew.go(self._start_ns, ("producer",) if self._workload.read_after else ("producer", "consumer"))
        self._watcher.start()

    @staticmethod
    def _soon_ns() -> int:
        return time.monotonic_ns() + int(HEAD_START_S * 1e9)

    @property
    def _at_s(self) -> float:
        return (time.monotonic_ns() - self._start_ns) / 1e9

    def _follow(self, crew: Crew) -> None:
        """Until every producer has its last acknowledgement."""
        give_up_s = self._workload.load_s + SETTLE_S_MAX
        told = False
        while not crew.finished("producer"):
            self._hear(crew)
            if self._is_stopping and not told:
                crew.end("producer")
                told = True
                give_up_s = self._at_s + SETTLE_S_MAX
            if self._at_s > give_up_s:
                raise TimeoutError(f"producers were not done {SETTLE_S_MAX:g} s after the load")

    @property
    def _is_stopping(self) -> bool:
        return self._stopping is not None and self._stopping.wanted

    def _drain(self, crew: Crew) -> None:
        """Until every acknowledged record is read, or nothing more comes, or Ctrl-C ends the reading."""
        was_stopping = self._is_stopping
        if self._workload.read_after:
            self._course.reading_from_s = self._at_s + HEAD_START_S
            crew.go(self._soon_ns(), ("consumer",))
        wanted = self._course.acknowledged if self._workload.acks != "0" else self._sent
        consumed, since_s = self._course.consumed, self._at_s
        while self._workload.consumers and self._course.consumed < wanted:
            self._hear(crew)
            if self._course.consumed > consumed:
                consumed, since_s = self._course.consumed, self._at_s
            elif self._at_s - since_s > DRAIN_S_MAX:
                break
            if self._is_stopping and not was_stopping:
                self._all_read = False
                break
        crew.end("consumer")
        while not crew.finished("consumer"):
            self._hear(crew)
        self._course.turn(self._at_s)

    def _hear(self, crew: Crew) -> None:
        for heard in crew.hear(HEAR_S):
            match heard.word:
                case Interval():
                    self._course.add(heard.order.role, heard.word, self._moment_of(heard.word))
                case Finished():
                    self._sent += heard.word.sent
                case _:
                    pass
        moments = self._course.moments
        if self._at_s >= (moments[-1].at_s if moments else 0.0) + MOMENT_S:
            self._course.turn(self._at_s)
            self._progress(self._course, self._watcher, self._at_s)

    def _moment_of(self, interval: Interval) -> float:
        """When its last record came, in seconds of the load; reports are heard a little later."""
        return (interval.last_ns - self._start_ns) / 1e9 if interval.last_ns else self._at_s

    def _result(self) -> Result:
        course, workload = self._course, self._workload
        read = workload.consumers > 0
        answered = workload.acks != "0" and self._all_read
        return Result(
            target=self._target.address,
            workload=workload,
            produce=course.produce_side(),
            consume=course.consume_side() if read else None,
            sent=self._sent,
            lost=max(0, course.acknowledged - course.consumed) if read and answered else None,
            out_of_order=course.out_of_order,
            moments=course.moments,
            actors=actor_uses(self._watcher.samples, self._watcher.times_s),
            notes=self._notes(),
            interrupted=self._is_stopping,
        )

    def _notes(self) -> list[str]:
        notes = [] if self._watcher.trouble is None else [self._watcher.trouble]
        if self._is_stopping:
            notes.append("interrupted: these are the figures of what was done until then")
        return notes

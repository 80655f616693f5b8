"""The workers: the consumer processes of the demo, seen from the demo; their reports, merged."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crew.processes import Child, ProcessError, Processes
from demo.reports import Assigned, Finished, Progress, Report, read_report
from demo.tally import FlightTally, Run, merged
from demo.verdict import add_up_seen

STOP_TIMEOUT_S = 20.0


@dataclass(slots=True)
class _Worker:
    child: Child
    assigned: tuple[int, ...] = ()
    tally: FlightTally = field(default_factory=FlightTally)
    next_offsets: Mapping[int, int] = field(default_factory=dict)
    finished: Finished | None = None

    def take(self, report: Report) -> None:
        match report:
            case Assigned():
                self.assigned = tuple(report.partitions)
            case Progress():
                self.tally, self.next_offsets = report.tally, report.next_offsets
            case Finished():
                self.tally, self.finished = report.tally, report


class Workers:
    """Consumer processes in one group. `work` is a directory for what they write on stderr."""

    def __init__(self, work: Path) -> None:
        self._processes = Processes(work)
        self._workers: dict[Child, _Worker] = {}

    def start(self, count: int, arguments: list[str]) -> None:
        """Start so many, all with the same arguments."""
        for index in range(count):
            child = self._processes.start(f"consumer-{index + 1}", "demo.worker", arguments)
            self._workers[child] = _Worker(child)

    @property
    def assignments(self) -> dict[str, tuple[int, ...]]:
        """By worker, the partitions that it holds."""
        return {child.name: worker.assigned for child, worker in self._workers.items()}

    @property
    def tally(self) -> FlightTally:
        """The answer so far, of all workers."""
        return merged(worker.tally for worker in self._workers.values())

    @property
    def records(self) -> int:
        """How many records all workers have read."""
        return sum(worker.tally.records for worker in self._workers.values())

    def next_offsets(self) -> dict[int, int]:
        """By partition, how far any worker has read."""
        furthest: dict[int, int] = {}
        for worker in self._workers.values():
            for partition, offset in worker.next_offsets.items():
                furthest[partition] = max(offset, furthest.get(partition, 0))
        return furthest

    def runs(self) -> list[Run]:
        """The runs of all workers, once they have finished."""
        return [run for last in self._last_reports() for run in last.runs]

    def seen(self, flights: int) -> bytes:
        """How often each flight came, once they have finished."""
        return add_up_seen((last.seen_counts() for last in self._last_reports()), flights)

    def _last_reports(self) -> list[Finished]:
        return [worker.finished for worker in self._workers.values() if worker.finished]

    def pump(self, timeout_s: float) -> None:
        """Take the reports that are there, waiting so long for one. Raises ProcessError if a worker ends."""
        for child in self._take(timeout_s):
            if child.ended:
                raise self._failure(child)

    def _take(self, timeout_s: float) -> list[Child]:
        """Those that said something, or ended."""
        heard = self._processes.hear(timeout_s)
        for child, lines in heard:
            for line in lines:
                self._workers[child].take(read_report(line))
        return [child for child, _ in heard]

    def finish(self) -> None:
        """Tell all to commit and leave, and wait for their last reports. Raises ProcessError."""
        for child in self._workers:
            child.hang_up()
        give_up_at = time.monotonic() + STOP_TIMEOUT_S
        while not all(child.ended for child in self._workers):
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                break
            if self._take(left_s):
                give_up_at = time.monotonic() + STOP_TIMEOUT_S
        for child, worker in self._workers.items():
            self._check_end(child, worker)

    def _check_end(self, child: Child, worker: _Worker) -> None:
        if not child.ended or worker.finished is None:
            raise self._failure(child)
        try:
            code = child.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise self._failure(child) from None
        if code != 0:
            raise self._failure(child)

    def kill(self) -> None:
        """End those that still run, at once."""
        self._processes.close()

    @staticmethod
    def _failure(child: Child) -> ProcessError:
        if not child.ended:
            return ProcessError(child.story("still runs"))
        try:
            return ProcessError(child.story(f"ended with code {child.process.wait(STOP_TIMEOUT_S)}"))
        except subprocess.TimeoutExpired:
            return ProcessError(child.story("closed its output and still runs"))

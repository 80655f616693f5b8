"""The workers: the consumer processes of the demo, seen from the demo; their reports, merged."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from demo.reports import Assigned, Finished, Progress, Report, read_report
from demo.tally import FlightTally, Run, merged
from demo.verdict import add_up_seen

STOP_TIMEOUT_S = 20.0
READ_BYTES = 1 << 18
LOG_LINES_SHOWN = 10


class WorkerError(RuntimeError):
    """A consumer process ended before it was told to; the message carries its last lines."""


@dataclass(slots=True)
class _Worker:
    name: str
    process: subprocess.Popen[bytes]
    log_file: Path
    unread: bytearray = field(default_factory=bytearray)
    assigned: tuple[int, ...] = ()
    tally: FlightTally = field(default_factory=FlightTally)
    next_offsets: Mapping[int, int] = field(default_factory=dict)
    finished: Finished | None = None
    ended: bool = False

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
        self._work = work
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def start(self, count: int, arguments: list[str]) -> None:
        """Start so many, all with the same arguments."""
        for index in range(count):
            self._start_one(f"consumer-{index + 1}", arguments)

    def _start_one(self, name: str, arguments: list[str]) -> None:
        log_file = self._work / f"{name}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "demo.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._work,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends them
            )
        worker = _Worker(name, process, log_file)
        os.set_blocking(_stream(process.stdout).fileno(), False)
        self._selector.register(_stream(process.stdout), selectors.EVENT_READ, worker)
        self._workers.append(worker)

    @property
    def assignments(self) -> dict[str, tuple[int, ...]]:
        """By worker, the partitions that it holds."""
        return {worker.name: worker.assigned for worker in self._workers}

    @property
    def tally(self) -> FlightTally:
        """The answer so far, of all workers."""
        return merged(worker.tally for worker in self._workers)

    @property
    def records(self) -> int:
        """How many records all workers have read."""
        return sum(worker.tally.records for worker in self._workers)

    def next_offsets(self) -> dict[int, int]:
        """By partition, how far any worker has read."""
        furthest: dict[int, int] = {}
        for worker in self._workers:
            for partition, offset in worker.next_offsets.items():
                furthest[partition] = max(offset, furthest.get(partition, 0))
        return furthest

    def runs(self) -> list[Run]:
        """The runs of all workers, once they have finished."""
        return [run for worker in self._workers if worker.finished for run in worker.finished.runs]

    def seen(self, flights: int) -> bytes:
        """How often each flight came, once they have finished."""
        return add_up_seen(
            (worker.finished.seen_counts() for worker in self._workers if worker.finished), flights
        )

    def pump(self, timeout_s: float) -> None:
        """Take the reports that are there, waiting so long for one. Raises WorkerError if a worker ends."""
        for key, _ in self._selector.select(timeout_s):
            worker: _Worker = key.data
            self._read(worker)
            if worker.ended:
                raise WorkerError(self._story(worker))

    def finish(self) -> None:
        """Tell all to commit and leave, and wait for their last reports. Raises WorkerError."""
        for worker in self._workers:
            _stream(worker.process.stdin).close()
        for worker in self._workers:
            self._wait_for_last_report(worker)

    def _wait_for_last_report(self, worker: _Worker) -> None:
        while not worker.ended:
            if not self._selector.select(STOP_TIMEOUT_S):
                break
            for other in self._workers:
                self._read(other)
        try:
            code = worker.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise WorkerError(self._story(worker)) from None
        if code != 0 or worker.finished is None:
            raise WorkerError(self._story(worker))

    def kill(self) -> None:
        """End those that still run, at once."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()
            _stream(worker.process.stdin).close()
            _stream(worker.process.stdout).close()
        self._selector.close()

    def _read(self, worker: _Worker) -> None:
        if worker.ended:
            return
        stream = _stream(worker.process.stdout)
        try:
            chunk = os.read(stream.fileno(), READ_BYTES)
        except BlockingIOError:
            return
        if not chunk:
            worker.ended = True
            self._selector.unregister(stream)
            return
        worker.unread += chunk
        *lines, rest = worker.unread.split(b"\n")
        worker.unread = rest
        for line in lines:
            worker.take(read_report(bytes(line)))

    def _story(self, worker: _Worker) -> str:
        code = worker.process.poll()
        ended = "still runs" if code is None else f"ended with code {code}"
        lines = worker.log_file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"{worker.name} {ended}; its last lines:", *(f"  {line}" for line in lines)])


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "opened as a pipe"
    return stream

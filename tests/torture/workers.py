"""Workers: the client processes of a run; one that was killed is followed by another with a new name."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.torture.options import TortureOptions

END_TIMEOUT_S = 90.0
LOG_LINES_SHOWN = 20
AT_WORK_TIMEOUT_S = 60.0
TURN_S = 0.1
FIRST_DONE = {"producer": "send", "reader": "poll", "member": "commit"}
"""What one of a role has done when it is at work."""
PRODUCERS = ("producer", "kafka-producer")


class WorkerFailed(AssertionError):
    """A client ended by itself; the message has its last lines."""


@dataclass(slots=True)
class WorkerProcess:
    """One client process."""

    role: str
    slot: int
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def story(self) -> str:
        """How it ended, with what it said last."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"{self.name} ended with {self.process.returncode}:", *lines])


class Workers:
    """All of them. A context manager that leaves none behind."""

    def __init__(self, options: TortureOptions, bootstrap: str, kafka: str, directory: Path) -> None:
        self._options, self._bootstrap, self._kafka, self._directory = options, bootstrap, kafka, directory
        self._running: list[WorkerProcess] = []
        self._started = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()

    def start_all(self) -> None:
        """One reader of each protocol, and as many producers and members as wanted."""
        for role, count in self._options.clients.items():
            for slot in range(count):
                self._start(role, slot)

    def wait_at_work(self) -> None:
        """Returns when somebody of each role has done what it is there for. Raises WorkerFailed."""
        deadline_s = time.monotonic() + AT_WORK_TIMEOUT_S
        waiting = set(self._options.clients)
        while waiting:
            self.check()
            waiting = {role for role in waiting if not self._has_done(role)}
            if time.monotonic() > deadline_s:
                raise WorkerFailed(f"{sorted(waiting)} did nothing within {AT_WORK_TIMEOUT_S:g} s")
            threading.Event().wait(TURN_S)

    def _has_done(self, role: str) -> bool:
        done = FIRST_DONE[role.removeprefix("kafka-")]
        histories = [self._directory / f"{worker.name}.jsonl" for worker in self.of_role(role)]
        sign = f'"type":"ok","f":"{done}"'.encode()
        return any(path.exists() and sign in path.read_bytes() for path in histories)

    def _start(self, role: str, slot: int) -> None:
        self._started += 1
        name = f"{role}-{slot}-{self._started}"
        log = self._directory / f"{name}.log"
        share = self._options.records_max // (self._options.producers + self._options.kafka_producers)
        bootstrap = self._kafka if role.startswith("kafka-") else self._bootstrap
        command = [
            *(sys.executable, "-m", "tests.torture.worker", role, name),
            *(bootstrap, str(self._directory)),
            *("--partitions", str(self._options.partitions), "--seed", str(self._options.seed)),
            *("--rate", str(self._options.rate), "--records-max", str(share)),
        ]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._running.append(WorkerProcess(role, slot, name, process, log))

    def of_role(self, role: str) -> list[WorkerProcess]:
        return [worker for worker in self._running if worker.role == role]

    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(worker.process.pid) for worker in self._running]

    def replace(self, worker: WorkerProcess) -> None:
        """kill -9, and another one takes the place."""
        worker.process.kill()
        worker.process.wait()
        self._running.remove(worker)
        self._start(worker.role, worker.slot)

    def check(self) -> None:
        """Raises WorkerFailed where one ended that nobody killed; a producer may come to its last record."""
        for worker in list(self._running):
            code = worker.process.poll()
            if code == 0 and worker.role in PRODUCERS:
                self._running.remove(worker)
            elif code is not None:
                raise WorkerFailed(worker.story())

    @property
    def producing(self) -> bool:
        """Whether any producer still has records to send."""
        return any(self.of_role(role) for role in PRODUCERS)

    def finish(self, role: str) -> None:
        """Lets those of a role end in order."""
        workers = self.of_role(role)
        for worker in workers:
            worker.process.send_signal(signal.SIGTERM)
        for worker in workers:
            try:
                code = worker.process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise WorkerFailed(f"{worker.name} did not end within {END_TIMEOUT_S:g} s") from None
            if code != 0:
                raise WorkerFailed(worker.story())
            self._running.remove(worker)

"""A worker: one measured role in a process of its own, that says its result as one line of JSON.

A role never shares a process with another, so that no role's garbage, threads or warm caches count
against another's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROJECT = Path(__file__).resolve().parent.parent
WORKER_SECONDS_MAX = 180.0


class WorkerFailed(RuntimeError):
    """A role ended without a result; the message holds what it said."""


def run_worker(module: str, *arguments: str) -> dict[str, Any]:
    """The result of ``python -m module arguments``. Raises WorkerFailed with its last lines."""
    with BackgroundWorker(module, *arguments) as worker:
        return worker.result()


class BackgroundWorker:
    """A role that runs until it is asked for its result, or until the block around it ends."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._name = " ".join([module, *arguments])
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def result(self) -> dict[str, Any]:
        """What the role said at its end."""
        try:
            said, complaints = self._process.communicate(timeout=WORKER_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, complaints = self._process.communicate()
            raise WorkerFailed(f"{self._name}: no result in {WORKER_SECONDS_MAX:.0f} s") from None
        if self._process.returncode != 0:
            last_lines = "\n".join(complaints.splitlines()[-15:])
            raise WorkerFailed(f"{self._name}: exit code {self._process.returncode}\n{last_lines}")
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()


def say(**result: object) -> None:
    """A role's last words: its result, for the process that started it."""
    print(json.dumps(result), flush=True)

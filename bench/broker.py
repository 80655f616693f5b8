"""A real broker for a benchmark: started as a user starts it, measured from outside."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]

from tests.support.broker import BrokerFailed, BrokerProcess, wait_gone

READY_SECONDS_MAX = 300.0
CHILDREN_GONE_SECONDS_MAX = 15.0


class Broker:
    """One start of ``python -m supervisor``; ``ready_s`` is the time from exec to the ready file."""

    def __init__(self, data: Path, **settings: object) -> None:
        """``settings`` become flags."""
        self._process = BrokerProcess(data, **settings)  # type: ignore[arg-type]
        begun = time.perf_counter()
        try:
            self._process.start(timeout_s=READY_SECONDS_MAX)
        except BrokerFailed:
            self._process.close()
            raise
        self.ready_s = time.perf_counter() - begun
        self.router = self._process.bootstrap

    def pss_bytes(self) -> dict[str, int]:
        """Proportional set size of each process of the tree, by its title and pid."""
        sizes: dict[str, int] = {}
        for process in [psutil.Process(self._process.pid), *self._process.tree()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline()).rstrip("\0 ") or process.name()
                sizes[f"{title} [{process.pid}]"] = process.memory_full_info().pss
        return sizes

    def cpu_s(self) -> float:
        """The processor's time that the processes of the tree have used so far."""
        used_s = 0.0
        for process in [psutil.Process(self._process.pid), *self._process.tree()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used_s += times.user + times.system
        return used_s

    def kill(self) -> None:
        """kill -9 of the supervisor; returns when its children are gone too."""
        children = self._process.tree()
        self._process.kill()
        orphans = wait_gone(children, CHILDREN_GONE_SECONDS_MAX)
        for orphan in orphans:
            orphan.kill()
        self._process.close()
        if orphans:
            raise BrokerFailed(f"{len(orphans)} processes outlived the supervisor")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()

"""What processes cost, for ``status``: memory as PSS (shared pages counted in shares) and CPU.

Sampled only when somebody asks, and at most once a second. Of each process the kernel takes some
milliseconds to count the memory, so it is not for the supervisor's loop (see ``statuses``), and of hundreds
only some are counted for each answer: the others say what they had when they were counted last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import psutil  # type: ignore[import-untyped]

from odradek.protocol.messages import ActorStatus

FRESH_S = 1.0
MEMORY_COUNT_S_MAX = 0.25
"""No answer waits much longer than this for the counting of memory."""
MEMORY_COUNTS_MIN = 32
"""But so many processes are counted for each answer, however long it takes."""


@dataclass(slots=True)
class _Sample:
    at_s: float
    cpu_s: float
    cpu_percent: float
    pss_bytes: int | None = None
    counted_s: float = float("-inf")


class UsageSampler:
    """Completes rows of ``status``; remembers the last sample of each process for the CPU rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: dict[int, _Sample] = {}

    def complete(self, rows: tuple[ActorStatus, ...]) -> list[ActorStatus]:
        """The rows with memory and CPU where the process still is there and its turn has come."""
        now_s = self._clock()
        uptimes_s = {row.pid: row.uptime_s for row in rows if row.pid is not None}
        self._samples = {pid: sample for pid, sample in self._samples.items() if pid in uptimes_s}
        for pid, uptime_s in uptimes_s.items():
            self._take_cpu(pid, uptime_s, now_s)
        self._count_memory(now_s)
        return [self._complete(row) for row in rows]

    def _complete(self, row: ActorStatus) -> ActorStatus:
        sample = self._samples.get(row.pid) if row.pid is not None else None
        if sample is None:
            return row
        return msgspec.structs.replace(
            row, pss_bytes=sample.pss_bytes, cpu_percent=sample.cpu_percent, uptime_s=round(row.uptime_s, 3)
        )

    def _take_cpu(self, pid: int, uptime_s: float, now_s: float) -> None:
        last = self._samples.get(pid)
        if last is not None and now_s - last.at_s < FRESH_S:
            return
        try:
            times = psutil.Process(pid).cpu_times()
        except (psutil.Error, OSError):  # it ended meanwhile, or is not ours to see
            self._samples.pop(pid, None)
            return
        cpu_s = times.user + times.system
        used_s, over_s = (cpu_s - last.cpu_s, now_s - last.at_s) if last is not None else (cpu_s, uptime_s)
        percent = round(100 * used_s / over_s, 1) if over_s > 0 else 0.0
        sample = last or _Sample(now_s, cpu_s, percent)
        sample.at_s, sample.cpu_s, sample.cpu_percent = now_s, cpu_s, percent
        self._samples[pid] = sample

    def _count_memory(self, now_s: float) -> None:
        """Those first that were counted longest ago."""
        stale = [pid for pid, sample in self._samples.items() if now_s - sample.counted_s >= FRESH_S]
        stale.sort(key=lambda pid: self._samples[pid].counted_s)
        for number, pid in enumerate(stale):
            if number >= MEMORY_COUNTS_MIN and self._clock() - now_s >= MEMORY_COUNT_S_MAX:
                return
            sample = self._samples[pid]
            sample.counted_s = now_s
            try:
                sample.pss_bytes = psutil.Process(pid).memory_full_info().pss
            except (psutil.Error, OSError):
                del self._samples[pid]

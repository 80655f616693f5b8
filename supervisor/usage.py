"""What processes cost, for ``status``: memory as PSS (shared pages counted in shares) and CPU.

Sampled only when somebody asks, and at most once a second. It takes about a millisecond for each
process, so it is not for the supervisor's loop: see ``statuses``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec
import psutil  # type: ignore[import-untyped]

from odradek.protocol.messages import ActorStatus

FRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    pss_bytes: int | None
    cpu_s: float
    cpu_percent: float


class UsageSampler:
    """Completes rows of ``status``; remembers the last sample of each process for the CPU rate."""

    def __init__(self) -> None:
        self._samples: dict[int, _Sample] = {}

    def complete(self, rows: tuple[ActorStatus, ...]) -> list[ActorStatus]:
        """The rows with memory and CPU where the process still is there."""
        now_s = time.monotonic()
        pids = {row.pid for row in rows if row.pid is not None}
        self._samples = {pid: sample for pid, sample in self._samples.items() if pid in pids}
        return [self._complete(row, now_s) for row in rows]

    def _complete(self, row: ActorStatus, now_s: float) -> ActorStatus:
        sample = self._sample(row.pid, row.uptime_s, now_s) if row.pid is not None else None
        if sample is None:
            return row
        return msgspec.structs.replace(
            row, pss_bytes=sample.pss_bytes, cpu_percent=sample.cpu_percent, uptime_s=round(row.uptime_s, 3)
        )

    def _sample(self, pid: int, uptime_s: float, now_s: float) -> _Sample | None:
        last = self._samples.get(pid)
        if last is not None and now_s - last.at_s < FRESH_S:
            return last
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            pss_bytes = process.memory_full_info().pss
        except (psutil.Error, OSError):  # it ended meanwhile, or is not ours to see
            return None
        cpu_s = times.user + times.system
        used_s, over_s = (cpu_s - last.cpu_s, now_s - last.at_s) if last is not None else (cpu_s, uptime_s)
        percent = round(100 * used_s / over_s, 1) if over_s > 0 else 0.0
        sample = _Sample(now_s, pss_bytes, cpu_s, percent)
        self._samples[pid] = sample
        return sample

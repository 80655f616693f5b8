"""Yardsticks: what this machine needs for a fixed piece of work, so that results of two days can be compared.

A number in seconds says as much of the machine as of the broker. Divided by a yardstick that was taken in
the same run it becomes a ratio, and that is what the baseline keeps. Parts that measure a ratio themselves,
against the bare path for example, need none.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from odradek.protocol.batch import checksum

START: Final = "start"
"""Seconds until a Python with the modules of an actor has started and ended."""
WORK: Final = "work"
"""Seconds for WORK_STEPS headers written, read and kept, each with the checksum of a small batch."""
MEMORY: Final = "memory"
"""MiB that a Python with the modules of an actor has for itself."""
REPEATS: Final = 5
WORK_STEPS: Final = 20_000
WORK_KEYS: Final = 1_000
CHANGED_SHARE: Final = 0.2
"""Yardsticks before and after a run that differ by more: the machine was not the same all the time."""
_MIB: Final = 1 << 20
_START_SECONDS_MAX: Final = 60
_IMPORTS: Final = "import zmq, msgspec, crc32c, psutil"
_OWN_MEMORY: Final = f"{_IMPORTS}; print(psutil.Process().memory_full_info().uss)"


def measure() -> dict[str, float]:
    """Each yardstick now."""
    starts = [_start_s() for _ in range(REPEATS)]
    works = [_work_s() for _ in range(REPEATS)]
    return {
        START: statistics.median(starts),
        WORK: statistics.median(works),
        MEMORY: int(_python(_OWN_MEMORY)) / _MIB,
    }


def changed(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """A sentence for each yardstick that was another one at the end."""
    return [
        f"the machine changed: {name} took {before[name]:.3g} before and {after[name]:.3g} after the run"
        for name in (START, WORK)
        if abs(after[name] / before[name] - 1) > CHANGED_SHARE
    ]


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=_START_SECONDS_MAX
    )
    return done.stdout


def _start_s() -> float:
    begun_s = time.perf_counter()
    _python(_IMPORTS)
    return time.perf_counter() - begun_s


def _work_s() -> float:
    batch = bytes(range(256)) * 16
    kept: dict[int, object] = {}
    begun_s = time.perf_counter()
    for step in range(WORK_STEPS):
        written = msgspec.msgpack.encode({"api": "produce", "id": step, "topic": "t", "partition": 0})
        kept[step % WORK_KEYS] = (msgspec.msgpack.decode(written), checksum(batch))
    return time.perf_counter() - begun_s

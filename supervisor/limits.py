"""Limits of the system: how many partitions it has room for, asked before one is made that could not start.

A fork or a thread that the kernel refuses ends a process in the middle of its start; an ipc listener without
a descriptor aborts it. So the catalogue refuses the topic, and says which limit it was.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

THREADS_PER_PARTITION = 6
"""Its loop, its lifeline, two of ZeroMQ, the syncer, the worker."""
THREADS_BESIDES = 256
FILES_PER_PARTITION = 4
"""Descriptors of the supervisor for one partition: its link, its pidfd and two pipes."""
FILES_BESIDES = 1_024
FILES_BESIDES_MIN = 128
"""The supervisor's own, where there are no more to be had."""


@dataclass(frozen=True, slots=True)
class SystemLimit:
    """The narrowest of the limits; ``reason`` names it for people."""

    partitions: int
    reason: str


def system_limit(root: Path = Path("/")) -> SystemLimit:
    """The most partitions that this process may have. ``root`` has proc and sys."""
    return min(_limits(root), key=lambda limit: limit.partitions)


def _limits(root: Path) -> Iterator[SystemLimit]:
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max != resource.RLIM_INFINITY:
        partitions = max(0, files_max - FILES_BESIDES_MIN) // FILES_PER_PARTITION
        yield SystemLimit(partitions, f"the limit of open files is {files_max} (ulimit -Hn)")
    processes_max, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if processes_max != resource.RLIM_INFINITY and os.geteuid() != 0:
        yield _of_threads(processes_max, "the limit of the user's processes", "ulimit -u")
    for name in ("pid_max", "threads-max"):
        threads_max = _number(root / "proc/sys/kernel" / name)
        if threads_max is not None:
            yield _of_threads(threads_max, "the kernel's limit of threads", f"kernel.{name}")
    for path in _pids_files(root):
        threads_max = _number(path)
        if threads_max is not None:
            yield _of_threads(threads_max, "the control group's limit of tasks", "pids.max, TasksMax")


def _of_threads(threads_max: int, what: str, where: str) -> SystemLimit:
    partitions = max(0, threads_max - THREADS_BESIDES) // THREADS_PER_PARTITION
    return SystemLimit(partitions, f"{what} is {threads_max} ({where})")


def _pids_files(root: Path) -> Iterator[Path]:
    """The file of each control group that this process is in, up to the outermost."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and "pids" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("" if number == "0" else "pids")
        group = top / path.lstrip("/")
        while group.is_relative_to(top) and group != top:
            yield group / "pids.max"
            group = group.parent
        yield top / "pids.max"


def _number(path: Path) -> int | None:
    """What a file of the kernel says; None where it says "max", or is not there."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None

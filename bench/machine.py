"""What a result was measured on: without it a number says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import zmq

from bench.worker import PROJECT


def describe(directory: Path) -> dict[str, object]:
    """The machine, the versions and the file system that holds the logs."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libzmq": zmq.zmq_version(),
        "file_system": _file_system(directory),
        "load_average_before": os.getloadavg(),
        "commit": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The type of the mount that ``directory`` is on."""
    path = str(directory.resolve())
    mounts = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if path.startswith(mount.mountpoint.rstrip("/") + "/")
    ]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"

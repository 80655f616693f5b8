"""What this process has allocated of the machine's memory."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")


def allocated_memory_bytes() -> int:
    """What the kernel holds against RLIMIT_DATA: every private writable page, touched or not.

    Not the resident memory: that stays below, and allocations would fail before it came near the limit.
    0 where the system does not say.
    """
    for line in _STATUS.read_bytes().splitlines():
        if line.startswith(b"VmData:"):
            return int(line.split()[1]) * 1024
    return 0

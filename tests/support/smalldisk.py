"""A small disk: a tmpfs of a few MiB, to be filled to the last byte. Needs the right to mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """One mounted file system, and a file that takes all that is left on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, keep_free_bytes: int = 0) -> None:
        """Takes what is free now, but for so much."""
        taken = self.free_bytes - keep_free_bytes
        if taken <= 0:
            return
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, taken)
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Gives back what ``fill`` took."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Mounts it at ``path``, which is made; skips the test where mounting is refused."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "odradek-test", str(path)]
    mounted = subprocess.run(command, capture_output=True, check=False, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)

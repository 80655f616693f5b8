"""Processes: children of a command that speak with it by lines, on their standard input and output.

What a child writes on stderr goes to a file, whose last lines tell its story where it fails.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

READ_BYTES: Final = 1 << 18
LOG_LINES_SHOWN: Final = 10


class ProcessError(RuntimeError):
    """A child failed, or ended before it was told to; the message carries its last lines."""


@dataclass(slots=True, eq=False)
class Child:
    """One of them. ``ended``: its output came to its end."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path
    unread: bytes = b""
    ended: bool = False

    def tell(self, line: bytes) -> None:
        """A line; who has ended cannot hear it, and reading from it tells why."""
        with contextlib.suppress(BrokenPipeError):
            _stream(self.process.stdin).write(line + b"\n")

    def hang_up(self) -> None:
        """The end of its input."""
        _stream(self.process.stdin).close()

    def story(self, what: str) -> str:
        """What happened to it, and its last lines."""
        lines = self.log_file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        shown = ["its last lines:", *(f"  {line}" for line in lines)] if lines else []
        return "\n".join([f"{self.name}: {what}", *shown])

    def read(self) -> list[bytes]:
        """The whole lines that are there."""
        try:
            data = os.read(_stream(self.process.stdout).fileno(), READ_BYTES)
        except BlockingIOError:
            return []
        self.ended = not data
        *lines, self.unread = (self.unread + data).split(b"\n")
        return lines


class Processes:
    """Starts children, brings their lines, ends them all. ``work`` takes their files."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._children: list[Child] = []
        self._selector = selectors.DefaultSelector()

    def start(self, name: str, module: str, arguments: Sequence[str] = ()) -> Child:
        """``python -m module`` in its own session: Ctrl-C is for the command, which then ends all."""
        log_file = self._work / f"{name}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd=self._work,
                start_new_session=True,
            )
        child = Child(name, process, log_file)
        os.set_blocking(_stream(process.stdout).fileno(), False)
        self._children.append(child)
        self._selector.register(_stream(process.stdout), selectors.EVENT_READ, child)
        return child

    def hear(self, timeout_s: float) -> list[tuple[Child, list[bytes]]]:
        """What children said, after at most ``timeout_s``; who has ``ended`` comes once, with nothing."""
        heard = []
        for key, _ in self._selector.select(timeout_s):
            child: Child = key.data
            heard.append((child, child.read()))
            if child.ended:
                self._selector.unregister(key.fileobj)
        return heard

    def close(self, patience_s: float = 0.0) -> None:
        """Every input ends; who has not ended by itself after ``patience_s`` is killed."""
        for child in self._children:
            child.hang_up()
        give_up_at = time.monotonic() + patience_s
        for child in self._children:
            try:
                child.process.wait(max(0.0, give_up_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            _stream(child.process.stdout).close()
        self._selector.close()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "opened as a pipe"
    return stream

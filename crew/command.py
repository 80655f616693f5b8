"""A command's shell: what goes wrong is said in one line, and Ctrl-C and SIGTERM leave nothing behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 130
TERMINATED = 143


def run_command(
    name: str, body: Callable[[], int], foreseen: Callable[[], tuple[type[Exception], ...]], failed: int
) -> int:
    """The body's exit code; ``failed``, with a line on stderr, where it raises one of the foreseen errors.

    They are asked for in here, so that Ctrl-C while modules are imported for them is no traceback either.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(name, body, foreseen(), failed)
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted; everything it started is stopped\n")
        return INTERRUPTED


def _run(name: str, body: Callable[[], int], foreseen: tuple[type[Exception], ...], failed: int) -> int:
    try:
        return body()
    except foreseen as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        sys.stderr.write(f"{name}: {error}{notes}\n")
        return failed


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Leave by the same way as Ctrl-C does, so that what was started is stopped."""
    raise SystemExit(TERMINATED)

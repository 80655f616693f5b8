"""Stopping: Ctrl-C while a load goes on. The first ends it in order, so that what was measured is shown."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType
from typing import Any

NOTICE = "interrupted: waiting for what is under way (Ctrl-C again ends it at once)\n"


class Stopping:
    """A context manager around the load; only the main thread may enter it."""

    def __init__(self) -> None:
        self.wanted = False
        """Whether the load is to end."""
        self._before: Any = signal.default_int_handler

    def __enter__(self) -> Stopping:
        self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        sys.stderr.write(NOTICE)

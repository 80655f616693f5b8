"""The log of the broker's own events: one line for each, on stderr.

For people on a terminal ``12:00:01.234 info  partition:events-0 serving pid=4711``; for programs one
JSON object a line. A line is one write, so that lines of several processes do not mix.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

import msgspec

LEVELS = ("debug", "info", "warning", "error")
STDERR = 2
LINE_BYTES_MAX = 16_384
_STAMP_MS_DIGITS = 3


class EventLog:
    """Writes events of one process. ``level`` is the least important that is written."""

    def __init__(self, name: str, level: str, *, json: bool, descriptor: int = STDERR) -> None:
        self._name = name
        self._least = LEVELS.index(level)
        self._json = json
        self._descriptor = descriptor

    def __call__(self, event: str, fields: dict[str, object]) -> None:
        """An event of level info, or of the level that ``fields`` names."""
        known = dict(fields)
        level = str(known.pop("level", "info"))
        self.write(level if level in LEVELS else "info", event, known)

    def write(self, level: str, event: str, fields: dict[str, object]) -> None:
        """One line. What cannot be written is dropped: the log must never stop the broker."""
        if LEVELS.index(level) < self._least:
            return
        now = time.time()
        line = (
            self._as_json(now, level, event, fields)
            if self._json
            else self._as_text(now, level, event, fields)
        )
        try:
            os.write(self._descriptor, line[:LINE_BYTES_MAX] + b"\n")
        except OSError:
            return

    def _as_json(self, now: float, level: str, event: str, fields: dict[str, object]) -> bytes:
        stamp = datetime.fromtimestamp(now).astimezone().isoformat(timespec="milliseconds")
        document = {"time": stamp, "level": level, "process": self._name, "event": event} | fields
        return msgspec.json.encode(document, enc_hook=repr)

    def _as_text(self, now: float, level: str, event: str, fields: dict[str, object]) -> bytes:
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        thousandths = int(now % 1 * 10**_STAMP_MS_DIGITS)
        words = [f"{clock}.{thousandths:03d} {level:<7} {self._name}: {event}"]
        words.extend(f"{key}={_shown(value)}" for key, value in fields.items() if value is not None)
        return " ".join(words).encode(errors="backslashreplace")


def _shown(value: Any) -> str:
    if not isinstance(value, str):
        return msgspec.json.encode(value, enc_hook=repr).decode()
    if not value.isprintable():
        return msgspec.json.encode(value).decode()
    return f'"{value}"' if " " in value else value

"""Calls of functions, of Python's and of C's: a measure of work that no busy machine changes."""

from __future__ import annotations

from types import FrameType

COUNTED = frozenset({"call", "c_call"})


class Calls:
    """For ``sys.setprofile``. What tests call, and what is in them, does not count."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        self.count += event in COUNTED and "/tests/" not in frame.f_code.co_filename

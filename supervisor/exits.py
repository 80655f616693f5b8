"""Exit codes: what ended the broker, or one of its children, as a number that a script can compare."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """Codes of ``python -m supervisor`` and of the processes that it starts."""

    OK = 0
    CRASHED = 1
    USAGE = 2
    LOCKED = 3
    SETTINGS = 4
    PORT_IN_USE = 5
    GAVE_UP = 6
    DATA = 7
    FORCED = 8
    NOT_PRIVATE = 9
    CHILD_FAILED = 70
    ORPHANED = 71

    @property
    def meaning(self) -> str:
        """One sentence for the help text and the log."""
        return _MEANINGS[self]


_MEANINGS: dict[Exit, str] = {
    Exit.OK: "stopped in order; everything accepted is durable",
    Exit.CRASHED: "an error inside the broker; the log holds its trace",
    Exit.USAGE: "the command line cannot be read",
    Exit.LOCKED: "another broker runs on this data directory",
    Exit.SETTINGS: "a setting is unknown or its value is not allowed",
    Exit.PORT_IN_USE: "another program listens on the port",
    Exit.GAVE_UP: "a router or the coordinator could not start",
    Exit.DATA: "the data directory or its catalogue cannot be used",
    Exit.NOT_PRIVATE: "other users can write to a directory of the broker, or it belongs to one of them",
    Exit.FORCED: "told to stop twice, or out of time: some process was killed",
    Exit.CHILD_FAILED: "child: could not start; it said why",
    Exit.ORPHANED: "child: its supervisor is gone",
}
BROKER_EXITS = tuple(code for code in Exit if code < Exit.CHILD_FAILED)
"""What ``python -m supervisor`` itself may end with."""

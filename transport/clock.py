"""The one reading of the clocks on the data path."""

from __future__ import annotations

import time

from actors.actor import Moment


def read_clock() -> Moment:
    """Both clocks, read together once a turn of the loop."""
    return Moment(time.monotonic(), time.time_ns() // 1_000_000)

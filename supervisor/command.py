"""``odradek supervisor``: the broker as a subcommand. The process becomes ``python -m supervisor``."""

from __future__ import annotations

import os
import sys


def supervisor(args: list[str]) -> int:
    """Runs the broker with ``args``; does not return, because the process is replaced.

    The command's own modules would stay in memory for as long as the broker runs.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "supervisor", *args])  # noqa: S606  # no shell


supervisor.help = "Run a broker: the supervisor and every process it watches."  # type: ignore[attr-defined]

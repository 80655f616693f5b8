"""``odradek supervisor`` and ``odradek-supervisor``: the process becomes ``python -m supervisor``.

In place of calling it: the script would be imported again by every child.
"""

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


def main() -> int:
    """The script of the distribution; does not return either."""
    return supervisor(sys.argv[1:])

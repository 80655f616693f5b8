"""Where a new process begins.

Apart from ``child.py``, so that the supervisor, which only names this, need not load what its children use.
"""

from __future__ import annotations

from supervisor.childspec import ChildSpec


def enter_child(spec: ChildSpec) -> None:
    """The first call in a new process; the fork server has loaded the module that it imports."""
    from supervisor.child import run_child  # noqa: PLC0415

    run_child(spec)

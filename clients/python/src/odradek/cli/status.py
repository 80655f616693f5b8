"""`odradek status`: the supervisor's tree of processes."""

from __future__ import annotations

from collections.abc import Sequence

from odradek.cli.connect import connect
from odradek.cli.options import BOOTSTRAP_DEFAULT, AsJson, Bootstrap
from odradek.cli.output import Column, human_bytes, human_duration, print_json, print_table
from odradek.protocol.messages import ActorStatus

COLUMNS = (
    Column("Name"),
    Column("PID", "right"),
    Column("State"),
    Column("Restarts", "right"),
    Column("Uptime", "right"),
    Column("PSS", "right"),
    Column("CPU", "right"),
)
REASON = Column("Reason")
"""Only where something does not serve, or the disk is full."""


def status(bootstrap: Bootstrap = BOOTSTRAP_DEFAULT, as_json: AsJson = False) -> None:
    """Show every process of the broker: state, restarts, memory, CPU."""
    with connect(bootstrap) as admin:
        actors = admin.status()
    if as_json:
        print_json(actors)
        return
    ordered = in_tree_order(actors)
    if any(actor.reason for actor in ordered):
        rows = [[*_row(actor), actor.reason or ""] for actor in ordered]
        print_table((*COLUMNS, REASON), rows)
        return
    print_table(COLUMNS, [_row(actor) for actor in ordered])


def in_tree_order(actors: Sequence[ActorStatus]) -> list[ActorStatus]:
    """The supervisor, then what it supervises by role; partitions by topic and number."""
    return sorted(actors, key=_place)


def _place(actor: ActorStatus) -> tuple[int, str, int]:
    order = ("supervisor", "router", "coordinator", "partition")
    rank = order.index(actor.role) if actor.role in order else len(order)
    stem, _, number = actor.name.rpartition("-" if actor.role == "partition" else ":")
    return (rank, stem, int(number)) if number.isdigit() else (rank, actor.name, 0)


def _row(actor: ActorStatus) -> list[str]:
    return [
        actor.name.removeprefix("partition:"),
        "-" if actor.pid is None else str(actor.pid),
        actor.state,
        str(actor.restarts),
        human_duration(actor.uptime_s),
        human_bytes(actor.pss_bytes),
        "-" if actor.cpu_percent is None else f"{actor.cpu_percent:.0f}%",
    ]

"""All that the overseer may ask of the world. ``loop.py`` is the one place that performs them."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.effects import Sender
from actors.messages import Access
from odradek.protocol.messages import ActorStatus, Reply, Request
from supervisor.catalog import Topic
from supervisor.children import Role


@dataclass(frozen=True, slots=True)
class TellChild:
    """Send a message to that incarnation, if it still is there."""

    name: str
    incarnation: int
    message: Request


@dataclass(frozen=True, slots=True)
class KillChild:
    """kill -9; its end is reported through ``died``."""

    name: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Respond:
    """Answer a request."""

    to: Sender
    reply: Reply


@dataclass(frozen=True, slots=True)
class RespondStatus:
    """Answer a status request: these rows, completed with memory and CPU."""

    to: Sender
    rows: tuple[ActorStatus, ...]


@dataclass(frozen=True, slots=True)
class UnlinkDiscarded:
    """Free the space of what was renamed for deletion, without keeping anybody waiting."""


@dataclass(frozen=True, slots=True)
class UnlinkSockets:
    """Remove the sockets of a child that was reaped and has no successor."""

    name: str


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log."""

    level: str
    event: str
    fields: dict[str, object] = field(default_factory=dict)


Effect = TellChild | KillChild | Respond | RespondStatus | UnlinkDiscarded | UnlinkSockets | Note


@dataclass(frozen=True, slots=True)
class SpawnOrder:
    """Start a process under this name. ``endpoints`` are those its predecessor had: clients know them."""

    name: str
    role: Role
    incarnation: int
    index: int = 0
    topic: Topic | None = None
    partition: int = 0
    endpoints: tuple[str, ...] = ()
    access: Access | None = None
    beat_interval_s: float | None = None
    """None: that of the settings."""
    is_first: bool = True
    """No process has borne this name before, since the broker started."""

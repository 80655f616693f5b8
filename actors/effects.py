"""All that an actor may ask of the world. ``transport.host`` is the one place that performs them.

What every request makes is a msgspec Struct: it costs a third of a dataclass or a named tuple.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from odradek.protocol.batch import Buffer
from odradek.protocol.codec import Encoding
from odradek.protocol.errors import OdradekError
from odradek.protocol.messages import Reply as ReplyMessage
from odradek.protocol.messages import Request, Scalar


class Sender(NamedTuple):
    """The return path of a request; opaque to actors, who only hand it back in a ``Reply``."""

    socket: str
    identity: bytes
    delimiter: bool
    encoding: Encoding
    id: Scalar


class SyncTicket(Protocol):
    """Files whose written bytes must become durable; ``run`` may be called from any thread."""

    def run(self) -> None:
        """fdatasync; raises OSError."""


class Job(Protocol):
    """Long work on files, a slice at a time; may run on any thread and be given up between two slices.

    It shall move no more than ``bytes_per_s_max``; None leaves that open.
    """

    @property
    def bytes_per_s_max(self) -> int | None: ...

    def run(self) -> Iterator[int]:
        """Does a slice at each step and yields the bytes it moved; raises OSError."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request; the reply goes back the way the request came, in its encoding, with its id."""

    to: Sender
    reply: ReplyMessage
    payload: Sequence[Buffer] = ()


class KafkaReply(msgspec.Struct, frozen=True):
    """Answer a Kafka request, in the order of its connection. Without a body nothing is sent for it.

    ``body`` is a tree of plain values by kio's field names; the codec writes what ``version`` knows of it.
    """

    to: Sender
    api_key: int
    version: int
    body: dict[str, Any] | None
    closes: bool = False
    """The connection ends behind this answer."""


class Forward(msgspec.Struct, frozen=True):
    """Send a request to another actor; its reply comes back as an ``Answer`` with the same token."""

    address: str
    request: Request
    token: int
    payload: Sequence[Buffer] = ()


@dataclass(frozen=True, slots=True)
class Sync:
    """Run the ticket away from the loop; it comes back as ``Synced``."""

    ticket: SyncTicket


@dataclass(frozen=True, slots=True)
class Work:
    """Run the job away from the loop, without hurry; it comes back as ``Worked``."""

    job: Job


@dataclass(frozen=True, slots=True)
class Link:
    """From now on ``address`` listens at ``endpoint`` (a new endpoint replaces the old)."""

    address: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Unlink:
    """``address`` listens nowhere; drop what is queued for it."""

    address: str


@dataclass(frozen=True, slots=True)
class Log:
    """Write one structured line to the process's log: an event name and plain fields."""

    event: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class Fail:
    """This actor cannot go on: when the turn's other effects are done, its process ends with this reason.

    The supervisor starts a successor, which recovers from what the disk really holds.
    """

    error: OdradekError


Effect = Reply | KafkaReply | Forward | Sync | Work | Link | Unlink | Log | Fail

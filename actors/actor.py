"""What an actor is: something that turns messages into effects, at its own pace.

Rule 1. ``receive`` decides what one message means. It may return effects at once.
Rule 2. ``settle`` is called when the inbox was drained. What must be durable before it is answered is
        made durable here: the replies leave when the ``Sync`` that covers them has come back.
Rule 3. Time is an argument. ``deadline`` says when ``settle`` must be called though nothing came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from actors.effects import Effect, Job, Sender, SyncTicket
from odradek.protocol.access import ANONYMOUS
from odradek.protocol.batch import Buffer
from odradek.protocol.errors import OdradekError
from odradek.protocol.messages import Reply, Request


class Moment(NamedTuple):
    """One reading of both clocks: ``monotonic_s`` for every time-out, ``wall_ms`` only for stamps."""

    monotonic_s: float
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """A request as it reached this actor: who asks, what, and the opaque frames behind the header."""

    sender: Sender
    request: Request
    payload: Sequence[Buffer] = ()
    header_bytes: int = 0
    principal: str = ANONYMOUS
    """Who asks, as its transport proved."""
    host: str = ""
    """Where from; "" where that is not known."""

    @property
    def size_bytes(self) -> int:
        """About what it takes to keep this request."""
        return self.header_bytes + sum(map(len, self.payload))


@dataclass(frozen=True, slots=True)
class KafkaPeer:
    """Who is at the other end of a Kafka connection, and through which listener it came."""

    host: str
    listener: str
    principal: str = ANONYMOUS
    """As the client's certificate proved it."""
    reached: str = ""
    """The address of ours that the client connected to."""


class KafkaEnvelope(msgspec.Struct, frozen=True):
    """A request of Kafka's protocol. ``request`` is kio's object of that version.

    It is None for an ApiVersions of a version that nobody here knows: that alone is answered all the same.
    """

    sender: Sender
    peer: KafkaPeer
    api_key: int
    version: int
    client_id: str
    request: Any
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class KafkaClosed:
    """A Kafka connection ended: nobody waits for the answers to what it asked."""

    identity: bytes


class Answer(msgspec.Struct, frozen=True):
    """What came back for the ``Forward`` with this token."""

    token: int
    reply: Reply
    payload: Sequence[Buffer] = ()


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """A ``Forward`` that never left: nobody listens at that address, or its queue is full."""

    token: int
    error: OdradekError


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection to ``address`` ended and was made anew: what was asked there has no answer to come."""

    address: str


@dataclass(frozen=True, slots=True)
class Synced:
    """A ``Sync`` came back. ``error`` is what the operating system said, where it failed."""

    ticket: SyncTicket
    error: OSError | None = None


@dataclass(frozen=True, slots=True)
class Worked:
    """The job of a ``Work`` came to its end. ``error`` is what the operating system said, where it failed."""

    job: Job
    error: OSError | None = None


Message = Envelope | KafkaEnvelope | KafkaClosed | Answer | Undeliverable | Lost | Synced | Worked


class Actor(Protocol):
    """One process's decisions."""

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        """What to do about one message."""

    def settle(self, now: Moment) -> Sequence[Effect]:
        """What to do now that the inbox is empty, or ``deadline`` has passed."""

    def deadline(self) -> float | None:
        """The monotonic second at which ``settle`` must be called again, or None."""

    def stop(self, now: Moment) -> Sequence[Effect]:
        """The last call: answer or refuse what is parked; make durable what was accepted."""

"""One client's connection: frames in, responses out in the order of their requests, both bounded.

Rule 1. Requests are read while fewer than REQUESTS_IN_FLIGHT_MAX are unanswered and fewer than
        UNSENT_BYTES_PAUSE of responses are unread: who does not read is not read.
Rule 2. A response leaves when all before it have left, whenever it was made.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import msgspec

from actors.actor import KafkaPeer
from odradek.protocol.batch import Buffer
from transport.kafka.frames import REQUEST_BYTES_MIN, FrameReader
from transport.kafka.streams import Stream

REQUESTS_IN_FLIGHT_MAX = 64
UNSENT_BYTES_PAUSE = 1 << 20
BUFFERS_PER_SEND_MAX = 512
"""The system takes 1,024 at most."""
IDLE_S_MAX = 600.0
"""A connection on which nothing happens for so long ends, as Kafka's connections.max.idle.ms has it."""
FRAME_S_MAX = 120.0
"""A request that has begun must be whole after this."""
STRANGERS_BYTES_MAX = 512 << 10
"""The largest request of a client that has yet to log in, as Kafka's sasl.server.max.receive.size."""
LOG_IN_S_MAX = 60.0
"""A client that must log in has so long for it."""
HANDSHAKE_S_MAX = 30.0
"""A TLS handshake must be done after this."""
UNREAD_S_MAX = 360.0
"""A client that takes nothing of its responses for so long is gone. Java's reads only while its application
polls, and that may take its time: max.poll.interval.ms is 5 min."""
READS_PER_TURN_MAX = 8
"""How often one connection is read before others have their turn."""


class Slot(msgspec.Struct):
    """The place of one request's response. ``response`` is None until it is there; empty: none is sent."""

    correlation_id: int
    size_bytes: int
    response: Sequence[Buffer] | None = None


class Connection:
    """What the server keeps of one client."""

    def __init__(
        self, number: int, fd: int, peer: KafkaPeer, stream: Stream, reader: FrameReader, now_s: float
    ) -> None:
        self.identity = number.to_bytes(8, "big")
        self.fd = fd
        self.peer = peer
        self.stream = stream
        self.reader = reader
        self.heard_s = self.moved_s = self.frame_began_s = now_s
        self.backlog: deque[Buffer] = deque()
        """Whole requests that wait until others are answered; all of one read at most."""
        self.is_open = True
        self.unsent_bytes = 0
        self.requests_bytes = 0
        self.closes_behind_last = False
        self.takes_tokens = False
        """Whether a frame is a SASL token, and no request; see ``tokens``."""
        self.opened_s = now_s
        self.must_log_in = False
        """Whether this is a stranger still."""
        self._bytes_max = reader.frame_bytes_max
        self.events = 0
        self._slots: deque[Slot] = deque()
        self._first_request = 0
        self._next_request = 0
        self._unsent: deque[memoryview] = deque()
        self._begins_to_send = False

    # -- requests ----------------------------------------------------------------------------------------

    @property
    def may_begin(self) -> bool:
        """Whether one more request may be begun."""
        return (
            len(self._slots) < REQUESTS_IN_FLIGHT_MAX
            and self.unsent_bytes < UNSENT_BYTES_PAUSE
            and not self.closes_behind_last
        )

    @property
    def wants_read(self) -> bool:
        """Whether more may be read."""
        return not self.backlog and self.may_begin

    def expect(self, correlation_id: int, size_bytes: int) -> int:
        """A request came; the number by which its response finds its place."""
        self._slots.append(Slot(correlation_id, size_bytes))
        self.requests_bytes += size_bytes
        self._next_request += 1
        return self._next_request - 1

    def expect_tokens(self, expected: bool) -> None:
        """From now on a frame is a SASL token, which may be short, or a request again."""
        self.takes_tokens = expected
        self.reader.frame_bytes_min = 0 if expected else REQUEST_BYTES_MIN

    def demand_log_in(self) -> None:
        """A stranger, until ``admit``: it gets less room and less time."""
        self.must_log_in = True
        self._bytes_max = self.reader.frame_bytes_max
        self.reader.frame_bytes_max = min(self._bytes_max, STRANGERS_BYTES_MAX)

    def admit(self) -> None:
        """The client is who it said."""
        self.must_log_in = False
        self.reader.frame_bytes_max = self._bytes_max

    # -- responses ---------------------------------------------------------------------------------------

    def correlation_id(self, request: int) -> int:
        """What the client called this request."""
        return self._slots[request - self._first_request].correlation_id

    def answer(self, request: int, response: Sequence[Buffer]) -> None:
        """The response to a request; it is sent when its turn comes."""
        self._slots[request - self._first_request].response = response
        self._begins_to_send |= not self._unsent
        while self._slots and (first := self._slots[0]).response is not None:
            self._slots.popleft()
            self._first_request += 1
            self.requests_bytes -= first.size_bytes
            for buffer in first.response:
                view = memoryview(buffer)
                self._unsent.append(view)
                self.unsent_bytes += len(view)

    def send(self, now_s: float) -> None:
        """Send what the socket takes now. Raises OSError where the connection has ended."""
        if self._begins_to_send:
            self._begins_to_send = False
            self.moved_s = now_s
        while self._unsent:
            buffers: Sequence[memoryview] = self._unsent
            if len(self._unsent) > BUFFERS_PER_SEND_MAX:
                buffers = list(itertools.islice(self._unsent, BUFFERS_PER_SEND_MAX))
            try:
                sent = self.stream.send(buffers)
            except BlockingIOError:
                return
            self.moved_s = now_s
            if sent == self.unsent_bytes:
                self._unsent.clear()
                self.unsent_bytes = 0
                return
            self.unsent_bytes -= sent
            self._forget(sent)

    def _forget(self, sent: int) -> None:
        while sent:
            first = self._unsent[0]
            if sent < len(first):
                self._unsent[0] = first[sent:]
                return
            sent -= len(first)
            self._unsent.popleft()

    # -- time --------------------------------------------------------------------------------------------

    def overdue(self, now_s: float) -> str | None:
        """Why this connection has had its time, or None."""
        if not self.stream.is_ready and now_s - self.heard_s > HANDSHAKE_S_MAX:
            return "no TLS handshake"
        if self.must_log_in and now_s - self.opened_s > LOG_IN_S_MAX:
            return "no log-in"
        if self.unsent_bytes:
            return "responses are not read" if now_s - self.moved_s > UNREAD_S_MAX else None
        if not self.reader.is_between_frames and self.wants_read:
            late = now_s - self.frame_began_s > FRAME_S_MAX
            return "a request does not come to its end" if late else None
        idle_s = now_s - max(self.heard_s, self.moved_s)
        return "idle" if not self._slots and idle_s > IDLE_S_MAX else None

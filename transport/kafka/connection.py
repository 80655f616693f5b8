"""One client's connection: frames in, responses out in the order of their requests, both bounded.

Rule 1. Requests are read while fewer than REQUESTS_IN_FLIGHT_MAX are unanswered and fewer than
        UNSENT_BYTES_PAUSE of responses are unread: who does not read is not read.
Rule 2. A response leaves when all before it have left, whenever it was made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from actors.actor import KafkaPeer
from odradek.protocol.batch import Buffer
from transport.kafka.frames import REQUEST_BYTES_MIN, FrameReader
from transport.kafka.streams import Stream

REQUESTS_IN_FLIGHT_MAX = 64
UNSENT_BYTES_PAUSE = 1 << 20
BUFFERS_PER_SEND_MAX = 512
"""The system takes 1,024 at most."""
READS_PER_TURN_MAX = 8
"""How often one connection is read before others have their turn."""


@dataclass(slots=True)
class Slot:
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
        self.unsent_bytes = 0
        self.requests_bytes = 0
        self.closes_behind_last = False
        self.takes_tokens = False
        """Whether a frame is a SASL token, and no request; see ``tokens``."""
        self.events = 0
        self._slots: deque[Slot] = deque()
        self._first_request = 0
        self._next_request = 0
        self._unsent: deque[memoryview] = deque()

    # -- requests ----------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests without a response."""
        return len(self._slots)

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
        return self.may_begin and not self.backlog

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

    # -- responses ---------------------------------------------------------------------------------------

    def correlation_id(self, request: int) -> int:
        """What the client called this request."""
        return self._slots[request - self._first_request].correlation_id

    def answer(self, request: int, response: Sequence[Buffer]) -> None:
        """The response to a request; it is sent when its turn comes."""
        self._slots[request - self._first_request].response = response
        while self._slots and (first := self._slots[0]).response is not None:
            self._slots.popleft()
            self._first_request += 1
            self.requests_bytes -= first.size_bytes
            for buffer in first.response:
                view = memoryview(buffer)
                self._unsent.append(view)
                self.unsent_bytes += len(view)

    @property
    def wants_write(self) -> bool:
        """Whether there is something to send."""
        return bool(self._unsent)

    def send(self, now_s: float) -> None:
        """Send what the socket takes now. Raises OSError where the connection has ended."""
        while self._unsent:
            buffers = [self._unsent[index] for index in range(min(len(self._unsent), BUFFERS_PER_SEND_MAX))]
            try:
                sent = self.stream.send(buffers)
            except BlockingIOError:
                return
            self.moved_s = now_s
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

"""The doorkeeper: which CURVE keys may come in, asked by libzmq itself (ZAP, rfc.zeromq.org/spec/27).

Rule 1. A socket that demands CURVE has a ZAP domain and enforces it, so that nobody comes in while no
        doorkeeper answers: neither before it began, nor after it ended, nor while it is slow.
Rule 2. A doorkeeper knows no key until it is told some.
Rule 3. A message of a connection that no doorkeeper let in is dropped, whatever libzmq believes: it has no
        ``User-Id``.
Rule 4. A key that was revoked is refused at its next message; libzmq asks only when a connection begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import zmq
from zmq.utils import z85

from transport.multipart import receive, send
from transport.sockets import Context, Socket, doorkeeper_listener

ZAP_VERSION = b"1.0"
REQUEST_FRAMES_MIN = 8
"""Identity, delimiter, version, request id, domain, address, identity of the peer, mechanism; credentials."""
REQUESTS_PER_TURN_MAX = 256
EVENTS_PER_TURN_MAX = 256
HANDSHAKES_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
UNKNOWN_KEY = "unknown key"
NOT_CURVE = "not CURVE"
NO_USER = "no User-Id"
HANDSHAKE_FAILED = "handshake failed"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a message. ``principal`` is None where its key is not allowed any more."""

    principal: str | None
    host: str


class Doorkeeper:
    """Answers libzmq's questions in one context; there can be one in each."""

    def __init__(self, context: Context) -> None:
        """From here on nobody comes in: no key is known."""
        self.socket = doorkeeper_listener(context)
        self.monitors: list[Socket] = []
        self.refused: Counter[str] = Counter()
        """How often each reason kept somebody out; whoever reports it clears it."""
        self._watched: list[Socket] = []
        self._principals: dict[bytes, str] = {}

    def admit(self, principals: Mapping[str, str]) -> None:
        """From now on these public keys (Z85), each its principal's, and no others."""
        self._principals = {key.encode(): principal for key, principal in principals.items()}

    def watch(self, socket: Socket) -> Socket:
        """Count the handshakes that fail at a listener; poll its monitor, and then ``count_failures``."""
        monitor: Socket = socket.get_monitor_socket(HANDSHAKES_FAILED)
        self._watched.append(socket)
        self.monitors.append(monitor)
        return monitor

    def read(self, source: object) -> bool:
        """Whether ``source``, which is readable, is the doorkeeper's; then it has been read."""
        if source is self.socket:
            self.answer()
            return True
        for monitor in self.monitors:
            if source is monitor:
                self.count_failures(monitor)
                return True
        return False

    def answer(self) -> None:
        """Answer what libzmq has asked, a bounded number of questions."""
        for _ in range(REQUESTS_PER_TURN_MAX):
            try:
                frames = [frame.bytes for frame in receive(self.socket)]
            except zmq.Again:
                return
            if len(frames) >= REQUEST_FRAMES_MIN:
                self._answer_one(frames)

    def _answer_one(self, frames: Sequence[bytes]) -> None:
        peer, delimiter, _, request_id, _, _, _, mechanism, *credentials = frames
        user = self._user(mechanism, credentials)
        code, text = (b"400", b"this key is not allowed") if user is None else (b"200", b"OK")
        send(self.socket, [peer, delimiter, ZAP_VERSION, request_id, code, text, user or b"", b""])

    def _user(self, mechanism: bytes, credentials: Sequence[bytes]) -> bytes | None:
        if mechanism != b"CURVE" or len(credentials) != 1 or len(credentials[0]) != 32:
            self.refused[NOT_CURVE] += 1
            return None
        key = z85.encode(credentials[0])
        if key in self._principals:
            return key
        self.refused[UNKNOWN_KEY] += 1
        return None

    def count_failures(self, monitor: Socket) -> None:
        """Read what a monitor has seen."""
        # It brings asyncio and OpenSSL along, which a broker without keys need not hold in memory.
        from zmq.utils.monitor import parse_monitor_message  # noqa: PLC0415

        for _ in range(EVENTS_PER_TURN_MAX):
            try:
                event = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            # A key that was refused is counted where it was.
            if event["event"] != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self.refused[HANDSHAKE_FAILED] += 1

    def caller(self, frame: zmq.Frame) -> Caller | None:
        """Who sent the message that this frame is of; None where nobody was asked to let them in."""
        try:
            user, host = frame.get("User-Id"), frame.get("Peer-Address")
        except zmq.ZMQError:
            self.refused[NO_USER] += 1
            return None
        return Caller(self._principals.get(str(user).encode()), str(host))

    def close(self) -> None:
        """From here on nobody comes in."""
        for socket in self._watched:
            socket.disable_monitor()
        for monitor in self.monitors:
            monitor.close(0)
        self.socket.close(0)

"""Links to other actors: one socket that connects to all of them, and the tokens that find answers.

The ``id`` of an inner request is ``token * API_SLOTS + api``, so that an answer says by itself how
to read it and nothing has to be remembered here.
"""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Iterator, Sequence

import zmq

from actors.actor import Answer, Lost, Message, Undeliverable
from actors.effects import Forward
from actors.messages import INNER_REQUESTS
from odradek.protocol.batch import Buffer
from odradek.protocol.codec import REPLY_DECODERS, Encoding, ReplyDecoder, RequestDecoder, encode, peek_reply
from odradek.protocol.errors import InvalidRequest, LeaderNotAvailable, ThrottlingQuotaExceeded
from odradek.protocol.messages import APIS, Request, api_name
from transport.frames import frame_buffer
from transport.multipart import receive_waiting, send
from transport.sockets import Context, links_socket

API_SLOTS = 64

_SLOT_OF_API: dict[type[Request], int] = {
    request: slot for slot, request in enumerate((*APIS.values(), *INNER_REQUESTS))
}
_DECODER_OF_SLOT = [
    *(REPLY_DECODERS[request] for request in APIS.values()),
    *(ReplyDecoder(reply) for reply in INNER_REQUESTS.values()),
]
assert len(_DECODER_OF_SLOT) <= API_SLOTS


@functools.cache
def inner_decoder() -> RequestDecoder[Request]:
    """Reads what inner sockets take: the public protocol, and what actors ask only each other."""
    return RequestDecoder((*APIS.values(), *INNER_REQUESTS))


def stamp(request: Request, token: int) -> bytes:
    """The header of an inner request that carries its token.

    Raises InvalidRequest for what JSON can say and MessagePack cannot, as an integer beyond 64 bits.
    """
    original, request.id = request.id, token * API_SLOTS + _SLOT_OF_API[type(request)]
    try:
        return encode(request, Encoding.MSGPACK)
    except (OverflowError, RecursionError) as error:
        raise InvalidRequest(f"{api_name(type(request))}: {error}") from None
    finally:
        request.id = original


def read_answer(header: zmq.Frame, payload: Sequence[zmq.Frame]) -> Answer:
    """The answer to a stamped request. Raises InvalidRequest for what is none."""
    answer = frame_buffer(header)
    stamped = peek_reply(answer).id
    if not isinstance(stamped, int) or stamped % API_SLOTS >= len(_DECODER_OF_SLOT):
        raise InvalidRequest(f"an inner reply has the id {stamped!r}, which nobody stamped")
    reply = _DECODER_OF_SLOT[stamped % API_SLOTS].decode(answer)
    frames = [frame_buffer(frame) for frame in payload] if payload else ()
    return Answer(stamped // API_SLOTS, reply, frames)


class Links:
    """What one process is connected to. Addresses are names; each new endpoint is a new connection."""

    def __init__(self, context: Context) -> None:
        self.socket = links_socket(context)
        self._connected: dict[str, tuple[str, bytes]] = {}
        self._connections_made = 0

    def link(self, address: str, endpoint: str) -> None:
        """Connect ``address`` to ``endpoint``; what was queued for an older endpoint is dropped."""
        known = self._connected.get(address)
        if known is not None:
            if known[0] == endpoint:
                return
            self.unlink(address)
        self._connect(address, endpoint)

    def _connect(self, address: str, endpoint: str) -> None:
        self._connections_made += 1
        # Not the address: ZeroMQ takes 255 bytes at most, and a name here is used once only.
        routing_id = f"link {self._connections_made}".encode()
        self.socket.set(zmq.CONNECT_ROUTING_ID, routing_id)
        self.socket.connect(endpoint)
        self._connected[address] = endpoint, routing_id

    def unlink(self, address: str) -> None:
        """Forget ``address`` and drop what is queued for it."""
        known = self._connected.pop(address, None)
        if known is not None:
            self.socket.disconnect(known[0])

    def forward(self, effect: Forward) -> tuple[Message, ...]:
        """Send a request on; nothing where it left, else what the actor must hear about it."""
        known = self._connected.get(effect.address)
        if known is None:
            return (Undeliverable(effect.token, LeaderNotAvailable(f"{effect.address} is not running")),)
        try:
            header = stamp(effect.request, effect.token)
        except InvalidRequest as invalid:
            return (Undeliverable(effect.token, invalid),)
        frames: list[Buffer] = [known[1], header, *effect.payload]
        try:
            send(self.socket, frames)
        except zmq.Again:
            error = ThrottlingQuotaExceeded(f"the queue of {effect.address} is full")
            return (Undeliverable(effect.token, error),)
        except zmq.ZMQError as error:
            unreachable = LeaderNotAvailable(f"{effect.address} cannot be reached: {error}")
            undeliverable = Undeliverable(effect.token, unreachable)
            if error.errno != errno.EHOSTUNREACH:
                return (undeliverable,)
            # libzmq gave the connection up for good (a frame that it would not or could not take in):
            # the routing id is dead, and so is every answer that was to come.
            self._reconnect(effect.address, known[0])
            return undeliverable, Lost(effect.address)
        return ()

    def _reconnect(self, address: str, endpoint: str) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self.socket.disconnect(endpoint)
        self._connect(address, endpoint)

    def answers(self, most: int) -> Iterator[Answer]:
        """What has come back, at most ``most`` answers."""
        for frames in receive_waiting(self.socket, most):
            yield read_answer(frames[1], frames[2:])

    def close(self) -> None:
        self.socket.close()

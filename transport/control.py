"""The control link: the supervisor's end, which knows every child by name and incarnation."""

from __future__ import annotations

import functools
import select
from collections.abc import Sequence
from hashlib import blake2b

import zmq

from actors.actor import Envelope
from actors.effects import Sender
from actors.messages import SUPERVISOR_REQUESTS, TO_CHILD, TO_SUPERVISOR
from odradek.protocol.codec import Encoding, RequestDecoder, encode
from odradek.protocol.messages import Reply, Request, failure
from transport.frames import MalformedError, read_request, reply_frames
from transport.multipart import receive, send
from transport.sockets import control_listener, new_context

MESSAGES_PER_WAIT_MAX = 1_000


def control_identity(name: str, incarnation: int) -> bytes:
    """The routing id of a child on the control link: a digest, because ZeroMQ takes 255 bytes at most."""
    return f"{blake2b(name.encode(), digest_size=16).hexdigest()}#{incarnation}".encode()


@functools.cache
def child_decoder() -> RequestDecoder[Request]:
    """Reads what the supervisor tells its children."""
    return RequestDecoder(TO_CHILD)


class ControlServer:
    """The supervisor's socket. Children are told and answered; nothing here ever blocks."""

    def __init__(self, endpoint: str) -> None:
        self._context = new_context()
        self._socket = control_listener(self._context, endpoint)
        self._decoder: RequestDecoder[Request] = RequestDecoder((*TO_SUPERVISOR, *SUPERVISOR_REQUESTS))
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        # Thousands of descriptors, one for each process, are one to wait for here.
        self._watched = select.epoll()
        self._poller.register(self._watched.fileno(), zmq.POLLIN)

    def watch(self, fd: int) -> None:
        """``wait`` says from now on when ``fd`` is readable."""
        self._watched.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """``fd`` is not looked at any more; to be called before it is closed."""
        self._watched.unregister(fd)

    def wait(self, timeout_s: float) -> tuple[list[Envelope], list[int]]:
        """Envelopes that came and those of the watched descriptors that are readable, or have hung up."""
        ready = dict(self._poller.poll(max(0, int(timeout_s * 1000))))
        envelopes = self._receive() if self._socket in ready else []
        return envelopes, [fd for fd, _ in self._watched.poll(0)]

    def tell(self, name: str, incarnation: int, message: Request) -> bool:
        """Send a message to a child; False where it is not connected or its queue is full."""
        return self._send([control_identity(name, incarnation), encode(message, Encoding.MSGPACK)])

    def reply(self, to: Sender, reply: Reply) -> bool:
        """Answer a request; False where the asker is gone."""
        return self._send(list(reply_frames(to, reply, ())))

    def close(self) -> None:
        self._socket.close()
        self._watched.close()
        self._context.term()

    def _receive(self) -> list[Envelope]:
        envelopes: list[Envelope] = []
        for _ in range(MESSAGES_PER_WAIT_MAX):
            try:
                frames = receive(self._socket)
            except zmq.Again:
                break
            try:
                envelopes.append(read_request("control", frames, self._decoder))
            except MalformedError as malformed:
                self.reply(malformed.sender, failure(malformed.error))
        return envelopes

    def _send(self, frames: Sequence[bytes | bytearray | memoryview]) -> bool:
        try:
            send(self._socket, frames)
        except zmq.ZMQError:
            return False
        return True

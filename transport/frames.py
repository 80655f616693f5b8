"""Frames to envelopes and replies to frames: the one place that knows where the header stands.

::

    [ identity ][ empty, with REQ only ][ header ][ payload ]*
"""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from actors.actor import Envelope
from actors.effects import Sender
from odradek.protocol.access import ANONYMOUS
from odradek.protocol.batch import Buffer
from odradek.protocol.codec import BadRequest, Encoding, RequestDecoder, encode
from odradek.protocol.errors import InvalidRequest, OdradekError
from odradek.protocol.messages import GroupHeartbeat, Reply, Request

INNER = "inner"
"""The socket where other actors of the broker ask."""
COPY_BYTES_MAX = 4_096
"""Frames up to this size become bytes; larger ones stay where libzmq put them."""


class MalformedError(Exception):
    """A request that could not be read, and where the reply that says so must go."""

    def __init__(self, sender: Sender, error: OdradekError) -> None:
        super().__init__(str(error))
        self.sender = sender
        self.error = error


def frame_buffer(frame: zmq.Frame) -> Buffer:
    """The frame's bytes, copied only where that is cheaper than keeping libzmq's buffer alive."""
    return frame.bytes if len(frame) <= COPY_BYTES_MAX else frame.buffer


def peer_host(frame: zmq.Frame) -> str:
    """The address that a message came from; "" where it came over ipc, or from nowhere."""
    try:
        return str(frame.get("Peer-Address"))
    except (zmq.ZMQError, AttributeError):
        return ""


def read_request(
    socket: str,
    frames: Sequence[zmq.Frame],
    decoder: RequestDecoder[Request],
    principal: str = ANONYMOUS,
    host: str = "",
) -> Envelope:
    """The envelope in what a ROUTER received. Raises MalformedError for a header that cannot be read."""
    identity = frames[0].bytes
    delimiter = len(frames) > 1 and len(frames[1]) == 0
    start = 2 if delimiter else 1
    if len(frames) <= start:
        sender = Sender(socket, identity, delimiter, Encoding.JSON, None)
        raise MalformedError(sender, InvalidRequest("the message has no header frame"))
    try:
        request, encoding = decoder.decode(frames[start].buffer)
    except BadRequest as bad:
        sender = Sender(socket, identity, delimiter, bad.encoding, bad.request_id)
        raise MalformedError(sender, bad.error) from None
    sender = Sender(socket, identity, delimiter, encoding, request.id)
    payload = [frame_buffer(frame) for frame in frames[start + 1 :]]
    if isinstance(request, GroupHeartbeat) and not host and socket != INNER:
        # Not for every request: libzmq takes microseconds to tell.
        host = peer_host(frames[start])
    return Envelope(sender, request, payload, len(frames[start]), principal, host)


def reply_frames(to: Sender, reply: Reply, payload: Sequence[Buffer]) -> list[Buffer]:
    """A reply in the encoding, with the id and behind the delimiter of the request that it answers."""
    reply.id = to.id
    head: list[Buffer] = [to.identity, b""] if to.delimiter else [to.identity]
    head.append(encode(reply, to.encoding))
    head.extend(payload)
    return head

"""Every ZeroMQ socket of the broker is made here, with all of its options in one place.

The facts behind the options were measured on libzmq 4.3.5 and stand in ARCHITECTURE.md.
"""

from __future__ import annotations

from pathlib import Path

import zmq

from odradek.protocol.messages import FRAME_BYTES_MAX
from transport.keys import KeyPair

INNER_FRAME_BYTES_MAX = 80 << 20
"""Between our own processes: a fetch reply of FETCH_BYTES_MAX and one batch beyond it."""
PUBLIC_INBOX_MESSAGES_MAX = 1_000
PUBLIC_OUTBOX_MESSAGES_MAX = 100_000
"""Replies a client may leave unread before further ones are dropped; a deep pipeline of acks fits."""
INNER_QUEUE_MESSAGES_MAX = 100_000
"""The router bounds what is in flight by bytes, so inner queues need not bound it by messages."""
LINK_INBOX_MESSAGES_MAX = 256
"""Answers of one actor that a router has not read yet. Beyond it the actor keeps them, and bounds them."""
CONTROL_QUEUE_MESSAGES_MAX = 10_000
SOCKETS_MAX = 4_096
LISTEN_BACKLOG = 1_024
LINGER_MS = 500
"""How long closing a socket waits for the last replies to leave."""
HANDSHAKE_TIMEOUT_MS = 2_000
"""A peer that says nothing is dropped after this; libzmq's own default is 30 s."""
TCP_HEARTBEAT_INTERVAL_MS = 5_000
TCP_HEARTBEAT_TIMEOUT_MS = 20_000
DOORKEEPER_ENDPOINT = "inproc://zeromq.zap.01"
"""Where libzmq asks whom to let in (ZAP); its name is given."""
SECURITY_DOMAIN = b"odradek"
SOCKET_MODE = 0o600
RECONNECT_MS = 10
RECONNECT_MS_MAX = 500

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]


def new_context() -> Context:
    """One context for one process; never made before a fork."""
    if zmq.zmq_version_info() < (4, 3, 5):
        raise RuntimeError(f"libzmq {zmq.zmq_version()} has known holes; 4.3.5 or newer is needed")
    context: Context = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    return context


def _router(
    context: Context, inbox_messages_max: int, outbox_messages_max: int, frame_bytes_max: int
) -> Socket:
    socket = context.socket(zmq.ROUTER)
    socket.set(zmq.ROUTER_MANDATORY, 1)
    socket.set(zmq.LINGER, LINGER_MS)
    socket.set(zmq.SNDHWM, outbox_messages_max)
    socket.set(zmq.RCVHWM, inbox_messages_max)
    socket.set(zmq.MAXMSGSIZE, frame_bytes_max)
    socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_TIMEOUT_MS)
    socket.set(zmq.BACKLOG, LISTEN_BACKLOG)
    return socket


def _demand_curve(socket: Socket, keys: KeyPair) -> None:
    """Nobody comes in without a key that the doorkeeper of this context knows (``transport.zap``)."""
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_PUBLICKEY, keys.public.encode())
    socket.set(zmq.CURVE_SECRETKEY, keys.secret.encode())
    # Both, or any key comes in while there is no doorkeeper.
    socket.set(zmq.ZAP_DOMAIN, SECURITY_DOMAIN)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def _bind(socket: Socket, endpoint: str) -> None:
    socket.bind(endpoint)
    if endpoint.startswith("ipc://"):
        # The directory keeps others out already; libzmq leaves the mode to the umask, which knows no 0600.
        Path(endpoint.removeprefix("ipc://")).chmod(SOCKET_MODE)


def doorkeeper_listener(context: Context) -> Socket:
    """Where libzmq asks whether to let a peer in, at each handshake of a listener with a security domain."""
    socket = context.socket(zmq.ROUTER)
    socket.set(zmq.LINGER, 0)
    socket.bind(DOORKEEPER_ENDPOINT)
    return socket


def public_listener(context: Context, endpoint: str, keys: KeyPair | None = None) -> Socket:
    """Where clients come in: a router's tcp port, or a partition's direct ipc endpoint.

    With ``keys`` only over CURVE, and only those that the context's doorkeeper lets in.
    """
    socket = _router(context, PUBLIC_INBOX_MESSAGES_MAX, PUBLIC_OUTBOX_MESSAGES_MAX, FRAME_BYTES_MAX)
    if endpoint.startswith("tcp://"):
        socket.set(zmq.HEARTBEAT_IVL, TCP_HEARTBEAT_INTERVAL_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, TCP_HEARTBEAT_TIMEOUT_MS)
        socket.set(zmq.TCP_KEEPALIVE, 1)
    if keys is not None:
        _demand_curve(socket, keys)
    _bind(socket, endpoint)
    return socket


def inner_listener(context: Context, endpoint: str) -> Socket:
    """Where the routers reach an actor."""
    socket = _router(context, INNER_QUEUE_MESSAGES_MAX, INNER_QUEUE_MESSAGES_MAX, INNER_FRAME_BYTES_MAX)
    _bind(socket, endpoint)
    return socket


def control_listener(context: Context, endpoint: str) -> Socket:
    """The supervisor's end of the control link; a child that reconnects takes its name over."""
    socket = _router(context, CONTROL_QUEUE_MESSAGES_MAX, CONTROL_QUEUE_MESSAGES_MAX, INNER_FRAME_BYTES_MAX)
    socket.set(zmq.ROUTER_HANDOVER, 1)
    _bind(socket, endpoint)
    return socket


def control_link(context: Context, endpoint: str, identity: bytes) -> Socket:
    """A child's end of the control link."""
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.IDENTITY, identity)
    socket.set(zmq.LINGER, LINGER_MS)
    socket.set(zmq.SNDHWM, CONTROL_QUEUE_MESSAGES_MAX)
    socket.set(zmq.RCVHWM, CONTROL_QUEUE_MESSAGES_MAX)
    socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
    socket.connect(endpoint)
    return socket


def links_socket(context: Context) -> Socket:
    """One ROUTER that connects to every actor: polling it costs the same for 1 link and for 1,000."""
    socket = _router(context, LINK_INBOX_MESSAGES_MAX, INNER_QUEUE_MESSAGES_MAX, INNER_FRAME_BYTES_MAX)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
    return socket

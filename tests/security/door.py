"""A listener behind a doorkeeper, clients of every kind that knock, and how it went for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import zmq

from transport.keys import KeyPair
from transport.sockets import Context, Socket, new_context, public_listener
from transport.zap import Caller, Doorkeeper

INSIDE_S = 30.0
"""Whoever may come in is in by then."""
OUTSIDE_S = 0.4
"""So long is waited for one who must not come in; a client that may takes a hundredth of it."""
TURN_MS = 10


class Door:
    """A tcp listener on loopback that demands CURVE. ``doorkeeper`` is None where nobody answers."""

    def __init__(self, keys: KeyPair, principals: Mapping[str, str] | None = None) -> None:
        self.context: Context = new_context()
        self.doorkeeper: Doorkeeper | None = None
        if principals is not None:
            self.doorkeeper = Doorkeeper(self.context)
            self.doorkeeper.admit(principals)
        self.listener: Socket = public_listener(self.context, "tcp://127.0.0.1:*", keys)
        if self.doorkeeper is not None:
            self.doorkeeper.watch(self.listener)
        bound = self.listener.get(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self.endpoint = bound.decode()
        self.heard: list[Caller | None] = []
        self.answers = True

    def turn(self) -> None:
        """What a host does in one turn of its loop; every message is answered."""
        self.listener.poll(TURN_MS)
        if self.doorkeeper is not None and self.answers:
            self.doorkeeper.answer()
            for monitor in self.doorkeeper.monitors:
                self.doorkeeper.count_failures(monitor)
        while self.listener.poll(0):
            frames = self.listener.recv_multipart(copy=False)
            if self.doorkeeper is not None:
                self.heard.append(self.doorkeeper.caller(frames[-1]))
            self.listener.send_multipart([frames[0].bytes, b"come in"])

    def lets_in(self, client: zmq.Socket[bytes], within_s: float = INSIDE_S) -> bool:
        """Whether the client hears an answer to what it asks."""
        deadline_s = time.monotonic() + within_s
        client.setsockopt(zmq.IMMEDIATE, 0)
        client.connect(self.endpoint)
        client.send(b"may I?")
        while time.monotonic() < deadline_s:
            self.turn()
            if client.poll(0):
                return client.recv() == b"come in"
        return False

    def close(self) -> None:
        if self.doorkeeper is not None:
            self.doorkeeper.close()
        self.context.destroy(linger=0)


@contextmanager
def door(keys: KeyPair, principals: Mapping[str, str] | None = None) -> Iterator[Door]:
    opened = Door(keys, principals)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def knocking(
    server_key: str = "", pair: KeyPair | None = None, *, plain: bool = False, identity: bytes = b""
) -> Iterator[zmq.Socket[bytes]]:
    """A client: with CURVE where it has a pair, with a password where ``plain``, else with neither."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    if identity:
        socket.setsockopt(zmq.IDENTITY, identity)
    if pair is not None:
        socket.curve_serverkey = server_key.encode()
        socket.curve_publickey = pair.public.encode()
        socket.curve_secretkey = pair.secret.encode()
    if plain:
        socket.plain_username = b"root"
        socket.plain_password = b"root"
    try:
        yield socket
    finally:
        socket.close(0)
        context.term()

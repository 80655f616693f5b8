"""Byte streams over non-blocking sockets: what a connection reads from and writes to."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Protocol

from odradek.protocol.batch import Buffer


class Stream(Protocol):
    """Both calls raise BlockingIOError where nothing can be done now, another OSError at the end."""

    @property
    def is_ready(self) -> bool:
        """Whether the handshake is done, where there is one."""

    @property
    def principal(self) -> str | None:
        """Who the client is, where its certificate says so."""

    @property
    def has_read_ahead(self) -> bool:
        """Whether bytes are here that the socket would not tell of."""

    @property
    def wants_write(self) -> bool:
        """Whether reading goes on only once the socket takes bytes, as in the midst of a handshake."""

    def receive(self, target: memoryview, /) -> int:
        """Read into ``target``; 0 at the end of the stream."""

    def send(self, buffers: Sequence[Buffer], /) -> int:
        """Write some of the buffers' bytes, from the first on; how many."""

    def close(self) -> None:
        """The end."""


class PlainStream:
    """A socket as it is."""

    is_ready = True
    principal = None
    has_read_ahead = False
    wants_write = False

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        # The socket's own calls: one call of Python less for each.
        self.receive = connected.recv_into
        self.send = connected.sendmsg

    def close(self) -> None:
        """The end."""
        with contextlib.suppress(OSError):
            self._socket.close()

"""The outbox: what libzmq still holds of the replies of this process, counted by peer and bounded in bytes.

A peer that asks and does not read would have libzmq keep 100,000 replies for it, of whatever size. pyzmq
can tell when libzmq has let go of a frame. The frames of one peer leave in order, so a frame that is gone
says so of all before it: one marked frame stands for MARK_BYTES_MIN at least, and small replies cost nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import zmq

from odradek.protocol.batch import Buffer
from transport.multipart import send, send_marked
from transport.sockets import Socket

UNCOUNTED_BYTES_MAX = 1_024
"""Replies up to this size, as every acknowledgement is, are neither counted nor refused."""
MARK_BYTES_MIN = 65_536
FRAME_OVERHEAD_BYTES = 128
"""What libzmq needs for a payload frame beside its bytes."""
PEER_BYTES_MAX = 64 << 20
PROCESS_BYTES_MAX = 256 << 20
SMALL_FIRST = 8
"""A further reply fits where so many of its size would: who hoards leaves room for small ones."""
UNMARKED_PEERS_MAX = 4_096
"""Beyond so many peers with a few uncounted bytes each, all of these are taken for sent."""

Peer = tuple[str, bytes]
"""(name of the socket, identity of the peer)"""


@dataclass(slots=True)
class _Unsent:
    """Marked frames on their way to one peer, oldest first: what tells their end, the bytes up to them."""

    held_bytes: int = 0
    marks: deque[tuple[zmq.MessageTracker, int]] = field(default_factory=deque)


class Outbox:
    """Sends replies, and says first whether one more may be sent.

    The fuller the process, the less each peer may hold: ``process_bytes_max`` less what all hold. So one
    that hoards leaves room for the others, however many hoard. Large replies are refused before small ones,
    so that a router's share, which one client may fill, still takes what those get who read at the end.
    """

    def __init__(self, process_bytes_max: int = PROCESS_BYTES_MAX) -> None:
        self._process_bytes_max = process_bytes_max
        self._peers: dict[Peer, _Unsent] = {}
        self._unmarked_bytes: dict[Peer, int] = {}
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """What libzmq holds for all peers now."""
        self._release_all()
        return self._held_bytes

    def admits(self, peer: Peer, size_bytes: int, peer_bytes_max: int = PEER_BYTES_MAX) -> bool:
        """Whether a reply of this size may be sent to this peer.

        A peer for which nothing is held gets one reply of any size for which the process has room.
        """
        if size_bytes <= UNCOUNTED_BYTES_MAX:
            return True
        self._release(peer)
        if self._fits(peer, size_bytes, peer_bytes_max):
            return True
        self._release_all()
        return self._fits(peer, size_bytes, peer_bytes_max)

    def send(self, socket: Socket, peer: Peer, frames: Sequence[Buffer], size_bytes: int) -> None:
        """Send a reply that was admitted. Raises as ``multipart.send``."""
        if size_bytes <= UNCOUNTED_BYTES_MAX:
            send(socket, frames)
            return
        unmarked_bytes = self._unmarked_bytes.get(peer, 0) + size_bytes
        if unmarked_bytes < MARK_BYTES_MIN:
            send(socket, frames)
            if len(self._unmarked_bytes) >= UNMARKED_PEERS_MAX:
                self._unmarked_bytes.clear()
            self._unmarked_bytes[peer] = unmarked_bytes
            return
        tracker = send_marked(socket, frames)
        self._unmarked_bytes.pop(peer, None)
        unsent = self._peers.setdefault(peer, _Unsent())
        unsent.marks.append((tracker, unmarked_bytes))
        unsent.held_bytes += unmarked_bytes
        self._held_bytes += unmarked_bytes

    def _fits(self, peer: Peer, size_bytes: int, peer_bytes_max: int) -> bool:
        free_bytes = self._process_bytes_max - self._held_bytes
        unsent = self._peers.get(peer)
        if unsent is None:
            return size_bytes <= free_bytes
        return unsent.held_bytes + SMALL_FIRST * size_bytes <= min(peer_bytes_max, free_bytes)

    def _release(self, peer: Peer) -> None:
        unsent = self._peers.get(peer)
        if unsent is None:
            return
        while unsent.marks and unsent.marks[0][0].done:
            _, sent_bytes = unsent.marks.popleft()
            unsent.held_bytes -= sent_bytes
            self._held_bytes -= sent_bytes
        if not unsent.marks:
            del self._peers[peer]

    def _release_all(self) -> None:
        for peer in list(self._peers):
            self._release(peer)


def reply_size_bytes(header: Buffer, payload: Sequence[Buffer]) -> int:
    """What libzmq needs, about, to keep a reply."""
    return len(header) + sum(map(len, payload)) + FRAME_OVERHEAD_BYTES * len(payload)

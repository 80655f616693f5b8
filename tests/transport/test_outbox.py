"""The outbox over real sockets: what is counted until libzmq lets go of it, and who may have more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from transport.outbox import FRAME_OVERHEAD_BYTES, MARK_BYTES_MIN, UNCOUNTED_BYTES_MAX, Outbox, Peer
from transport.sockets import Context, Socket, inner_listener, new_context

WAIT_MS = 30_000
IDLE_ROUNDS = 3
PAYLOAD_BYTES = 256 << 10
PEER_BYTES_MAX = 8 << 20
PROCESS_BYTES_MAX = 16 << 20


class Server:
    """One socket, its outbox and the peers that asked it something."""

    def __init__(self, context: Context, endpoint: str) -> None:
        self._context = context
        self._endpoint = endpoint
        self.socket = inner_listener(context, endpoint)
        self.outbox = Outbox(PROCESS_BYTES_MAX)
        self.clients: list[Socket] = []

    def peer(self) -> tuple[Socket, Peer]:
        """A client that keeps two frames of what it does not read, and what the server calls it."""
        client = self._context.socket(zmq.DEALER)
        client.set(zmq.LINGER, 0)
        client.set(zmq.RCVHWM, 1)
        client.set(zmq.RCVTIMEO, WAIT_MS)
        client.connect(self._endpoint)
        client.send(b"hello")
        self.clients.append(client)
        assert self.socket.poll(WAIT_MS)
        return client, ("public", self.socket.recv_multipart()[0])

    def send(self, peer: Peer, payload: bytes) -> bool:
        size_bytes = len(payload) + FRAME_OVERHEAD_BYTES
        if not self.outbox.admits(peer, size_bytes, PEER_BYTES_MAX):
            return False
        self.outbox.send(self.socket, peer, [peer[1], b"header", payload, b""], size_bytes)
        return True

    def fill(self, peer: Peer, payload: bytes = bytes(PAYLOAD_BYTES)) -> int:
        """Send until the peer gets no more; how many replies it got. The connection itself takes some."""
        count = idle_rounds = 0
        while idle_rounds < IDLE_ROUNDS:
            idle_rounds += 1
            while self.send(peer, payload):
                count += 1
                idle_rounds = 0
            time_passes()
        return count


def time_passes() -> None:
    """Lets libzmq's thread move what it can."""
    zmq.select([], [], [], timeout=0.05)


def wait_until(what: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_MS / 1000
    while not what():
        assert time.monotonic() < deadline_s
        time_passes()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    context = new_context()
    server = Server(context, f"ipc://{tmp_path}/s")
    yield server
    for client in server.clients:
        client.close(linger=0)
    # libzmq aborts where a connection ends, with half a message written, while its socket is closing.
    wait_until(lambda: server.socket.poll(0) == 0 and server.outbox.held_bytes == 0)
    server.socket.close(linger=0)
    context.term()


@pytest.mark.parametrize("payload_bytes", [PAYLOAD_BYTES, 10_000])
def test_a_peer_that_does_not_read_gets_no_more_and_one_that_reads_gets_all(
    server: Server, payload_bytes: int
) -> None:
    client, peer = server.peer()
    count = server.fill(peer, bytes(payload_bytes))
    assert PEER_BYTES_MAX // 2 < server.outbox.held_bytes <= PEER_BYTES_MAX + MARK_BYTES_MIN
    assert server.send(peer, bytes(UNCOUNTED_BYTES_MAX - FRAME_OVERHEAD_BYTES)), "small ones are not refused"
    for _ in range(count):
        assert client.recv_multipart() == [b"header", bytes(payload_bytes), b""]
    client.recv_multipart()
    wait_until(lambda: server.outbox.held_bytes == 0)
    assert server.send(peer, bytes(payload_bytes))


def test_what_was_held_for_a_peer_that_went_is_let_go_of(server: Server) -> None:
    client, peer = server.peer()
    server.fill(peer)
    client.close(linger=0)
    # A socket hears of the end of a connection when it is asked something, as a loop always does.
    wait_until(lambda: server.socket.poll(0) == 0 and server.outbox.held_bytes == 0)


def test_those_that_hoard_leave_room_for_the_others(server: Server) -> None:
    for _ in range(6):
        server.fill(server.peer()[1])
    held_bytes = server.outbox.held_bytes
    assert held_bytes > PEER_BYTES_MAX, "more than one hoards"
    client, peer = server.peer()
    assert server.send(peer, bytes(PAYLOAD_BYTES))
    assert len(client.recv_multipart()) == 3
    assert server.outbox.held_bytes <= PROCESS_BYTES_MAX


def test_small_replies_fit_where_large_ones_do_no_more(server: Server) -> None:
    _, peer = server.peer()
    server.fill(peer, bytes(PAYLOAD_BYTES))
    assert not server.send(peer, bytes(PAYLOAD_BYTES))
    assert server.send(peer, bytes(PAYLOAD_BYTES // 8))


def test_one_reply_may_be_larger_than_a_peers_share_and_none_larger_than_all(server: Server) -> None:
    client, peer = server.peer()
    assert server.send(peer, bytes(PEER_BYTES_MAX + 1))
    assert len(client.recv_multipart()) == 3
    assert not server.send(peer, bytes(PROCESS_BYTES_MAX))


def test_a_peer_that_nobody_knows_is_an_error_and_counts_for_nothing(server: Server) -> None:
    with pytest.raises(zmq.ZMQError):
        server.send(("public", b"stranger"), bytes(PAYLOAD_BYTES))
    assert server.outbox.held_bytes == 0

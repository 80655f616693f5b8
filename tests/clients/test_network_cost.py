"""What one small request costs a client's I/O thread in calls."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from odradek.connection import Network, Outcome
from odradek.protocol.codec import Encoding, encode, peek_reply
from odradek.protocol.messages import Ping, PingReply
from tests.support.calls import Calls

WAIT_S = 30.0
REQUESTS = 50
CALLS_MAX = 85
"""Of a request that another thread gives, and its answer: the thread wakes twice."""


class Peer:
    """A network and the one that it talks to, which answers in the test's own thread."""

    def __init__(self, directory: Path) -> None:
        self.address = f"ipc://{directory}/peer"
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.rcvtimeo = int(WAIT_S * 1000)
        self.socket.bind(self.address)
        self.network = Network("test")

    def exchange(self) -> None:
        """One request there and its answer back."""
        outcomes: list[Outcome] = []
        ended = threading.Event()

        def end(outcome: Outcome) -> None:
            outcomes.append(outcome)
            ended.set()

        def ask() -> None:
            self.network.send(self.address, Ping(), [b"p"], end, timeout_s=WAIT_S, connect_timeout_s=WAIT_S)

        self.network.call(ask)
        identity, header, payload = self.socket.recv_multipart()
        reply = PingReply()
        reply.id = peek_reply(header).id
        self.socket.send_multipart([identity, encode(reply, Encoding.MSGPACK), payload])
        assert ended.wait(WAIT_S)
        assert outcomes[0].error is None
        assert [bytes(frame) for frame in outcomes[0].frames] == [b"p"]

    def profile(self, calls: Calls | None) -> None:
        """Count in the I/O thread from here on, or no more."""
        done = threading.Event()

        def change() -> None:
            sys.setprofile(None if calls is None else calls.note)
            done.set()

        self.network.call(change)
        assert done.wait(WAIT_S)

    def close(self) -> None:
        self.network.close()
        self.socket.close()
        self.context.term()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path)
    yield made
    made.close()


def test_a_request_and_its_answer_take_few_calls(peer: Peer) -> None:
    peer.exchange()  # connects
    calls = Calls()
    peer.profile(calls)
    for _ in range(REQUESTS):
        peer.exchange()
    peer.profile(None)
    assert 0 < calls.count / REQUESTS <= CALLS_MAX

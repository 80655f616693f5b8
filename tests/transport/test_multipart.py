"""Whole messages out of a socket: all that wait, and not more than asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from transport.multipart import receive_waiting, send
from transport.sockets import Socket


@pytest.fixture
def pair() -> Iterator[tuple[Socket, Socket]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    near, far = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    near.bind("inproc://pair")
    far.connect("inproc://pair")
    yield near, far
    near.close()
    far.close()
    context.term()


@pytest.mark.parametrize(
    ("sent", "most", "first"), [(0, 9, 0), (1, 9, 1), (2, 9, 2), (5, 9, 5), (5, 1, 1), (5, 3, 3)]
)
def test_all_that_waits_is_received_as_far_as_asked(
    pair: tuple[Socket, Socket], sent: int, most: int, first: int
) -> None:
    near, far = pair
    for number in range(sent):
        send(near, [b"head", b"%d" % number])
    taken = [frames[1].bytes for frames in receive_waiting(far, most)]
    assert taken == [b"%d" % number for number in range(first)]
    left = [frames[1].bytes for frames in receive_waiting(far, 9)]
    assert left == [b"%d" % number for number in range(first, sent)]


def test_what_comes_meanwhile_is_received_at_the_next_poll(pair: tuple[Socket, Socket]) -> None:
    near, far = pair
    send(near, [b"first"])
    waiting = receive_waiting(far, 9)
    assert next(waiting)[0].bytes == b"first"
    assert list(waiting) == []
    send(near, [b"second"])
    assert far.poll(10_000) & zmq.POLLIN
    assert [frames[0].bytes for frames in receive_waiting(far, 9)] == [b"second"]

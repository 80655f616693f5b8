"""Links over real sockets: tokens that find their answers, and what is dropped with a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from actors.actor import Answer, Lost, Undeliverable
from actors.effects import Forward
from odradek.protocol.codec import Encoding, encode, public_decoder
from odradek.protocol.errors import InvalidRequest, LeaderNotAvailable
from odradek.protocol.messages import (
    APIS,
    REPLY_OF,
    AlterConfigs,
    ListOffsets,
    ListOffsetsReply,
    Ping,
    failure,
)
from transport.frames import read_request, reply_frames
from transport.links import Links, read_answer, stamp
from transport.sockets import Context, Socket, inner_listener, new_context

WAIT_MS = 30_000


@pytest.fixture
def context() -> Iterator[Context]:
    context = new_context()
    yield context
    context.destroy(linger=0)


Listen = Callable[[str], Socket]


@pytest.fixture
def listen(context: Context, tmp_path: Path) -> Iterator[Listen]:
    """Binds an inner listener to a name; closes all of them in the end."""
    bound: list[Socket] = []

    def bind(name: str) -> Socket:
        bound.append(inner_listener(context, f"ipc://{tmp_path}/{name}"))
        return bound[-1]

    yield bind
    for socket in bound:
        socket.close(linger=0)


@pytest.fixture
def links(context: Context) -> Iterator[Links]:
    links = Links(context)
    yield links
    links.close()


def forward(token: int, address: str = "a", offset: int = 0) -> Forward:
    return Forward(address, ListOffsets(topic="t", partition=0, at=offset), token, (b"payload",))


def take(socket: Socket) -> Any:
    assert socket.poll(WAIT_MS), "nothing came"
    return read_request("inner", socket.recv_multipart(copy=False), public_decoder())


def take_until(socket: Socket, offset: int) -> Any:
    """The request for this offset, past those that left on a connection that was ending."""
    while (envelope := take(socket)).request.at != offset:
        pass
    return envelope


def next_answer(links: Links) -> Answer:
    assert links.socket.poll(WAIT_MS), "nothing came back"
    (answer,) = links.answers(1)
    return answer


@pytest.mark.parametrize("token", [0, 1, 2**40])
@pytest.mark.parametrize("api", sorted(APIS))
def test_a_stamp_brings_back_the_token_and_how_to_read_the_answer(api: str, token: int) -> None:
    kind = APIS[api]
    fields: dict[str, Any] = dict.fromkeys(kind.__struct_fields__)
    request: Any = kind(**fields)
    request.id = "the client's own"
    header = zmq.Frame(stamp(request, token))
    assert request.id == "the client's own"
    stamped = header.bytes
    assert b"the client" not in stamped
    token_field = msgspec.msgpack.decode(stamped)["id"]
    reply = encode(REPLY_OF[kind](id=token_field), Encoding.MSGPACK)
    answer = read_answer(zmq.Frame(reply), [zmq.Frame(b"x")])
    assert answer.token == token
    assert type(answer.reply) is REPLY_OF[kind]
    assert [bytes(frame) for frame in answer.payload] == [b"x"]
    failed = read_answer(zmq.Frame(encode(failure_with(token_field), Encoding.MSGPACK)), [])
    assert failed.reply.error is not None


def failure_with(request_id: Any) -> Any:
    reply = failure(LeaderNotAvailable())
    reply.id = request_id
    return reply


@pytest.mark.parametrize("request_id", [None, "x", 63, 1.5])
def test_an_answer_that_nobody_stamped(request_id: Any) -> None:
    with pytest.raises(InvalidRequest):
        read_answer(zmq.Frame(encode(failure_with(request_id), Encoding.MSGPACK)), [])


def test_what_messagepack_cannot_say_comes_back_as_an_error(links: Links, tmp_path: Path) -> None:
    links.link("a", f"ipc://{tmp_path}/a")
    (undeliverable,) = links.forward(Forward("a", AlterConfigs(topic="t", config={"x": 2**70}), 5))
    assert isinstance(undeliverable, Undeliverable)
    assert undeliverable.token == 5
    assert undeliverable.error.name == "INVALID_REQUEST"


def test_a_request_and_its_answer(listen: Listen, links: Links, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/a"
    links.link("a", endpoint)
    assert links.forward(forward(7)) == (), "it may be sent before the other side is there"
    listener = listen("a")
    envelope = take(listener)
    assert envelope.request.topic == "t"
    assert [bytes(frame) for frame in envelope.payload] == [b"payload"]
    listener.send_multipart(reply_frames(envelope.sender, ListOffsetsReply(offset=3), [b"back"]))
    answer = next_answer(links)
    assert (answer.token, [bytes(frame) for frame in answer.payload]) == (7, [b"back"])
    assert isinstance(answer.reply, ListOffsetsReply)
    assert answer.reply.offset == 3


def test_many_addresses_over_one_socket(listen: Listen, links: Links, tmp_path: Path) -> None:
    for name in "abc":
        links.link(name, f"ipc://{tmp_path}/{name}")
        assert links.forward(forward(ord(name), name)) == ()
    for name in "cab":
        listener = listen(name)
        listener.send_multipart(reply_frames(take(listener).sender, ListOffsetsReply(offset=1), ()))
        assert next_answer(links).token == ord(name)


def test_a_new_endpoint_takes_over_and_what_was_queued_for_the_old_one_is_dropped(
    listen: Listen, links: Links, tmp_path: Path
) -> None:
    old, new = f"ipc://{tmp_path}/old", f"ipc://{tmp_path}/new"
    links.link("a", old)
    assert links.forward(forward(1, offset=1)) == ()
    links.link("a", new)
    assert links.forward(forward(2, offset=2)) == ()
    assert take(listen("new")).request.at == 2
    # A second message over the same socket proves that the first connection is really gone.
    late = listen("old")
    links.link("b", old)
    assert links.forward(forward(3, "b", offset=3)) == ()
    assert take(late).request.at == 3


def test_the_same_endpoint_again_after_an_unlink(listen: Listen, links: Links, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/a"
    for offset in range(3):
        links.link("a", endpoint)
        links.link("a", endpoint)
        assert links.forward(forward(offset, offset=offset)) == ()
        if offset < 2:
            links.unlink("a")
    listener = listen("a")
    assert take(listener).request.at == 2
    assert listener.poll(0) == 0


def test_an_address_that_is_not_linked(links: Links) -> None:
    links.unlink("a")
    (undeliverable,) = links.forward(Forward("a", Ping(), 9))
    assert isinstance(undeliverable, Undeliverable)
    assert (undeliverable.token, undeliverable.error.name) == (9, "LEADER_NOT_AVAILABLE")


def test_a_connection_that_libzmq_gave_up_is_made_anew_and_what_was_asked_on_it_is_lost(
    context: Context, listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that a connecting socket will not take in ends its session for good, without a word."""
    listener = listen("a")
    monkeypatch.setattr("transport.sockets.INNER_FRAME_BYTES_MAX", 1_000)
    links = Links(context)
    events = links.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    links.link("a", f"ipc://{tmp_path}/a")
    for _ in range(2):
        assert links.forward(forward(1, offset=1)) == ()
        sender = take_until(listener, offset=1).sender
        listener.send_multipart(reply_frames(sender, ListOffsetsReply(), [bytes(2_000)]))
        assert events.poll(WAIT_MS), "the session did not end"
        events.recv_multipart()
        assert not links.socket.poll(0)
        for attempt in range(2, 1_000):
            heard = links.forward(forward(attempt))
            if heard:
                break
            links.socket.poll(10)
        undeliverable, lost = heard
        assert isinstance(undeliverable, Undeliverable)
        assert (undeliverable.token, undeliverable.error.name) == (attempt, "LEADER_NOT_AVAILABLE")
        assert lost == Lost("a")
        assert links.forward(forward(7, offset=7)) == ()
        sender = take_until(listener, offset=7).sender
        listener.send_multipart(reply_frames(sender, ListOffsetsReply(offset=3), ()))
        assert next_answer(links).token == 7, "the new connection serves"
    links.socket.disable_monitor()
    events.close()
    links.close()


def test_a_full_queue_says_so(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.sockets.INNER_QUEUE_MESSAGES_MAX", 3)
    links = Links(context)
    links.link("a", f"ipc://{tmp_path}/a")
    heard = [links.forward(forward(number)) for number in range(5)]
    assert heard[:3] == [()] * 3
    for (refusal,) in heard[3:]:
        assert isinstance(refusal, Undeliverable)
        assert refusal.error.name == "THROTTLING_QUOTA_EXCEEDED"
    links.close()

"""Frames: whatever a peer sends is an envelope or an error with an address, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from actors.actor import Envelope
from actors.effects import Sender
from actors.messages import TO_CHILD, TO_SUPERVISOR
from odradek.protocol.codec import Encoding, RequestDecoder, encode, public_decoder
from odradek.protocol.messages import APIS, Ping, PingReply, Request, api_name, failure
from transport.frames import COPY_BYTES_MAX, MalformedError, frame_buffer, read_request, reply_frames

PUBLIC = public_decoder()


def read(*frames: bytes, decoder: RequestDecoder[Request] = PUBLIC) -> Envelope:
    return read_request("public", [zmq.Frame(frame) for frame in (b"peer", *frames)], decoder)


def refused(*frames: bytes, decoder: RequestDecoder[Request] = PUBLIC) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        read(*frames, decoder=decoder)
    return caught.value


SCALARS = st.none() | st.booleans() | st.integers(1 - 2**63, 2**63 - 1) | st.floats() | st.text(max_size=5)
KEYS = st.text(max_size=3) | st.integers(-9, 9)
VALUES = st.recursive(
    SCALARS | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from(["id", "v", "api", "topic", "partition", "records", "offset", "config", "acks", "x"]),
    VALUES | st.sampled_from([*APIS]),
    max_size=6,
)
FRAMES = (
    st.binary(max_size=30)
    | HEADERS.map(msgspec.msgpack.encode)
    | HEADERS.map(lambda header: json.dumps(header, default=repr).encode())
    | VALUES.map(msgspec.msgpack.encode)
    | st.binary(max_size=20).map(lambda tail: b"{" + tail)
    | st.binary(max_size=20).map(lambda tail: b"\x82" + tail)
)


@given(st.lists(FRAMES, max_size=4))
def test_any_frames_are_an_envelope_or_a_malformed_error_that_can_be_answered(frames: list[bytes]) -> None:
    try:
        sender = read(*frames).sender
        reply: Any = PingReply()
    except MalformedError as malformed:
        sender, reply = malformed.sender, failure(malformed.error)
    answered = reply_frames(sender, reply, ())
    assert answered[0] == b"peer"
    decoded = msgspec.json.decode if sender.encoding is Encoding.JSON else msgspec.msgpack.decode
    assert decoded(answered[-1])["id"] == sender.id or sender.id != sender.id


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("delimiter", [False, True])
@pytest.mark.parametrize("request_id", [None, "x", 7, 1.5, True, 2**64 - 1])
def test_a_reply_goes_back_as_the_request_came(encoding: Encoding, delimiter: bool, request_id: Any) -> None:
    head = [b""] if delimiter else []
    envelope = read(*head, encode(Ping(id=request_id), encoding), b"one", b"", b"two")
    assert [bytes(frame) for frame in envelope.payload] == [b"one", b"", b"two"]
    assert envelope.sender == Sender("public", b"peer", delimiter, encoding, request_id)
    frames = reply_frames(envelope.sender, PingReply(), [b"payload"])
    assert frames[: len(head) + 1] == [b"peer", *head]
    assert frames[-2:] == [encode(PingReply(id=request_id), encoding), b"payload"]


@pytest.mark.parametrize("frames", [(), (b"",)])
def test_a_message_without_a_header(frames: tuple[bytes, ...]) -> None:
    assert refused(*frames).error.name == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("header", "name", "request_id", "says"),
    [
        (b"\x93\x01\x02\x03", "INVALID_REQUEST", None, "first byte 0x93"),
        (b'{"api":', "INVALID_REQUEST", None, "cannot be read"),
        (b'{"id":4}', "INVALID_REQUEST", 4, "'api'"),
        (b'{"api":7,"id":4}', "INVALID_REQUEST", 4, "'api'"),
        (b'{"api":"nope","id":"x"}', "INVALID_REQUEST", "x", "unknown api 'nope'"),
        (b'{"api":"ping","v":2,"id":5}', "UNSUPPORTED_VERSION", 5, "1 to 1"),
        (b'{"api":"ping","id":[1]}', "INVALID_REQUEST", None, "$.id"),
        (b'{"api":"fetch","id":6,"topic":"a"}', "INVALID_REQUEST", 6, "partition"),
        (b'{"api":"fetch","id":6,"topic":"a","partition":-1,"offset":0}', "INVALID_REQUEST", 6, "partition"),
        (b'{"api":"produce","topic":"a","key":{"base64":"!"},"id":1}', "INVALID_REQUEST", 1, "base64"),
        (b"{" + b'"a":[' * 10_000, "INVALID_REQUEST", None, "cannot be read"),
    ],
)
def test_the_error_says_what_was_wrong_and_where(
    header: bytes, name: str, request_id: Any, says: str
) -> None:
    malformed = refused(header)
    assert malformed.error.name == name
    assert malformed.sender.id == request_id
    assert says in malformed.error.message


def test_the_families_do_not_know_each_other() -> None:
    inner = [*TO_CHILD, *TO_SUPERVISOR]
    for kind in inner:
        header = json.dumps({"api": api_name(kind), "id": 1}).encode()
        assert "unknown api" in refused(header).error.message
    for api in APIS:
        assert (
            "unknown api"
            in refused(json.dumps({"api": api}).encode(), decoder=RequestDecoder(TO_CHILD)).error.message
        )


def test_large_frames_are_not_copied() -> None:
    assert isinstance(frame_buffer(zmq.Frame(bytes(COPY_BYTES_MAX))), bytes)
    assert isinstance(frame_buffer(zmq.Frame(bytes(COPY_BYTES_MAX + 1))), memoryview)

"""Frames out of a stream, however the network cuts it; and a length is only a claim."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.kafka.frames import FIRST_BYTES, GROWTH, FrameReader, FrameRefused

FRAME_BYTES_MAX = 1 << 20


def reader(shared_bytes: int = 64, frame_bytes_max: int = FRAME_BYTES_MAX) -> FrameReader:
    return FrameReader(memoryview(bytearray(shared_bytes)), frame_bytes_max)


def feed(target: FrameReader, stream: bytes, cuts: list[int] | None = None) -> list[bytes]:
    """Give the reader the stream, at most so many bytes at each read."""
    frames: list[bytes] = []
    at = 0
    cuts = list(cuts or [])
    while at < len(stream):
        room = target.target()
        count = min(len(room), len(stream) - at, cuts.pop(0) if cuts else len(stream))
        room[:count] = stream[at : at + count]
        at += count
        frames += [bytes(frame) for frame in target.received(count)]
    return frames


def framed(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


@given(
    frames=st.lists(st.binary(min_size=8, max_size=300), max_size=8),
    cuts=st.lists(st.integers(1, 100), max_size=200),
    shared_bytes=st.integers(8, 200),
)
def test_whatever_the_cuts_the_frames_are_those_that_were_sent(
    frames: list[bytes], cuts: list[int], shared_bytes: int
) -> None:
    target = reader(shared_bytes)
    assert feed(target, b"".join(map(framed, frames)), cuts) == frames
    assert target.is_between_frames
    assert target.held_bytes == 0


def test_two_readers_share_one_buffer() -> None:
    shared = memoryview(bytearray(64))
    one, other = FrameReader(shared, 1_000), FrameReader(shared, 1_000)
    first, second = framed(b"a" * 50), framed(b"b" * 50)
    assert feed(one, first[:3]) == []
    assert feed(other, second[:2]) == []
    assert feed(one, first[3:]) == [b"a" * 50]
    assert feed(other, second[2:]) == [b"b" * 50]


@pytest.mark.parametrize("size", [-1, 0, 7, FRAME_BYTES_MAX + 1, 2**31 - 1, -(2**31)])
def test_a_length_out_of_bounds_is_refused_before_memory_is_taken(size: int) -> None:
    target = reader()
    with pytest.raises(FrameRefused, match=str(size)):
        feed(target, struct.pack(">i", size))
    assert target.held_bytes == 0


def test_the_largest_frame_is_taken() -> None:
    frame = bytes(range(256)) * (FRAME_BYTES_MAX // 256)
    assert feed(reader(4_096), framed(frame)) == [frame]


def test_a_claim_costs_no_memory_that_was_not_sent() -> None:
    target = reader(frame_bytes_max=1 << 30)
    assert feed(target, struct.pack(">i", 1 << 30) + b"x" * 20) == []
    assert target.held_bytes <= FIRST_BYTES
    sent_bytes = 20
    while sent_bytes < 4 << 20:
        sent_bytes += len(part := b"x" * 4_096)
        assert feed(target, part) == []
        assert target.held_bytes <= max(FIRST_BYTES, GROWTH * sent_bytes)

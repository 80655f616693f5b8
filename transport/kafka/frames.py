"""Frames out of a stream: a length, then so many bytes.

::

    [ length: int32 ][ request: length bytes ]

Rule 1. Small frames are cut out of a buffer that all connections share: one call of the system for many.
Rule 2. A frame that the shared buffer does not hold whole has its own memory, which grows with what came:
        a length is only a claim.
"""

from __future__ import annotations

import struct

from odradek.protocol.batch import Buffer

LENGTH = struct.Struct(">i")
SHARED_BYTES = 256 << 10
"""What one call reads at most, where no large frame is under way."""
FIRST_BYTES = 256 << 10
GROWTH = 4
"""A large frame begins with FIRST_BYTES of memory and gets so many times as much when these are full."""
REQUEST_BYTES_MIN = 8
"""An api key, a version, a correlation id."""


class FrameRefused(Exception):
    """What came is no frame, or one too large: the connection cannot go on."""


class FrameReader:
    """Cuts the stream of one connection. ``shared`` is the buffer of all connections of this loop."""

    def __init__(self, shared: memoryview, frame_bytes_max: int) -> None:
        self._shared = shared
        self.frame_bytes_max = frame_bytes_max
        self.frame_bytes_min = REQUEST_BYTES_MIN
        self._head = b""  # of a length that came in pieces
        self._large = bytearray()
        self._large_bytes = 0
        self._filled_bytes = 0
        self.held_bytes = 0
        """The memory of the frame that is under way."""
        self.is_between_frames = True
        """Whether nothing of a frame has come yet."""

    def target(self) -> memoryview:
        """Where the next bytes of the stream are to go; to be used at once, and answered by ``received``."""
        if self.is_between_frames:
            return self._shared
        if self._large_bytes:
            return memoryview(self._large)[self._filled_bytes :]
        head_bytes = len(self._head)
        self._shared[:head_bytes] = self._head
        return self._shared[head_bytes:]

    def received(self, count: int) -> list[Buffer]:
        """The frames that are whole now that ``count`` bytes stand in ``target``. Raises FrameRefused."""
        if self.is_between_frames and count > LENGTH.size:
            # One whole frame and nothing else, as nearly always.
            (size,) = LENGTH.unpack_from(self._shared)
            if size == count - LENGTH.size and self.frame_bytes_min <= size <= self.frame_bytes_max:
                return [bytes(self._shared[LENGTH.size : count])]
        if self._large_bytes:
            frames = self._grow(count)
        else:
            end = len(self._head) + count
            self._head = b""
            frames = self._cut(end)
        self.held_bytes = len(self._large)
        self.is_between_frames = not self._head and not self._large_bytes
        return frames

    def _cut(self, end: int) -> list[Buffer]:
        frames: list[Buffer] = []
        at = 0
        while end - at >= LENGTH.size:
            size = self._checked(LENGTH.unpack_from(self._shared, at)[0])
            start = at + LENGTH.size
            if end - start < size:
                self._begin_large(size, self._shared[start:end])
                return frames
            frames.append(bytes(self._shared[start : start + size]))
            at = start + size
        self._head = bytes(self._shared[at:end])
        return frames

    def _checked(self, size: int) -> int:
        if not self.frame_bytes_min <= size <= self.frame_bytes_max:
            raise FrameRefused(
                f"a request says that it has {size} bytes; {self.frame_bytes_min} to {self.frame_bytes_max} "
                "are taken here"
            )
        return size

    def _begin_large(self, size: int, first: memoryview) -> None:
        self._large_bytes = size
        self._filled_bytes = len(first)
        self._large = bytearray(min(size, max(FIRST_BYTES, len(first) + 1)))
        self._large[: len(first)] = first

    def _grow(self, count: int) -> list[Buffer]:
        self._filled_bytes += count
        if self._filled_bytes == self._large_bytes:
            frame, self._large = self._large, bytearray()
            self._large_bytes = self._filled_bytes = 0
            return [frame]
        if self._filled_bytes == len(self._large):
            larger = bytearray(min(self._large_bytes, GROWTH * len(self._large)))
            larger[: self._filled_bytes] = self._large
            self._large = larger
        return []

"""Short writes: the system takes a part of what it is given, and the rest goes on right behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from odradek.protocol.batch import Buffer
from partitions.files import IOV_MAX, write_all
from tests.support.simdisk import SimDisk

FILE = Path("/data/file")


class ShortDisk(SimDisk):
    """Takes at most so many bytes in each call, in turn."""

    def __init__(self, takes: list[int]) -> None:
        super().__init__()
        self._takes = takes
        self.calls = 0

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], position: int) -> int:
        assert len(buffers) <= IOV_MAX
        data = b"".join(bytes(buffer) for buffer in buffers)
        taken = self._takes[self.calls % len(self._takes)]
        self.calls += 1
        return super().pwritev(descriptor, [data[:taken]], position)


def check(pieces: list[bytes], takes: list[int]) -> None:
    disk = ShortDisk(takes)
    descriptor = disk.open(FILE, create=True)
    whole = b"".join(pieces)
    write_all(disk, descriptor, list(pieces), 5, len(whole))
    assert disk.content(FILE)[5:] == whole


@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=12),
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
)
def test_whatever_each_call_takes_the_file_has_every_byte_once(pieces: list[bytes], takes: list[int]) -> None:
    check(pieces, takes)


def test_so_it_has_with_more_buffers_than_one_call_may_have() -> None:
    check([b"%d," % number for number in range(3 * IOV_MAX)], [1_000, 1, 70_000])

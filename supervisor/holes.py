"""Holes: memory that the fork server's own objects have left free, filled before it forks.

A child that puts its first objects into holes between shared ones copies a page for each hole. Where there
are none, its objects lie side by side in new pages: 0.4 MB less for each process, for 2 MB once.
"""

from __future__ import annotations

import sys

POOL_BYTES = 16 << 10
"""CPython's allocator takes memory for small objects in pools of this size, each for one size of objects."""
POOL_HEADER_BYTES = 48
SMALL_BYTES_MAX = 512
"""Larger objects are the C library's."""
BLOCK_BYTES_STEP = 16
BLOCK_BYTES_MIN = 48
"""What the smallest bytes object takes. Smaller blocks hold numbers, which come and go while this counts."""
LARGE_BYTES_MAX = 64 << 10
LARGE_BYTES_SHRINK = 0.8
"""Each size of filling to the one before: what is left of a hole is small."""
TOP_BYTES = 120_000
"""Too large for most holes, and still from the heap."""
SIZE_FILLED_BYTES_MAX = 256 << 10
"""For one size. Other allocators (PYTHONMALLOC, another C library) may never look full: 13 MB at most."""
_HEADER_BYTES = sys.getsizeof(b"")


def fill_holes() -> list[bytes]:
    """What fills them; to be kept."""
    fillings = _fill_large()
    for block_bytes in range(BLOCK_BYTES_MIN, SMALL_BYTES_MAX + 1, BLOCK_BYTES_STEP):
        fillings += _fill_pools(block_bytes)
    return fillings


def _fill_pools(block_bytes: int) -> list[bytes]:
    """Until a whole pool is filled: the allocator takes a new one only when no begun one is left."""
    blocks_of_pool = (POOL_BYTES - POOL_HEADER_BYTES) // block_bytes
    fillings: list[bytes] = []
    filled: dict[int, int] = {}
    for _ in range(SIZE_FILLED_BYTES_MAX // block_bytes):
        filling = bytes(block_bytes - _HEADER_BYTES)
        fillings.append(filling)
        pool = id(filling) // POOL_BYTES
        filled[pool] = filled.get(pool, 0) + 1
        if filled[pool] == blocks_of_pool:
            break
    return fillings


def _fill_large() -> list[bytes]:
    """Until each size comes from above all that was there."""
    top = bytes(TOP_BYTES)
    fillings = [top]
    size_bytes = LARGE_BYTES_MAX
    while size_bytes > SMALL_BYTES_MAX:
        for _ in range(SIZE_FILLED_BYTES_MAX // size_bytes):
            fillings.append(bytes(size_bytes))
            if id(fillings[-1]) > id(top):
                break
        size_bytes = int(size_bytes * LARGE_BYTES_SHRINK)
    return fillings

"""Every fuzz target, with bytes that hypothesis makes: random ones, and sound examples that were spoiled."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, batch, request_header, seeds
from tests.support.tiers import in_tier

SEEDS = seeds()
EXAMPLES = in_tier(60, 1_500)
MEMORY_BASE_BYTES = 4 << 20
MEMORY_FACTOR = 200


def spoil(example: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or put in."""
    data = bytearray(example)
    for _ in range(dice.randint(1, 4)):
        place = dice.randint(0, len(data))
        kind = dice.randrange(4)
        if kind == 0 and place < len(data):
            data[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        elif kind == 1:
            del data[place : place + dice.randint(1, 20)]
        elif kind == 2:
            data[place:place] = data[place : place + dice.randint(1, 40)]
        else:
            data[place:place] = dice.randbytes(dice.randint(1, 8))
    return bytes(data)


def spoiled() -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda example, seed: spoil(example, random.Random(seed)),
        st.sampled_from(SEEDS),
        st.integers(0, 2**32),
    )


@pytest.mark.parametrize("name", TARGETS)
def test_sound_examples_pass(name: str) -> None:
    for example in SEEDS:
        TARGETS[name](example)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.one_of(st.binary(max_size=600), spoiled()))
def test_no_bytes_are_too_strange(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("target", [request_header, batch], ids=lambda target: target.__name__)
@pytest.mark.parametrize(
    "lie",
    [
        b"\xdf\xff\xff\xff\xff" + b"\xa3api\xa4ping",
        b"\x81\xa3api\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"[" * 100_000,
        b'{"api":' * 20_000,
        b"\0" * 8 + b"\x7f\xff\xff\xff" + b"\0" * 200,
    ],
    ids=["map", "bytes", "array", "depth", "objects", "batch length"],
)
def test_a_length_that_lies_takes_no_memory(target: Callable[[bytes], None], lie: bytes) -> None:
    tracemalloc.start()
    try:
        target(lie)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BASE_BYTES + MEMORY_FACTOR * len(lie)

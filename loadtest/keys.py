"""Keys: which key each record gets, drawn before the load begins so that drawing costs it nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Final

from loadtest.workload import Workload

DRAWN: Final = 1 << 16
SEED: Final = 1919
ZIPF_EXPONENT: Final = 1.0


def key_stream(workload: Workload, producer: int) -> Iterator[bytes] | None:
    """Keys for ever, or None for no keys; another series in each producer, the same in each run."""
    if workload.keys == "none":
        return None
    dice = random.Random(SEED + producer)  # noqa: S311  # a workload, no secret
    names = [f"key-{number}".encode() for number in range(workload.key_count)]
    weights = None
    if workload.keys == "zipf":
        weights = list(itertools.accumulate(1 / (rank**ZIPF_EXPONENT) for rank in range(1, len(names) + 1)))
    return itertools.cycle(dice.choices(names, cum_weights=weights, k=DRAWN))

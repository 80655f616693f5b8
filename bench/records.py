"""The records that every benchmark sends: 100 bytes that do not repeat, no key, no headers."""

from __future__ import annotations

import random

VALUE_BYTES = 100
DISTINCT_VALUES = 4096
BATCH_BYTES_MAX = 1_000_000
BATCHES_IN_FLIGHT = 4


def values() -> list[bytes]:
    """DISTINCT_VALUES values, the same ones in each run."""
    dice = random.Random(2013)
    return [dice.randbytes(VALUE_BYTES) for _ in range(DISTINCT_VALUES)]

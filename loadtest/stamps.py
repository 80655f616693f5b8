"""Stamps: what the first bytes of a value say, so that whoever reads it knows how late it is.

The clock is CLOCK_MONOTONIC, which all processes of one machine share:

    bytes 0-7    the nanosecond at which the record should have been sent
    bytes 8-11   the producer's number
    bytes 12-19  the record's number in that producer, from 0
"""

from __future__ import annotations

import random
import struct
from typing import Final, NamedTuple

STAMP: Final = struct.Struct("<QIQ")
FILLERS: Final = 64
SEED: Final = 1883


class Stamp(NamedTuple):
    """When a record should have been sent (ns), by which producer, and its number there."""

    due_ns: int
    producer: int
    number: int


def fillers(value_bytes: int) -> list[bytes]:
    """What follows the stamp: bytes that do not compress, the same in each run."""
    dice = random.Random(SEED)  # noqa: S311  # filler, no secret
    return [dice.randbytes(value_bytes - STAMP.size) for _ in range(FILLERS)]


def read_stamp(value: bytes) -> Stamp:
    """The stamp of a value. Raises struct.error for what is none of ours."""
    return Stamp(*STAMP.unpack_from(value))

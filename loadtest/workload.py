"""Workload: what a load test sends and reads. It travels as JSON to every client process."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

VALUE_BYTES_MIN = 24
"""A value begins with a stamp: when it should have been sent, by whom, which one."""
CLIENTS_MAX = 256
SWEEPABLE = {
    "partitions": "partitions",
    "producers": "producers",
    "consumers": "consumers",
    "size": "value_bytes",
    "rate": "rate",
    "batch": "batch_records",
}
"""The options that ``--sweep`` may vary, and the fields that they stand for."""

Keys = Literal["none", "uniform", "zipf"]
Acks = Literal["all", "1", "0"]


class WorkloadError(ValueError):
    """A workload that cannot be; the message says what to change."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """``rate`` is records per second of all producers together; None is as fast as they can.

    ``read_after``: the consumers begin when the producers are done, so that neither takes the other's CPU.
    """

    producers: int = 1
    consumers: int = 1
    partitions: int = 1
    value_bytes: int = 100
    rate: float | None = None
    duration_s: float = 10.0
    acks: Acks = "all"
    compression: str = "none"
    batch_records: int = 500
    linger_ms: float = 0.0
    keys: Keys = "none"
    key_count: int = 10_000
    read_after: bool = False

    def check(self) -> Workload:
        """The workload itself. Raises WorkloadError."""
        for name, least, most in (
            ("producers", 1, CLIENTS_MAX),
            ("consumers", 0, CLIENTS_MAX),
            ("partitions", 1, 10_000),
            ("value_bytes", VALUE_BYTES_MIN, 1 << 20),
            ("batch_records", 1, 1 << 20),
            ("key_count", 1, 1 << 24),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise WorkloadError(f"{name} is {least} to {most}, not {value}")
        if not 0.1 <= self.duration_s <= 7 * 86_400:
            raise WorkloadError(f"duration_s is 0.1 s to a week, not {self.duration_s:g}")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise WorkloadError(f"rate is records per second, more than 0, not {self.rate:g}")
        if self.consumers > self.partitions:
            raise WorkloadError(
                f"{self.consumers} consumers for {self.partitions} partitions: some would have nothing to "
                "read; use as many partitions as consumers, or more"
            )
        return self

    def partitions_of(self, consumer: int) -> list[int]:
        """What one of the consumers reads."""
        return list(range(consumer, self.partitions, self.consumers))

    def with_field(self, option: str, text: str) -> Workload:
        """A copy with one field from the command line, for a sweep. Raises WorkloadError."""
        field = SWEEPABLE.get(option)
        if field is None:
            raise WorkloadError(f"--sweep knows {', '.join(SWEEPABLE)}, not {option!r}")
        try:
            value = float(text) if field == "rate" else int(text)
        except ValueError:
            raise WorkloadError(f"--sweep {option}: {text!r} is not a number") from None
        return msgspec.structs.replace(self, **{field: value}).check()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the records go. ``client``: "odradek", "kafka", or the name of a module like theirs."""

    address: str
    client: str = "odradek"
    topic: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """All that a client process needs to know."""

    role: Literal["producer", "consumer"]
    index: int
    workload: Workload
    target: Target

"""Workload: what a load test sends and reads. It travels as JSON to every client process."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

VALUE_BYTES_MIN = 24
"""A value begins with a stamp: when it should have been sent, by whom, which one."""
CLIENTS_MAX = 256
WARM_UP_S_MAX = 3600
DURATION_S_MIN = 0.1
DURATION_S_MAX = 7 * 86_400
LINGER_MS_MAX = 60_000
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
    ``warm_up_s``: so long the load goes before ``duration_s`` begins; its records are sent and read as all
    others, and neither rates nor latencies count them.
    """

    producers: int = 1
    consumers: int = 1
    partitions: int = 1
    value_bytes: int = 100
    rate: float | None = None
    duration_s: float = 10.0
    warm_up_s: float = 0.0
    acks: Acks = "all"
    compression: str = "none"
    batch_records: int = 500
    linger_ms: float = 0.0
    keys: Keys = "none"
    key_count: int = 10_000
    read_after: bool = False

    def check(self) -> Workload:
        """The workload itself. Raises WorkloadError."""
        for option, name, least, most, unit in (
            ("producers", "producers", 1, CLIENTS_MAX, ""),
            ("consumers", "consumers", 0, CLIENTS_MAX, ""),
            ("partitions", "partitions", 1, 10_000, ""),
            ("size", "value_bytes", VALUE_BYTES_MIN, 1 << 20, " bytes"),
            ("batch", "batch_records", 1, 1 << 20, " records"),
            ("key-count", "key_count", 1, 1 << 24, ""),
            ("linger-ms", "linger_ms", 0, LINGER_MS_MAX, " milliseconds"),
            ("duration", "duration_s", DURATION_S_MIN, DURATION_S_MAX, " seconds"),
            ("warm-up", "warm_up_s", 0, WARM_UP_S_MAX, " seconds"),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise WorkloadError(f"--{option} is {least:,} to {most:,}{unit}, not {value:,}")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise WorkloadError(f"--rate is records per second, more than 0, or max; not {self.rate:g}")
        if self.consumers > self.partitions:
            raise WorkloadError(
                f"{self.consumers} consumers for {self.partitions} partitions: some would have nothing to "
                "read; use as many partitions as consumers, or more"
            )
        return self

    @property
    def load_s(self) -> float:
        """How long producers send, the warm-up included."""
        return self.warm_up_s + self.duration_s

    def measured_from_ns(self, start_ns: int) -> int:
        """Records that were due before belong to the warm-up of a load that began at ``start_ns``."""
        return start_ns + int(self.warm_up_s * 1e9)

    def partitions_of(self, consumer: int) -> list[int]:
        """What one of the consumers reads."""
        return list(range(consumer, self.partitions, self.consumers))

    def with_field(self, option: str, text: str) -> Workload:
        """A copy with one field from the command line, for a sweep. Raises WorkloadError."""
        field = SWEEPABLE.get(option)
        if field is None:
            raise WorkloadError(
                f"--sweep knows {', '.join(SWEEPABLE)}, not {option!r}; write for example "
                "--sweep partitions=1,2,4,8"
            )
        try:
            value: float | None = float(text) if field == "rate" else int(text)
        except ValueError:
            if field == "rate" and text == "max":
                return msgspec.structs.replace(self, rate=None).check()
            raise WorkloadError(f"--sweep {option}: {text!r} is not a number") from None
        return msgspec.structs.replace(self, **{field: value}).check()


def swept(workload: Workload, sweep: str) -> list[tuple[str, Workload]]:
    """(``option=value``, workload) for each value of ``option=value,value``. Raises WorkloadError."""
    option, _, values = sweep.partition("=")
    found = [value for value in values.split(",") if value]
    if not found:
        raise WorkloadError(f"--sweep {sweep}: give the values, such as --sweep partitions=1,2,4,8")
    return [(f"{option}={value}", workload.with_field(option, value)) for value in found]


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

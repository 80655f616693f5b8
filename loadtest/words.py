"""Words: what client processes and the one that started them say to each other, a JSON line each."""

from __future__ import annotations

import msgspec


class Ready(msgspec.Struct, tag="ready"):
    """The client is connected and waits for its ``Go``."""


class Interval(msgspec.Struct, tag="interval", kw_only=True):
    """What a client did since its last word. ``histogram``: an encoded HdrHistogram in microseconds.

    ``last_ns``: when the last of ``records`` came, on the monotonic clock; 0 where none did.
    ``warm_up_records``: those that came beside ``records`` and do not count, because the warm-up sent them.
    """

    records: int
    warm_up_records: int = 0
    failed: int = 0
    out_of_order: int = 0
    histogram: bytes = b""
    last_ns: int = 0
    cpu_s: float = 0.0


class Finished(msgspec.Struct, tag="finished", kw_only=True):
    """The client's last word. ``sent``: records that a producer handed to its client library."""

    sent: int = 0


class Failed(msgspec.Struct, tag="failed", kw_only=True):
    """The client cannot go on."""

    reason: str


class Go(msgspec.Struct, tag="go", kw_only=True):
    """Begin at this nanosecond of the monotonic clock."""

    at_ns: int


class End(msgspec.Struct, tag="end"):
    """Everything is read: stop reading."""


FromClient = Ready | Interval | Finished | Failed
ToClient = Go | End
from_client_decoder = msgspec.json.Decoder(FromClient)
to_client_decoder = msgspec.json.Decoder(ToClient)

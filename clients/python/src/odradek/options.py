"""Options: what a user may set on a client, with its default, its bounds and its unit in one place.

Each options class checks itself when it is made, so that a wrong value is reported where it was written
and not at the first send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias, TypedDict

from odradek.protocol.batch import COMPRESSIONS
from odradek.protocol.errors import InvalidConfig, UnsupportedCompressionType
from odradek.protocol.messages import FETCH_BYTES_MAX, FRAME_BYTES_MAX
from odradek.security import Curve

BOOTSTRAP_DEFAULT: Final = "tcp://127.0.0.1:5559"
PORT_DEFAULT: Final = 5559
RECORD_BYTES_MAX: Final = FRAME_BYTES_MAX - 4096
"""A larger record would not fit one frame and would cost the connection."""
BATCH_BYTES_DEFAULT: Final = 1_000_000
"""Just under a topic's default ``max.message.bytes``: the largest unit of work that any topic takes."""
FETCH_BYTES_DEFAULT: Final = 4 << 20
"""A fetch has a price of its own in both processes; with batches of 1 MB it is shared by four of them."""
IN_FLIGHT_IDEMPOTENT_MAX: Final = 5
"""A partition remembers this many batches of a producer, so a retry further back would not be recognized."""

Acks: TypeAlias = Literal["all", 1, 0]
Compression: TypeAlias = Literal["none", "gzip", "snappy", "lz4", "zstd"]
OffsetReset: TypeAlias = Literal["earliest", "latest", "none"]
Bootstrap: TypeAlias = str | Iterable[str]

_ACKS: dict[object, Acks] = {"all": "all", -1: "all", "-1": "all", 1: 1, "1": 1, 0: 0, "0": 0}
_RESETS = ("earliest", "latest", "none")


def bootstrap_endpoints(bootstrap: Bootstrap) -> tuple[str, ...]:
    """ZeroMQ endpoints of "host", "host:port", "tcp://host:port", "ipc://path", commas between, or several.

    Raises InvalidConfig that names what cannot be read.
    """
    if not isinstance(bootstrap, str) and not isinstance(bootstrap, Iterable):
        raise InvalidConfig(f"bootstrap is 'host:port' or several of them, not {type(bootstrap).__name__}")
    parts = bootstrap.split(",") if isinstance(bootstrap, str) else list(bootstrap)
    endpoints = tuple(dict.fromkeys(_endpoint(part) for part in parts))
    if not endpoints:
        raise InvalidConfig("bootstrap is empty; give at least one 'host:port' of a router")
    return endpoints


def _endpoint(text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InvalidConfig(f"{text!r} is not an endpoint; write 'tcp://127.0.0.1:{PORT_DEFAULT}'")
    text = text.strip()
    if text.startswith("ipc://"):
        return text
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "tcp":
        raise InvalidConfig(f"{text!r}: {scheme}:// is unknown; write tcp://host:port or ipc://path")
    address = rest if separator else text
    host, colon, port = address.rpartition(":")
    if not colon:
        host, port = address, str(PORT_DEFAULT)
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise InvalidConfig(f"{text!r} is not host:port with a port of 1 to 65535")
    return f"tcp://{host}:{port}"


def _check_range(name: str, value: object, lowest: float, highest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise InvalidConfig(f"{name} is a number of {lowest:g} to {highest:g}, not {value!r}")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidConfig(f"{name} is True or False, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a client reaches the broker.

    Args:
        client_id: a name for the broker's logs and group descriptions.
        request_timeout_ms: how long one attempt of a request may take before its outcome is unknown.
        connect_timeout_ms: how long to wait for a connection before an attempt has failed.
        retry_backoff_ms: the wait before the first retry; it doubles, with jitter, up to
            ``retry_backoff_max_ms``.
        metadata_age_max_ms: after this, topics are looked up again even where nothing failed.
        direct: go straight to a partition's ipc endpoint where it is on this host.
        security: the keys for a broker that demands CURVE; None for those that the environment names
            (ODRADEK_CURVE_FILE, or ODRADEK_CURVE_SERVER_KEY, _PUBLIC_KEY and _SECRET_KEY), if any.
    """

    client_id: str | None = None
    request_timeout_ms: float = 10_000
    connect_timeout_ms: float = 3_000
    retry_backoff_ms: float = 20
    retry_backoff_max_ms: float = 1_000
    metadata_age_max_ms: float = 300_000
    direct: bool = True
    security: Curve | None = None

    def __post_init__(self) -> None:
        if self.security is not None and not isinstance(self.security, Curve):
            raise InvalidConfig(f"security is odradek.Curve or None, not {type(self.security).__name__}")
        if self.client_id is not None and not isinstance(self.client_id, str):
            raise InvalidConfig(f"client_id is a string or None, not {self.client_id!r}")
        for field in fields(self):
            if field.name.endswith("_ms"):
                _check_range(field.name, getattr(self, field.name), 1, 3_600_000)
        _check_flag("direct", self.direct)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerOptions:
    """How a producer gathers and sends; see Producer for the meaning of each."""

    acks: Acks = "all"
    compression: Compression = "none"
    linger_ms: float = 0
    batch_bytes_max: int = BATCH_BYTES_DEFAULT
    buffer_bytes_max: int = 64 << 20
    delivery_timeout_ms: float = 120_000
    block_ms_max: float = 60_000
    in_flight_max: int = IN_FLIGHT_IDEMPOTENT_MAX
    idempotent: bool = True
    create_topics: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.acks, bool) or self.acks not in _ACKS:
            raise InvalidConfig(f"acks is 'all', 1 or 0, not {self.acks!r}")
        object.__setattr__(self, "acks", _ACKS[self.acks])
        if self.compression not in COMPRESSIONS:
            known = ", ".join(COMPRESSIONS)
            raise UnsupportedCompressionType(f"compression {self.compression!r} is unknown; known: {known}")
        _check_range("linger_ms", self.linger_ms, 0, 60_000)
        _check_range("batch_bytes_max", self.batch_bytes_max, 1, RECORD_BYTES_MAX)
        _check_range("buffer_bytes_max", self.buffer_bytes_max, 4096, 1 << 40)
        _check_range("delivery_timeout_ms", self.delivery_timeout_ms, 1, 86_400_000)
        _check_range("block_ms_max", self.block_ms_max, 0, 3_600_000)
        _check_flag("idempotent", self.idempotent)
        _check_flag("create_topics", self.create_topics)
        _check_range("in_flight_max", self.in_flight_max, 1, IN_FLIGHT_IDEMPOTENT_MAX)
        # Without sequences a retry could overtake, so only one batch at a time keeps the order.
        if not self.deduplicated and self.acks != 0:
            object.__setattr__(self, "in_flight_max", 1)

    @property
    def deduplicated(self) -> bool:
        """Whether batches carry a producer id; without replies there is nothing to retry."""
        return self.idempotent and self.acks != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerOptions:
    """How a consumer fetches, commits and stays in its group; see Consumer for the meaning of each."""

    auto_offset_reset: OffsetReset = "earliest"
    enable_auto_commit: bool = True
    auto_commit_interval_ms: float = 5_000
    poll_interval_ms_max: float = 300_000
    fetch_bytes_max: int = FETCH_BYTES_DEFAULT
    fetch_wait_ms_max: float = 500
    prefetch_bytes_max: int = 16 << 20
    check_crcs: bool = True
    instance_id: str | None = None
    assignor: str | None = None
    idle_timeout_s: float | None = None

    def __post_init__(self) -> None:
        if self.auto_offset_reset not in _RESETS:
            raise InvalidConfig(
                f"auto_offset_reset is 'earliest', 'latest' or 'none', not {self.auto_offset_reset!r}"
            )
        _check_flag("enable_auto_commit", self.enable_auto_commit)
        _check_flag("check_crcs", self.check_crcs)
        _check_range("auto_commit_interval_ms", self.auto_commit_interval_ms, 1, 3_600_000)
        _check_range("poll_interval_ms_max", self.poll_interval_ms_max, 1, 3_600_000)
        _check_range("fetch_bytes_max", self.fetch_bytes_max, 1, FETCH_BYTES_MAX)
        _check_range("fetch_wait_ms_max", self.fetch_wait_ms_max, 0, 300_000)
        _check_range("prefetch_bytes_max", self.prefetch_bytes_max, 1, 1 << 40)
        if self.idle_timeout_s is not None:
            _check_range("idle_timeout_s", self.idle_timeout_s, 0, 86_400)


class SessionKeywords(TypedDict, total=False):
    """SessionOptions, as keyword arguments of a client that passes them on."""

    client_id: str | None
    request_timeout_ms: float
    connect_timeout_ms: float
    retry_backoff_ms: float
    retry_backoff_max_ms: float
    metadata_age_max_ms: float
    direct: bool
    security: Curve | None


class ProducerKeywords(SessionKeywords, total=False):
    """What Producer takes besides its bootstrap."""

    acks: Acks
    compression: Compression
    linger_ms: float
    batch_bytes_max: int
    buffer_bytes_max: int
    delivery_timeout_ms: float
    block_ms_max: float
    in_flight_max: int
    idempotent: bool
    create_topics: bool


class ConsumerKeywords(SessionKeywords, total=False):
    """What Consumer takes besides its bootstrap."""

    group: str | None
    topics: Iterable[str] | None
    topics_pattern: str | None
    on_assigned: Callable[[list[Any]], object] | None
    on_revoked: Callable[[list[Any]], object] | None
    on_lost: Callable[[list[Any]], object] | None
    auto_offset_reset: OffsetReset
    enable_auto_commit: bool
    auto_commit_interval_ms: float
    poll_interval_ms_max: float
    fetch_bytes_max: int
    fetch_wait_ms_max: float
    prefetch_bytes_max: int
    check_crcs: bool
    instance_id: str | None
    assignor: str | None
    idle_timeout_s: float | None

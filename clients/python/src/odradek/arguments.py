"""Arguments: what a user gives for a record, made into what goes over the wire, or refused with a hint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from odradek.batches import NO_HEADERS
from odradek.protocol.messages import INT64_MAX

Data: TypeAlias = bytes | bytearray | memoryview | str
Headers: TypeAlias = Mapping[str, Data | None] | Iterable[tuple[str, Data | None]]

RECORD_OVERHEAD_BYTES: Final = 128


def as_bytes(data: Data | None, what: str) -> bytes | None:
    """A copy of a value or key as bytes. Raises TypeError that names ``what`` and says what to do."""
    if data is None or type(data) is bytes:
        return data
    if isinstance(data, str):
        return data.encode()
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(
            f"{what} is bytes, str or None, not {type(data).__name__}; encode it first, as JSON perhaps"
        ) from None


def as_headers(headers: Headers | None) -> list[tuple[str, bytes | None]]:
    """(name, value) pairs. Raises TypeError for what cannot be made into them."""
    if headers is None:
        return NO_HEADERS
    if isinstance(headers, str | bytes):
        raise TypeError("headers are (name, value) pairs or a mapping, not one string")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    checked: list[tuple[str, bytes | None]] = []
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"a header is a (name, value) pair, not {pair!r:.80}")
        name, value = pair
        if not isinstance(name, str):
            raise TypeError(f"the name of a header is a str, not {type(name).__name__}")
        checked.append((name, as_bytes(value, f"header {name!r}")))
    return checked


def check_timestamp(timestamp: object) -> None:
    """Raises TypeError or ValueError for what is not whole milliseconds since 1970."""
    if isinstance(timestamp, bool) or not isinstance(timestamp, int):
        raise TypeError(f"timestamp is whole milliseconds since 1970, not {type(timestamp).__name__}")
    if not 0 <= timestamp <= INT64_MAX:
        raise ValueError(f"timestamp is 0 to {INT64_MAX} milliseconds since 1970, not {timestamp}")


def record_bytes_max(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> int:
    """At most this many bytes in a batch."""
    size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
    for name, data in headers:
        size += 4 * len(name) + len(data or b"") + 10
    return size

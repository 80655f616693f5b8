"""A start: from where `consume` reads, as people say it, and which offset that is in a partition."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OFFSET = re.compile(r"-?\d{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Start:
    """A place: the log's beginning or end, an offset, so many records before the end, or a time.

    `number` is the offset, the count of records, or milliseconds since 1970.
    """

    kind: Literal["beginning", "end", "offset", "last", "time"]
    number: int = 0


BEGINNING = Start("beginning")
END = Start("end")


def read_offset(text: str) -> Start:
    """The start in --offset. Raises ValueError that says what is allowed."""
    if text in ("beginning", "earliest"):
        return BEGINNING
    if text in ("end", "latest"):
        return END
    if _OFFSET.fullmatch(text):
        number = int(text)
        return Start("last", -number) if text.startswith("-") else Start("offset", number)
    raise ValueError(f"{text!r} is not an offset: a number, -N for the last N, beginning or end")


def read_since(text: str, now_ms: int) -> Start:
    """The start in --since: a time in UTC unless it says otherwise, or how long ago. Raises ValueError."""
    ago = _DURATION.fullmatch(text)
    if ago is not None:
        return Start("time", max(0, now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1000))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time such as 2024-05-31T12:00 or 15m, 2h, 7d") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Start("time", max(0, int(moment.timestamp() * 1000)))


def first_offset(start: Start, start_offset: int, end_offset: int) -> int:
    """The offset of a start that needs no look into the log, kept within the log's ends."""
    match start.kind:
        case "beginning":
            return start_offset
        case "offset":
            return min(max(start.number, start_offset), end_offset)
        case "last":
            return max(end_offset - start.number, start_offset)
        case "end" | "time":
            return end_offset

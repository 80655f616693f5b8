"""Output: tables for people, JSON for programs, one clear line on stderr for what went wrong.

On a terminal a table has colours and folds its cells to the width; anywhere else it is aligned plain text
that keeps every cell whole, so that `grep` and `awk` see what people see.
"""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

TERMINAL_WIDTH_MAX = 120
GAP_WIDTH = 2
FOLDED_WIDTH_MIN = 8
"""Of a column that is no number."""
_CONTROL_CHARACTERS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title and on which side its cells stand."""

    title: str
    justify: Literal["left", "right"] = "left"


def say(message: str) -> None:
    """One line for people on stderr; stdout is for data."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """Data for stdout."""
    sys.stdout.write(text)


def print_json(document: Any) -> None:
    """One JSON document on stdout: indented on a terminal, on one line elsewhere."""
    encoded = msgspec.json.encode(document)
    if sys.stdout.isatty():
        encoded = msgspec.json.format(encoded, indent=2)
    write(encoded.decode() + "\n")


def printable(text: str) -> str:
    """The text with control characters spelled out, so that no record or name can steer a terminal."""
    return text.translate(_CONTROL_CHARACTERS)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Rows of cells under their titles, on stdout."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells, title)
    else:
        _print_plain(columns, cells, title)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one pair a line, the values aligned."""
    found = [(name, printable(value)) for name, value in pairs]
    width = max((len(name) for name, _ in found), default=0)
    for name, value in found:
        write(f"{name:<{width}}  {value}".rstrip() + "\n")


def _print_plain(columns: Sequence[Column], rows: list[list[str]], title: str) -> None:
    lines = [[column.title for column in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    if title:
        write(f"{title}\n")
    for line in lines:
        cells = (
            cell.rjust(width) if column.justify == "right" else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        write("  ".join(cells).rstrip() + "\n")


def _print_rich(columns: Sequence[Column], rows: list[list[str]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if _narrowest(columns, rows) > min(console.width, TERMINAL_WIDTH_MAX):
        _print_plain(columns, rows, title)  # the terminal folds its lines; a table would leave names out
        return
    table = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False
    )
    for column in columns:
        is_number = column.justify == "right"  # never folded: half a number reads as another number
        table.add_column(column.title, justify=column.justify, overflow="fold", no_wrap=is_number)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table, width=min(console.width, TERMINAL_WIDTH_MAX))


def _narrowest(columns: Sequence[Column], rows: list[list[str]]) -> int:
    """What a table takes at least: numbers whole, other cells folded."""
    total = 0
    for index, column in enumerate(columns):
        width = max(len(line[index]) for line in [[column.title for column in columns], *rows])
        total += GAP_WIDTH + (width if column.justify == "right" else min(width, FOLDED_WIDTH_MIN))
    return total


def human_bytes(size_bytes: int | None) -> str:
    """12.3 MB; powers of 1000; "-" where unknown."""
    if size_bytes is None:
        return "-"
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def human_duration(duration_s: float) -> str:
    """4.2s, 3m07s, 5h12m, 9d04h."""
    if duration_s < 60:
        return f"{duration_s:.1f}s"
    minutes, seconds = divmod(int(duration_s), 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02}h"


def human_timestamp(timestamp_ms: int | None) -> str:
    """A time of day in UTC, as ISO 8601; "-" where there is none or no calendar has it."""
    if timestamp_ms is None or timestamp_ms < 0:
        return "-"
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(timestamp_ms)

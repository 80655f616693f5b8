"""Starts: what people write after --offset and --since, and the offset that it means."""

from __future__ import annotations

import pytest

from odradek.cli.positions import BEGINNING, END, Start, first_offset, read_offset, read_since

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("0", Start("offset", 0)),
        ("17", Start("offset", 17)),
        ("-10", Start("last", 10)),
        ("beginning", BEGINNING),
        ("earliest", BEGINNING),
        ("end", END),
        ("latest", END),
    ],
)
def test_offsets(text: str, start: Start) -> None:
    assert read_offset(text) == start


@pytest.mark.parametrize("text", ["", "x", "1.5", "--1", "9" * 30, "\u0661"])
def test_what_is_no_offset_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="-N for the last N"):
        read_offset(text)


@pytest.mark.parametrize(
    ("text", "timestamp_ms"),
    [
        ("90s", NOW_MS - 90_000),
        ("15m", NOW_MS - 900_000),
        ("2h", NOW_MS - 7_200_000),
        ("99999d", 0),
        ("2023-11-14T22:13:20", NOW_MS),
        ("2023-11-14T23:13:20+01:00", NOW_MS),
        ("1969-01-01", 0),
    ],
)
def test_times(text: str, timestamp_ms: int) -> None:
    assert read_since(text, NOW_MS) == Start("time", timestamp_ms)


@pytest.mark.parametrize("text", ["", "yesterday", "15", "2023-13-01"])
def test_what_is_no_time_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="15m"):
        read_since(text, NOW_MS)


@pytest.mark.parametrize(
    ("start", "offset"),
    [
        (BEGINNING, 10),
        (END, 100),
        (Start("offset", 50), 50),
        (Start("offset", 3), 10),
        (Start("offset", 1000), 100),
        (Start("last", 5), 95),
        (Start("last", 5000), 10),
    ],
)
def test_a_start_stays_within_the_log(start: Start, offset: int) -> None:
    assert first_offset(start, 10, 100) == offset

"""Lines: what `consume --json` writes, `produce --json` reads; plain lines keep bytes whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek.cli.lines import LineError, ReadOptions, WriteOptions

BYTES = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode))
HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | BYTES), max_size=3)


@given(key=st.none() | BYTES, value=st.none() | BYTES, headers=HEADERS, timestamp=st.integers(0, 2**53))
def test_a_json_line_is_read_back_byte_for_byte(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], timestamp: int
) -> None:
    line = WriteOptions(json=True).write("events", 3, 17, timestamp, key, value, headers)

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    record = ReadOptions(json=True).read(line[:-1])
    assert (record.key, record.value, list(record.headers), record.timestamp) == (
        key,
        value,
        headers,
        timestamp,
    )


def test_a_json_line_shows_text_as_text_and_other_bytes_as_base64() -> None:
    line = WriteOptions(json=True).write("events", 0, 5, 9, b"k\xc3\xa9", b"\xff\x00", [("a", None)])

    assert json.loads(line) == {
        "topic": "events",
        "partition": 0,
        "offset": 5,
        "timestamp": 9,
        "key": "ké",
        "value": {"base64": "/wA="},
        "headers": [["a", None]],
    }


@given(key=BYTES.filter(lambda key: b"::" not in key and not key.endswith(b":")), value=BYTES)
def test_a_key_ends_at_the_first_separator(key: bytes, value: bytes) -> None:
    record = ReadOptions(key_separator=b"::").read(key + b"::" + value)

    assert (record.key, record.value) == (key, value)


def test_a_line_without_the_separator_is_refused_and_shown() -> None:
    with pytest.raises(LineError, match="'hello' has no separator ':'"):
        ReadOptions(key_separator=b":").read(b"hello")


def test_the_null_marker_makes_tombstones() -> None:
    record = ReadOptions(key_separator=b":", null_marker=b"NULL").read(b"user:NULL")

    assert (record.key, record.value) == (b"user", None)
    assert ReadOptions(null_marker=b"NULL").read(b"NULL").value is None
    assert ReadOptions().read(b"NULL").value == b"NULL"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "not a JSON record"),
        (b"[]", "not a JSON record"),
        (b'{"key": "a"}', "has no value"),
        (b'{"value": 7}', "not a JSON record"),
        (b'{"value": {"base64": "%"}}', "not a JSON record"),
        (b'{"value": "a", "timestamp": -1}', "not a JSON record"),
    ],
)
def test_a_json_line_that_is_no_record_says_why(line: bytes, complaint: str) -> None:
    with pytest.raises(LineError, match=complaint):
        ReadOptions(json=True).read(line)


def test_headers_of_the_command_join_those_of_the_record() -> None:
    options = ReadOptions(json=True, headers=[("source", b"cli")])

    record = options.read(b'{"value": "v", "headers": [["a", "1"]]}')

    assert list(record.headers) == [("a", b"1"), ("source", b"cli")]


def test_a_plain_line_shows_what_was_asked_in_a_fixed_order() -> None:
    options = WriteOptions(
        show_key=True,
        show_partition=True,
        show_offset=True,
        show_timestamp=True,
        show_headers=True,
        key_separator="|",
    )

    line = options.write("t", 2, 40, 1_700_000_000_123, b"k", b"v", [("a", b"1"), ("b", None)])

    assert line == b"2023-11-14T22:13:20.123+00:00|2|40|a=1,b=null|k|v\n"


def test_piped_bytes_stay_as_they_are_and_a_terminal_gets_nothing_that_steers_it() -> None:
    hostile = b"\x1b[2Jhi\nthere"

    assert WriteOptions().write("t", 0, 0, 0, None, hostile, []) == hostile + b"\n"
    assert WriteOptions(terminal=True).write("t", 0, 0, 0, None, hostile, []) == b"\\x1b[2Jhi\\x0athere\n"
    assert WriteOptions(terminal=True).write("t", 0, 0, 0, None, b"\xff", []) == b"base64:/w==\n"

"""Batches that are written many records at a time: byte for byte what the compiled codec makes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek.protocol import bulk
from odradek.protocol.batch import COMPRESSIONS, HEADER_BYTES, check_batch
from odradek.protocol.bulk import BLOCK_RECORDS_MAX, BULK_RECORDS_MAX, BulkBuilder, varint
from odradek.protocol.records import decode_batch, new_builder

NOW_MS = 1_700_000_000_000
BYTES_MAX = 1 << 20

lengths = st.one_of(st.sampled_from([0, 1, 62, 63, 64, 65, 1_000, 8_191, 8_192]), st.integers(0, 300))
counts = st.one_of(st.sampled_from([1, 63, 64, 65, BLOCK_RECORDS_MAX, 2_000]), st.integers(1, 200))


@st.composite
def runs(draw: st.DrawFn) -> list[bytes]:
    """Some values: of one length, or of various."""
    count = draw(counts)
    if draw(st.booleans()):
        sizes = draw(st.lists(lengths, min_size=1, max_size=20))
        return [index.to_bytes(4, "big") + bytes(sizes[index % len(sizes)]) for index in range(count)]
    length = draw(lengths)
    return [index.to_bytes(4, "big") + bytes(length) for index in range(count)]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("run"), runs(), st.integers(-2_000, 100_000)),
        st.tuples(
            st.just("one"),
            st.tuples(
                st.none() | st.binary(max_size=70),
                st.none() | st.binary(max_size=70),
                st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2),
            ),
            st.integers(-2_000, 100_000),
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(
    steps=steps,
    bytes_max=st.sampled_from([64, 200, 5_000, 65_536, BYTES_MAX]),
    codec=st.sampled_from(COMPRESSIONS),
)
def test_a_batch_has_the_bytes_that_the_compiled_codec_gives_it(
    steps: list[Any], bytes_max: int, codec: str
) -> None:
    theirs = new_builder(bytes_max, compression=codec)
    ours = BulkBuilder(bytes_max, compression=codec)
    index = 0
    for kind, what, delta_ms in steps:
        records = [(None, value, []) for value in what] if kind == "run" else [what]
        taken = 0
        for record in records:
            if theirs.append(index + taken, NOW_MS + delta_ms, *record) is None:
                break
            taken += 1
        if kind == "run":
            assert ours.extend(index, NOW_MS + delta_ms, what, 0) == taken
        else:
            place = ours.append(index, NOW_MS + delta_ms, *what)
            assert place == ((index, NOW_MS + delta_ms) if taken else None)
        index += taken
        assert ours.size() == theirs.size()
        if taken < len(records):
            break
    for builder in (theirs, ours):
        builder.set_producer_state(4_000, 3, 2**31 - 5)
    assert bytes(ours.build()) == bytes(theirs.build())


def test_offset_deltas_of_every_width_are_right() -> None:
    for make in (lambda index: b"%06d" % index, lambda index: b"%06d" % index + b"x" * (index % 3)):
        values = [make(index) for index in range(20_000)]
        builder = BulkBuilder(BYTES_MAX)
        taken = 0
        for start in range(0, len(values), 777):
            taken += builder.extend(taken, NOW_MS, values[start : start + 777], 0)
        assert taken == len(values)
        batch = bytes(builder.build())
        assert check_batch(batch).record_count == len(values)
        found = [(record.offset, record.value) for record in decode_batch(batch)]
        assert found == list(enumerate(values))


def test_it_takes_values_from_the_position_on() -> None:
    builder = BulkBuilder(BYTES_MAX)
    assert builder.extend(0, NOW_MS, [b"a", b"b", b"c"], 1) == 2
    assert [record.value for record in decode_batch(bytes(builder.build()))] == [b"b", b"c"]


@pytest.mark.parametrize("wrong", ["text", 5, 5.0, [b"x"], object()])
def test_it_ends_before_a_value_that_is_no_buffer(wrong: Any) -> None:
    builder = BulkBuilder(BYTES_MAX)
    values = [b"a", bytearray(b"b"), memoryview(b"c"), None, wrong, b"d"]
    assert builder.extend(0, NOW_MS, values, 0) == 4
    with pytest.raises(TypeError):
        builder.append(4, NOW_MS, None, wrong, [])
    assert [record.value for record in decode_batch(bytes(builder.build()))] == [b"a", b"b", b"c", None]


def test_what_was_taken_is_a_copy() -> None:
    builder = BulkBuilder(BYTES_MAX)
    value = bytearray(b"before")
    assert builder.extend(0, NOW_MS, [value], 0) == 1
    value[:] = b"behind"
    assert [record.value for record in decode_batch(bytes(builder.build()))] == [b"before"]


@pytest.mark.parametrize("take", ["append", "extend"])
def test_a_batch_has_a_bound_of_records_however_small_they_are(take: str) -> None:
    builder = BulkBuilder(1 << 30)
    values = [b""] * (BULK_RECORDS_MAX + 1)
    assert builder.extend(0, NOW_MS, values, 0) == BULK_RECORDS_MAX
    last = {
        "append": lambda: builder.append(BULK_RECORDS_MAX, NOW_MS, None, b"", []) is None,
        "extend": lambda: builder.extend(BULK_RECORDS_MAX, NOW_MS, [b""], 0) == 0,
    }
    assert last[take]()
    assert check_batch(bytes(builder.build())).record_count == BULK_RECORDS_MAX


def test_the_first_record_is_taken_however_large() -> None:
    for fill in (_by_one, _by_many):
        builder = BulkBuilder(100)
        assert fill(builder, bytes(5_000))
        assert builder.size() > HEADER_BYTES + 5_000
        assert builder.extend(1, NOW_MS, [b""], 0) == 0


def _by_one(builder: BulkBuilder, value: bytes) -> bool:
    return builder.append(0, NOW_MS, None, value, []) is not None


def _by_many(builder: BulkBuilder, value: bytes) -> bool:
    return builder.extend(0, NOW_MS, [value, b"next"], 0) == 1


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, b"\0"),
        (-1, b"\x01"),
        (1, b"\x02"),
        (63, b"\x7e"),
        (-64, b"\x7f"),
        (64, b"\x80\x01"),
        (-65, b"\x81\x01"),
    ],
)
def test_a_varint_is_zigzag(number: int, encoded: bytes) -> None:
    assert varint(number) == encoded


def test_many_lengths_do_not_fill_the_memory() -> None:
    builder = BulkBuilder(1 << 30)
    values = [bytes(length) for length in range(0, 3 * bulk.LENGTHS_MAX, 2)]
    assert builder.extend(0, NOW_MS, values, 0) == len(values)
    assert len(bulk._LENGTHS) <= bulk.LENGTHS_MAX
    assert [len(record.value or b"") for record in decode_batch(bytes(builder.build()))] == list(
        map(len, values)
    )

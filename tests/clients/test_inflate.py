"""Compressed batches opened within a bound."""

from __future__ import annotations

import gzip
import struct

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek.protocol.batch import COMPRESSIONS, HEADER_BYTES
from odradek.protocol.errors import CorruptMessage, MessageTooLarge, OdradekError, UnsupportedCompressionType
from odradek.protocol.inflate import XERIAL_MAGIC, inflate_batch
from odradek.protocol.records import RecordToWrite, decode_batch, encode_batch

CODECS = COMPRESSIONS[1:]
RECORDS = [RecordToWrite(1_700_000_000_000 + n, b"key", bytes(1_000), [("h", b"v")]) for n in range(200)]


def with_records(codec: str, data: bytes) -> bytes:
    """A batch whose header says ``codec`` and whose records are ``data``."""
    head = bytearray(encode_batch(RECORDS[:1], compression=codec)[:HEADER_BYTES])
    struct.pack_into(">i", head, 8, HEADER_BYTES + len(data) - 12)
    return bytes(head) + data


@pytest.mark.parametrize("codec", COMPRESSIONS)
def test_every_codec_comes_out_as_it_went_in(codec: str) -> None:
    decoded = list(decode_batch(encode_batch(RECORDS, compression=codec)))
    assert [record.value for record in decoded] == [record.value for record in RECORDS]
    assert decoded[7][1:] == (RECORDS[7].timestamp, b"key", bytes(1_000), [("h", b"v")])


@pytest.mark.parametrize("codec", CODECS)
def test_the_bound_is_exact(codec: str) -> None:
    batch = encode_batch(RECORDS, compression=codec)
    plain = inflate_batch(batch)
    records_bytes = len(plain) - HEADER_BYTES
    assert inflate_batch(batch, records_bytes) == plain
    with pytest.raises(MessageTooLarge, match=f"more than {records_bytes - 1} bytes"):
        inflate_batch(batch, records_bytes - 1)


BOMBS = {
    "gzip": gzip.compress(bytes(80 << 20)),
    "zstd": bytes(cramjam.zstd.compress(bytes(80 << 20))),
    "lz4": bytes(cramjam.lz4.compress(bytes(80 << 20))),
    "snappy": bytes(cramjam.snappy.compress_raw(bytes(80 << 20))),
}


@pytest.mark.parametrize("codec", BOMBS)
def test_a_bomb_is_refused(codec: str) -> None:
    with pytest.raises(MessageTooLarge, match="read it with format 'batch'"):
        list(decode_batch(with_records(codec, BOMBS[codec])))


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=200))
def test_garbage_is_an_error_of_ours(codec: str, data: bytes) -> None:
    with pytest.raises(OdradekError):
        list(decode_batch(with_records(codec, b"\xff" + data)))


def test_a_snappy_block_that_lies_about_its_length() -> None:
    for length in (-1, 1_000, 2**31 - 1):
        data = XERIAL_MAGIC + bytes(8) + struct.pack(">i", length) + b"abc"
        with pytest.raises(CorruptMessage, match="cannot be inflated"):
            inflate_batch(with_records("snappy", data))


def test_an_unknown_codec() -> None:
    batch = bytearray(encode_batch(RECORDS[:1]))
    batch[22] |= 7
    with pytest.raises(UnsupportedCompressionType):
        list(decode_batch(bytes(batch)))

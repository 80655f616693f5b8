"""The records of a batch, compressed as its attributes say."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode

_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip_encode,
    "snappy": snappy_encode,
    "lz4": lz4_encode,
    "zstd": zstd_encode,
}


def deflate(records: bytes, compression: str) -> bytes:
    """The records of one batch in a codec of ``COMPRESSIONS``."""
    return _COMPRESSORS[compression](records)

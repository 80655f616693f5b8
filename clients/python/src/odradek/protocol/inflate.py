"""Compressed batches opened within a bound: a megabyte may claim to hold gigabytes.

The codecs write into a buffer of the greatest size allowed and fail where it is full. The buffer is
anonymous memory, which costs only the pages that are written.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable

import cramjam

from odradek.protocol.batch import COMPRESSION_MASK, COMPRESSIONS, HEADER_BYTES, Buffer, read_header
from odradek.protocol.errors import CorruptMessage, MessageTooLarge, UnsupportedCompressionType

INFLATED_BYTES_MAX = 64 << 20

ATTRIBUTES_POSITION = 21
_ATTRIBUTES = struct.Struct(">H")

XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = 16
"""Magic and two versions; then blocks, each behind its length as a big-endian i32."""
_XERIAL_BLOCK = struct.Struct(">i")


def inflate_batch(batch: Buffer, inflated_bytes_max: int = INFLATED_BYTES_MAX) -> bytes:
    """The same batch with its records as they are without compression; its checksum no longer fits.

    Raises MessageTooLarge where they are larger than ``inflated_bytes_max``, CorruptMessage where they
    are not what the attributes say, UnsupportedCompressionType for an unknown codec.
    """
    header = read_header(batch)
    if not header.compression:
        return bytes(batch)
    inflate = _INFLATERS.get(header.compression)
    if inflate is None:
        raise UnsupportedCompressionType(f"compression {header.compression} of a batch is unknown")
    with mmap.mmap(-1, inflated_bytes_max) as room:
        try:
            size_bytes = inflate(bytes(memoryview(batch)[HEADER_BYTES:]), room)
        except (cramjam.DecompressionError, struct.error, ValueError) as error:
            raise _why(error, COMPRESSIONS[header.compression], inflated_bytes_max) from error
        records = room[:size_bytes]
    head = bytearray(memoryview(batch)[:HEADER_BYTES])
    attributes = header.attributes & 0xFFFF & ~COMPRESSION_MASK
    _ATTRIBUTES.pack_into(head, ATTRIBUTES_POSITION, attributes)
    return bytes(head) + records


def _why(error: Exception, codec: str, inflated_bytes_max: int) -> CorruptMessage | MessageTooLarge:
    if "buffer" in str(error):
        return MessageTooLarge(
            f"the records of a {codec} batch have more than {inflated_bytes_max} bytes when inflated; "
            "read it with format 'batch' and inflate it yourself"
        )
    return CorruptMessage(f"the records of a {codec} batch cannot be inflated: {error}")


def _inflate_snappy(data: bytes, room: mmap.mmap) -> int:
    if not data.startswith(XERIAL_MAGIC):
        return int(cramjam.snappy.decompress_raw_into(data, room))
    position, filled = XERIAL_HEADER_BYTES, 0
    with memoryview(room) as view:
        while position < len(data):
            (block_bytes,) = _XERIAL_BLOCK.unpack_from(data, position)
            position += _XERIAL_BLOCK.size
            if not 0 <= block_bytes <= len(data) - position:
                raise ValueError(f"a block of {block_bytes} bytes with {len(data) - position} left")
            block = data[position : position + block_bytes]
            with view[filled:] as rest:
                filled += int(cramjam.snappy.decompress_raw_into(block, rest))
            position += block_bytes
    return filled


_INFLATERS: dict[int, Callable[[bytes, mmap.mmap], int]] = {
    COMPRESSIONS.index("gzip"): cramjam.gzip.decompress_into,
    COMPRESSIONS.index("snappy"): _inflate_snappy,
    COMPRESSIONS.index("lz4"): cramjam.lz4.decompress_into,
    COMPRESSIONS.index("zstd"): cramjam.zstd.decompress_into,
}

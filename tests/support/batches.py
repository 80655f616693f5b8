"""Record batches for tests, built by hand from struct and CRC-32C: they check the product's codec too."""

from __future__ import annotations

import struct

import crc32c

from odradek.protocol.batch import BatchHeader, check_batch

_SIGNED = struct.Struct(">hiqqqhii")


def make_batch(
    count: int = 1,
    *,
    payload: bytes = b"value",
    timestamp: int = 1_700_000_000_000,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytes:
    """One batch of ``count`` records; the records' bytes are just ``payload``, which no broker decodes."""
    signed = (
        _SIGNED.pack(0, count - 1, timestamp, timestamp, producer_id, producer_epoch, base_sequence, count)
        + payload
    )
    front = struct.pack(">qiib", base_offset, 9 + len(signed), leader_epoch, 2)
    return front + struct.pack(">I", crc32c.crc32c(signed)) + signed


def idempotent(
    producer_id: int, sequence: int, count: int = 1, *, epoch: int = 0, payload: bytes = b"v"
) -> bytes:
    return make_batch(
        count, payload=payload, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence
    )


def checked(batch: bytes) -> tuple[bytes, BatchHeader]:
    return batch, check_batch(batch)

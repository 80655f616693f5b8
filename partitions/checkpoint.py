"""The checkpoint: what recovery need not find out again.

A file of this project's own: CRC-32C (4 bytes, big-endian) of the rest, which is MessagePack. It is
written whole and replaced atomically, and every position in it was durable before it was written. A
missing, damaged or foreign checkpoint means that the whole log is read once, with the same result.
"""

from __future__ import annotations

import struct
from pathlib import Path

import crc32c
import msgspec

from partitions.files import Files, read_file, replace_file
from partitions.producers import ProducerState

FILE_NAME = "odradek-checkpoint"
START_FILE_NAME = "log-start-offset"
VERSION = 1
_CRC = struct.Struct(">I")


class SegmentEntry(msgspec.Struct, frozen=True, array_like=True):
    """A segment as far as it was durable: sizes in bytes, offsets, times in ms.

    ``max_timestamp`` stands in the batch from ``max_base_offset`` to ``max_last_offset`` (-1: no batch).
    """

    base_offset: int
    size: int
    next_offset: int
    max_timestamp: int
    max_base_offset: int
    max_last_offset: int
    created_ms: int


class DamageEntry(msgspec.Struct, frozen=True, array_like=True):
    """See partitions.scan.Damage."""

    first: int
    last: int
    segment: int
    position: int
    end_position: int


class Checkpoint(msgspec.Struct, frozen=True):
    """The log up to a durable point. The last of ``segments`` was the active one.

    All below ``cleaned_offset`` went through compaction.
    """

    version: int
    owner: str
    leader_epoch: int
    start_offset: int
    epochs: list[tuple[int, int]]
    segments: list[SegmentEntry]
    damages: list[DamageEntry]
    producers: list[tuple[int, ProducerState]]
    cleaned_offset: int = 0


_encoder = msgspec.msgpack.Encoder()
_checkpoints = msgspec.msgpack.Decoder(Checkpoint)
_starts = msgspec.msgpack.Decoder(int)


def save_checkpoint(files: Files, directory: Path, checkpoint: Checkpoint) -> None:
    """Durably replaces the checkpoint. Raises OSError."""
    _save(files, directory / FILE_NAME, _encoder.encode(checkpoint))


def load_checkpoint(files: Files, directory: Path, owner: str) -> Checkpoint | None:
    """The checkpoint of this log; None where there is no sound one."""
    content = _load(files, directory / FILE_NAME)
    if content is None:
        return None
    try:
        checkpoint = _checkpoints.decode(content)
    except msgspec.MsgspecError:
        return None
    if checkpoint.version != VERSION or checkpoint.owner != owner or not checkpoint.segments:
        return None
    return checkpoint


def save_start_offset(files: Files, directory: Path, offset: int) -> None:
    """Durably stores the first offset that the log keeps. Raises OSError."""
    _save(files, directory / START_FILE_NAME, _encoder.encode(offset))


def load_start_offset(files: Files, directory: Path) -> int | None:
    content = _load(files, directory / START_FILE_NAME)
    if content is None:
        return None
    try:
        return _starts.decode(content)
    except msgspec.MsgspecError:
        return None


def _save(files: Files, path: Path, content: bytes) -> None:
    replace_file(files, path, _CRC.pack(crc32c.crc32c(content)) + content)


def _load(files: Files, path: Path) -> bytes | None:
    content = read_file(files, path)
    if content is None or len(content) < _CRC.size:
        return None
    body = content[_CRC.size :]
    return body if _CRC.unpack_from(content)[0] == crc32c.crc32c(body) else None

"""The witness: how far the log was durable, written down after every sync.

The checkpoint says the same, but only now and then. A record of fixed size, big-endian, over and over at
the start of one file of this project's own::

    byte 0       4         8        12        20         28       36       40
         | magic | owner's | leader | segment | position | offset | CRC   |
         | i32   | CRC u32 | epoch  | base    | i64      | i64    | 32C   |
         |       |         | i32    | i64     |          |        | u32   |

It is written after the sync that it tells of and is never synced itself. So it is exact after the
process was killed; after a power cut it may be older than the truth, or gone, but never ahead of it.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import crc32c

from partitions.files import Files, read_file

FILE_NAME = "durable-position"
MAGIC = 0x4F445750
RECORD = struct.Struct(">iIiqqq")
CRC = struct.Struct(">I")
RECORD_BYTES = RECORD.size + CRC.size


class DurablePosition(NamedTuple):
    """All batches below ``offset`` were durable; they end at ``position`` of the segment at ``segment``."""

    segment: int
    position: int
    offset: int


class Witness:
    """The file, open for writing. ``owner`` is whose log it speaks of, ``leader_epoch`` in which session."""

    def __init__(self, files: Files, directory: Path, owner: str, leader_epoch: int) -> None:
        """Raises OSError where the file cannot be opened."""
        self._files = files
        self._owner = owner_number(owner)
        self._leader_epoch = leader_epoch
        self._descriptor = files.open(directory / FILE_NAME, create=True)

    def write(self, segment: int, position: int, offset: int) -> None:
        """Tells of one more sync. Where the disk refuses, the older word stands: recovery trusts less."""
        record = RECORD.pack(MAGIC, self._owner, self._leader_epoch, segment, position, offset)
        with suppress(OSError):
            self._files.pwritev(self._descriptor, (record + CRC.pack(crc32c.crc32c(record)),), 0)

    def close(self) -> None:
        self._files.close(self._descriptor)


def load_witness(files: Files, directory: Path, owner: str, leader_epoch: int) -> DurablePosition | None:
    """What the witness says; None where it is missing, torn, another log's or of another leader epoch."""
    content = read_file(files, directory / FILE_NAME)
    if content is None or len(content) < RECORD_BYTES:
        return None
    if CRC.unpack_from(content, RECORD.size)[0] != crc32c.crc32c(content[: RECORD.size]):
        return None
    magic, owner_crc, epoch, segment, position, offset = RECORD.unpack_from(content)
    if (magic, owner_crc, epoch) != (MAGIC, owner_number(owner), leader_epoch):
        return None
    return DurablePosition(segment, position, offset)


def owner_number(owner: str) -> int:
    """The owner in four bytes."""
    return int(crc32c.crc32c(owner.encode()))

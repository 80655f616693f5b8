"""Rewriting: the file that cleaning makes of a group of segments, and its indexes, under names of its own."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NamedTuple

from odradek.protocol.batch import BatchHeader, Buffer, read_header
from odradek.protocol.sparse import gone
from partitions.checkpoint import SegmentEntry
from partitions.files import Files, OpenFiles, write_all
from partitions.segment import SUFFIXES, Segment
from partitions.swapping import cleaned_file

WRITE_BYTES = 256 << 10
"""So much is gathered for one write."""
SYNC_BYTES = 4 << 20
"""So much is synced at once: one great sync at the end would hold up the syncs of those who append."""
FILE_BYTES_MAX = 2**31 - 1
"""Positions in an index are 31 bits."""
OPEN_FILES_MAX = 4


class _Gone(NamedTuple):
    """Offsets that have no record any more."""

    first: int
    last: int
    leader_epoch: int


class Rewriting:
    """One cleaned segment in the making; ``close`` it in any case. Methods raise OSError.

    ``changed`` says whether it differs from what it is made of; ``records_removed`` counts.
    """

    def __init__(self, files: Files, directory: Path, base_offset: int, index_interval_bytes: int) -> None:
        self._files = files
        self._directory = directory
        self._open_files = OpenFiles(files, OPEN_FILES_MAX)
        self._segment = Segment(directory, base_offset, files, self._open_files)
        self._paths = {suffix: cleaned_file(directory, base_offset, suffix) for suffix in SUFFIXES}
        for path in self._paths.values():
            files.unlink(path)
        log, self._segment.index.path, self._segment.time_index.path = (
            self._paths[suffix] for suffix in SUFFIXES
        )
        self._segment.path = log
        self._index_interval_bytes = index_interval_bytes
        self._buffers: list[Buffer] = []
        self._written = self._synced = self._taken = 0
        self._gone: _Gone | None = None
        self.changed = False
        self.records_removed = 0
        self._descriptor = files.open(log, create=True)

    def copy(self, batch: Buffer, header: BatchHeader) -> None:
        """The batch stays as it is."""
        self._close_gone()
        # A view would hold all that was read around it: where little stays, that is the whole segment.
        self._add(bytes(batch), header)

    def replace(self, batch: bytes, records_removed: int) -> None:
        """What is left of a batch, or what it was made into."""
        self._close_gone()
        self._add(batch, read_header(batch))
        self.records_removed += records_removed
        self.changed = True

    def remove(self, header: BatchHeader) -> None:
        """Nothing is left of a batch but its offsets."""
        before = self._gone
        if before is not None and before.leader_epoch == header.leader_epoch:
            self._gone = before._replace(last=header.last_offset)
            self.changed = True
        else:
            self._close_gone()
            self._gone = _Gone(header.base_offset, header.last_offset, header.leader_epoch)
        self.records_removed += header.record_count
        self.changed = self.changed or header.record_count > 0 or header.producer_id >= 0

    def take_bytes(self) -> int:
        """Bytes that were written since the last call."""
        written, self._taken = self._written - self._taken, self._written
        return written

    def finish(self, created_ms: int) -> SegmentEntry:
        """All of it made durable, the names too; what a checkpoint says of it."""
        self._close_gone()
        self._write()
        self._files.fdatasync(self._descriptor)
        segment = self._segment
        segment.append_time_entry()
        segment.write_indexes(least=0)
        segment.created_ms = created_ms
        self._files.fsync_directory(self._directory)
        return segment.entry()

    def close(self, *, keep: bool) -> None:
        """Lets go of the files; unlinks them unless they are to be kept."""
        self._files.close(self._descriptor)
        self._open_files.close()
        if not keep:
            for path in self._paths.values():
                self._files.unlink(path)

    def _close_gone(self) -> None:
        if self._gone is not None:
            batch = gone(*self._gone)
            self._gone = None
            self._add(batch, read_header(batch))

    def _add(self, batch: bytes, header: BatchHeader) -> None:
        segment = self._segment
        if segment.size + header.size_bytes > FILE_BYTES_MAX:
            raise OSError(errno.EFBIG, f"the cleaned segment {segment.path.name} grows too large")
        segment.stage(header, header.base_offset, 0, self._index_interval_bytes)
        segment.write_indexes()
        self._buffers.append(batch)
        if segment.size - self._written >= WRITE_BYTES:
            self._write()

    def _write(self) -> None:
        size = self._segment.size - self._written
        if size:
            write_all(self._files, self._descriptor, self._buffers, self._written, size)
            self._buffers = []
            self._written += size
        if self._written - self._synced >= SYNC_BYTES:
            self._files.fdatasync(self._descriptor)
            self._synced = self._written

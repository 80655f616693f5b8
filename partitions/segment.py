"""A segment: one file of batches back to back, and the two indexes beside it.

``<20-digit base offset>.log`` holds the batches; only the last segment of a log is written to. While
it is, its file may be longer than its batches: space is reserved ahead, filled with zeros.

    file      |batch|batch|batch|batch|0000000000|
    position  0           ^           ^          ^
                     durable_size    size   allocated
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from odradek.protocol.batch import HEADER_BYTES, MAGIC, BatchHeader, read_header
from partitions.checkpoint import SegmentEntry
from partitions.files import Files, OpenFiles
from partitions.index import FLUSH_ENTRIES, OFFSET_ENTRY, TIME_ENTRY, IndexFile

LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX = ".log", ".index", ".timeindex"
SUFFIXES = (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX)
DELETED_SUFFIX = ".deleted"
NAME_DIGITS = 20
ALLOCATE_BYTES_MIN = 4 << 20
ALLOCATE_BYTES_MAX = 16 << 20
RELATIVE_OFFSET_MAX = 2**31 - 1


class MaxTimestamp(NamedTuple):
    """The largest timestamp (ms) and the batch that has it first; all -1 where there is no batch."""

    timestamp: int = -1
    base_offset: int = -1
    last_offset: int = -1


NO_TIMESTAMP = MaxTimestamp()


class Mark(NamedTuple):
    """Everything of a segment that staging a batch changes; see ``Segment.restore``."""

    size: int
    next_offset: int
    max_timestamp: MaxTimestamp
    unindexed_bytes: int
    created_ms: int
    index_entries: int
    time_entries: int


class Segment:
    """One segment; offsets from ``base_offset`` to below ``next_offset``. Single-threaded.

    ``descriptor`` is open while the segment is written to or waits for a sync.
    """

    __slots__ = (
        "_files",
        "_indexed",
        "_open_files",
        "_unloaded",
        "allocated",
        "allocation",
        "base_offset",
        "created_ms",
        "descriptor",
        "durable_max",
        "durable_size",
        "index",
        "max_timestamp",
        "next_offset",
        "path",
        "size",
        "time_index",
        "unindexed_bytes",
    )

    def __init__(self, directory: Path, base_offset: int, files: Files, open_files: OpenFiles) -> None:
        stem = directory / f"{base_offset:0{NAME_DIGITS}d}"
        self._files = files
        self._open_files = open_files
        self.base_offset = base_offset
        self.path = stem.with_suffix(LOG_SUFFIX)
        self.index = IndexFile(stem.with_suffix(INDEX_SUFFIX), OFFSET_ENTRY, files, open_files)
        self.time_index = IndexFile(stem.with_suffix(TIME_INDEX_SUFFIX), TIME_ENTRY, files, open_files)
        self._indexed, self._unloaded = True, False
        self.size = self.durable_size = self.allocated = self.unindexed_bytes = 0
        self.allocation = ALLOCATE_BYTES_MIN
        self.next_offset = base_offset
        self.max_timestamp = self.durable_max = NO_TIMESTAMP
        self.created_ms = -1
        self.descriptor: int | None = None

    # -- staging: memory only

    def stage(self, header: BatchHeader, base_offset: int, wall_ms: int, interval_bytes: int) -> None:
        """Accounts for one batch behind the last, as Kafka's LogSegment.append does."""
        last_offset = base_offset + header.last_offset_delta
        if header.max_timestamp > self.max_timestamp.timestamp:
            self.max_timestamp = MaxTimestamp(header.max_timestamp, base_offset, last_offset)
        if self.unindexed_bytes > interval_bytes:
            self.index.append((last_offset - self.base_offset, self.size))
            self.append_time_entry()
            self.unindexed_bytes = 0
        if self.created_ms < 0:
            self.created_ms = wall_ms
        size = header.size_bytes
        self.size += size
        self.unindexed_bytes += size
        self.next_offset = last_offset + 1

    def append_time_entry(self) -> None:
        """The largest timestamp so far gets an entry, unless the last entry has it already."""
        if self.max_timestamp.timestamp < 0:
            return
        last = self.time_index.last()
        if last is None or self.max_timestamp.timestamp > last[0]:
            relative = self.max_timestamp.last_offset - self.base_offset
            self.time_index.append((self.max_timestamp.timestamp, relative))

    def mark(self) -> Mark:
        return Mark(
            self.size,
            self.next_offset,
            self.max_timestamp,
            self.unindexed_bytes,
            self.created_ms,
            len(self.index),
            len(self.time_index),
        )

    def restore(self, mark: Mark) -> None:
        """Takes back all that was staged since ``mark``."""
        self.size, self.next_offset, self.max_timestamp = mark.size, mark.next_offset, mark.max_timestamp
        self.unindexed_bytes, self.created_ms = mark.unindexed_bytes, mark.created_ms
        self.index.cut(mark.index_entries)
        self.time_index.cut(mark.time_entries)

    # -- the file

    def open_writer(self) -> int:
        """The descriptor for writing; the file is made where there is none."""
        if self.descriptor is None:
            self.descriptor = self._files.open(self.path, create=True)
        return self.descriptor

    def reader(self) -> int:
        """A descriptor for reading, good until the next call."""
        return self.descriptor if self.descriptor is not None else self._open_files.get(self.path)

    def allocate_ahead(self, segment_bytes: int) -> None:
        """Reserves space for what is staged and some more. Without it writing goes on, only slower."""
        if self.size <= self.allocated or self.descriptor is None:
            return
        end = max(min(self.size + self.allocation, segment_bytes), self.size)
        start = max(self.allocated, self.durable_size)
        try:
            self._files.allocate(self.descriptor, start, end - start)
        except OSError:
            self.allocated = segment_bytes
            return
        self.allocated = end
        self.allocation = min(self.allocation * 2, ALLOCATE_BYTES_MAX)

    def cut_file(self) -> None:
        """Ends the file where the batches end. Raises OSError."""
        self._files.truncate(self.open_writer(), self.size)
        self.allocated = 0

    def seal(self) -> None:
        """No more batches come: the last time entry, the indexes written, the reserved space given back."""
        self.append_time_entry()
        self.write_indexes(least=1)
        with suppress(OSError):
            # Zeros behind the last batch do no harm: recovery takes them off.
            self.cut_file()

    def write_indexes(self, least: int = FLUSH_ENTRIES) -> None:
        """Writes new index entries, once there are ``least`` of them."""
        for index in (self.index, self.time_index):
            if index.unwritten >= least:
                index.write()

    def close(self) -> None:
        if self.descriptor is not None:
            self._files.close(self.descriptor)
            self.descriptor = None

    def forget_readers(self) -> None:
        for path in (self.path, self.index.path, self.time_index.path):
            self._open_files.forget(path)

    # -- positions

    @property
    def indexed(self) -> bool:
        """False where the index files are missing or were caught lying; the next look-up builds them.

        Asking is the first look at the files that ``load_indexes_later`` has put off.
        """
        if self._unloaded:
            self.load_indexes(self.next_offset)
        return self._indexed

    @indexed.setter
    def indexed(self, indexed: bool) -> None:
        self._indexed, self._unloaded = indexed, False

    def load_indexes_later(self) -> None:
        """A closed segment may never be read again: opening a log of many must not look at each."""
        self._unloaded = True

    def load_indexes(self, end_offset: int) -> None:
        """Takes over the index files as far as they speak of offsets below ``end_offset``."""
        loaded = self.index.load()
        loaded = self.time_index.load() and loaded
        self.indexed = loaded
        last_relative = end_offset - 1 - self.base_offset
        for index, field in ((self.index, 0), (self.time_index, 1)):
            found = index.find(last_relative, field)
            index.cut(found[0] + 1 if found is not None else 0)

    def position_before(self, offset: int) -> tuple[int, int]:
        """(position, base offset) of a batch that begins at or before ``offset``, by the index."""
        found = self.index.find(offset - self.base_offset)
        if found is None:
            return 0, self.base_offset
        relative, position = found[1]
        content = self._files.pread(self.reader(), HEADER_BYTES, position) if position >= 0 else b""
        header = read_header(content) if len(content) == HEADER_BYTES else None
        if header is None or header.magic != MAGIC or header.last_offset != self.base_offset + relative:
            self.indexed = False
            return 0, self.base_offset
        return position, header.base_offset

    @property
    def latest_ms(self) -> int:
        """The largest timestamp; when the segment was begun where its records bear none."""
        return self.max_timestamp.timestamp if self.max_timestamp.timestamp >= 0 else self.created_ms

    def entry(self) -> SegmentEntry:
        """The segment for the checkpoint, as it is now."""
        return SegmentEntry(
            self.base_offset, self.size, self.next_offset, *self.max_timestamp, created_ms=self.created_ms
        )

    def adopt(self, entry: SegmentEntry) -> None:
        """Becomes what a checkpoint says; all of it durable."""
        self.size = self.durable_size = entry.size
        self.next_offset = entry.next_offset
        self.max_timestamp = self.durable_max = MaxTimestamp(
            entry.max_timestamp, entry.max_base_offset, entry.max_last_offset
        )
        self.created_ms = entry.created_ms

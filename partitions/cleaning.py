"""Cleaning: the job that rewrites closed segments so that of each key only the latest record is left.

It runs on a thread of its own and touches nothing of the log: it reads files that nobody writes to and
writes new ones beside them. One ``run`` cleans one group of segments and ends with a swap that is promised
to be done (see ``swapping``); the log then does it, and runs the same job again for the next group.

Rules, for each record below the end of the key map:

1. A record stays unless a later one has its key. A record without a key always stays.
2. A tombstone (a null value) stays until the time that was written into its batch when it was cleaned for
   the first time (``delete.retention.ms`` later): all earlier records of its key have gone by then.
3. Offsets stay. Where all records of a batch went, a batch without records covers its offsets, so that
   batches follow one another without a gap; neighbours of that kind of one leader epoch become one.
4. The last batches of each living producer stay, if need be without their records: they are its memory.
5. What cannot be read as records stays as it is. What is not a sound batch ends the pass: see ``broken``.
"""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from odradek.protocol.batch import (
    CONTROL_MASK,
    DELETE_HORIZON_MASK,
    TRANSACTIONAL_MASK,
    BatchHeader,
    Buffer,
)
from odradek.protocol.sparse import StoredRecord, emptied, stored_records, thinned
from partitions.checkpoint import SegmentEntry
from partitions.files import Files
from partitions.keymap import KeyMap
from partitions.producers import ProducerState
from partitions.rewriting import Rewriting
from partitions.scan import Window, valid_batch
from partitions.segment import LOG_SUFFIX, Segment
from partitions.swapping import VERSION, Swap, commit_note, segment_file, write_note

SLICE_RECORDS = 400
"""Records between two rests: while it works, the loop's thread waits for the interpreter."""
BATCH_COST_RECORDS = 20
"""What a batch costs beside its records, in records."""


class Source(NamedTuple):
    """A segment to be cleaned: offsets, bytes, when it was begun (ms)."""

    base_offset: int
    next_offset: int
    size: int
    created_ms: int


def source_of(segment: Segment) -> Source:
    """The segment as it is now, for another thread."""
    return Source(segment.base_offset, segment.next_offset, segment.size, segment.created_ms)


class Broken(NamedTuple):
    """In the segment at ``segment`` no sound batch of ``expected_offset`` stands at ``position``."""

    segment: int
    position: int
    expected_offset: int


@dataclass(frozen=True, slots=True)
class CleaningPlan:
    """One pass: groups of segments, oldest first; ``dirty`` are those that the key map is made of, from
    ``cleaned_offset`` on.

    ``free_bytes_min`` are to stay free on the disk, ``wall_ms`` is the time of day.
    """

    directory: Path
    owner: str
    groups: Sequence[Sequence[Source]]
    dirty: Sequence[Source]
    cleaned_offset: int
    producers: Sequence[tuple[int, ProducerState]]
    delete_retention_ms: int
    index_interval_bytes: int
    map_bytes_max: int
    free_bytes_min: int
    wall_ms: int


@dataclass(slots=True)
class CleaningReport:
    """What a pass did so far; sizes in bytes."""

    bytes_read: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    records_removed: int = 0
    segments_before: int = 0
    segments_after: int = 0


@dataclass(slots=True)
class Cleaning:
    """A pass. ``swap`` is what the last run has promised; None where its group was clean already.

    ``in_doubt`` says that nobody knows whether a promise is on the disk: only a start can find out.
    """

    files: Files
    plan: CleaningPlan
    bytes_per_s_max: int
    report: CleaningReport = field(default_factory=CleaningReport)
    swap: Swap | None = None
    broken: Broken | None = None
    in_doubt: bool = False
    _keys: KeyMap | None = None
    _kept_batches: frozenset[int] = frozenset()
    _done: int = 0
    _cost: int = 0
    _moved_bytes: int = 0

    @property
    def complete(self) -> bool:
        """Whether no group is left for which this pass has keys."""
        if self._done >= len(self.plan.groups):
            return True
        return self._keys is not None and self.plan.groups[self._done][0].base_offset >= self.end_offset

    @property
    def end_offset(self) -> int:
        """All below is clean once the pass is complete."""
        return self._keys.end_offset if self._keys is not None else 0

    def run(self) -> Generator[int, None, None]:
        """Cleans the next group; yields the bytes that were moved. Raises OSError."""
        self.swap = None
        if self._keys is None:
            # A note that was unlinked, and what was left of another pass, must not come back now.
            self.files.fsync_directory(self.plan.directory)
            keys = KeyMap(self.plan.map_bytes_max)
            yield from self._fill(keys)
            self._keys = keys
            self._kept_batches = frozenset(
                batch.base_offset for _, state in self.plan.producers for batch in state.batches
            )
        if self.broken is None and not self.complete:
            yield from self._clean(self.plan.groups[self._done], self._keys)
            self._done += 1

    # -- the keys

    def _fill(self, keys: KeyMap) -> Iterator[int]:
        cleaned_offset = keys.end_offset = max(self.plan.cleaned_offset, self.plan.dirty[0].base_offset)
        for source in self.plan.dirty:
            for batch, header in self._batches(source):
                if header.next_offset <= cleaned_offset:
                    continue
                if keys.full:
                    return
                if not _is_opaque(header):
                    yield from self._put(keys, batch, header)
                keys.end_offset = header.next_offset
                yield from self._rest(BATCH_COST_RECORDS)
            if self.broken is not None:
                return

    def _put(self, keys: KeyMap, batch: Buffer, header: BatchHeader) -> Iterator[int]:
        """Only a batch that can be read to its end takes anything from earlier ones."""
        parts = []
        for records in _readable(batch):
            parts.append(records)
            yield from self._rest(len(records))
        if sum(map(len, parts)) == header.record_count:
            for records in parts:
                keys.put(records)

    # -- one group

    def _clean(self, group: Sequence[Source], keys: KeyMap) -> Iterator[int]:
        before = sum(source.size for source in group)
        if self.files.free_bytes(self.plan.directory) - before < self.plan.free_bytes_min:
            raise OSError(errno.ENOSPC, f"cleaning {before} bytes needs as much free space for a while")
        rewriting = Rewriting(
            self.files, self.plan.directory, group[0].base_offset, self.plan.index_interval_bytes
        )
        try:
            for source in group:
                for batch, header in self._batches(source):
                    yield from self._rewrite(rewriting, keys, batch, header)
                if self.broken is not None:
                    return
            if len(group) > 1 or rewriting.changed:
                entry = rewriting.finish(created_ms=max(source.created_ms for source in group))
                self._promise(group, entry)
                self._count(group, entry, rewriting.records_removed)
        finally:
            rewriting.close(keep=self.in_doubt or self.swap is not None)

    def _promise(self, group: Sequence[Source], entry: SegmentEntry) -> None:
        swap = Swap(VERSION, self.plan.owner, entry, [source.base_offset for source in group])
        write_note(self.files, self.plan.directory, swap)
        self.in_doubt = True
        commit_note(self.files, self.plan.directory)
        self.in_doubt, self.swap = False, swap

    def _count(self, group: Sequence[Source], entry: SegmentEntry, records_removed: int) -> None:
        report = self.report
        report.bytes_before += sum(source.size for source in group)
        report.bytes_after += entry.size
        report.records_removed += records_removed
        report.segments_before += len(group)
        report.segments_after += 1

    def _rewrite(
        self, rewriting: Rewriting, keys: KeyMap, batch: Buffer, header: BatchHeader
    ) -> Iterator[int]:
        """Adds what stays of one batch."""
        cost = BATCH_COST_RECORDS
        if header.base_offset >= keys.end_offset or _is_opaque(header):
            rewriting.copy(batch, header)
        else:
            kept: list[StoredRecord] = []
            count = 0
            for records in _readable(batch):
                count += len(records)
                kept += self._select(keys, records, header)
                yield from self._rest(len(records))
            if count != header.record_count:
                rewriting.copy(batch, header)
            else:
                self._place(rewriting, batch, header, kept)
                cost += len(kept)
        self._moved_bytes += rewriting.take_bytes()
        yield from self._rest(cost)

    def _place(
        self, rewriting: Rewriting, batch: Buffer, header: BatchHeader, kept: list[StoredRecord]
    ) -> None:
        removed = header.record_count - len(kept)
        if kept:
            horizon_ms = None
            if not header.attributes & DELETE_HORIZON_MASK and any(item.value is None for item in kept):
                horizon_ms = self.plan.wall_ms + self.plan.delete_retention_ms
            if removed or horizon_ms is not None:
                rewriting.replace(thinned(header, kept, horizon_ms), removed)
            else:
                rewriting.copy(batch, header)
        elif header.base_offset not in self._kept_batches:
            rewriting.remove(header)
        elif removed:
            rewriting.replace(emptied(header), removed)
        else:
            rewriting.copy(batch, header)

    def _select(
        self, keys: KeyMap, records: list[StoredRecord], header: BatchHeader
    ) -> Iterator[StoredRecord]:
        """The records that stay: rules 1 and 2."""
        latest = keys.latest
        expired = bool(header.attributes & DELETE_HORIZON_MASK) and self.plan.wall_ms >= header.base_timestamp
        for record in records:
            key = record.key
            if key is not None and (
                latest.get(key, -1) > record.offset or (expired and record.value is None)
            ):
                continue
            yield record

    # -- small things

    def _batches(self, source: Source) -> Iterator[tuple[memoryview, BatchHeader]]:
        """Every batch of a segment, its checksum proved; ends early where one is ``broken``."""
        descriptor = self.files.open(
            segment_file(self.plan.directory, source.base_offset, LOG_SUFFIX), create=False
        )
        try:
            window = Window(self.files, descriptor, source.size)
            position, expected = 0, source.base_offset
            while position < source.size:
                header = valid_batch(window, position)
                view = window.view(position, header.size_bytes) if header is not None else None
                if header is None or view is None or header.base_offset != expected:
                    self.broken = Broken(source.base_offset, position, expected)
                    return
                yield view, header
                self._moved_bytes += header.size_bytes
                self.report.bytes_read += header.size_bytes
                position, expected = position + header.size_bytes, header.next_offset
        finally:
            self.files.close(descriptor)

    def _rest(self, cost: int) -> Iterator[int]:
        """Yields once enough was done."""
        self._cost += cost
        if self._cost >= SLICE_RECORDS:
            moved, self._cost, self._moved_bytes = self._moved_bytes, 0, 0
            yield moved


def _is_opaque(header: BatchHeader) -> bool:
    """Whether a batch is none of records with keys."""
    return bool(header.attributes & (CONTROL_MASK | TRANSACTIONAL_MASK))


def _readable(batch: Buffer) -> Iterator[list[StoredRecord]]:
    """The records of a batch, some at a time; fewer than its header says where they cannot be read."""
    try:
        records = stored_records(batch)
        while some := list(islice(records, SLICE_RECORDS)):
            yield some
    except Exception:
        # What a producer signed may be anything, and the codec has no exception of its own for it. Rule 5:
        # who counts the records sees that some are missing.
        return

"""A log: one partition's records, append-only, in one directory.

    start_offset <= durable_offset <= end_offset

``append`` stages batches in memory, ``write`` hands all staged ones to the kernel in one call,
``sync_begin`` / ``SyncTicket.run`` / ``sync_done`` make them durable while the next ones gather. Readers
see what is durable and nothing else. A log belongs to one thread; only ``SyncTicket.run`` may be called
from another.

What cannot fail half-way: a group that the full disk did not take whole is taken back whole. What cannot
be repaired: after a failed sync nobody knows what the disk holds, so the log takes no more writes until
it is opened anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from odradek.protocol.batch import (
    HEADER_BYTES,
    LENGTH_END,
    NO_PRODUCER_ID,
    PLACED_BYTES,
    BatchHeader,
    Buffer,
    checksum,
    placed_prefix,
    read_header,
)
from odradek.protocol.errors import CorruptMessage, KafkaStorageError, MessageTooLarge, OffsetOutOfRange
from partitions import epochs as epoch_file
from partitions.checkpoint import (
    VERSION,
    Checkpoint,
    DamageEntry,
    load_checkpoint,
    load_start_offset,
    save_checkpoint,
    save_start_offset,
)
from partitions.epochs import LeaderEpochs
from partitions.errors import LogFailed, LogForeign, LogLocked, StorageFull
from partitions.files import SPACE_ERRORS, Files, OpenFiles, read_file, replace_file, write_all
from partitions.producers import Producers
from partitions.recovery import (
    METADATA_NAME,
    Recovered,
    Recovery,
    RecoveryReport,
    remove_leftovers,
)
from partitions.scan import Damage, Selection, Window, header_at, resume_point, select, valid_batch
from partitions.segment import DELETED_SUFFIX, RELATIVE_OFFSET_MAX, Mark, MaxTimestamp, Segment
from partitions.settings import LogSettings
from partitions.witness import Witness, load_witness

LOCK_NAME = ".lock"
NEXT_READS_KEPT = 64
"""Positions behind the latest reads: a consumer that reads on needs no look-up."""
BATCH_CHECK_BYTES = 1024
"""What checking one batch at a restart costs beside its bytes, in bytes: small batches checkpoint sooner."""
DAMAGES_PER_READ = 1000
"""A read that meets more damaged places than this gives up."""


class Appended(NamedTuple):
    """Where a batch stands; ``timestamp`` is its largest, in ms. A duplicate stands where it stood."""

    base_offset: int
    last_offset: int
    timestamp: int
    duplicate: bool


@dataclass(slots=True)
class _Group:
    """Staged batches of one segment: what to write, and where."""

    segment: Segment
    position: int
    buffers: list[Buffer]


class SyncTicket:
    """What one sync covers. ``run`` may be called from any thread and touches nothing of the log."""

    __slots__ = ("_descriptors", "_directory", "_files", "checkpoint", "end_offset", "reach", "segments")

    def __init__(
        self,
        files: Files,
        directory: Path | None,
        segments: list[Segment],
        end_offset: int,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._files = files
        self._directory = directory
        self._descriptors = [segment.open_writer() for segment in segments]
        self.segments = segments
        self.reach: list[tuple[int, MaxTimestamp]] = [(item.size, item.max_timestamp) for item in segments]
        self.end_offset = end_offset
        self.checkpoint = checkpoint

    def run(self) -> None:
        """Blocks until the disk has it. Raises OSError, which is final: hand it to ``sync_done``."""
        for descriptor in self._descriptors:
            self._files.fdatasync(descriptor)
        if self._directory is not None:
            self._files.fsync_directory(self._directory)


class Log:
    """See the module. Made by ``Log.open`` only."""

    def __init__(
        self,
        directory: Path,
        settings: LogSettings,
        files: Files,
        open_files: OpenFiles,
        lock: int,
        topic_id: str,
        recovered: Recovered,
        witness: Witness,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._files = files
        self._open_files = open_files
        self._lock = lock
        self._topic_id = topic_id
        self._witness = witness
        self._segments = recovered.segments
        self._damages = sorted(recovered.damages, key=lambda damage: damage.first)
        self._producers: Producers = recovered.producers
        self._epochs: LeaderEpochs = recovered.epochs
        self._leader_epoch = recovered.leader_epoch + 1
        self._start_offset = recovered.start_offset
        self._end_offset = self._written_offset = self._durable_offset = self._segments[-1].next_offset
        self.recovery: RecoveryReport = recovered.report

        self._groups: list[_Group] = []
        self._mark: tuple[int, Mark] | None = None
        self._unsynced: list[Segment] = []
        self._new_names = False
        self._ticket: SyncTicket | None = None
        self._unchecked_bytes = 0
        self._checkpoint_due = False
        self._failure: str | None = None
        self._closed = False
        self._next_reads: dict[int, tuple[Segment, int]] = {}

    # -- opening

    @classmethod
    def open(
        cls, directory: Path, settings: LogSettings, *, files: Files, wall_ms: int, topic_id: str
    ) -> Log:
        """Makes the log, or recovers it, and begins a new leader epoch durably.

        ``wall_ms`` is the time of day. Raises LogLocked (another process has it), LogForeign (the
        directory is another topic's), LogDamaged, or KafkaStorageError where the disk fails.
        """
        try:
            with ExitStack() as undo:
                lock = _lock(files, directory)
                undo.callback(files.close, lock)
                open_files = OpenFiles(files, settings.open_files_max)
                undo.callback(open_files.close)
                names = files.list_directory(directory)
                _check_metadata(files, directory, topic_id)
                remove_leftovers(files, directory, names)
                recovery = _recovery(directory, settings, files, open_files, wall_ms, topic_id)
                undo.callback(recovery.close)
                recovered = recovery.run(names)
                owner, epoch = _owner(directory, topic_id), recovered.leader_epoch + 1
                witness = Witness(files, directory, owner, epoch)
                undo.callback(witness.close)
                log = cls(directory, settings, files, open_files, lock, topic_id, recovered, witness)
                log._begin_epoch()
                undo.pop_all()
        except OSError as error:
            raise KafkaStorageError(f"{directory} cannot be opened: {error}") from error
        return log

    def _begin_epoch(self) -> None:
        self._epochs.drop_above(self._end_offset)
        self._epochs.assign(self._leader_epoch, self._end_offset)
        self._save_epochs()
        self._delete_segments_below_start()
        save_checkpoint(self._files, self._directory, self._checkpoint())

    # -- what it is

    @property
    def start_offset(self) -> int:
        """The first offset that is kept."""
        return self._start_offset

    @property
    def durable_offset(self) -> int:
        """Behind the last record that is synced; consumers read up to here."""
        return self._durable_offset

    @property
    def end_offset(self) -> int:
        """The offset of the next record, staged ones counted."""
        return self._end_offset

    @property
    def leader_epoch(self) -> int:
        return self._leader_epoch

    @property
    def size_bytes(self) -> int:
        """Bytes of all batches, staged ones counted; reserved space and indexes are not."""
        return sum(segment.size for segment in self._segments)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    @property
    def damages(self) -> tuple[tuple[int, int], ...]:
        """(first, last) offsets of each quarantined range, as far as known."""
        return tuple((damage.first, damage.last) for damage in self._damages)

    @property
    def failure(self) -> str | None:
        """Why the log takes no more writes; None while it does."""
        return self._failure

    def reconfigure(self, settings: LogSettings) -> None:
        """Takes effect with the next append."""
        self._settings = settings
        self._producers.configure(settings.producer_ids_max, settings.producer_expiry_ms)

    # -- writing

    def append(self, batch: Buffer, header: BatchHeader, wall_ms: int) -> Appended:
        """Stages one batch that ``check_batch`` has passed; ``header`` is what that returned.

        ``batch`` is not copied: it must not change until ``write``. ``wall_ms`` is the time of day. Raises
        MessageTooLarge, InvalidProducerEpoch, UnknownProducerId, OutOfOrderSequenceNumber or LogFailed;
        then nothing was staged.
        """
        if self._failure is not None:
            raise LogFailed(self._failure)
        settings = self._settings
        size = LENGTH_END + header.batch_length
        if size > settings.max_message_bytes or size > settings.segment_bytes:
            raise _too_large(size, settings)
        idempotent = header.producer_id != NO_PRODUCER_ID
        if idempotent:
            earlier = self._producers.check(header)
            if earlier is not None:
                return Appended(earlier.base_offset, earlier.last_offset, earlier.timestamp, duplicate=True)
        base_offset = self._end_offset
        last_offset = base_offset + header.last_offset_delta
        group = self._group_for(size, last_offset, wall_ms)
        group.segment.stage(header, base_offset, wall_ms, settings.index_interval_bytes)
        prefix = placed_prefix(header, base_offset, self._leader_epoch)
        group.buffers += (prefix, memoryview(batch)[PLACED_BYTES:])
        if idempotent:
            self._producers.record(header, base_offset, wall_ms)
        self._end_offset = last_offset + 1
        return Appended(base_offset, last_offset, header.max_timestamp, duplicate=False)

    def _group_for(self, size: int, last_offset: int, wall_ms: int) -> _Group:
        """The group that takes a batch of ``size`` bytes, in a new segment where the last is full or old."""
        segment, settings = self._segments[-1], self._settings
        if self._mark is None:
            self._mark = len(self._segments), segment.mark()
        if segment.size > 0 and (
            segment.size + size > settings.segment_bytes
            or last_offset - segment.base_offset > RELATIVE_OFFSET_MAX
            or wall_ms - segment.created_ms > settings.segment_ms
        ):
            segment = Segment(self._directory, self._end_offset, self._files, self._open_files)
            self._segments.append(segment)
        elif self._groups:
            return self._groups[-1]
        group = _Group(segment, segment.size, [])
        self._groups.append(group)
        return group

    def write(self) -> None:
        """Hands all staged batches to the kernel, in one call where they go to one segment.

        Raises StorageFull where there is no space: the whole group is taken back, offsets and producers
        included, and the log goes on. Raises LogFailed where the disk is broken.
        """
        if not self._groups:
            return
        if self._failure is not None:
            raise LogFailed(self._failure)
        try:
            for group in self._groups:
                self._write_group(group)
        except OSError as error:
            self._take_back(error)
        assert self._mark is not None
        active_before = self._mark[0] - 1
        for segment in self._segments[active_before:-1]:
            segment.seal()
            self._note_unsynced(segment)
        for group in self._groups:
            self._note_unsynced(group.segment)
            batch_count = len(group.buffers) // 2  # the placed prefix and the rest of each
            self._unchecked_bytes += group.segment.size - group.position + batch_count * BATCH_CHECK_BYTES
        self._segments[-1].write_indexes()
        self._groups, self._mark = [], None
        self._producers.commit()
        self._written_offset = self._end_offset
        if self._unchecked_bytes >= self._settings.checkpoint_bytes:
            self._checkpoint_due = True

    def _write_group(self, group: _Group) -> None:
        segment = group.segment
        if segment.descriptor is None:
            segment.open_writer()
            self._new_names = self._checkpoint_due = True
        if self._settings.preallocate:
            segment.allocate_ahead(self._settings.segment_bytes)
        write_all(
            self._files, segment.open_writer(), group.buffers, group.position, segment.size - group.position
        )

    def _note_unsynced(self, segment: Segment) -> None:
        if segment not in self._unsynced:
            self._unsynced.append(segment)

    def _take_back(self, error: OSError) -> None:
        """Undoes every staged batch, in memory and on disk; always raises."""
        assert self._mark is not None
        count, mark = self._mark
        self._groups, self._mark = [], None
        refused = f"offsets {self._written_offset} to {self._end_offset - 1}"
        self._end_offset = self._written_offset
        self._producers.roll_back()
        active = self._segments[count - 1]
        begun, self._segments[count:] = self._segments[count:], []
        active.restore(mark)
        try:
            for segment in begun:
                segment.close()
                self._files.unlink(segment.path)
            if begun:
                self._files.fsync_directory(self._directory)
            active.cut_file()
            self._files.fdatasync(active.open_writer())
        except OSError as worse:
            raise self._fail(f"a failed write could not be taken back: {worse}") from error
        if error.errno not in SPACE_ERRORS:
            raise self._fail(f"writing {refused} failed: {error}") from error
        raise StorageFull(
            f"{self._directory}: no space for {refused} ({error}); nothing of them was kept. "
            "Free disk space and send them again"
        ) from error

    def _fail(self, reason: str) -> LogFailed:
        """From now on the log takes nothing; returns the error to raise."""
        if self._failure is None:
            self._failure = f"{self._directory}: {reason}; the partition stops until it is opened anew"
        return LogFailed(self._failure)

    # -- syncing

    def sync_begin(self) -> SyncTicket | None:
        """A ticket for all that was written since the last one; None where that is nothing.

        One ticket at a time: hand it to ``sync_done`` before the next. Raises LogFailed.
        """
        if self._failure is not None:
            raise LogFailed(self._failure)
        if self._ticket is not None:
            raise RuntimeError("a sync is under way; sync_done comes before the next sync_begin")
        if not self._unsynced:
            return None
        checkpoint = None
        if self._checkpoint_due and not self._groups:
            checkpoint = self._checkpoint()
            self._checkpoint_due, self._unchecked_bytes = False, 0
        directory = self._directory if self._new_names else None
        self._ticket = SyncTicket(self._files, directory, self._unsynced, self._written_offset, checkpoint)
        self._unsynced, self._new_names = [], False
        return self._ticket

    def sync_done(self, ticket: SyncTicket, error: OSError | None) -> None:
        """Takes the outcome of ``ticket.run()``: readers now see what it covers. An error is final.

        Now and then this also writes the checkpoint, which takes a few milliseconds.
        """
        if ticket is not self._ticket:
            raise RuntimeError("this ticket is not the one of the sync under way")
        self._ticket = None
        if error is not None:
            self._fail(f"a sync failed ({error}) and nobody knows what the disk holds")
            return
        for segment, (size, largest) in zip(ticket.segments, ticket.reach, strict=True):
            segment.durable_size, segment.durable_max = size, largest
            if segment is not self._segments[-1] and segment not in self._unsynced:
                segment.close()
        self._durable_offset = ticket.end_offset
        newest = ticket.segments[-1]
        self._witness.write(newest.base_offset, newest.durable_size, ticket.end_offset)
        if ticket.checkpoint is not None:
            self._save_checkpoint(ticket.checkpoint)

    def _save_checkpoint(self, checkpoint: Checkpoint) -> None:
        try:
            self._segments[-1].write_indexes(least=1)
            save_checkpoint(self._files, self._directory, checkpoint)
        except OSError:
            # The old checkpoint still holds: the next start only reads more. Tried again with the next sync.
            self._checkpoint_due = True

    def checkpoint(self) -> None:
        """Writes the checkpoint now if everything written is durable; else with the next sync."""
        if self._failure is not None:
            return
        if self._groups or self._unsynced or self._ticket is not None:
            self._checkpoint_due = True
            return
        self._checkpoint_due, self._unchecked_bytes = False, 0
        self._save_checkpoint(self._checkpoint())

    def _checkpoint(self) -> Checkpoint:
        """The log as it is now, nothing being staged; it holds once all this is durable."""
        return Checkpoint(
            version=VERSION,
            owner=_owner(self._directory, self._topic_id),
            leader_epoch=self._leader_epoch,
            start_offset=self._start_offset,
            epochs=list(self._epochs.entries),
            segments=[segment.entry() for segment in self._segments],
            damages=[
                DamageEntry(item.first, item.last, item.segment, item.position, item.end_position)
                for item in self._damages
            ],
            producers=self._producers.snapshot(),
        )

    def close(self) -> None:
        """Writes and syncs what is staged, ends the file where the batches end, checkpoints, unlocks.

        A log that failed is only let go. A ticket under way must be handed back first. Raises StorageFull
        or LogFailed where the last writes failed; the log is closed all the same.
        """
        if self._closed:
            return
        try:
            if self._failure is None:
                self._close_cleanly()
        finally:
            self._closed = True
            self._failure = self._failure or f"{self._directory}: the log is closed"
            for segment in {*self._segments, *self._unsynced}:
                segment.close()
            self._open_files.close()
            self._witness.close()
            self._files.close(self._lock)

    def _close_cleanly(self) -> None:
        self.write()
        active = self._segments[-1]
        with suppress(OSError):
            # Reserved space behind the last batch does no harm: recovery takes it off.
            active.cut_file()
            self._note_unsynced(active)
        ticket = self.sync_begin()
        if ticket is not None:
            try:
                ticket.run()
            except OSError as error:
                self.sync_done(ticket, error)
                raise LogFailed(self._failure or "") from error
            self.sync_done(ticket, None)
        active.write_indexes(least=1)
        self.checkpoint()

    # -- reading

    def read(self, offset: int, max_bytes: int, *, max_offset: int | None = None) -> bytes | memoryview:
        """Whole batches from the one with ``offset`` on: about ``max_bytes``, but at least one batch.

        Only durable batches, and only those wholly below ``max_offset``; b"" where there is none yet. The
        batches end with their segment or before damage: ask again behind them. Headers are proved here, of
        the checksums only the last one: readers verify. Raises OffsetOutOfRange, CorruptMessage (a
        quarantined range, named), LogFailed (behind the durable end of a failed log) or KafkaStorageError
        (the disk).
        """
        limit = self._durable_offset if max_offset is None else min(max_offset, self._durable_offset)
        if not self._start_offset <= offset <= self._end_offset:
            raise OffsetOutOfRange(
                f"offset {offset} is outside the log, "
                f"which has {self._start_offset} to {self._durable_offset}"
            )
        if offset >= limit:
            if self._failure is not None and offset >= self._durable_offset:
                raise LogFailed(self._failure)
            return b""
        for _ in range(DAMAGES_PER_READ):
            self._refuse_damaged(offset)
            segment = self._segment_of(offset)
            try:
                return self._read_segment(segment, offset, max_bytes, limit)
            except _Broken as broken:
                if self._next_reads.pop(offset, None) is not None:
                    continue  # the read before ended with a batch whose length may be wrong: look it up
                self._quarantine(segment, broken.position, broken.expected_offset)
            except OSError as error:
                raise KafkaStorageError(f"reading {segment.path} failed: {error}") from error
        raise CorruptMessage(f"{segment.path} is damaged in more than {DAMAGES_PER_READ} places")

    def _read_segment(self, segment: Segment, offset: int, max_bytes: int, limit: int) -> bytes | memoryview:
        position, expected, exact = self._locate(segment, offset)
        for damage in self._damages:
            if damage.segment != segment.base_offset:
                continue
            if damage.first > offset:
                limit = min(limit, damage.first)
            elif damage.last < offset and damage.end_position > position:
                position, expected, exact = damage.end_position, damage.last + 1, False
        end = segment.durable_size
        wanted = max(max_bytes, HEADER_BYTES) + (0 if exact else self._settings.index_interval_bytes)
        descriptor, previous = segment.reader(), None
        while True:
            size = min(wanted, end - position)
            buffer = self._files.pread(descriptor, size, position)
            found = select(buffer, expected, offset, limit)
            if found.previous[0] >= 0:
                previous = (position + found.previous[0], found.previous[1])
            if found.start >= 0:
                stop, next_offset = self._prove_last(buffer, position, found)
                self._keep_next(segment, position + stop, next_offset)
                return buffer if found.start == 0 and stop == size else memoryview(buffer)[found.start : stop]
            if len(buffer) < size or _is_stuck(found, end - position):
                self._blame(segment, (position + found.position, found.expected_offset), previous)
            if found.needed == 0:
                self._prove(segment, position + found.position, found.expected_offset)
                return b""
            position, expected = position + found.position, found.expected_offset
            wanted = max(max_bytes, found.needed)

    def _prove_last(self, buffer: bytes, position: int, found: Selection) -> tuple[int, int]:
        """(end in ``buffer``, next offset) of what may be returned, the last batch left off if it is unsound.

        The last checksum proves all headers: a wrong length or count in one breaks the chain at the next.
        """
        last, base = found.previous
        if checksum(memoryview(buffer)[last : found.end]) == read_header(buffer, last).crc:
            return found.end, found.expected_offset
        if last == found.start:
            raise _Broken(position + last, base)
        return last, base

    def _blame(self, segment: Segment, here: tuple[int, int], previous: tuple[int, int] | None) -> None:
        """No batch stands ``here``, or the length of the ``previous`` one is wrong. Always raises _Broken."""
        if previous is not None:
            window = Window(self._files, segment.reader(), segment.durable_size)
            if valid_batch(window, previous[0]) is None:
                raise _Broken(*previous)
        raise _Broken(*here)

    def _prove(self, segment: Segment, position: int, expected: int) -> None:
        """The batch at ``position`` says that it reaches over the limit: raises _Broken where it lies."""
        window = Window(self._files, segment.reader(), segment.durable_size)
        if valid_batch(window, position) is None:
            raise _Broken(position, expected)

    def _segment_of(self, offset: int) -> Segment:
        last = self._segments[-1]
        if offset >= last.base_offset:
            return last
        return self._segments[max(0, bisect_right(self._segments, offset, key=_base_offset) - 1)]

    def _locate(self, segment: Segment, offset: int) -> tuple[int, int, bool]:
        """(position, base offset, exact) of a batch at or before ``offset``; exact: it begins there."""
        if offset == segment.base_offset:
            return 0, offset, True
        known = self._next_reads.get(offset)
        if known is not None and known[0] is segment:
            return known[1], offset, True
        if segment.indexed:
            position, base = segment.position_before(offset)
        if not segment.indexed:
            self._rebuild_indexes(segment)
            position, base = segment.position_before(offset) if segment.indexed else (0, segment.base_offset)
        return position, base, False

    def _keep_next(self, segment: Segment, position: int, next_offset: int) -> None:
        """Remembers where a reader that got everything below ``next_offset`` will go on."""
        self._next_reads[next_offset] = (segment, position)
        if len(self._next_reads) > NEXT_READS_KEPT:
            del self._next_reads[next(iter(self._next_reads))]

    def _rebuild_indexes(self, segment: Segment) -> None:
        """Makes both indexes anew from the batches; not while batches of this segment are under way."""
        if segment.durable_size != segment.size:
            return
        fresh = Segment(self._directory, segment.base_offset, self._files, self._open_files)
        for position, header in self._walk(segment, 0, segment.base_offset):
            fresh.size = position
            fresh.stage(header, header.base_offset, 0, self._settings.index_interval_bytes)
        if segment is not self._segments[-1]:
            fresh.append_time_entry()
        segment.forget_readers()
        segment.index, segment.time_index, segment.indexed = fresh.index, fresh.time_index, True
        segment.write_indexes(least=1)

    def _walk(self, segment: Segment, position: int, expected: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) of each durable batch from ``position`` on; damage is noted and passed over."""
        window = Window(self._files, segment.reader(), segment.durable_size)
        while position < segment.durable_size:
            damage = next((item for item in self._damages_of(segment) if item.position == position), None)
            if damage is None:
                header = header_at(window, position)
                if header is not None and header.base_offset == expected:
                    yield position, header
                    position, expected = position + header.size_bytes, header.next_offset
                    continue
                damage = self._quarantine(segment, position, expected)
            position, expected = damage.end_position, damage.last + 1

    # -- damage

    def _damages_of(self, segment: Segment) -> Iterator[Damage]:
        return (
            item
            for item in self._damages
            if item.segment == segment.base_offset and item.end_position > item.position
        )

    def _refuse_damaged(self, offset: int) -> None:
        if not self._damages:
            return
        number = bisect_right(self._damages, offset, key=_first) - 1
        for damage in self._damages[max(0, number - 1) : number + 1]:
            if damage.first <= offset <= damage.last:
                raise CorruptMessage(
                    f"offsets {damage.first} to {damage.last} are damaged on disk and quarantined; "
                    f"the log goes on at {damage.last + 1}"
                )

    def _quarantine(self, segment: Segment, position: int, expected: int) -> Damage:
        """Notes the damage at ``position``, where ``expected`` should stand, up to the next sound batch."""
        window = Window(self._files, segment.reader(), segment.durable_size)
        resume = resume_point(window, position, expected)
        if resume is not None:
            end_position, next_offset = resume
        else:
            following = bisect_right(self._segments, segment.base_offset, key=_base_offset)
            is_last = following == len(self._segments)
            next_offset = self._durable_offset if is_last else self._segments[following].base_offset
            end_position = segment.durable_size
        damage = Damage(expected, next_offset - 1, segment.base_offset, position, end_position)
        self._damages.append(damage)
        self._damages.sort(key=_first)
        self._checkpoint_due = True
        return damage

    # -- timestamps and epochs

    def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int] | None:
        """(base offset, largest timestamp) of the first durable batch with a timestamp >= ``timestamp_ms``.

        Exact to the batch: which record of it is the first, only its decoded records tell. None where
        there is no such batch.
        """
        for segment in list(self._segments):
            if segment.durable_max.timestamp < timestamp_ms or segment.next_offset <= self._start_offset:
                continue
            for _, header in self._walk(segment, *self._locate_time(segment, timestamp_ms)):
                if header.max_timestamp >= timestamp_ms and header.last_offset >= self._start_offset:
                    return max(header.base_offset, self._start_offset), header.max_timestamp
        return None

    def _locate_time(self, segment: Segment, timestamp_ms: int) -> tuple[int, int]:
        """(position, base offset) of a batch before which all timestamps are below ``timestamp_ms``."""
        if not segment.indexed:
            self._rebuild_indexes(segment)
        durable = segment.time_index.find(self._durable_offset - 1 - segment.base_offset, field=1)
        found = segment.time_index.find(timestamp_ms)
        if durable is None or found is None or not segment.indexed:
            return 0, segment.base_offset
        timestamp, relative = min(found, durable)[1]
        last_offset = segment.base_offset + relative
        for position, header in self._walk(segment, *segment.position_before(last_offset)):
            if header.last_offset >= last_offset:
                if header.last_offset == last_offset and header.max_timestamp == timestamp:
                    return position, header.base_offset
                break
        segment.indexed = False
        return 0, segment.base_offset

    def offset_of_max_timestamp(self) -> tuple[int, int] | None:
        """(base offset, timestamp) of the first durable batch with the largest timestamp of the log."""
        best = max(
            (self._durable_max(segment) for segment in self._segments),
            key=lambda item: (item.timestamp, -item.base_offset),
        )
        if best.timestamp < 0:
            return None
        return max(best.base_offset, self._start_offset), best.timestamp

    def _durable_max(self, segment: Segment) -> MaxTimestamp:
        largest = segment.durable_max
        if largest.timestamp < 0 or largest.last_offset >= self._start_offset:
            return largest
        largest = MaxTimestamp()
        for _, header in self._walk(segment, 0, segment.base_offset):
            if header.last_offset >= self._start_offset and header.max_timestamp > largest.timestamp:
                largest = MaxTimestamp(header.max_timestamp, header.base_offset, header.last_offset)
        return largest

    def epoch_end_offset(self, epoch: int) -> tuple[int, int]:
        """Kafka's OffsetForLeaderEpoch: (largest epoch <= ``epoch``, the offset behind its last record).

        (-1, -1) where ``epoch`` has not begun.
        """
        return self._epochs.end_offset(epoch, self._durable_offset)

    # -- deleting

    def advance_start(self, offset: int) -> int:
        """Forgets the records below ``offset``, durably; returns the new start offset, never a lower one.

        Whole segments below it are deleted. Raises OffsetOutOfRange above the durable end, LogFailed, or
        StorageFull / KafkaStorageError where it could not be stored.
        """
        if self._failure is not None:
            raise LogFailed(self._failure)
        if offset > self._durable_offset:
            raise OffsetOutOfRange(
                f"records below {offset} cannot be deleted: the log has {self._start_offset} to "
                f"{self._durable_offset}"
            )
        if offset <= self._start_offset:
            return self._start_offset
        try:
            save_start_offset(self._files, self._directory, offset)
            self._start_offset = offset
            self._epochs.drop_below(offset)
            self._delete_segments_below_start()
        except OSError as error:
            kind = StorageFull if error.errno in SPACE_ERRORS else KafkaStorageError
            raise kind(
                f"{self._directory}: the start offset {offset} could not be stored: {error}"
            ) from error
        self.checkpoint()
        return self._start_offset

    def _delete_segments_below_start(self) -> None:
        """Renames, then unlinks: a crash between the two leaves names that the next start cleans up."""
        busy = {*self._unsynced, *(self._ticket.segments if self._ticket is not None else ())}
        gone = [
            segment
            for segment, following in pairwise(self._segments)
            if following.base_offset <= self._start_offset and segment not in busy
        ]
        if not gone:
            return
        self._next_reads.clear()
        renamed = []
        for segment in gone:
            self._segments.remove(segment)
            segment.forget_readers()
            segment.close()
            for path in (segment.path, segment.index.path, segment.time_index.path):
                target = path.with_name(path.name + DELETED_SUFFIX)
                with suppress(FileNotFoundError):
                    self._files.rename(path, target)
                    renamed.append(target)
        self._files.fsync_directory(self._directory)
        for target in renamed:
            self._files.unlink(target)
        self._damages = [item for item in self._damages if item.last >= self._start_offset]

    def _save_epochs(self) -> None:
        path = self._directory / epoch_file.FILE_NAME
        replace_file(self._files, path, epoch_file.format_epochs(self._epochs))


class _Broken(Exception):
    """At ``position`` no batch of ``expected_offset`` stands."""

    def __init__(self, position: int, expected_offset: int) -> None:
        super().__init__(position, expected_offset)
        self.position, self.expected_offset = position, expected_offset


def _is_stuck(found: Selection, remaining: int) -> bool:
    """No batch can follow where the walk stopped, though ``remaining`` bytes of the segment say so."""
    return found.broken or found.position >= remaining or found.position + found.needed > remaining


def _base_offset(segment: Segment) -> int:
    return segment.base_offset


def _first(damage: Damage) -> int:
    return damage.first


def _owner(directory: Path, topic_id: str) -> str:
    """Whose checkpoint it is: one that was copied from another partition must not count."""
    return f"{topic_id} {directory.name}"


def _too_large(size: int, settings: LogSettings) -> MessageTooLarge:
    if size > settings.max_message_bytes:
        return MessageTooLarge(
            f"the batch has {size} bytes, the topic's max.message.bytes is {settings.max_message_bytes}"
        )
    return MessageTooLarge(
        f"the batch has {size} bytes, the topic's segment.bytes is {settings.segment_bytes}"
    )


def _lock(files: Files, directory: Path) -> int:
    try:
        files.make_directory(directory)
        return files.lock(directory / LOCK_NAME)
    except BlockingIOError as error:
        raise LogLocked(f"{directory} is in use by another process; stop it first") from error
    except OSError as error:
        raise KafkaStorageError(f"{directory} cannot be opened: {error}") from error


def _recovery(
    directory: Path, settings: LogSettings, files: Files, open_files: OpenFiles, wall_ms: int, topic_id: str
) -> Recovery:
    """Collects what the small files beside the segments know."""
    owner = _owner(directory, topic_id)
    checkpoint = load_checkpoint(files, directory, owner)
    text = read_file(files, directory / epoch_file.FILE_NAME)
    known_epochs = epoch_file.parse_epochs(text) if text is not None else None
    session = None  # the epoch in which the log was open last
    if checkpoint is not None:
        session = checkpoint.leader_epoch
    elif known_epochs is not None:
        session = known_epochs.latest
    return Recovery(
        files=files,
        open_files=open_files,
        directory=directory,
        settings=settings,
        wall_ms=wall_ms,
        checkpoint=checkpoint,
        witness=load_witness(files, directory, owner, session) if session is not None else None,
        start_offset=load_start_offset(files, directory),
        known_epochs=known_epochs,
    )


def _check_metadata(files: Files, directory: Path, topic_id: str) -> None:
    """Writes ``partition.metadata`` where there is none that can be read; another topic's is refused."""
    path = directory / METADATA_NAME
    found = _parse_metadata(read_file(files, path))
    if found is None:
        replace_file(files, path, f"version: 0\ntopic_id: {topic_id}\n".encode())
    elif found != topic_id:
        raise LogForeign(
            f"{directory} belongs to topic id {found}, not to {topic_id}; "
            f"move it aside, or correct {path.name} in it if you know better"
        )


def _parse_metadata(content: bytes | None) -> str | None:
    if content is None or not content.endswith(b"\n"):
        return None
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        return None
    fields: Mapping[str, str] = dict(line.split(": ", 1) for line in lines if ": " in line)
    return fields.get("topic_id") if fields.get("version") == "0" else None

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

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from odradek.protocol.batch import BatchHeader, Buffer
from odradek.protocol.errors import KafkaStorageError, OffsetOutOfRange
from partitions import epochs as epoch_file
from partitions.checkpoint import VERSION, Checkpoint, save_checkpoint, save_start_offset
from partitions.cleaner import Cleaner
from partitions.deleting import Unlinking, is_due_to_close, kept_by_retention, rename_segments_below_start
from partitions.epochs import LeaderEpochs
from partitions.errors import LogFailed, StorageFull
from partitions.files import SPACE_ERRORS, Files, OpenFiles, replace_file
from partitions.opening import check_metadata, lock_directory, new_recovery, owner_of
from partitions.producers import Producers
from partitions.reading import Reader
from partitions.recovery import Recovered, RecoveryReport, remove_leftovers
from partitions.retention import Kept
from partitions.segment import Segment
from partitions.settings import LogSettings
from partitions.state import LogState, first_of
from partitions.swapping import FILE_NAME as SWAP_NAME
from partitions.swapping import finish_swap
from partitions.tickets import SyncTicket
from partitions.times import Times
from partitions.witness import Witness
from partitions.writing import Appended, Writer

if TYPE_CHECKING:
    from partitions.cleaning import Cleaning  # loads the codec


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
        self._files = files
        self._open_files = open_files
        self._lock = lock
        self._topic_id = topic_id
        self._witness = witness
        self._producers: Producers = recovered.producers
        self._epochs: LeaderEpochs = recovered.epochs
        self._leader_epoch = recovered.leader_epoch + 1
        self.recovery: RecoveryReport = recovered.report
        end_offset = recovered.segments[-1].next_offset
        self._state = LogState(
            directory,
            settings,
            files,
            open_files,
            segments=recovered.segments,
            damages=sorted(recovered.damages, key=first_of),
            start_offset=recovered.start_offset,
            durable_offset=end_offset,
            end_offset=end_offset,
        )
        self._writer = Writer(self._state, self._producers, self._leader_epoch)
        self._reader = Reader(self._state)
        self._times = Times(self._state, self._reader)
        owner = owner_of(directory, topic_id)
        self._cleaner = Cleaner(self._state, self._producers, self._reader, owner, recovered.cleaned_offset)
        self._ticket: SyncTicket | None = None
        self._renamed: list[Path] = []
        self._closed = False

    # -- opening

    @classmethod
    def open(
        cls, directory: Path, settings: LogSettings, *, files: Files, wall_ms: int, topic_id: str
    ) -> Log:
        """Makes the log, or recovers it, and begins a new leader epoch durably.

        ``wall_ms`` is the time of day. Raises LogLocked (another process has it), LogForeign (the
        directory is another topic's), LogDamaged, StorageFull, or KafkaStorageError where the disk fails.
        """
        try:
            with ExitStack() as undo:
                lock = lock_directory(files, directory)
                undo.callback(files.close, lock)
                open_files = OpenFiles(files, settings.open_files_max)
                undo.callback(open_files.close)
                owner = owner_of(directory, topic_id)
                check_metadata(files, directory, topic_id)
                swap = finish_swap(files, directory, owner)
                names = files.list_directory(directory)
                remove_leftovers(files, directory, names)
                recovery = new_recovery(directory, settings, files, open_files, wall_ms, topic_id, swap)
                undo.callback(recovery.close)
                recovered = recovery.run(names)
                epoch = recovered.leader_epoch + 1
                witness = Witness(files, directory, owner, epoch)
                undo.callback(witness.close)
                log = cls(directory, settings, files, open_files, lock, topic_id, recovered, witness)
                log._begin_epoch()
                undo.pop_all()
        except OSError as error:
            kind = StorageFull if error.errno in SPACE_ERRORS else KafkaStorageError
            raise kind(f"{directory} cannot be opened: {error}") from error
        return log

    def _begin_epoch(self) -> None:
        self._epochs.drop_above(self._state.end_offset)
        self._epochs.assign(self._leader_epoch, self._state.end_offset)
        self._save_epochs()
        self._delete_segments_below_start()
        self._unlink_renamed()
        checkpoint = self._checkpoint()
        save_checkpoint(self._files, self._directory, checkpoint)
        self._cleaner.checkpointed(checkpoint)
        self._files.unlink(self._directory / SWAP_NAME)

    # -- what it is

    @property
    def start_offset(self) -> int:
        """The first offset that is kept."""
        return self._state.start_offset

    @property
    def durable_offset(self) -> int:
        """Behind the last record that is synced; consumers read up to here."""
        return self._state.durable_offset

    @property
    def end_offset(self) -> int:
        """The offset of the next record, staged ones counted."""
        return self._state.end_offset

    @property
    def leader_epoch(self) -> int:
        return self._leader_epoch

    @property
    def size_bytes(self) -> int:
        """Bytes of all batches, staged ones counted; reserved space and indexes are not."""
        return sum(segment.size for segment in self._state.segments)

    @property
    def segment_count(self) -> int:
        return len(self._state.segments)

    @property
    def damages(self) -> tuple[tuple[int, int], ...]:
        """(first, last) offsets of each quarantined range, as far as known."""
        return tuple((damage.first, damage.last) for damage in self._state.damages)

    @property
    def settings(self) -> LogSettings:
        return self._state.settings

    @property
    def failure(self) -> str | None:
        """Why the log takes no more writes; None while it does."""
        return self._state.failure

    def free_bytes(self) -> int:
        """What the file system of this log has left, in bytes. Raises KafkaStorageError."""
        try:
            return self._files.free_bytes(self._directory)
        except OSError as error:
            raise KafkaStorageError(f"{self._directory}: the free space is unknown: {error}") from error

    def reconfigure(self, settings: LogSettings) -> None:
        """Takes effect with the next append."""
        self._state.settings = settings
        self._producers.configure(settings.producer_ids_max, settings.producer_expiry_ms)

    # -- writing: see partitions.writing

    def append(self, batch: Buffer, header: BatchHeader, wall_ms: int) -> Appended:
        """Stages one batch that ``check_batch`` has passed; ``header`` is what that returned.

        ``batch`` is not copied: it must not change until ``write``. ``wall_ms`` is the time of day. Raises
        MessageTooLarge, InvalidProducerEpoch, UnknownProducerId, OutOfOrderSequenceNumber or LogFailed;
        then nothing was staged.
        """
        return self._writer.append(batch, header, wall_ms)

    def write(self) -> None:
        """Hands all staged batches to the kernel, in one call where they go to one segment.

        Raises StorageFull where there is no space: the whole group is taken back, offsets and producers
        included, and the log goes on. Raises LogFailed where the disk is broken.
        """
        self._writer.write()

    # -- syncing

    def sync_begin(self) -> SyncTicket | None:
        """A ticket for all that was written since the last one; None where that is nothing.

        One ticket at a time: hand it to ``sync_done`` before the next. Raises LogFailed.
        """
        if self._state.failure is not None:
            raise LogFailed(self._state.failure)
        if self._ticket is not None:
            raise RuntimeError("a sync is under way; sync_done comes before the next sync_begin")
        if not self._writer.unsynced:
            return None
        checkpoint = None
        if self._state.checkpoint_due and not self._writer.staging:
            checkpoint = self._checkpoint()
            self._state.checkpoint_due, self._writer.unchecked_bytes = False, 0
        directory = self._directory if self._writer.new_names else None
        self._ticket = SyncTicket(
            self._files, directory, self._writer.unsynced, self._writer.written_offset, checkpoint
        )
        self._writer.unsynced, self._writer.new_names = [], False
        return self._ticket

    def sync_done(self, ticket: SyncTicket, error: OSError | None) -> None:
        """Takes the outcome of ``ticket.run()``: readers now see what it covers. An error is final.

        Now and then this also writes the checkpoint, which takes a few milliseconds.
        """
        if ticket is not self._ticket:
            raise RuntimeError("this ticket is not the one of the sync under way")
        self._ticket = None
        if error is not None:
            self._state.fail(f"a sync failed ({error}) and nobody knows what the disk holds")
            return
        for segment, (size, largest) in zip(ticket.segments, ticket.reach, strict=True):
            segment.durable_size, segment.durable_max = size, largest
            if segment is not self._state.segments[-1] and segment not in self._writer.unsynced:
                segment.close()
        self._state.durable_offset = ticket.end_offset
        newest = ticket.segments[-1]
        self._witness.write(newest.base_offset, newest.durable_size, ticket.end_offset)
        if ticket.checkpoint is not None:
            self._save_checkpoint(ticket.checkpoint)

    def _save_checkpoint(self, checkpoint: Checkpoint) -> None:
        try:
            self._state.segments[-1].write_indexes(least=1)
            save_checkpoint(self._files, self._directory, checkpoint)
            self._cleaner.checkpointed(checkpoint)
        except OSError:
            # The old checkpoint still holds: the next start only reads more. Tried again with the next sync.
            self._state.checkpoint_due = True

    def checkpoint(self) -> None:
        """Writes the checkpoint now if everything written is durable; else with the next sync."""
        if self._state.failure is not None:
            return
        if self._writer.staging or self._writer.unsynced or self._ticket is not None:
            self._state.checkpoint_due = True
            return
        self._state.checkpoint_due, self._writer.unchecked_bytes = False, 0
        self._save_checkpoint(self._checkpoint())

    def _checkpoint(self) -> Checkpoint:
        """The log as it is now, nothing being staged; it holds once all this is durable."""
        return Checkpoint(
            version=VERSION,
            owner=owner_of(self._directory, self._topic_id),
            leader_epoch=self._leader_epoch,
            start_offset=self._state.start_offset,
            epochs=list(self._epochs.entries),
            segments=self._state.segment_entries(),
            damages=self._state.damage_entries(),
            producers=self._producers.snapshot(),
            cleaned_offset=self._cleaner.cleaned_offset,
        )

    def close(self) -> None:
        """Writes and syncs what is staged, ends the file where the batches end, checkpoints, unlocks.

        A log that failed is only let go. A ticket under way must be handed back first. Raises StorageFull
        or LogFailed where the last writes failed; the log is closed all the same.
        """
        if self._closed:
            return
        try:
            if self._state.failure is None:
                self._close_cleanly()
        finally:
            self._closed = True
            self._state.failure = self._state.failure or f"{self._directory}: the log is closed"
            for segment in {*self._state.segments, *self._writer.unsynced}:
                segment.close()
            self._open_files.close()
            self._witness.close()
            self._files.close(self._lock)

    def _close_cleanly(self) -> None:
        self.write()
        active = self._state.segments[-1]
        with suppress(OSError):
            # Reserved space behind the last batch does no harm: recovery takes it off.
            active.cut_file()
            self._writer.note_unsynced(active)
        ticket = self.sync_begin()
        if ticket is not None:
            try:
                ticket.run()
            except OSError as error:
                self.sync_done(ticket, error)
                raise LogFailed(self._state.failure or "") from error
            self.sync_done(ticket, None)
        active.write_indexes(least=1)
        self.checkpoint()

    # -- reading: see partitions.reading and partitions.times

    def read(self, offset: int, max_bytes: int, *, max_offset: int | None = None) -> bytes | memoryview:
        """Whole durable batches from the one with ``offset`` on; b"" where there is none yet.

        See ``Reader.read`` for all that it promises and raises.
        """
        return self._reader.read(offset, max_bytes, max_offset=max_offset)

    def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int] | None:
        """(base offset, largest timestamp) of the first durable batch with a timestamp >= ``timestamp_ms``.

        Exact to the batch: which record of it is the first, only its decoded records tell. None where
        there is no such batch.
        """
        return self._times.first_at(timestamp_ms)

    def offset_of_max_timestamp(self) -> tuple[int, int] | None:
        """(base offset, timestamp) of the first durable batch with the largest timestamp of the log."""
        return self._times.of_max_timestamp()

    def epoch_end_offset(self, epoch: int) -> tuple[int, int]:
        """Kafka's OffsetForLeaderEpoch: (largest epoch <= ``epoch``, the offset behind its last record).

        (-1, -1) where ``epoch`` has not begun.
        """
        return self._epochs.end_offset(epoch, self._state.durable_offset)

    # -- deleting

    def advance_start(self, offset: int, *, unlink_later: bool = False) -> int:
        """Forgets the records below ``offset``, durably; returns the new start offset, never a lower one.

        Whole segments below it are deleted: their files are renamed, and unlinked at once or by the job
        that ``take_unlinking`` returns. Raises OffsetOutOfRange above the durable end, LogFailed, or
        StorageFull / KafkaStorageError where it could not be stored.
        """
        if self._state.failure is not None:
            raise LogFailed(self._state.failure)
        if offset > self._state.durable_offset:
            raise OffsetOutOfRange(
                f"records below {offset} cannot be deleted: the log has {self._state.start_offset} to "
                f"{self._state.durable_offset}"
            )
        if offset <= self._state.start_offset:
            return self._state.start_offset
        try:
            save_start_offset(self._files, self._directory, offset)
            self._state.start_offset = offset
            self._epochs.drop_below(offset)
            self._delete_segments_below_start()
            if not unlink_later:
                self._unlink_renamed()
        except OSError as error:
            kind = StorageFull if error.errno in SPACE_ERRORS else KafkaStorageError
            raise kind(
                f"{self._directory}: the start offset {offset} could not be stored: {error}"
            ) from error
        self.checkpoint()
        return self._state.start_offset

    def _delete_segments_below_start(self) -> None:
        busy = self._busy() | self._cleaner.busy
        if rename_segments_below_start(self._state, busy, self._renamed):
            self._reader.forget_positions()

    def _busy(self) -> set[Segment]:
        """The segments with bytes that are not known to be durable."""
        return {*self._writer.unsynced, *(self._ticket.segments if self._ticket is not None else ())}

    def _unlink_renamed(self) -> None:
        for path in self._renamed:
            self._files.unlink(path)
        self._renamed.clear()

    def take_unlinking(self) -> Unlinking | None:
        """The job that unlinks what was renamed since the last call; None where that is nothing.

        It may run on any thread, and late: a log that is opened before has done it itself.
        """
        if not self._renamed:
            return None
        paths, self._renamed = self._renamed, []
        return Unlinking(self._files, paths)

    def retention(self, wall_ms: int | None) -> Kept:
        """What retention would keep now; ``wall_ms`` is the time of day, None where nobody knows it.

        Changes nothing: ``advance_start`` does.
        """
        return kept_by_retention(self._state, self._busy(), wall_ms)

    def roll_expired(self, wall_ms: int) -> bool:
        """Begins a new segment where retention or compaction waits for the active one; whether it did.

        The next sync covers it. Nothing may be staged. Raises KafkaStorageError where the file cannot be
        made; then nothing has changed.
        """
        if self._writer.staging or not is_due_to_close(self._state, wall_ms):
            return False
        self._writer.roll()
        return True

    # -- compacting: see partitions.cleaner

    def plan_cleaning(self, wall_ms: int, free_bytes_min: int = 0) -> Cleaning | None:
        """The job of the next pass of compaction, if it is time for one; ``wall_ms`` is the time of day.

        It may run on any thread; hand it to ``cleaning_done`` after each run. Of the disk ``free_bytes_min``
        stay free.
        """
        if self._state.checkpoint_due:
            # The next pass waits for the checkpoint of the last one, and of a quiet log no sync brings it.
            self.checkpoint()
        return self._cleaner.plan(self._busy(), wall_ms, free_bytes_min)

    def cleaning_done(self, cleaning: Cleaning, error: OSError | None) -> bool:
        """A run has ended: its new segment takes the place of the old ones. Whether the pass goes on.

        Raises LogFailed.
        """
        self._renamed += self._cleaner.take(cleaning, error)
        if cleaning.swap is not None:
            # What it said last may be of a segment that this one has swallowed.
            durable_end = self._state.durable_end()
            self._witness.write(durable_end.base_offset, durable_end.durable_size, self.durable_offset)
        self._delete_segments_below_start()
        self.checkpoint()
        return self._cleaner.under_way

    def give_up_cleaning(self) -> None:
        """Ends the pass under way, whose job does not run; what it has done stays."""
        self._cleaner.give_up()
        self._delete_segments_below_start()

    @property
    def cleaning_may_go_on(self) -> bool:
        """Whether a pass is under way whose job may be run again now."""
        return self._cleaner.may_go_on

    def _save_epochs(self) -> None:
        path = self._directory / epoch_file.FILE_NAME
        replace_file(self._files, path, epoch_file.format_epochs(self._epochs))

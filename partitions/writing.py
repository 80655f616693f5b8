"""Writing: batches are staged in memory, then handed to the kernel in one call, all or none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from odradek.protocol.batch import (
    LENGTH_END,
    NO_PRODUCER_ID,
    PLACED_BYTES,
    TIMESTAMP_TYPE_MASK,
    BatchHeader,
    Buffer,
    append_stamped,
    placed_prefix,
)
from odradek.protocol.errors import KafkaStorageError, MessageTooLarge
from partitions.errors import LogFailed, StorageFull
from partitions.files import SPACE_ERRORS, write_all
from partitions.producers import Producers
from partitions.segment import RELATIVE_OFFSET_MAX, Mark, Segment
from partitions.settings import LogSettings
from partitions.state import LogState

BATCH_CHECK_BYTES = 1024
"""What checking one batch at a restart costs beside its bytes, in bytes: small batches checkpoint sooner."""


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


class Writer:
    """Writes one log; ``state`` and ``producers`` are the log's own.

    ``unsynced`` are the segments with bytes that no sync covers yet, ``new_names`` says that there are new
    files among them, ``unchecked_bytes`` is what a restart would read behind the checkpoint.
    """

    def __init__(self, state: LogState, producers: Producers, leader_epoch: int) -> None:
        self._state = state
        self._producers = producers
        self._leader_epoch = leader_epoch
        self._groups: list[_Group] = []
        self._mark: tuple[int, Mark] | None = None
        self.written_offset = state.end_offset
        self.unsynced: list[Segment] = []
        self.new_names = False
        self.unchecked_bytes = 0

    @property
    def staging(self) -> bool:
        """Whether batches are staged that ``write`` has not handed over."""
        return bool(self._groups)

    def append(self, batch: Buffer, header: BatchHeader, wall_ms: int) -> Appended:
        """Stages one batch that ``check_batch`` has passed; ``header`` is what that returned.

        ``batch`` is not copied: it must not change until ``write``. ``wall_ms`` is the time of day. Raises
        MessageTooLarge, InvalidProducerEpoch, UnknownProducerId, OutOfOrderSequenceNumber or LogFailed;
        then nothing was staged.
        """
        if self._state.failure is not None:
            raise LogFailed(self._state.failure)
        settings = self._state.settings
        size = LENGTH_END + header.batch_length
        if size > settings.max_message_bytes or size > settings.segment_bytes:
            raise _too_large(size, settings)
        idempotent = header.producer_id != NO_PRODUCER_ID
        if idempotent:
            earlier = self._producers.check(header)
            if earlier is not None:
                return Appended(earlier.base_offset, earlier.last_offset, earlier.timestamp, duplicate=True)
        stamp = b""
        if settings.log_append_time or header.attributes & TIMESTAMP_TYPE_MASK:
            header, stamp = append_stamped(batch, header, wall_ms if settings.log_append_time else None)
        base_offset = self._state.end_offset
        last_offset = base_offset + header.last_offset_delta
        group = self._group_for(size, last_offset, wall_ms)
        group.segment.stage(header, base_offset, wall_ms, settings.index_interval_bytes)
        prefix = placed_prefix(header, base_offset, self._leader_epoch)
        group.buffers += (prefix + stamp, memoryview(batch)[PLACED_BYTES + len(stamp) :])
        if idempotent:
            self._producers.record(header, base_offset, wall_ms)
        self._state.end_offset = last_offset + 1
        return Appended(base_offset, last_offset, header.max_timestamp, duplicate=False)

    def _group_for(self, size: int, last_offset: int, wall_ms: int) -> _Group:
        """The group that takes a batch of ``size`` bytes, in a new segment where the last is full or old."""
        segment, settings = self._state.segments[-1], self._state.settings
        if self._mark is None:
            self._mark = len(self._state.segments), segment.mark()
        if segment.size > 0 and (
            segment.size + size > settings.segment_bytes
            or last_offset - segment.base_offset > RELATIVE_OFFSET_MAX
            or wall_ms - segment.created_ms > settings.segment_age_ms_max(segment.path)
        ):
            segment = self._state.new_segment(self._state.end_offset)
            self._state.segments.append(segment)
        elif self._groups:
            return self._groups[-1]
        group = _Group(segment, segment.size, [])
        self._groups.append(group)
        return group

    def roll(self) -> None:
        """Closes the active segment, which has batches, all written, and begins a new one.

        Raises KafkaStorageError where its file cannot be made; then nothing has changed.
        """
        state = self._state
        if state.failure is not None:
            raise LogFailed(state.failure)
        full, fresh = state.segments[-1], state.new_segment(state.end_offset)
        try:
            fresh.open_writer()
        except OSError as error:
            kind = StorageFull if error.errno in SPACE_ERRORS else KafkaStorageError
            raise kind(f"{fresh.path} cannot be made: {error}") from error
        full.seal()
        self.note_unsynced(full)
        state.segments.append(fresh)
        self.new_names = state.checkpoint_due = True

    def write(self) -> None:
        """Hands all staged batches to the kernel, in one call where they go to one segment.

        Raises StorageFull where there is no space: the whole group is taken back, offsets and producers
        included, and the log goes on. Raises LogFailed where the disk is broken.
        """
        if not self._groups:
            return
        if self._state.failure is not None:
            raise LogFailed(self._state.failure)
        try:
            for group in self._groups:
                self._write_group(group)
        except OSError as error:
            self._take_back(error)
        assert self._mark is not None
        active_before = self._mark[0] - 1
        for segment in self._state.segments[active_before:-1]:
            segment.seal()
            self.note_unsynced(segment)
        for group in self._groups:
            self.note_unsynced(group.segment)
            batch_count = len(group.buffers) // 2  # the placed prefix and the rest of each
            self.unchecked_bytes += group.segment.size - group.position + batch_count * BATCH_CHECK_BYTES
        self._state.segments[-1].write_indexes()
        self._groups, self._mark = [], None
        self._producers.commit()
        self.written_offset = self._state.end_offset
        if self.unchecked_bytes >= self._state.settings.checkpoint_bytes:
            self._state.checkpoint_due = True

    def _write_group(self, group: _Group) -> None:
        segment = group.segment
        if segment.descriptor is None:
            segment.open_writer()
            self.new_names = self._state.checkpoint_due = True
        if self._state.settings.preallocate:
            segment.allocate_ahead(self._state.settings.segment_bytes)
        write_all(
            self._state.files,
            segment.open_writer(),
            group.buffers,
            group.position,
            segment.size - group.position,
        )

    def note_unsynced(self, segment: Segment) -> None:
        if segment not in self.unsynced:
            self.unsynced.append(segment)

    def _take_back(self, error: OSError) -> None:
        """Undoes every staged batch, in memory and on disk; always raises."""
        assert self._mark is not None
        count, mark = self._mark
        self._groups, self._mark = [], None
        refused = f"offsets {self.written_offset} to {self._state.end_offset - 1}"
        self._state.end_offset = self.written_offset
        self._producers.roll_back()
        active = self._state.segments[count - 1]
        begun, self._state.segments[count:] = self._state.segments[count:], []
        active.restore(mark)
        try:
            for segment in begun:
                segment.close()
                self._state.files.unlink(segment.path)
            if begun:
                self._state.files.fsync_directory(self._state.directory)
            active.cut_file()
            self._state.files.fdatasync(active.open_writer())
        except OSError as worse:
            raise self._state.fail(f"a failed write could not be taken back: {worse}") from error
        if error.errno not in SPACE_ERRORS:
            raise self._state.fail(f"writing {refused} failed: {error}") from error
        raise StorageFull(
            f"{self._state.directory}: no space for {refused} ({error}); nothing of them was kept. "
            "Free disk space and send them again"
        ) from error


def _too_large(size: int, settings: LogSettings) -> MessageTooLarge:
    if size > settings.max_message_bytes:
        return MessageTooLarge(
            f"the batch has {size} bytes, the topic's max.message.bytes is {settings.max_message_bytes}"
        )
    return MessageTooLarge(
        f"the batch has {size} bytes, the topic's segment.bytes is {settings.segment_bytes}"
    )

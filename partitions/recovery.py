"""Recovery: from the files of a directory to the state of a log, with nothing lost and nothing guessed.

Rules:

1. Up to its checkpoint a log is taken as it was; behind it every batch is read and its checksum proved.
   Without a sound checkpoint that is the whole log.
2. Checkpoint and witness say how far the log was durable: the bound. Nobody was ever told of a batch
   behind it. At the first broken place there the log ends: what follows is cut off even where it is
   sound, because a producer whose batch was lost must not find the next one stored. Cut batches are set
   aside in a file (see ``cuttings``) and reported.
3. Damage below the bound is quarantined: the offsets are named, the bytes stay. If the durable end itself
   is missing, the log goes on behind it, in a new segment.
4. Where neither checkpoint nor witness is left, the bound is unknown. Then damage with a sound batch
   behind it is quarantined, and only a torn end with no sound batch behind it is cut off.
5. What is kept is synced before anybody sees it. Recovering twice is recovering once, also if the first
   time was interrupted: cut segments go last to first, and the broken place itself after them.
6. A file whose name is not the log's own is left alone.
7. Compaction changes none of this: batches of a cleaned segment follow one another as all others do, see
   ``cleaning``, and a swap that a crash interrupted is finished before anything is read, see ``swapping``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from odradek.protocol.batch import NO_PRODUCER_ID, BatchHeader
from partitions.checkpoint import FILE_NAME as CHECKPOINT_NAME
from partitions.checkpoint import START_FILE_NAME, Checkpoint
from partitions.cuttings import SUFFIX as CUT_SUFFIX
from partitions.cuttings import copy_aside, cutting_path, remove_oldest
from partitions.epochs import FILE_NAME as EPOCHS_NAME
from partitions.epochs import LeaderEpochs
from partitions.errors import LogDamaged
from partitions.files import Files, OpenFiles
from partitions.producers import Producers
from partitions.scan import Damage, Resume, Window, holds_batch, resume_point, valid_batch
from partitions.segment import Segment
from partitions.settings import LogSettings
from partitions.swapping import FILE_NAME as SWAP_NAME
from partitions.witness import DurablePosition

METADATA_NAME = "partition.metadata"
_SEGMENT_NAME = re.compile(r"(\d{20})\.log")
_REPLACED_NAMES = (CHECKPOINT_NAME, START_FILE_NAME, EPOCHS_NAME, METADATA_NAME, SWAP_NAME)
_LEFTOVER_NAME = re.compile(
    r"\d{20}\.(?:log|index|timeindex)\.(?:deleted|cleaned)"
    rf"|\d{{20}}\.\d+\.\d+{re.escape(CUT_SUFFIX)}\.tmp"
    rf"|(?:{'|'.join(map(re.escape, _REPLACED_NAMES))})\.tmp"
)


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What opening a log did; sizes in bytes. ``quarantined`` names (first, last) offsets.

    ``bytes_truncated`` counts all that was cut off behind the durable end; if there were sound batches
    among it, ``set_aside`` names the files that hold them, and ``notes`` tells it in words.
    """

    from_checkpoint: bool
    bytes_scanned: int
    bytes_truncated: int
    quarantined: tuple[tuple[int, int], ...]
    set_aside: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class Recovered:
    """The state that recovery found; ``segments`` has at least one, the last is the active one."""

    segments: list[Segment]
    damages: list[Damage]
    producers: Producers
    epochs: LeaderEpochs
    start_offset: int
    leader_epoch: int
    report: RecoveryReport
    cleaned_offset: int = 0


def segment_bases(names: list[str]) -> list[int]:
    """Base offsets of the segments among the file names, ascending."""
    matches = (_SEGMENT_NAME.fullmatch(name) for name in names)
    return sorted(int(match.group(1)) for match in matches if match is not None)


def remove_leftovers(files: Files, directory: Path, names: list[str]) -> None:
    """Unlinks what an interrupted deletion or replacement of ours left behind."""
    for name in names:
        if _LEFTOVER_NAME.fullmatch(name):
            files.unlink(directory / name)


@dataclass(slots=True)
class Recovery:
    """One run of recovery over one directory; ``run`` is called once, ``close`` where it failed."""

    files: Files
    open_files: OpenFiles
    directory: Path
    settings: LogSettings
    wall_ms: int
    checkpoint: Checkpoint | None
    witness: DurablePosition | None
    start_offset: int | None
    known_epochs: LeaderEpochs | None

    _segments: list[Segment] = field(default_factory=list)
    _damages: list[Damage] = field(default_factory=list)
    _producers: Producers = field(init=False)
    _epochs: LeaderEpochs = field(default_factory=LeaderEpochs)
    _notes: list[str] = field(default_factory=list)
    _set_aside: list[str] = field(default_factory=list)
    _bound: DurablePosition | None = None
    _from_checkpoint: bool = False
    _bytes_scanned: int = 0
    _bytes_truncated: int = 0
    _expected: int = 0
    _epoch_max: int = 2**31 - 1

    def run(self, names: list[str]) -> Recovered:
        """Raises LogDamaged where segments overlap, OSError where the disk fails."""
        self._producers = Producers(self.settings.producer_ids_max, self.settings.producer_expiry_ms)
        if self.known_epochs is not None:
            self._epoch_max = self._known_epoch()
        self._bound = self._durable_bound()
        remaining = self._adopt_checkpoint(segment_bases(names))
        if not self._segments:
            start = self._known_start()
            self._expected = min(start, remaining[0]) if remaining and start is not None else start or 0
            if remaining and start is None:
                self._expected = remaining[0]
        for number, base in enumerate(remaining):
            if not self._take(base, remaining[number:]):
                break
        self._raise_to_durable()
        if not self._segments:
            self._begin_segment(self._expected)
        self._finish(self._segments[-1])
        self._segments[-1].open_writer()
        self.files.fsync_directory(self.directory)
        if self._set_aside:
            self._report_cuttings()
        return self._result()

    def close(self) -> None:
        """Lets go of the segments that were opened: nobody takes them over."""
        for segment in self._segments:
            segment.close()

    # -- the part that the checkpoint vouches for

    def _adopt_checkpoint(self, bases: list[int]) -> list[int]:
        """Takes over the segments that the checkpoint knows; returns the bases that are to be scanned."""
        checkpoint = self.checkpoint
        if checkpoint is None:
            return bases
        entries = {entry.base_offset: entry for entry in checkpoint.segments}
        self._from_checkpoint = False
        active = checkpoint.segments[-1]
        start = self._known_start() or 0
        expected = {entry.base_offset for entry in checkpoint.segments if entry.next_offset > start}
        known = {base for base in bases if base in entries}
        if not (expected | {active.base_offset}) <= known or any(
            base <= active.base_offset and base not in entries for base in bases
        ):
            self._notes.append("the segment files are not those of the checkpoint; the whole log was read")
            return bases
        if any(self.files.size(self._path(base)) < entries[base].size for base in known):
            self._notes.append("a segment file is shorter than the checkpoint says; the whole log was read")
            return bases
        for base in sorted(known):
            segment = self._make_segment(base)
            segment.adopt(entries[base])
            if base == active.base_offset:
                segment.load_indexes(segment.next_offset)
            else:
                segment.load_indexes_later()
            self._segments.append(segment)
        self._damages = [
            Damage(entry.first, entry.last, entry.segment, entry.position, entry.end_position)
            for entry in checkpoint.damages
        ]
        self._producers.restore(checkpoint.producers)
        self._epochs = LeaderEpochs(checkpoint.epochs)
        self._expected = active.next_offset
        self._from_checkpoint = True
        later = [base for base in bases if base > active.base_offset]
        self._scan(self._segments[-1], active.size, later[0] if later else None)
        return later

    def _raise_to_durable(self) -> None:
        """What is known to have been durable and is not there is quarantined, not forgotten."""
        durable = self._durable_offset()
        if self._expected >= durable:
            return
        self._quarantine_gap(durable)
        if self._segments and self._segments[-1].base_offset == durable:
            return
        self._begin_segment(durable)

    def _quarantine_gap(self, next_offset: int) -> None:
        """Offsets up to below ``next_offset`` are missing between two segments."""
        last = self._segments[-1] if self._segments else None
        base, position = (last.base_offset, last.size) if last is not None else (next_offset, 0)
        self._damages.append(Damage(self._expected, next_offset - 1, base, position, position))
        self._expected = next_offset

    # -- the part that is read

    def _take(self, base: int, remaining: list[int]) -> bool:
        """Scans the segment of ``base``; False where it and all behind it were cut off."""
        if base < self._expected:
            raise LogDamaged(
                f"{self._path(base)} begins at offset {base}, but the segment before it reaches to "
                f"{self._expected - 1}; move one of the two aside and start again"
            )
        if base > self._expected:
            if self._ends_before(base, remaining):
                self._drop(remaining)
                return False
            self._quarantine_gap(base)
        segment = self._begin_segment(base)
        self._scan(segment, 0, remaining[1] if len(remaining) > 1 else None)
        return True

    def _ends_before(self, base: int, remaining: list[int]) -> bool:
        """Offsets are missing before ``base``: whether the log ends there, rather than being damaged."""
        if base <= self._durable_offset() or not (self._segments or self._bound):
            return False
        return self._bound is not None or not any(self._has_batch(later) for later in remaining)

    def _scan(self, segment: Segment, position: int, next_base: int | None) -> None:
        """Reads ``segment`` from ``position`` on; what is broken is quarantined below the bound, else cut."""
        descriptor = segment.open_writer()
        self.files.forget_cached(descriptor, position)
        file_size = self.files.size(segment.path)
        window = Window(self.files, descriptor, file_size)
        while True:
            position = self._follow(segment, window, position)
            tail = _used_bytes(window, position)
            resume = self._resume(segment, window, position) if tail > 0 else None
            if resume is None:
                break
            self._damages.append(
                Damage(self._expected, resume.next_offset - 1, segment.base_offset, position, resume.position)
            )
            segment.size, segment.next_offset = resume.position, resume.next_offset
            position, self._expected = resume.position, resume.next_offset
        self._bytes_scanned += window.bytes_read
        if tail > 0 and self._must_stay(next_base):
            return
        if position < file_size:
            self._bytes_truncated += tail
            if holds_batch(window, position):
                target = self._cutting(segment, position)
                copy_aside(self.files, descriptor, position, tail, file_size, target)
            if next_base is None or next_base <= self._expected:
                segment.cut_file()  # else after the segments behind it, see _drop

    def _resume(self, segment: Segment, window: Window, position: int) -> Resume | None:
        """Where the log goes on behind the broken place; None where it ends here."""
        bound = self._bound
        if bound is None:
            return resume_point(window, position, self._expected)
        if self._expected >= self._durable_offset():
            return None
        if bound.segment != segment.base_offset or not position < bound.position <= window.end:
            return resume_point(window, position, self._expected)
        durable = Window(self.files, segment.open_writer(), bound.position)
        resume = resume_point(durable, position, self._expected)
        self._bytes_scanned += durable.bytes_read
        if resume is None or resume.next_offset > bound.offset:
            return Resume(bound.position, bound.offset)
        return resume

    def _must_stay(self, next_base: int | None) -> bool:
        """Whether offsets are missing here that others prove to have been: what is left of them stays."""
        if self._expected < self._durable_offset():
            return True
        return self._bound is None and next_base is not None and next_base > self._expected

    def _follow(self, segment: Segment, window: Window, position: int) -> int:
        """Takes sound batches from ``position`` on; returns where they end."""
        while True:
            header = valid_batch(window, position)
            if header is None or header.base_offset != self._expected:
                return position
            self._replay(segment, header)
            position += header.size_bytes
            self._expected = header.next_offset

    def _replay(self, segment: Segment, header: BatchHeader) -> None:
        segment.stage(header, header.base_offset, self.wall_ms, self.settings.index_interval_bytes)
        if header.producer_id != NO_PRODUCER_ID:
            self._producers.record(header, header.base_offset, self.wall_ms)
            self._producers.commit()
        if header.leader_epoch <= self._epoch_max:
            self._epochs.assign(header.leader_epoch, header.base_offset)

    def _checkpoint_epoch(self) -> int:
        return self.checkpoint.leader_epoch if self.checkpoint is not None else -1

    def _known_start(self) -> int | None:
        """Where the log begins, as the files beside the segments say."""
        offsets = [self.start_offset, self.checkpoint.start_offset if self.checkpoint is not None else None]
        return max((offset for offset in offsets if offset is not None), default=None)

    def _known_epoch(self) -> int:
        known = self.known_epochs.latest if self.known_epochs is not None else -1
        return max(known, self._checkpoint_epoch())

    def _durable_bound(self) -> DurablePosition | None:
        """How far the log was durable; None where nobody knows."""
        places = [self.witness] if self.witness is not None else []
        if self.checkpoint is not None:
            active = self.checkpoint.segments[-1]
            places.append(DurablePosition(active.base_offset, active.size, active.next_offset))
        return max(places, key=lambda place: (place.offset, place.segment), default=None)

    def _durable_offset(self) -> int:
        """All offsets below it were durable once: deleting, too, comes after that."""
        return max(self._bound.offset if self._bound is not None else 0, self._known_start() or 0)

    # -- what is cut off

    def _has_batch(self, base: int) -> bool:
        descriptor = self.open_files.get(self._path(base))
        window = Window(self.files, descriptor, self.files.size(self._path(base)))
        found = holds_batch(window, 0)
        self._bytes_scanned += window.bytes_read
        return found

    def _drop(self, bases: list[int]) -> None:
        """Takes whole segments off the end, the last one first, then what is broken before them."""
        for base in reversed(bases):
            segment = self._make_segment(base)
            descriptor = self.open_files.get(segment.path)
            file_size = self.files.size(segment.path)
            used = _used_bytes(Window(self.files, descriptor, file_size), 0)
            self._bytes_truncated += used
            if self._has_batch(base):
                # Not the file itself: it may have some MiB of reserved space behind the last batch.
                descriptor = self.open_files.get(segment.path)
                copy_aside(self.files, descriptor, 0, used, file_size, self._cutting(segment, 0))
            segment.forget_readers()
            for path in (segment.path, segment.index.path, segment.time_index.path):
                self.files.unlink(path)
        self.files.fsync_directory(self.directory)
        if self._segments and self._expected >= self._durable_offset():
            self._segments[-1].cut_file()

    def _cutting(self, segment: Segment, position: int) -> Path:
        epoch = max(self._epochs.latest, self._known_epoch(), 0)
        path = cutting_path(segment.path, position, epoch)
        self._set_aside.append(path.name)
        return path

    def _report_cuttings(self) -> None:
        self._notes.append(
            f"the log was cut at offset {self._expected}: a crash had torn the batch there, which was never "
            "acknowledged; sound batches behind it, never acknowledged either, were set aside in "
            f"{', '.join(self._set_aside)}"
        )
        removed = remove_oldest(self.files, self.directory)
        if removed:
            self._notes.append(f"older files of that kind were deleted: {', '.join(removed)}")

    # -- small things

    def _path(self, base: int) -> Path:
        return self._make_segment(base).path

    def _make_segment(self, base: int) -> Segment:
        return Segment(self.directory, base, self.files, self.open_files)

    def _begin_segment(self, base: int) -> Segment:
        if self._segments:
            self._finish(self._segments[-1])
            self._segments[-1].close()
        segment = self._make_segment(base)
        self._segments.append(segment)
        return segment

    def _finish(self, segment: Segment) -> None:
        """What was read of ``segment`` is made durable; a segment that was not read is left alone."""
        if segment.descriptor is None:
            return
        self.files.fdatasync(segment.descriptor)
        segment.durable_size, segment.durable_max = segment.size, segment.max_timestamp
        segment.write_indexes(least=0)

    def _result(self) -> Recovered:
        start = self._known_start()
        if start is None:
            start = self._segments[0].base_offset
        self._producers.expire(self.wall_ms)
        leader_epoch = max(self._epochs.latest, self._known_epoch())
        report = RecoveryReport(
            from_checkpoint=self._from_checkpoint,
            bytes_scanned=self._bytes_scanned,
            bytes_truncated=self._bytes_truncated,
            quarantined=tuple((damage.first, damage.last) for damage in self._damages),
            set_aside=tuple(self._set_aside),
            notes=tuple(self._notes),
        )
        cleaned = self.checkpoint.cleaned_offset if self.checkpoint and self._from_checkpoint else 0
        return Recovered(
            self._segments, self._damages, self._producers, self._epochs, start, leader_epoch, report, cleaned
        )


def _used_bytes(window: Window, position: int) -> int:
    """How many bytes from ``position`` on end with one that is not zero: zeros are reserved space."""
    used, cursor = 0, position
    while cursor < window.end:
        size = min(1 << 16, window.end - cursor)
        view = window.view(cursor, size)
        if view is None:
            break
        stripped = len(bytes(view).rstrip(b"\0"))
        if stripped:
            used = cursor + stripped - position
        cursor += size
    return used

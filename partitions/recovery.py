"""Recovery: from the files of a directory to the state of a log, with nothing lost and nothing guessed.

Rules:

1. Up to its checkpoint a log is taken as it was; behind it every batch is read and its checksum proved.
   Without a sound checkpoint that is the whole log.
2. Bytes behind the last sound batch of the log, with no sound batch behind them, are a torn write: they
   are cut off. But not below the point that the checkpoint knows to have been durable: there they stay,
   their offsets are quarantined, and the log goes on in a new segment.
3. Damage with a sound batch behind it is quarantined: the offsets are named, the bytes stay.
4. What is kept is synced before anybody sees it. Recovering twice is recovering once.
5. A file whose name is not the log's own is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from odradek.protocol.batch import NO_PRODUCER_ID, BatchHeader
from partitions.checkpoint import FILE_NAME as CHECKPOINT_NAME
from partitions.checkpoint import START_FILE_NAME, Checkpoint
from partitions.epochs import FILE_NAME as EPOCHS_NAME
from partitions.epochs import LeaderEpochs
from partitions.errors import LogDamaged
from partitions.files import Files, OpenFiles
from partitions.producers import Producers
from partitions.scan import Damage, Window, resume_point, valid_batch
from partitions.segment import Segment
from partitions.settings import LogSettings

METADATA_NAME = "partition.metadata"
_SEGMENT_NAME = re.compile(r"(\d{20})\.log")
_LEFTOVER_NAME = re.compile(
    r"\d{20}\.(?:log|index|timeindex)\.deleted"
    rf"|(?:{'|'.join(map(re.escape, (CHECKPOINT_NAME, START_FILE_NAME, EPOCHS_NAME, METADATA_NAME)))})\.tmp"
)


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What opening a log did; sizes in bytes. ``quarantined`` names (first, last) offsets."""

    from_checkpoint: bool
    bytes_scanned: int
    bytes_truncated: int
    quarantined: tuple[tuple[int, int], ...]
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
    """One run of recovery over one directory; ``run`` is called once."""

    files: Files
    open_files: OpenFiles
    directory: Path
    settings: LogSettings
    wall_ms: int
    checkpoint: Checkpoint | None
    start_offset: int | None
    known_epochs: LeaderEpochs | None

    _segments: list[Segment] = field(default_factory=list)
    _damages: list[Damage] = field(default_factory=list)
    _producers: Producers = field(init=False)
    _epochs: LeaderEpochs = field(default_factory=LeaderEpochs)
    _notes: list[str] = field(default_factory=list)
    _bytes_scanned: int = 0
    _bytes_truncated: int = 0
    _expected: int = 0
    _epoch_max: int = 2**31 - 1

    def run(self, names: list[str]) -> Recovered:
        """Raises LogDamaged where segments overlap, OSError where the disk fails."""
        self._producers = Producers(self.settings.producer_ids_max, self.settings.producer_expiry_ms)
        if self.known_epochs is not None:
            self._epoch_max = max(self.known_epochs.latest, self._checkpoint_epoch())
        remaining = self._adopt_checkpoint(segment_bases(names))
        if not self._segments:
            start = self._known_start()
            self._expected = min(start, remaining[0]) if remaining and start is not None else start or 0
            if remaining and start is None:
                self._expected = remaining[0]
        for number, base in enumerate(remaining):
            if not self._take(base, remaining[number:]):
                break
        self._raise_to_witness()
        if not self._segments:
            self._begin_segment(self._expected)
        self._finish(self._segments[-1])
        self._segments[-1].open_writer()
        self.files.fsync_directory(self.directory)
        return self._result()

    # -- the part that the checkpoint vouches for

    def _adopt_checkpoint(self, bases: list[int]) -> list[int]:
        """Takes over the segments that the checkpoint knows; returns the bases that are to be scanned."""
        checkpoint = self.checkpoint
        if checkpoint is None:
            return bases
        entries = {entry.base_offset: entry for entry in checkpoint.segments}
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
            segment.load_indexes(segment.next_offset)
            self._segments.append(segment)
        self._damages = [
            Damage(entry.first, entry.last, entry.segment, entry.position, entry.end_position)
            for entry in checkpoint.damages
        ]
        self._producers.restore(checkpoint.producers)
        self._epochs = LeaderEpochs(checkpoint.epochs)
        self._expected = active.next_offset
        later = [base for base in bases if base > active.base_offset]
        self._scan(self._segments[-1], active.size, later[0] if later else None)
        return later

    def _raise_to_witness(self) -> None:
        """What is known to have been durable and is not there is quarantined, not forgotten."""
        witness = self._witness_offset()
        if self._expected >= witness:
            return
        self._quarantine_gap(witness)
        if self._segments and self._segments[-1].base_offset == witness:
            return
        self._begin_segment(witness)

    def _quarantine_gap(self, next_offset: int) -> None:
        """Offsets up to below ``next_offset`` are missing between two segments."""
        last = self._segments[-1] if self._segments else None
        base, position = (last.base_offset, last.size) if last is not None else (next_offset, 0)
        self._damages.append(Damage(self._expected, next_offset - 1, base, position, position))
        self._expected = next_offset

    # -- the part that is read

    def _take(self, base: int, remaining: list[int]) -> bool:
        """Scans the segment of ``base``; False where it and all behind it are leftovers of a torn write."""
        if base < self._expected:
            raise LogDamaged(
                f"{self._path(base)} begins at offset {base}, but the segment before it reaches to "
                f"{self._expected - 1}; move one of the two aside and start again"
            )
        if base > self._expected:
            torn = self._segments and base > self._witness_offset()
            if torn and not any(self._has_batch(later) for later in remaining):
                self._drop(remaining)
                return False
            self._quarantine_gap(base)
        segment = self._begin_segment(base)
        self._scan(segment, 0, remaining[1] if len(remaining) > 1 else None)
        return True

    def _scan(self, segment: Segment, position: int, next_base: int | None) -> None:
        """Reads ``segment`` from ``position`` to its end; damage inside is quarantined, a torn end cut."""
        descriptor = segment.open_writer()
        self.files.forget_cached(descriptor)
        file_size = self.files.size(segment.path)
        window = Window(self.files, descriptor, file_size)
        while True:
            position = self._follow(segment, window, position)
            tail = _used_bytes(window, position)
            resume = resume_point(window, position, self._expected) if tail > 0 else None
            if resume is None:
                break
            self._damages.append(
                Damage(self._expected, resume.next_offset - 1, segment.base_offset, position, resume.position)
            )
            segment.size, segment.next_offset = resume.position, resume.next_offset
            position, self._expected = resume.position, resume.next_offset
        self._bytes_scanned += window.bytes_read
        gap = next_base is not None and next_base > self._expected
        if tail > 0 and (gap or self._expected < self._witness_offset()):
            return  # offsets are missing here that others prove to have been: keep what is left of them
        if position < file_size:
            self._bytes_truncated += tail
            segment.cut_file()

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

    def _witness_offset(self) -> int:
        """All offsets below it were durable once: deleting and checkpointing both come after that."""
        durable = self.checkpoint.segments[-1].next_offset if self.checkpoint is not None else 0
        return max(durable, self._known_start() or 0)

    def _has_batch(self, base: int) -> bool:
        descriptor = self.open_files.get(self._path(base))
        window = Window(self.files, descriptor, self.files.size(self._path(base)))
        resume = valid_batch(window, 0) or resume_point(window, 0, base)
        self._bytes_scanned += window.bytes_read
        return resume is not None

    def _drop(self, bases: list[int]) -> None:
        """Segment files that were begun but whose batches never arrived."""
        for base in bases:
            self._bytes_truncated += self.files.size(self._path(base))
            segment = self._make_segment(base)
            segment.forget_readers()
            for path in (segment.path, segment.index.path, segment.time_index.path):
                self.files.unlink(path)
        self._segments[-1].cut_file()

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
        segment.write_indexes(least=1)

    def _result(self) -> Recovered:
        start = self._known_start()
        if start is None:
            start = self._segments[0].base_offset
        self._producers.expire(self.wall_ms)
        known_epoch = self.known_epochs.latest if self.known_epochs is not None else -1
        leader_epoch = max(self._epochs.latest, known_epoch, self._checkpoint_epoch())
        report = RecoveryReport(
            from_checkpoint=self.checkpoint is not None and not self._notes,
            bytes_scanned=self._bytes_scanned,
            bytes_truncated=self._bytes_truncated,
            quarantined=tuple((damage.first, damage.last) for damage in self._damages),
            notes=tuple(self._notes),
        )
        return Recovered(
            self._segments, self._damages, self._producers, self._epochs, start, leader_epoch, report
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

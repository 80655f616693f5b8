"""Verify: is a partition sound? Every checksum, every offset, every name, every index entry.

Damage is what the log promised and cannot give, or what would mislead a reader. A note is what is worth
knowing and harms nobody: bytes behind the durable end (nobody was told of them; the next start cuts
them, or the writer is just at it), a missing index (a cache), a file that is not the log's.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from inspection.files import ReadOnlyFiles
from inspection.indexes import IndexCheck, WrongEntry, read_offset_index, read_time_index
from inspection.places import PartitionPlace
from inspection.surroundings import Surroundings, look_around
from inspection.walk import BrokenPlace, FoundBatch, SegmentFile, codec_name, earliest_known, open_segment
from partitions import checkpoint as checkpoint_file
from partitions import epochs as epochs_file
from partitions import swapping
from partitions.recovery import METADATA_NAME
from partitions.segment import INDEX_SUFFIX, LOG_SUFFIX, TIME_INDEX_SUFFIX

Severity = Literal["damage", "note"]
Kind = Literal["batch", "offsets", "segment", "index", "epoch", "file", "identity", "tail"]
LOOKS_MAX = 3
"""A running broker may replace files under the walk; what was found then is looked at again."""
WRONG_ENTRIES_SHOWN = 20
"""Of one index so many wrong entries are named; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: in bytes ``position`` to ``end_position`` of ``file``, about offsets
    ``first`` to ``last`` (None where that means nothing). ``quarantined``: the log knows and refuses them."""

    severity: Severity
    kind: Kind
    file: str
    message: str
    position: int | None = None
    end_position: int | None = None
    first: int | None = None
    last: int | None = None
    quarantined: bool = False


@dataclass(slots=True)
class Verdict:
    """What verifying one partition found; ``batches``, ``records`` and ``bytes`` count what is sound.

    ``end_offset`` is behind the last sound batch; ``durable_offset`` is None where nobody knows. Times in
    ms, of batch headers. ``compressions``: batches by codec.
    """

    partition: str
    directory: str
    segments: int = 0
    batches: int = 0
    records: int = 0
    bytes: int = 0
    start_offset: int = 0
    end_offset: int = 0
    durable_offset: int | None = None
    timestamp_min: int | None = None
    timestamp_max: int | None = None
    compressions: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        return not any(finding.severity == "damage" for finding in self.findings)


def verify(files: ReadOnlyFiles, place: PartitionPlace, *, compacted: bool = False) -> Verdict:
    """Reads the whole partition. ``compacted``: gaps between offsets are as Kafka's compaction leaves them.

    Raises OSError.
    """
    for _ in range(LOOKS_MAX):
        look = _Look(files, place, look_around(files, place), compacted)
        verdict = look.run()
        if not look.vanished and (verdict.sound or look.undisturbed()):
            break
    return verdict


class _Look:
    """One walk through a partition."""

    def __init__(
        self, files: ReadOnlyFiles, place: PartitionPlace, around: Surroundings, gaps_allowed: bool
    ) -> None:
        self._files = files
        self._place = place
        self._directory = place.directory
        self._around = around
        self._gaps_allowed = gaps_allowed
        self._expected: int | None = None
        self._epoch_wrong = False
        self._ended = False
        self.vanished = False
        self._verdict = Verdict(place.name, str(place.directory), segments=len(around.bases))
        self._verdict.durable_offset = around.durable.offset if around.durable is not None else None

    def run(self) -> Verdict:
        self._check_small_files()
        for base in self._around.bases:
            if not self._ended:
                self._check_segment(base)
        self._check_ends()
        self._check_names()
        return self._verdict

    def undisturbed(self) -> bool:
        """Whether the log still is the one that the walk began with: nothing rolled, deleted or replaced."""
        now = look_around(self._files, self._place)
        return (now.names, now.known_start) == (self._around.names, self._around.known_start)

    # -- segments

    def _check_segment(self, base: int) -> None:
        path = self._path(base)
        try:
            with open_segment(self._files, path, base) as segment:
                self._check_base(base, path)
                self._check_batches(segment)
        except FileNotFoundError:
            self.vanished = True  # deleted since the names were read
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._damage("segment", path.name, f"the disk cannot read it: {error.strerror}", first=base)

    def _check_base(self, base: int, path: Path) -> None:
        """The segment has to begin where the one before it ended."""
        expected, self._expected = self._expected, base
        if expected is None or base == expected:
            return
        if base < expected:
            self._damage(
                "segment",
                path.name,
                f"begins at offset {base}, but the segment before it reaches to {expected - 1}",
                first=base,
                last=expected - 1,
            )
        else:
            self._gap(path.name, 0, expected, base - 1, "before this segment")

    def _check_batches(self, segment: SegmentFile) -> None:
        stem = segment.path.with_suffix("")
        offsets, times = read_offset_index(self._files, stem), read_time_index(self._files, stem)
        check = IndexCheck(segment.base_offset, offsets, times)
        end_position = 0
        for found in segment.walk():
            if isinstance(found, BrokenPlace):
                self._broken(segment, found)
                check.pass_over(found)
                if self._ended:
                    break
                continue
            self._batch(segment, found)
            check.see(found.position, found.header)
            end_position = found.position + found.header.size_bytes
        self._report_entries(segment, list(check.wrong_entries()))
        self._check_missing_indexes(segment, offsets is None, times is None, end_position)
        self._check_adopted(segment, end_position)

    def _batch(self, segment: SegmentFile, found: FoundBatch) -> None:
        header = found.header
        if header.base_offset > found.expected_offset:
            self._gap(
                segment.path.name,
                found.position,
                found.expected_offset,
                header.base_offset - 1,
                "between two batches",
            )
        self._check_epoch(segment, found)
        verdict = self._verdict
        verdict.batches += 1
        verdict.records += header.record_count
        verdict.bytes += header.size_bytes
        codec = codec_name(header.compression)
        verdict.compressions[codec] = verdict.compressions.get(codec, 0) + 1
        if header.record_count > 0 and header.max_timestamp >= 0:
            verdict.timestamp_min = _least(verdict.timestamp_min, earliest_known(header))
            verdict.timestamp_max = max(verdict.timestamp_max or 0, header.max_timestamp)
        self._expected = header.next_offset

    def _broken(self, segment: SegmentFile, found: BrokenPlace) -> None:
        """Below the durable end it is damage; behind it nobody was promised anything: there the log ends."""
        durable = self._around.durable
        is_torn_end = found.last is None and segment.base_offset == self._around.bases[-1]
        if is_torn_end if durable is None else found.first >= durable.offset:
            self._ended = True
            self._note(
                "tail",
                segment.path.name,
                f"the bytes from {found.position} on are behind the durable end and begin with no batch "
                f"({found.why}): a write that was never acknowledged, or one that is under way",
                position=found.position,
                end_position=segment.file_size,
                first=found.first,
            )
            return
        last = found.last if found.last is not None else self._last_lost(segment)
        self._damage(
            "batch",
            segment.path.name,
            f"{_offsets(found.first, last)} cannot be read: {found.why}",
            position=found.position,
            end_position=found.end_position,
            first=found.first,
            last=last,
            quarantined=self._is_quarantined(found.first, last),
        )
        self._expected = found.last + 1 if found.last is not None else found.first

    def _last_lost(self, segment: SegmentFile) -> int | None:
        """The last offset that the end of a segment must have held."""
        later = [base for base in self._around.bases if base > segment.base_offset]
        if later:
            return later[0] - 1
        return self._around.durable.offset - 1 if self._around.durable is not None else None

    def _gap(self, file: str, position: int, first: int, last: int, where: str) -> None:
        if self._gaps_allowed:
            return
        self._damage(
            "offsets",
            file,
            f"{_offsets(first, last)} are missing {where}; only Kafka's own compaction leaves gaps "
            "(if these files came from a Kafka broker: --compacted)",
            position=position,
            end_position=position,
            first=first,
            last=last,
            quarantined=self._is_quarantined(first, last),
        )

    def _is_quarantined(self, first: int, last: int | None) -> bool:
        checkpoint = self._around.checkpoint
        if checkpoint is None or last is None:
            return False
        return any(item.first <= first and last <= item.last for item in checkpoint.damages)

    def _check_epoch(self, segment: SegmentFile, found: FoundBatch) -> None:
        """A batch was written in the epoch that the checkpoint of epochs has for its offset."""
        epochs, durable, header = self._around.epochs, self._around.durable, found.header
        if (
            epochs is None
            or self._epoch_wrong
            or (durable is not None and header.last_offset >= durable.offset)
        ):
            return
        entry = next((item for item in reversed(epochs.entries) if item[1] <= header.base_offset), None)
        if entry is None or entry[0] == header.leader_epoch:
            return
        self._epoch_wrong = True
        self._damage(
            "epoch",
            epochs_file.FILE_NAME,
            f"says that epoch {entry[0]} wrote offset {header.base_offset}, the batch in {segment.path.name} "
            f"at byte {found.position} has epoch {header.leader_epoch}; only the first such batch is named",
            first=header.base_offset,
            last=header.last_offset,
        )

    # -- indexes

    def _report_entries(self, segment: SegmentFile, wrong: list[WrongEntry]) -> None:
        """Behind the durable end an entry may have come before its batch, or be half written."""
        durable = self._around.durable
        active = segment.base_offset == self._around.bases[-1]
        known = min(durable.offset, self._expected or 0) if durable is not None else 0
        for number, entry in enumerate(wrong):
            new = (active or self._ended) and (entry.offset >= known or entry.excess)
            report = self._note if new else self._damage
            if number == WRONG_ENTRIES_SHOWN:
                report("index", entry.name, f"{len(wrong) - number} more wrong index entries")
                return
            report(
                "index",
                entry.name,
                f"entry {entry.number} for offset {entry.offset} is wrong: {entry.why}",
                position=entry.position,
                first=entry.offset,
                last=entry.offset,
            )

    def _check_missing_indexes(
        self, segment: SegmentFile, no_offsets: bool, no_times: bool, end_position: int
    ) -> None:
        """Only a closed segment is sure to have its indexes, the one of times even where it is small."""
        if segment.base_offset == self._around.bases[-1] or end_position == 0:
            return
        for missing, suffix in ((no_offsets and no_times, INDEX_SUFFIX), (no_times, TIME_INDEX_SUFFIX)):
            if missing:
                name = segment.path.with_suffix(suffix).name
                self._note(
                    "index", name, "is missing; it is a cache and will be built again when it is needed"
                )

    # -- the rest

    def _check_adopted(self, segment: SegmentFile, end_position: int) -> None:
        """The broker takes what its checkpoint knows without reading it: it should be right."""
        checkpoint = self._around.checkpoint
        if checkpoint is None:
            return
        entry = next((item for item in checkpoint.segments if item.base_offset == segment.base_offset), None)
        if entry is not None and entry.size > segment.file_size and end_position == segment.file_size:
            self._damage(
                "segment",
                segment.path.name,
                f"has {segment.file_size} bytes, the checkpoint knows {entry.size} durable ones",
                position=segment.file_size,
                end_position=entry.size,
                first=self._expected,
                last=entry.next_offset - 1,
            )

    def _check_ends(self) -> None:
        around, verdict = self._around, self._verdict
        first = around.bases[0] if around.bases else 0
        start = around.known_start if around.known_start is not None else first
        verdict.start_offset = start
        verdict.end_offset = self._expected if self._expected is not None else start
        newest = self._path(around.bases[-1]).name if around.bases else ""
        if around.bases and start < first and not self._gaps_allowed:
            self._damage(
                "segment",
                self._path(first).name,
                f"is the first segment, but the log begins at offset {start}: {_offsets(start, first - 1)} "
                "are missing",
                first=start,
                last=first - 1,
                quarantined=self._is_quarantined(start, first - 1),
            )
        durable = around.durable
        if (
            durable is not None
            and verdict.end_offset < durable.offset
            and not self._named(durable.offset - 1)
        ):
            lost = verdict.end_offset
            self._damage(
                "offsets",
                newest,
                f"{_offsets(lost, durable.offset - 1)} were durable and are missing at the end",
                first=lost,
                last=durable.offset - 1,
                quarantined=self._is_quarantined(lost, durable.offset - 1),
            )

    def _named(self, offset: int) -> bool:
        """Whether some damage reaches to ``offset`` already."""
        return any(
            item.severity == "damage"
            and item.kind != "index"
            and item.last is not None
            and item.last >= offset
            for item in self._verdict.findings
        )

    def _check_small_files(self) -> None:
        for name, state in self._around.states.items():
            if state == "damaged":
                self._damage(
                    "file", name, "cannot be read: it is not in its format, or its checksum is wrong"
                )
            elif state == "foreign":
                self._note("file", name, "belongs to a log in another directory; it counts for nothing here")
            elif state == "missing" and name in {checkpoint_file.FILE_NAME, METADATA_NAME}:
                self._note("file", name, "is missing")
        known, found = self._place.known, self._around.topic_id
        if known is not None and known.topic_id is not None and found not in {None, known.topic_id}:
            self._damage(
                "identity",
                METADATA_NAME,
                f"says topic id {found}, the catalogue says {known.topic_id}: the broker refuses this log",
            )
        epochs = self._around.epochs
        if epochs is not None and any(
            after[0] <= before[0] or after[1] <= before[1] for before, after in pairwise(epochs.entries)
        ):
            self._damage("epoch", epochs_file.FILE_NAME, "its entries do not ascend")

    def _check_names(self) -> None:
        swap = self._around.swap
        if swap is not None and swap.unfinished:
            self._note(
                "file",
                swapping.FILE_NAME,
                f"compaction is about to make one of the segments {swap.sources}; where the broker died in "
                "the middle of it some of them are missing, and the next start finishes it",
            )
        for name in self._around.strangers:
            self._note("file", name, "is not one of the log's own files; it is left alone")
        for name in self._around.orphans:
            self._note("file", name, "is an index whose segment is not there")
        for name in self._around.leftovers:
            self._note("file", name, "is a leftover; the next start, or its deletion, removes it")

    def _path(self, base: int) -> Path:
        return self._directory / f"{base:020d}{LOG_SUFFIX}"

    def _damage(self, kind: Kind, file: str, message: str, **where: int | bool | None) -> None:
        self._add("damage", kind, file, message, where)

    def _note(self, kind: Kind, file: str, message: str, **where: int | bool | None) -> None:
        self._add("note", kind, file, message, where)

    def _add(
        self, severity: Severity, kind: Kind, file: str, message: str, where: dict[str, int | bool | None]
    ) -> None:
        self._verdict.findings.append(Finding(severity, kind, file, message, **where))  # type: ignore[arg-type]


def _least(known: int | None, found: int) -> int:
    return found if known is None else min(known, found)


def _offsets(first: int, last: int | None) -> str:
    if last is None:
        return f"offsets from {first} on"
    return f"offset {first}" if first == last else f"offsets {first} to {last}"

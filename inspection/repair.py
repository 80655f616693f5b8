"""Repair: what the broker's own recovery would do, over all of the log, and nothing is lost by it.

Rules:

1. Both locks are held: the broker's on the data directory, then the log's. Where one is taken, refuse.
2. Everything is verified first. Damage that the log's checkpoint does not know is entered there, so that
   the log quarantines it: reads of those offsets get a named error, the rest is served.
3. Small files that cannot be read are moved into ``set-aside-<ms>`` in the partition's directory; so is
   what the recovery removes or cuts off, whatever its reason (see ``KeepingFiles``). Damaged bytes in the
   middle of a segment stay where they are: the offsets behind them depend on it.
4. Then the log is opened and closed, as a broker would, and indexes that are wrong are built anew.
5. Repairing a sound log changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from inspection.files import KeepingFiles, ReadOnlyFiles
from inspection.indexes import IndexCheck, read_offset_index, read_time_index
from inspection.places import BROKER_LOCK_NAME, LOG_LOCK_NAME, KnownTopic, PartitionPlace
from inspection.surroundings import ASIDE_PREFIX, Surroundings, look_around
from inspection.verify import Finding, Verdict, verify
from inspection.walk import FoundBatch, open_segment
from partitions.checkpoint import DamageEntry, save_checkpoint
from partitions.files import OpenFiles, OsFiles
from partitions.log import Log
from partitions.segment import LOG_SUFFIX, Segment
from partitions.settings import LogSettings

OPEN_FILES_MAX = 4


class CannotRepair(Exception):
    """Nothing was changed; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair did, in the order in which it did it, and what verifying found afterwards."""

    partition: str
    directory: str
    actions: tuple[str, ...]
    aside: tuple[str, ...]
    verdict: Verdict


@contextmanager
def broker_stopped(data_directory: Path) -> Iterator[None]:
    """Keeps every broker off the data directory. Raises CannotRepair where one runs."""
    path = data_directory / BROKER_LOCK_NAME
    if not path.exists():
        yield
        return
    with _locked(path, f"a broker runs on {data_directory}"):
        yield


def repair(
    place: PartitionPlace, wall_ms: int, *, topic_id: str | None = None, compacted: bool = False
) -> Repair:
    """Repairs one partition whose broker is stopped. ``wall_ms`` is the time of day.

    ``topic_id`` stands in for a partition.metadata that cannot be read. Raises CannotRepair, OSError, or
    KafkaStorageError where the log cannot be opened; then what was found stays as it is.
    """
    owner = place.directory.stat().st_uid
    if owner != os.geteuid():
        raise CannotRepair(
            f"{place.directory} belongs to user {owner} and this is user {os.geteuid()}: what a repair "
            "writes could not be opened by the broker. Run it as the owner. Nothing was changed"
        )
    with _locked(place.directory / LOG_LOCK_NAME, f"another process has {place.directory} open"):
        return _Repairing(place, wall_ms, topic_id, compacted).run()


@dataclass(slots=True)
class _Repairing:
    """One repair; the log's lock is held by the caller and handed over to the log for its time."""

    place: PartitionPlace
    wall_ms: int
    topic_id: str | None
    compacted: bool
    actions: list[str] = field(default_factory=list)

    def run(self) -> Repair:
        reading, directory = ReadOnlyFiles(), self.place.directory
        before = verify(reading, self.place, compacted=self.compacted)
        around = look_around(reading, self.place)
        keeping = KeepingFiles(directory / f"{ASIDE_PREFIX}{self.wall_ms}")
        if before.sound and not _has_tail(before):
            return self._result(keeping, before)
        settings = self.place.known.settings if self.place.known is not None else LogSettings()
        topic_id = self._topic_id(around)
        self._set_unreadable_aside(keeping, before)
        self._enter_damage(keeping, before, around)
        self._recover(keeping, settings, topic_id)
        for base in look_around(reading, self.place).bases:
            self._rebuild_indexes(reading, base, settings.index_interval_bytes)
        return self._result(keeping, verify(reading, self.place, compacted=self.compacted))

    def _topic_id(self, around: Surroundings) -> str:
        known = self.place.known or KnownTopic()
        found = around.topic_id or known.topic_id or self.topic_id
        if found is None:
            raise CannotRepair(
                f"{self.place.directory}: partition.metadata cannot be read and no catalogue tells whose log "
                "this is; nothing was changed. Name its topic id with --topic-id"
            )
        return found

    def _set_unreadable_aside(self, files: KeepingFiles, before: Verdict) -> None:
        for finding in before.findings:
            if finding.kind == "file" and finding.severity == "damage":
                files.set_aside(self.place.directory / finding.file)
                self.actions.append(f"moved {finding.file} aside: it could not be read")

    def _enter_damage(self, files: KeepingFiles, before: Verdict, around: Surroundings) -> None:
        """The log believes its checkpoint about segments that it does not read: tell it."""
        if around.checkpoint is None:
            return  # then it reads everything and finds out itself
        fresh = [_damage_entry(item) for item in before.findings if _is_unknown_batch_damage(item)]
        sizes = {entry.base_offset: entry.size for entry in around.checkpoint.segments}
        adopted = [
            item for item in fresh if item.segment in sizes and item.end_position <= sizes[item.segment]
        ]
        if not adopted:
            return
        damages = sorted([*around.checkpoint.damages, *adopted], key=lambda item: item.first)
        save_checkpoint(
            files, self.place.directory, msgspec.structs.replace(around.checkpoint, damages=damages)
        )
        for item in adopted:
            self.actions.append(
                f"quarantined offsets {item.first} to {item.last}: reads of them get an error that names them"
            )

    def _recover(self, files: KeepingFiles, settings: LogSettings, topic_id: str) -> None:
        known = set(_known_damages(self.place))
        log = Log.open(
            self.place.directory,
            settings,
            files=_Unlocked(files),
            wall_ms=self.wall_ms,
            topic_id=topic_id,
        )
        report = log.recovery
        log.close()
        self.actions += report.notes
        if report.bytes_truncated:
            self.actions.append(f"cut {report.bytes_truncated} bytes off the end, set aside")
        self.actions += [
            f"quarantined offsets {first} to {last}: reads of them get an error that names them"
            for first, last in report.quarantined
            if (first, last) not in known
        ]

    def _rebuild_indexes(self, files: ReadOnlyFiles, base: int, interval_bytes: int) -> None:
        path = self.place.directory / f"{base:020d}{LOG_SUFFIX}"
        stem = path.with_suffix("")
        offsets, times = read_offset_index(files, stem), read_time_index(files, stem)
        check = IndexCheck(base, offsets, times)
        writing = OsFiles()
        open_files = OpenFiles(writing, OPEN_FILES_MAX)
        fresh = Segment(path.parent, base, writing, open_files)
        with open_segment(files, path, base) as segment:
            for found in segment.walk():
                if not isinstance(found, FoundBatch):
                    check.pass_over(found)
                    continue
                check.see(found.position, found.header)
                fresh.size = found.position
                fresh.stage(found.header, found.header.base_offset, self.wall_ms, interval_bytes)
        missing = fresh.size > 0 and (times is None or (offsets is None and len(fresh.index) > 0))
        if not missing and not any(True for _ in check.wrong_entries()):
            return
        fresh.append_time_entry()
        for index in (fresh.index, fresh.time_index):
            index.write()
        open_files.close()
        self.actions.append(f"built the indexes of {path.name} anew")

    def _result(self, files: KeepingFiles, verdict: Verdict) -> Repair:
        aside = tuple(f"{files.aside.name}/{name}" for name in files.moved)
        return Repair(self.place.name, str(self.place.directory), tuple(self.actions), aside, verdict)


class _Unlocked(KeepingFiles):
    """The files of the repair for the log: its lock is held already, by this process."""

    def __init__(self, files: KeepingFiles) -> None:
        super().__init__(files.aside)
        self.moved = files.moved

    def lock(self, path: Path) -> int:
        return self.open(path, create=True)


@contextmanager
def _locked(path: Path, taken: str) -> Iterator[None]:
    files = OsFiles()
    try:
        descriptor = files.lock(path)
    except BlockingIOError:
        raise CannotRepair(f"{taken}: stop it first, then repair. Nothing was changed") from None
    try:
        yield
    finally:
        files.close(descriptor)


def _has_tail(verdict: Verdict) -> bool:
    return any(finding.kind == "tail" for finding in verdict.findings)


def _is_unknown_batch_damage(finding: Finding) -> bool:
    return (
        finding.severity == "damage"
        and finding.kind == "batch"
        and not finding.quarantined
        and finding.last is not None
    )


def _damage_entry(finding: Finding) -> DamageEntry:
    assert finding.first is not None
    assert finding.last is not None
    assert finding.position is not None
    assert finding.end_position is not None
    segment = int(finding.file.partition(".")[0])
    return DamageEntry(finding.first, finding.last, segment, finding.position, finding.end_position)


def _known_damages(place: PartitionPlace) -> Iterator[tuple[int, int]]:
    checkpoint = look_around(ReadOnlyFiles(), place).checkpoint
    for item in checkpoint.damages if checkpoint is not None else ():
        yield item.first, item.last

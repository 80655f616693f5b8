"""Stat: a partition in numbers. What it counts, it has read and checked, so a damaged place shows."""

from __future__ import annotations

import msgspec

from inspection.files import ReadOnlyFiles
from inspection.places import PartitionPlace
from inspection.surroundings import State, Surroundings, look_around, sizes
from inspection.verify import Verdict, verify
from partitions import checkpoint as checkpoint_file
from partitions import witness as witness_file


class PartitionStat(msgspec.Struct, frozen=True, kw_only=True):
    """One partition; sizes in bytes, times in ms, offsets as in a log: start <= durable <= end.

    ``file_bytes`` counts reserved space, indexes and all else; ``durable_offset`` is null where no
    checkpoint or witness tells. ``quarantined`` are offsets (first, last) that the log knows to be damaged.
    """

    partition: str
    directory: str
    start_offset: int
    durable_offset: int | None
    end_offset: int
    segments: int
    batches: int
    records: int
    bytes: int
    file_bytes: int
    compressions: dict[str, int]
    timestamp_min: int | None
    timestamp_max: int | None
    leader_epoch: int | None
    indexes_ok: bool
    sound: bool
    checkpoint: State
    witness: State
    quarantined: list[tuple[int, int]]
    cuttings: list[str]
    strangers: list[str]


def stat(files: ReadOnlyFiles, place: PartitionPlace) -> PartitionStat:
    """Reads the whole partition. Raises OSError."""
    around = look_around(files, place)
    return _describe(place, around, verify(files, place))


def _describe(place: PartitionPlace, around: Surroundings, verdict: Verdict) -> PartitionStat:
    damages = [finding for finding in verdict.findings if finding.severity == "damage"]
    return PartitionStat(
        partition=verdict.partition,
        directory=verdict.directory,
        start_offset=verdict.start_offset,
        durable_offset=verdict.durable_offset,
        end_offset=verdict.end_offset,
        segments=verdict.segments,
        batches=verdict.batches,
        records=verdict.records,
        bytes=verdict.bytes,
        file_bytes=sum(sum(sizes(place.directory, base).values()) for base in around.bases),
        compressions=verdict.compressions,
        timestamp_min=verdict.timestamp_min,
        timestamp_max=verdict.timestamp_max,
        leader_epoch=around.epochs.latest if around.epochs is not None else None,
        indexes_ok=not any(finding.kind == "index" for finding in damages),
        sound=verdict.sound,
        checkpoint=around.states[checkpoint_file.FILE_NAME],
        witness=around.states[witness_file.FILE_NAME],
        quarantined=[(item.first, item.last) for item in around.checkpoint.damages]
        if around.checkpoint
        else [],
        cuttings=around.cuttings,
        strangers=around.strangers,
    )

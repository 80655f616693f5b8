"""Dump: what stands in a partition, a segment or an index, item by item, as plain structs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from inspection.files import ReadOnlyFiles
from inspection.indexes import read_offset_index, read_time_index
from inspection.places import OFFSETS_TOPIC, PartitionPlace, SegmentPlace
from inspection.surroundings import look_around
from inspection.walk import BrokenPlace, FoundBatch, SegmentFile, codec_name, open_segment
from odradek.protocol.batch import (
    CONTROL_MASK,
    DELETE_HORIZON_MASK,
    NO_PRODUCER_ID,
    SEQUENCE_MODULUS,
    TIMESTAMP_TYPE_MASK,
    TRANSACTIONAL_MASK,
    BatchHeader,
)
from odradek.protocol.errors import CorruptMessage, UnsupportedCompressionType
from partitions.segment import LOG_SUFFIX


class Bytes(msgspec.Struct, frozen=True):
    """Bytes that are no text."""

    base64: bytes


Text = str | Bytes | None


class BatchItem(msgspec.Struct, frozen=True, tag="batch", tag_field="type"):
    """One batch; times in ms, sizes and positions in bytes. ``crc_ok`` is false also where the batch is sound
    and its base offset is not what has to follow: a damage item behind it says what is wrong."""

    segment: str
    position: int
    size: int
    base_offset: int
    last_offset: int
    record_count: int
    leader_epoch: int
    crc: int
    crc_ok: bool
    compression: str
    timestamp_type: str
    base_timestamp: int
    max_timestamp: int
    delete_horizon: int | None
    producer_id: int
    producer_epoch: int
    base_sequence: int
    last_sequence: int
    transactional: bool
    control: bool


class RecordItem(msgspec.Struct, frozen=True, tag="record", tag_field="type"):
    """One record of the batch before it. ``sequence`` is -1 without an idempotent producer.

    In the coordinator's log ``decoded`` has key and value as the JSON that they are.
    """

    offset: int
    timestamp: int
    sequence: int
    key: Text
    value: Text
    headers: list[tuple[str, Text]]
    decoded: tuple[msgspec.Raw, msgspec.Raw] | None = None


class DamageItem(msgspec.Struct, frozen=True, tag="damage", tag_field="type"):
    """Bytes that are no batch, or a batch whose records cannot be read; ``last`` is null at an end."""

    segment: str
    position: int
    end_position: int
    first: int
    last: int | None
    why: str


class OffsetEntryItem(msgspec.Struct, frozen=True, tag="offset-entry", tag_field="type"):
    """An entry of an .index: the batch at ``position`` ends with ``offset``."""

    offset: int
    position: int


class TimeEntryItem(msgspec.Struct, frozen=True, tag="time-entry", tag_field="type"):
    """An entry of a .timeindex: ``timestamp`` is the largest up to ``offset``."""

    timestamp: int
    offset: int


Item = BatchItem | RecordItem | DamageItem | OffsetEntryItem | TimeEntryItem


@dataclass(frozen=True, slots=True)
class DumpOptions:
    """Which offsets (both inclusive; None: to the end), and whether records are wanted too."""

    from_offset: int = 0
    to_offset: int | None = None
    records: bool = False
    coordinator: bool = False

    def ends_before(self, offset: int) -> bool:
        return self.to_offset is not None and offset > self.to_offset


def dump_partition(files: ReadOnlyFiles, place: PartitionPlace, options: DumpOptions) -> Iterator[Item]:
    """Every wanted batch of a partition. Raises OSError."""
    bases = look_around(files, place).bases
    for number, base in enumerate(bases):
        following = bases[number + 1] if number + 1 < len(bases) else None
        if following is not None and following <= options.from_offset:
            continue
        if options.ends_before(base):
            return
        yield from dump_segment(files, place.directory / f"{base:020d}{LOG_SUFFIX}", base, options)


def dump_segment(files: ReadOnlyFiles, path: Path, base_offset: int, options: DumpOptions) -> Iterator[Item]:
    """Every wanted batch of a segment file. Raises OSError."""
    with open_segment(files, path, base_offset) as segment:
        for found in segment.walk():
            if isinstance(found, BrokenPlace):
                if not options.ends_before(found.first):
                    if found.header is not None:
                        yield _describe(path.name, found.position, found.header, crc_ok=False)
                    yield DamageItem(
                        path.name, found.position, found.end_position, found.first, found.last, found.why
                    )
                continue
            if options.ends_before(found.header.base_offset):
                return
            if found.header.last_offset >= options.from_offset:
                yield from _batch(segment, found, options)


def dump_index(files: ReadOnlyFiles, place: SegmentPlace) -> Iterator[Item]:
    """Every entry of an index file, offsets made absolute. Raises OSError."""
    stem = place.path.with_suffix("")
    kind: Literal["index", "timeindex"] = "index" if place.kind == "index" else "timeindex"
    content = read_offset_index(files, stem) if kind == "index" else read_time_index(files, stem)
    if content is None:
        return
    for first, second in content.entries:
        if kind == "index":
            yield OffsetEntryItem(place.base_offset + first, second)
        else:
            yield TimeEntryItem(first, place.base_offset + second)
    if content.excess_bytes:
        position = len(content.entries) * content.entry_bytes
        why = f"{content.excess_bytes} bytes are left behind the last whole entry"
        yield DamageItem(
            place.path.name, position, position + content.excess_bytes, place.base_offset, None, why
        )


def is_coordinator(directory: Path) -> bool:
    """Whether the log is the coordinator's, whose keys and values are JSON."""
    return directory.name.rpartition("-")[0] == OFFSETS_TOPIC


def _batch(segment: SegmentFile, found: FoundBatch, options: DumpOptions) -> Iterator[Item]:
    header = found.header
    yield _describe(segment.path.name, found.position, header)
    if not options.records or header.attributes & CONTROL_MASK:
        return
    content = segment.read(found.position, header.size_bytes)
    try:
        yield from _records(content, header, options)
    except (CorruptMessage, UnsupportedCompressionType) as error:
        end = found.position + header.size_bytes
        yield DamageItem(
            segment.path.name, found.position, end, header.base_offset, header.last_offset, str(error)
        )


def _records(content: bytes, header: BatchHeader, options: DumpOptions) -> Iterator[RecordItem]:
    from odradek.protocol.records import decode_batch  # noqa: PLC0415  # the codec takes its time to load

    for record in decode_batch(content):
        if record.offset < options.from_offset or options.ends_before(record.offset):
            continue
        yield RecordItem(
            offset=record.offset,
            timestamp=record.timestamp,
            sequence=_sequence(header, record.offset),
            key=text(record.key),
            value=text(record.value),
            headers=[(name, text(value)) for name, value in record.headers],
            decoded=_decoded(record.key, record.value) if options.coordinator else None,
        )


def _sequence(header: BatchHeader, offset: int) -> int:
    if header.producer_id == NO_PRODUCER_ID:
        return -1
    return (header.base_sequence + offset - header.base_offset) % SEQUENCE_MODULUS


def _describe(segment: str, position: int, header: BatchHeader, *, crc_ok: bool = True) -> BatchItem:
    return BatchItem(
        segment=segment,
        position=position,
        size=header.size_bytes,
        base_offset=header.base_offset,
        last_offset=header.last_offset,
        record_count=header.record_count,
        leader_epoch=header.leader_epoch,
        crc=header.crc,
        crc_ok=crc_ok,
        compression=codec_name(header.compression),
        timestamp_type="LogAppendTime" if header.attributes & TIMESTAMP_TYPE_MASK else "CreateTime",
        base_timestamp=header.base_timestamp,
        max_timestamp=header.max_timestamp,
        delete_horizon=header.base_timestamp if header.attributes & DELETE_HORIZON_MASK else None,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        last_sequence=header.last_sequence if header.producer_id != NO_PRODUCER_ID else -1,
        transactional=bool(header.attributes & TRANSACTIONAL_MASK),
        control=bool(header.attributes & CONTROL_MASK),
    )


def text(content: bytes | None) -> Text:
    """Bytes as text where they are UTF-8."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return Bytes(content)


def _decoded(key: bytes | None, value: bytes | None) -> tuple[msgspec.Raw, msgspec.Raw] | None:
    """Key and value as JSON; None where one of them is not."""
    found = [content if content is not None else b"null" for content in (key, value)]
    try:
        for content in found:
            msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return msgspec.Raw(found[0]), msgspec.Raw(found[1])

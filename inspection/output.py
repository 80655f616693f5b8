"""Output: items, stats and verdicts as lines for people, or as JSON lines for programs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence

import msgspec

from inspection.dump import BatchItem, DamageItem, Item, OffsetEntryItem, RecordItem, Text, TimeEntryItem
from inspection.places import DataPlace, PartitionPlace
from inspection.repair import Repair
from inspection.stat import PartitionStat
from inspection.verify import Finding, Verdict
from odradek.cli.output import human_bytes, human_timestamp, print_pairs, printable, write

_encode = msgspec.json.Encoder().encode


def write_items(items: Iterable[Item], *, as_json: bool) -> int:
    """Writes each item as it comes; 1 if one of them is damage, else 0."""
    code = 0
    for item in items:
        if isinstance(item, DamageItem):
            code = 1
        _line(_encode(item).decode() if as_json else _item(item))
    return code


def write_stats(stats: Sequence[PartitionStat], place: DataPlace | PartitionPlace, *, as_json: bool) -> None:
    """One JSON line, or one paragraph, for each partition."""
    for number, stat in enumerate(stats):
        if as_json:
            _line(_encode(stat).decode())
            continue
        if number:
            _line("")
        _line(printable(stat.partition))
        print_pairs((f"  {name}", value) for name, value in _stat(stat))
    aside = place.aside if isinstance(place, DataPlace) else {}
    for name, kind in aside.items():
        if not as_json:
            meaning = "unknown to the catalogue, set aside" if kind == "stray" else "deleted, being removed"
            _line(f"{printable(name)}: {meaning}")


def write_verdict(verdict: Verdict, *, as_json: bool) -> None:
    """One JSON line, or the result and its findings."""
    if as_json:
        _line(_encode({**msgspec.to_builtins(verdict), "sound": verdict.sound}).decode())
        return
    _line(
        f"{printable(verdict.partition)}: {'sound' if verdict.sound else 'DAMAGED'}; offsets "
        f"{verdict.start_offset} to {verdict.end_offset}, {verdict.records} records in {verdict.batches} "
        f"batches, {human_bytes(verdict.bytes)} in {verdict.segments} segments"
    )
    for finding in verdict.findings:
        _line(f"  {_finding(finding)}")


def write_repair(repair: Repair, *, as_json: bool) -> None:
    """One JSON line, or what was done and what is the case now."""
    if as_json:
        document = {
            "partition": repair.partition,
            "directory": repair.directory,
            "actions": repair.actions,
            "aside": repair.aside,
            "verdict": {**msgspec.to_builtins(repair.verdict), "sound": repair.verdict.sound},
        }
        _line(_encode(document).decode())
        return
    for action in repair.actions or ("there was nothing to repair",):
        _line(f"{printable(repair.partition)}: {printable(action)}")
    for name in repair.aside:
        _line(f"{printable(repair.partition)}: kept in {printable(name)}")
    write_verdict(repair.verdict, as_json=False)


def _line(line: str) -> None:
    write(line + "\n")


# -- for people --------------------------------------------------------------------------------------


def _item(item: Item) -> str:
    match item:
        case BatchItem():
            return _batch(item)
        case RecordItem():
            return _record(item)
        case OffsetEntryItem():
            return f"offset {item.offset} position {item.position}"
        case TimeEntryItem():
            return f"timestamp {item.timestamp} ({human_timestamp(item.timestamp)}) offset {item.offset}"
        case DamageItem():
            last = f"to {item.last}" if item.last is not None else "on"
            return (
                f"DAMAGE {item.segment} bytes {item.position} to {item.end_position}: offsets from "
                f"{item.first} {last}: {item.why}"
            )


def _batch(item: BatchItem) -> str:
    producer = ""
    if item.producer_id >= 0:
        producer = (
            f" producer {item.producer_id} epoch {item.producer_epoch} "
            f"sequences {item.base_sequence}..{item.last_sequence}"
        )
    marks = "".join(
        mark for mark, there in ((" transactional", item.transactional), (" control", item.control)) if there
    )
    return (
        f"{item.segment} @{item.position} offsets {item.base_offset}..{item.last_offset} "
        f"records {item.record_count} bytes {item.size} {item.compression} epoch {item.leader_epoch} "
        f"{item.timestamp_type} {_times(item)}"
        f"{producer}{marks} crc {item.crc:#010x} {'ok' if item.crc_ok else 'BAD'}"
    )


def _times(item: BatchItem) -> str:
    """The base timestamp is the first record's, but where the broker or compaction has its own use for it."""
    first, latest = human_timestamp(item.base_timestamp), human_timestamp(item.max_timestamp)
    if item.delete_horizon is not None:
        return f"..{latest} tombstones until {first}"
    return latest if item.timestamp_type == "LogAppendTime" else f"{first}..{latest}"


def _record(item: RecordItem) -> str:
    sequence = f" sequence {item.sequence}" if item.sequence >= 0 else ""
    headers = "".join(f" {printable(name)}={_text(value)}" for name, value in item.headers)
    return (
        f"  {item.offset} {human_timestamp(item.timestamp)}{sequence} key {_text(item.key)} "
        f"value {_text(item.value)}" + (f" headers{headers}" if headers else "")
    )


def _text(text: Text) -> str:
    if text is None:
        return "null"
    if isinstance(text, str):
        return printable(text)
    return "base64:" + b64encode(text.base64).decode()


def _stat(stat: PartitionStat) -> list[tuple[str, str]]:
    durable = str(stat.durable_offset) if stat.durable_offset is not None else "unknown"
    codecs = ", ".join(f"{name} {count}" for name, count in sorted(stat.compressions.items())) or "-"
    pairs = [
        ("offsets", f"start {stat.start_offset}, durable {durable}, end {stat.end_offset}"),
        ("records", f"{stat.records} in {stat.batches} batches ({codecs})"),
        (
            "size",
            f"{human_bytes(stat.bytes)} in {stat.segments} segments; "
            f"files take {human_bytes(stat.file_bytes)}",
        ),
        ("times", f"{human_timestamp(stat.timestamp_min)} to {human_timestamp(stat.timestamp_max)}"),
        ("leader epoch", "unknown" if stat.leader_epoch is None else str(stat.leader_epoch)),
        ("indexes", "ok" if stat.indexes_ok else "WRONG"),
        ("checkpoint", f"{stat.checkpoint}, witness {stat.witness}"),
    ]
    if stat.quarantined:
        pairs.append(("quarantined", ", ".join(f"{first} to {last}" for first, last in stat.quarantined)))
    if stat.cuttings:
        pairs.append(("set aside", ", ".join(stat.cuttings)))
    if stat.strangers:
        pairs.append(("other files", ", ".join(stat.strangers)))
    if not stat.sound:
        pairs.append(("DAMAGED", "see odradek log verify"))
    return pairs


def _finding(finding: Finding) -> str:
    where = "" if finding.position is None else f" at byte {finding.position}"
    known = " (quarantined: the log knows)" if finding.quarantined else ""
    return f"{finding.severity}: {printable(finding.file)}{where}: {printable(finding.message)}{known}"

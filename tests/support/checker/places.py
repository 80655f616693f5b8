"""Places: what stands at an offset, the same for everybody and for ever."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tests.support.checker.anomalies import Anomaly, Cause, Promises
from tests.support.checker.history import FINAL
from tests.support.checker.operations import Operations, Write


def inconsistent_offsets(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """More than one value at an offset, whoever saw them: by an acknowledgement, a poll or in the files."""
    for key, places in history.seen.items():
        for offset, records in places.items():
            values = {record.value: proc for record, proc in records.items()}
            if len(values) > 1:
                yield Anomaly("inconsistent-offsets", key, f"offset {offset} was seen with {values}")


def duplicates(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """A value at more than one offset."""
    for key, places in history.seen.items():
        offsets: dict[str, set[int]] = {}
        for offset, records in places.items():
            for record in records:
                offsets.setdefault(record.value, set()).add(offset)
        for value, found in offsets.items():
            if len(found) > 1:
                yield Anomaly("duplicate", key, f"{value} stands at the offsets {sorted(found)}")


def strangers(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """A value that nobody sent, or that stands in a partition that it was not sent to."""
    for value, proc in history.twice_sent:
        yield Anomaly("misused-value", "", f"{value} was also sent by {proc}: values must be unique")
    for key, places in history.seen.items():
        for offset, records in places.items():
            for record, proc in records.items():
                write = history.writes.get(record.value)
                if write is None:
                    yield Anomaly("phantom", key, f"{proc} saw {record.value!r} at {offset}; nobody sent it")
                elif write.key != key:
                    yield Anomaly("phantom", key, f"{proc} saw {record.value!r}, sent to {write.key}")


def changed_bytes(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """C5: the bytes that were read are the bytes that were sent, not only their name."""
    for key, places in history.seen.items():
        for offset, records in places.items():
            for record, proc in records.items():
                write = history.writes.get(record.value)
                if write is not None and write.digest != record.digest:
                    story = f"{proc} saw other bytes at {offset} than {write.proc} sent as {record.value}"
                    yield Anomaly("C5-changed-bytes", key, story)


def aborted_reads(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """G1a: a record was seen whose writer had been told that it was not written."""
    for key, places in history.seen.items():
        for offset, records in places.items():
            for record, proc in records.items():
                write = history.writes.get(record.value)
                if write is not None and write.outcome == "fail":
                    yield Anomaly("G1a", key, f"{proc} saw {record.value} at {offset}; its send had failed")


def different_replies(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """C4: a retry is answered as the first attempt was."""
    for write in history.writes.values():
        if len(set(write.offsets)) > 1:
            story = f"{write.value} was acknowledged at {write.offsets}"
            yield Anomaly("C4-different-replies", write.key, story)


def lost_writes(history: Operations, promises: Promises) -> Iterator[Anomaly]:
    """Below the last offset that anybody read, an acknowledged record that nobody read."""
    highest = {key: max(offsets) for key, offsets in history.polled.items()}
    read_ops = _ops_that_were_read(history)
    for write in _missing(history):
        if write.outcome == "ok" and write.offsets[0] <= highest.get(write.key, -1):
            story = f"{write.value} was acknowledged at {write.offsets[0]}; later ones were read, it never"
            yield Anomaly("lost-write", write.key, story, _cause(history, write))
        elif write.outcome == "info" and write.atomic and (write.proc, write.op) in read_ops:
            story = f"{write.value} was in a batch of which other records were read, it never"
            yield Anomaly("lost-write", write.key, story, _cause(history, write))


def unseen(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """After the final polls: acknowledged and never polled."""
    if not history.has_final:
        return
    for write in _missing(history):
        if write.outcome == "ok":
            story = f"{write.value} was acknowledged at {write.offsets[0]} and never polled"
            yield Anomaly("unseen", write.key, story, _cause(history, write))


def _missing(history: Operations) -> Iterator[Write]:
    """Writes that no poll returned, though their offset, where one is known, was not deleted."""
    polled = {
        record.value
        for key, offsets in history.polled.items()
        for offset in offsets
        for record in history.seen[key][offset]
    }
    for write in history.writes.values():
        deleted = write.offsets and write.offsets[0] < history.starts.get(write.key, 0)
        really = write.offsets and write.offsets[0] not in history.polled[write.key]
        if not deleted and (write.value not in polled or really):
            yield write


def _ops_that_were_read(history: Operations) -> set[tuple[str, int]]:
    found = set()
    for key, offsets in history.polled.items():
        for offset in offsets:
            for record in history.seen[key][offset]:
                write = history.writes.get(record.value)
                if write is not None:
                    found.add((write.proc, write.op))
    return found


def _cause(history: Operations, write: Write) -> Cause:
    files = history.stored.get(write.key)
    if files is None:
        return "unknown"
    return "delivery" if write.value in files.values() else "loss"


def gaps(history: Operations, promises: Promises) -> Iterator[Anomaly]:
    """C6: offsets are dense, from the log start to the end that was told, in what the final polls read."""
    if not promises.dense or not history.has_final:
        return
    found: dict[str, set[int]] = {}
    for look in history.polls():
        if look.event.proc == FINAL:
            for record in look.event.records:
                found.setdefault(record.key, set()).add(record.offset)
            for key, end in look.event.ends.items():
                found.setdefault(key, set()).add(end)
    for key, offsets in found.items():
        start = history.starts.get(key, 0)
        for before, after in pairwise([start - 1, *sorted(offset for offset in offsets if offset >= start)]):
            if after != before + 1:
                yield Anomaly("C6-gap", key, f"no record at the offsets {before + 1} to {after - 1}")


def moved_starts(history: Operations, promises: Promises) -> Iterator[Anomaly]:
    """Where nothing may be deleted, the log starts at 0."""
    for key, start in history.starts.items():
        if promises.kept and start > 0:
            yield Anomaly("start-moved", key, f"the log starts at {start}, and nobody deleted anything")

"""A verdict: whether all flights came out as they went in, judged from what the consumers noted.

Rule 1. Every flight came exactly once: each position was seen once, in all consumers together.
Rule 2. Every flight came as it was sent: the checksums of all values add up to the same sum.
Rule 3. Of each partition every offset was read exactly once: its runs tile it from start to end.
Rule 4. Every aircraft's flights are in one partition and came in the order in which they were sent.
Rule 5. The group committed what it read: its offset in each partition is the partition's end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from demo.flights import NO_TAILNUM_KEY
from demo.tally import FlightTally, Run

NO_AIRCRAFT = NO_TAILNUM_KEY.decode()


@dataclass(frozen=True, slots=True)
class Sent:
    """What the producer had acknowledged. `ends` maps a partition to the offset after its last record."""

    flights: int
    acknowledged: int
    value_bytes: int
    value_crc_sum: int
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Received:
    """What all consumers together noted; `seen` counts each flight by position."""

    tally: FlightTally
    runs: Sequence[Run]
    seen: bytes
    committed: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Check:
    """One question, what was found, and whether that is right."""

    question: str
    found: str
    passed: bool


def add_up_seen(counts: Iterable[bytes], flights: int) -> bytes:
    """How often each flight came to any consumer; a count stops at 255."""
    total = [0] * flights
    for count in counts:
        if len(count) != flights:
            raise ValueError(f"a consumer counted {len(count)} flights, not {flights}")
        total = list(map(int.__add__, total, count))
    return bytes(min(times, 255) for times in total)


def judge(sent: Sent, received: Received) -> list[Check]:
    """Every rule of this page as a check, in the order in which they are told."""
    return [
        _check_acknowledged(sent),
        _check_once(sent, received),
        _check_content(sent, received),
        _check_offsets(sent, received),
        _check_order(received),
        _check_committed(sent, received),
    ]


def _check_acknowledged(sent: Sent) -> Check:
    lost = sent.flights - sent.acknowledged
    found = f"{sent.acknowledged:,} in" if not lost else f"{lost:,} of {sent.flights:,} not acknowledged"
    return Check("flights went in, each acknowledged after fdatasync", found, lost == 0)


def _check_once(sent: Sent, received: Received) -> Check:
    missing = received.seen.count(0)
    doubled = sum(1 for times in received.seen if times > 1)
    right = not missing and not doubled and received.tally.records == sent.flights == len(received.seen)
    found = f"{received.tally.records:,} out"
    if not right:
        found += f": {missing:,} missing, {doubled:,} more than once"
    return Check("flights came out, each exactly once", found, right)


def _check_content(sent: Sent, received: Received) -> Check:
    tally = received.tally
    right = tally.value_bytes == sent.value_bytes and tally.value_crc_sum == sent.value_crc_sum
    found = f"{tally.value_bytes:,} bytes"
    if not right:
        found += f", checksums differ from the {sent.value_bytes:,} bytes sent"
    return Check("their bytes came out as they went in", found, right)


def _check_offsets(sent: Sent, received: Received) -> Check:
    broken = [
        partition
        for partition in sorted(sent.ends.keys() | {run.partition for run in received.runs})
        if not _tiles(_runs_of(partition, received.runs), sent.ends.get(partition, 0))
    ]
    found = f"{len(sent.ends)} partitions"
    if broken:
        found = f"gaps or repeats in partition {', '.join(map(str, broken))}"
    return Check("every offset of every partition was read once", found, not broken)


def _runs_of(partition: int, runs: Sequence[Run]) -> list[Run]:
    return sorted((run for run in runs if run.partition == partition), key=lambda run: run.first_offset)


def _tiles(runs: Sequence[Run], end: int) -> bool:
    offset = 0
    for run in runs:
        if run.first_offset != offset:
            return False
        offset = run.next_offset
    return offset == end


def _check_order(received: Received) -> Check:
    partitions_of: dict[str, set[int]] = {}
    out_of_order = sum(run.out_of_order for run in received.runs)
    last: dict[str, int] = {}
    for run in sorted(received.runs, key=lambda run: (run.partition, run.first_offset)):
        for aircraft, position in run.first_positions.items():
            partitions_of.setdefault(aircraft, set()).add(run.partition)
            out_of_order += position <= last.get(aircraft, -1)
        last.update(run.last_positions)
    split = sum(len(partitions) > 1 for partitions in partitions_of.values())
    found = f"{len(partitions_of.keys() - {NO_AIRCRAFT}):,} aircraft"
    if out_of_order or split:
        found += f": {out_of_order:,} flights out of order, {split:,} aircraft in several partitions"
    return Check("every aircraft's flights came in order", found, not out_of_order and not split)


def _check_committed(sent: Sent, received: Received) -> Check:
    behind = sum(end - received.committed.get(partition, 0) for partition, end in sent.ends.items())
    wrong = [partition for partition, end in sent.ends.items() if received.committed.get(partition, 0) != end]
    found = "lag 0" if not wrong else f"{behind:,} behind in partition {', '.join(map(str, sorted(wrong)))}"
    return Check("the group committed all it read", found, not wrong)

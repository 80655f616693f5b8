"""Order: what one process sees and sends of a partition goes forward, and what it reads is up to date."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import pairwise

from tests.support.checker.anomalies import Anomaly, Promises
from tests.support.checker.history import Event
from tests.support.checker.operations import Operations, Write


def poll_order(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """nonmonotonic-poll and poll-skip between two polls of a process, int-* within one.

    An assignment, a crash, and for a member of a group a partition that came or went, begin anew.
    """
    positions: dict[str, dict[str, int]] = {}
    for event in history.events:
        if event.f in ("assign", "subscribe", "crash"):
            positions[event.proc] = {key: start - 1 for key, start in event.positions.items()}
        elif event.f == "poll" and event.type == "ok":
            places = positions.setdefault(event.proc, {})
            for key in event.rebalanced:
                places.pop(key, None)
            yield from _one_poll(history, event, places)


def _one_poll(history: Operations, event: Event, places: dict[str, int]) -> Iterator[Anomaly]:
    met: set[str] = set()
    for record in event.records:
        key, offset = record.key, record.offset
        before = places.get(key)
        prefix = "int-" if key in met else ""
        if before is not None and offset <= before:
            story = f"{event.proc} read {offset} after {before}"
            yield Anomaly(f"{prefix}nonmonotonic-poll", key, story)
        elif before is not None and offset > before + 1:
            skipped = history.known_between(key, before + 1, offset)
            if skipped:
                story = f"{event.proc} read {offset} after {before}, and there is {skipped[0]} between"
                yield Anomaly(f"{prefix}poll-skip", key, story)
        places[key] = offset
        met.add(key)


def send_order(history: Operations, promises: Promises) -> Iterator[Anomaly]:
    """nonmonotonic-send: what one process sent to a partition later stands later; int-* within one send.

    Where nobody was told an offset, what was read tells the place of a batch, whose records also stand side
    by side (int-send-skip). Of other sends without an outcome, such as a process's that was killed, the
    order is not promised.
    """
    sent: dict[tuple[str, str], list[tuple[Write, int]]] = {}
    for write in sorted(history.writes.values(), key=lambda write: write.number):
        place = history.places.get(write.value)
        if place is not None and (write.offsets or write.atomic):
            sent.setdefault((write.proc, write.key), []).append((write, place))
    for line in sent.values():
        for (earlier, before), (later, after) in pairwise(line):
            yield from _two_sends(earlier, before, later, after, promises)


def _two_sends(
    earlier: Write, before: int, later: Write, after: int, promises: Promises
) -> Iterator[Anomaly]:
    together = earlier.op == later.op
    story = f"{later.proc}'s {earlier.value} stands at {before}, and {later.value}, sent after it, at {after}"
    if after < before:
        yield Anomaly(f"{'int-' if together else ''}nonmonotonic-send", later.key, story)
    elif together and later.atomic and promises.dense and after - before > later.number - earlier.number:
        yield Anomaly("int-send-skip", later.key, f"{story}: others stand inside their batch")


def stale_ends(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """C7: who asks after an acknowledgement, or after somebody read a record, is told an end behind it."""
    facts: dict[str, list[tuple[int, int]]] = {}
    questions: dict[str, list[tuple[int, int, str]]] = {}
    for write in history.writes.values():
        for offset in write.offsets[:1]:
            facts.setdefault(write.key, []).append((write.acked_ns, offset))
    for look in history.looks:
        if look.event.f == "poll":
            for record in look.event.records:
                facts.setdefault(record.key, []).append((look.event.t_ns, record.offset))
        for key, end in look.event.ends.items():
            questions.setdefault(key, []).append((look.begun_ns, end, look.event.proc))
    for key, asked in questions.items():
        known = facts.get(key, [])
        heapq.heapify(known)
        highest = -1
        for begun_ns, end, proc in sorted(asked):
            while known and known[0][0] < begun_ns:
                highest = max(highest, heapq.heappop(known)[1])
            if end <= highest:
                yield Anomaly("C7-stale-end", key, f"{proc} was told the end {end}; {highest} was known")


def refused_polls(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """A poll that failed for a reason that time does not mend: what is in the log can be read."""
    for event in history.events:
        if event.f == "poll" and event.type == "fail":
            yield Anomaly("unreadable", "", f"{event.proc} could not read: {event.detail}")

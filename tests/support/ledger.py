"""Ledger: what clients were told by a broker, and a judge of what it kept.

What the judge holds against the log:

1. a record that was acknowledged stands at its offset, byte for byte;
2. a record that was read once stands there still;
3. offsets are dense, and what stands at them was sent, once (no retry made a copy);
4. the records of one writer stand in the order in which it sent them;
5. a group's committed offset is never below one that was acknowledged, nor above what was asked for.

Values look like ``<writer>-<number>-<anything>``; numbers count from 0.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

PROBLEMS_SHOWN_MAX = 20

Place = tuple[int, int]
"""A partition and an offset."""


@dataclass(slots=True)
class Figures:
    """What a load came to."""

    acknowledged: int = 0
    read: int = 0
    unknown: int = 0
    retries: int = 0
    forgiven: int = 0
    """Records of the sync that was under way as the power was cut."""
    errors: Counter[str] = field(default_factory=Counter)
    refused_writes: Counter[int] = field(default_factory=Counter)
    """By partition: writes that were not acknowledged at once."""
    stall_s_max: float = 0.0
    """The longest that a writer waited for an acknowledgement."""

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.read} read, {self.unknown} unknown, {self.retries} "
            f"retries, longest wait {self.stall_s_max:.2f} s, errors {dict(self.errors)}"
        )


class Ledger:
    """What clients sent, were promised and have seen. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: set[bytes] = set()
        self.acknowledged: dict[Place, bytes] = {}
        self.read: dict[Place, bytes] = {}
        self.commit_asked = 0
        self.commit_acknowledged = 0
        self.problems: list[str] = []
        self._is_cut = False
        self._late_batches: dict[bytes, list[Place]] = {}  # the last of each writer
        self._late_reads: list[Place] = []
        self._is_commit_late = False
        self.figures = Figures()

    def note_sent(self, values: list[bytes]) -> None:
        with self._lock:
            self.sent.update(values)

    def note_acknowledged(self, partition: int, offset: int, values: list[bytes], waited_s: float) -> None:
        with self._lock:
            self._place(self.acknowledged, partition, offset, values)
            if self._is_cut:
                self._late_batches[_writer(values[0])] = _places(partition, offset, values)
            self.figures.stall_s_max = max(self.figures.stall_s_max, waited_s)

    def note_read(self, partition: int, offset: int, values: list[bytes]) -> None:
        with self._lock:
            self._place(self.read, partition, offset, values)
            if self._is_cut:
                self._late_reads += _places(partition, offset, values)

    def note_retry(self, reason: str, partition: int | None = None) -> None:
        with self._lock:
            if partition is not None:
                self.figures.refused_writes[partition] += 1
            self.figures.retries += 1
            self.figures.errors[reason] += 1

    def note_problem(self, sentence: str) -> None:
        with self._lock:
            self.problems.append(sentence)

    def next_commit(self) -> int:
        """The offset that the group asks for next: always one more."""
        with self._lock:
            self.commit_asked += 1
            return self.commit_asked

    def note_commit(self, offset: int) -> None:
        with self._lock:
            self.commit_acknowledged = max(self.commit_acknowledged, offset)
            self._is_commit_late = self._is_cut

    def check_commit(self, offset: int) -> None:
        """Holds the answer to "what is committed?" against what was acknowledged before it was asked."""
        with self._lock:
            if not self.commit_acknowledged <= offset <= self.commit_asked:
                self.problems.append(
                    f"LOST: the committed offset is {offset}, {self.commit_acknowledged} was "
                    f"acknowledged and {self.commit_asked} asked for"
                )

    def power_goes(self) -> None:
        """What is noted from here on was said while, or after, the power was cut."""
        with self._lock:
            self._is_cut = True

    def forgive_last_sync(self, kept: Mapping[int, list[bytes]]) -> int:
        """Forgets what the one sync under way at the cut may have cost; how many records that were.

        The system is at fault there (see ``powercut``). It concerns the last batch of each writer, if that
        was acknowledged after the cut began, what was read of those, and the last commit.
        """
        with self._lock:
            cost = [
                place
                for places in self._late_batches.values()
                for place in places
                if place[1] >= len(kept[place[0]])
            ]
            values = {self.acknowledged.pop(place) for place in cost}
            for place in self._late_reads:
                if self.read.get(place) in values:
                    self.read.pop(place, None)
            self.commit_acknowledged -= self._is_commit_late
            self._is_cut = self._is_commit_late = False
            self._late_batches, self._late_reads = {}, []
            return len(cost)

    def acknowledged_count(self) -> int:
        with self._lock:
            return len(self.acknowledged)

    def _place(self, places: dict[Place, bytes], partition: int, offset: int, values: list[bytes]) -> None:
        for index, value in enumerate(values):
            known = places.setdefault((partition, offset + index), value)
            if known != value:
                self.problems.append(f"{partition}@{offset + index} was {_shown(known)}, is {_shown(value)}")

    def judge(self, kept: Mapping[int, list[bytes]]) -> Figures:
        """Compares with what the log holds from offset 0 on. Raises AssertionError at a broken promise."""
        with self._lock:
            problems = list(self.problems)
            for kind, places in (("acknowledged", self.acknowledged), ("read", self.read)):
                problems += _missing(kind, places, kept)
            for partition, values in kept.items():
                problems += _strangers(partition, values, self.sent)
                problems += _disorder(partition, values)
            copies = Counter(value for values in kept.values() for value in values)
            problems += [
                f"{_shown(value)} stands {count} times" for value, count in copies.items() if count > 1
            ]
            self.figures.acknowledged = len(self.acknowledged)
            self.figures.read = len(self.read)
            self.figures.unknown = len(self.sent - set(self.acknowledged.values()))
        shown = "\n".join(problems[:PROBLEMS_SHOWN_MAX])
        assert not problems, f"{len(problems)} broken promises:\n{shown}"
        return self.figures


def _places(partition: int, offset: int, values: list[bytes]) -> list[Place]:
    return [(partition, offset + index) for index in range(len(values))]


def _writer(value: bytes) -> bytes:
    return value.split(b"-", 1)[0]


def _missing(kind: str, places: Mapping[Place, bytes], kept: Mapping[int, list[bytes]]) -> list[str]:
    found = []
    for (partition, offset), value in places.items():
        values = kept.get(partition, [])
        if offset >= len(values):
            found.append(f"LOST: {kind} {partition}@{offset} {_shown(value)}, the log ends at {len(values)}")
        elif values[offset] != value:
            found.append(f"CHANGED: {kind} {partition}@{offset} {_shown(value)}, is {_shown(values[offset])}")
    return found


def _strangers(partition: int, values: list[bytes], sent: set[bytes]) -> list[str]:
    return [
        f"{partition}@{offset} {_shown(value)} was never sent"
        for offset, value in enumerate(values)
        if value not in sent
    ]


def _disorder(partition: int, values: list[bytes]) -> list[str]:
    found, last = [], dict[bytes, int]()
    for value in values:
        writer, number, _ = value.split(b"-", 2)
        if int(number) != last.get(writer, -1) + 1:
            found.append(f"partition {partition}: {_shown(value)} follows number {last.get(writer)}")
        last[writer] = int(number)
    return found


def _shown(value: bytes) -> str:
    """Writer and number."""
    return b"-".join(value.split(b"-", 2)[:2]).decode(errors="replace")

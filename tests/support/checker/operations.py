"""Operations: the lines of a history put together, and the indexes that the rules look things up in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.support.checker.history import FINAL, NO_OFFSET, Event, Kind, Record, in_order

NEVER_NS = 1 << 63
"""When an operation ended whose outcome nobody knows: it may still take effect."""


@dataclass(slots=True)
class Write:
    """One value that somebody sent. ``offsets`` has one entry for each acknowledgement."""

    key: str
    value: str
    digest: int
    proc: str
    op: int
    number: int
    begun_ns: int
    atomic: bool = False
    offsets: list[int] = field(default_factory=list)
    acked_ns: int = NEVER_NS
    refusals: int = 0
    attempts: int = 1

    @property
    def outcome(self) -> Kind:
        """``fail`` only where every attempt was refused."""
        if self.offsets:
            return "ok"
        return "fail" if self.refusals >= self.attempts else "info"


@dataclass(slots=True)
class Commit:
    """One partition's offset in one commit of one group."""

    proc: str
    group: str
    key: str
    offset: int
    generation: int
    begun_ns: int
    ended_ns: int = NEVER_NS
    outcome: Kind = "info"


@dataclass(slots=True)
class Look:
    """An operation that only looked: a poll, a fetch_commit or a question for both ends."""

    event: Event
    begun_ns: int


class Operations:
    """A whole history, indexed."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = in_order(events)
        self.writes: dict[str, Write] = {}
        self.twice_sent: list[tuple[str, str]] = []
        """(value, process) of a value that a second process, or for a second partition, also sent."""
        self.commits: list[Commit] = []
        self.looks: list[Look] = []
        self.seen: dict[str, dict[int, dict[Record, str]]] = defaultdict(lambda: defaultdict(dict))
        """By key and offset, what stood there, and who says so."""
        self.places: dict[str, int] = {}
        """By value, the first offset that it was acknowledged or seen at."""
        self.polled: dict[str, set[int]] = defaultdict(set)
        """By key, the offsets that some poll returned."""
        self.stored: dict[str, dict[int, str]] = {}
        self.starts: dict[str, int] = {}
        """By key, the last log start that was seen."""
        self.has_final = False
        self._begun: dict[tuple[str, int, str], int] = {}
        self._open_commits: dict[tuple[str, int], list[Commit]] = {}
        self._number = 0
        for event in self.events:
            self._take(event)

    # -- questions

    def polls(self) -> Iterator[Look]:
        """Polls that returned, in the order of time."""
        return (look for look in self.looks if look.event.f == "poll")

    def known_between(self, key: str, first: int, end: int) -> list[int]:
        """Offsets from ``first`` to below ``end`` that somebody saw and that were not deleted since."""
        seen, start = self.seen.get(key, {}), self.starts.get(key, 0)
        return [offset for offset in range(max(first, start), end) if offset in seen]

    # -- lines

    def _take(self, event: Event) -> None:
        match event.f:
            case "send":
                self._take_send(event)
            case "commit":
                self._take_commit(event)
            case "poll" | "fetch_commit" | "ends":
                self._take_look(event)
            case "stored":
                self._take_stored(event)
            case "assign" | "subscribe" | "crash" | "fault":
                pass

    def _take_send(self, event: Event) -> None:
        for record in event.records:
            if event.type == "invoke":
                self._invoke(event, record)
                continue
            write = self.writes.get(record.value)
            if write is None:
                raise ValueError(f"{event.proc} has an outcome for {record.value!r}, which nobody sent")
            if event.type == "ok":
                write.offsets.append(record.offset)
                write.acked_ns = min(write.acked_ns, event.t_ns)
                self._see(event.proc, Record(record.key, record.offset, record.value, write.digest))
            elif event.type == "fail":
                write.refusals += 1

    def _invoke(self, event: Event, record: Record) -> None:
        self._number += 1
        known = self.writes.get(record.value)
        if known is None:
            self.writes[record.value] = Write(
                record.key,
                record.value,
                record.digest,
                event.proc,
                event.op,
                self._number,
                event.t_ns,
                event.atomic,
            )
        elif (known.proc, known.key) == (event.proc, record.key):
            known.attempts += 1
        else:
            self.twice_sent.append((record.value, event.proc))

    def _take_commit(self, event: Event) -> None:
        place = event.proc, event.op
        if event.type == "invoke":
            self._open_commits[place] = [
                Commit(event.proc, event.group, key, offset, event.generation, event.t_ns)
                for key, offset in event.positions.items()
            ]
            self.commits += self._open_commits[place]
            return
        for commit in self._open_commits.pop(place, []):
            commit.outcome = event.type
            if event.type != "info":
                commit.ended_ns = event.t_ns

    def _take_look(self, event: Event) -> None:
        place = event.proc, event.op, event.f
        if event.type == "invoke":
            self._begun[place] = event.t_ns
            return
        begun_ns = self._begun.pop(place, event.t_ns)
        if event.type != "ok":
            return
        self.looks.append(Look(event, begun_ns))
        self.has_final = self.has_final or (event.f == "poll" and event.proc == FINAL)
        for record in event.records:
            self.polled[record.key].add(record.offset)
            self._see(event.proc, record)
        for key, start in event.starts.items():
            self.starts[key] = max(start, self.starts.get(key, 0))

    def _take_stored(self, event: Event) -> None:
        for key in event.positions:
            self.stored.setdefault(key, {})
        for record in event.records:
            self.stored.setdefault(record.key, {})[record.offset] = record.value
            self._see(event.proc, record)

    def _see(self, proc: str, record: Record) -> None:
        if record.offset != NO_OFFSET:
            self.seen[record.key][record.offset].setdefault(record, proc)
            self.places.setdefault(record.value, record.offset)

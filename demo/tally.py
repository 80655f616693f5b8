"""A tally: what one consumer computes from the flights it reads, and how several become one.

Two things are kept apart. `FlightTally` is the answer people ask for: delay by carrier, busiest routes. `Run`
and `seen` are the evidence that nothing was lost, doubled or reordered; `demo/verdict.py` judges it.

Every flight carries its position in the replay (0, 1, 2, ...) in the header `position`. So a consumer can say
of each aircraft whether its flights came in order, and of each flight how often it came.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import msgspec

from demo.flights import Flight

POSITION_HEADER = "position"
TIMES_SEEN_MAX = 255
"""A flight's count is one byte and stays at this; two is already one too many."""


class RecordError(RuntimeError):
    """A record of the topic is not one that the demo wrote."""


class DelayTally(msgspec.Struct):
    """Sums over the flights of one carrier or one route; delays in minutes."""

    flights: int = 0
    cancelled: int = 0
    arrived: int = 0
    arrival_delay_min: int = 0
    departure_delay_min: int = 0

    def add(self, flight: Flight) -> None:
        """Count one flight."""
        self.flights += 1
        if flight.dep_delay is None:
            self.cancelled += 1
            return
        self.departure_delay_min += flight.dep_delay
        if flight.arr_delay is not None:
            self.arrived += 1
            self.arrival_delay_min += flight.arr_delay

    def merge(self, other: DelayTally) -> None:
        """Add another consumer's sums."""
        self.flights += other.flights
        self.cancelled += other.cancelled
        self.arrived += other.arrived
        self.arrival_delay_min += other.arrival_delay_min
        self.departure_delay_min += other.departure_delay_min

    @property
    def departure_delay_mean_min(self) -> float | None:
        """Over the flights that left; None where none did."""
        departed = self.flights - self.cancelled
        return self.departure_delay_min / departed if departed else None

    @property
    def arrival_delay_mean_min(self) -> float | None:
        """Over the flights whose arrival was recorded; None where none was."""
        return self.arrival_delay_min / self.arrived if self.arrived else None


class FlightTally(msgspec.Struct):
    """The answer so far: sums by carrier ("UA") and by route ("JFK-LAX")."""

    records: int = 0
    value_bytes: int = 0
    value_crc_sum: int = 0
    carriers: dict[str, DelayTally] = {}
    routes: dict[str, DelayTally] = {}

    def add(self, value: bytes) -> None:
        """Count one record. Raises RecordError where its value is not a flight."""
        try:
            flight = Flight.from_json(value)
        except msgspec.DecodeError as error:
            raise RecordError(f"{value[:80]!r} is not a flight: {error}") from error
        self.records += 1
        self.value_bytes += len(value)
        self.value_crc_sum += zlib.crc32(value)
        _entry(self.carriers, flight.carrier).add(flight)
        _entry(self.routes, f"{flight.origin}-{flight.dest}").add(flight)

    def merge(self, other: FlightTally) -> None:
        """Add what another consumer counted."""
        self.records += other.records
        self.value_bytes += other.value_bytes
        self.value_crc_sum += other.value_crc_sum
        for carrier, tally in other.carriers.items():
            _entry(self.carriers, carrier).merge(tally)
        for route, tally in other.routes.items():
            _entry(self.routes, route).merge(tally)


def _entry(tallies: dict[str, DelayTally], name: str) -> DelayTally:
    tally = tallies.get(name)
    if tally is None:
        tally = tallies[name] = DelayTally()
    return tally


def merged(tallies: Iterable[FlightTally]) -> FlightTally:
    """One tally of several consumers'."""
    total = FlightTally()
    for tally in tallies:
        total.merge(tally)
    return total


class Run(msgspec.Struct):
    """Offsets of one partition that one consumer read without a gap: first_offset <= offset < next_offset.

    A consumer that keeps its partition has one run of it; each gap, rewind or take-over begins another.
    `first_positions` and `last_positions` hold, by aircraft, the first and last position read in this run.
    """

    partition: int
    first_offset: int
    next_offset: int
    out_of_order: int = 0
    first_positions: dict[str, int] = {}
    last_positions: dict[str, int] = {}

    def add(self, aircraft: str, position: int) -> None:
        """The record at `next_offset` is this aircraft's flight."""
        self.next_offset += 1
        last = self.last_positions.get(aircraft)
        if last is None:
            self.first_positions[aircraft] = position
        elif last >= position:
            self.out_of_order += 1
        self.last_positions[aircraft] = position


class Evidence:
    """The runs of one consumer and how often each flight came."""

    def __init__(self, flights: int) -> None:
        self.runs: list[Run] = []
        self.seen = bytearray(flights)
        self._current: dict[int, Run] = {}

    def add(self, partition: int, offset: int, aircraft: str, position: int) -> None:
        """Note one record. Raises RecordError for a position that no flight has."""
        if not 0 <= position < len(self.seen):
            raise RecordError(f"position {position} of {aircraft} lies outside 0 to {len(self.seen) - 1}")
        run = self._current.get(partition)
        if run is None or run.next_offset != offset:
            run = self._current[partition] = Run(partition, offset, offset)
            self.runs.append(run)
        run.add(aircraft, position)
        if self.seen[position] < TIMES_SEEN_MAX:
            self.seen[position] += 1

    def next_offsets(self) -> dict[int, int]:
        """By partition, the offset after the last record read."""
        return {partition: run.next_offset for partition, run in self._current.items()}


def position_of(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """The flight's position in the replay. Raises RecordError where the record carries none."""
    for name, value in headers:
        if name == POSITION_HEADER and value is not None and value.isdigit():
            return int(value)
    raise RecordError(f"a record without the header {POSITION_HEADER!r}: the demo did not write it")

"""The report: the tables that the demo ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from demo.flights import airline_names, airport_names
from demo.tally import DelayTally, FlightTally
from demo.verdict import Check
from odradek.cli.output import Column, print_table, write

ROUTES_SHOWN = 10
AIRPORT_CHARACTERS_MAX = 28


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from the first send to the last acknowledgement (`in_s`) and to the last read (`out_s`)."""

    in_s: float
    out_s: float


def print_answer(tally: FlightTally) -> None:
    """Delay by carrier and the busiest routes."""
    print_table(
        [
            Column("Airline"),
            Column("Flights", "right"),
            Column("Cancelled", "right"),
            Column("Departure", "right"),
            Column("Arrival", "right"),
        ],
        carrier_rows(tally, len(tally.carriers)),
        title="\nDelay by carrier, in minutes on average",
    )
    print_table(
        [Column("Route"), Column("To"), Column("Flights", "right"), Column("Arrival", "right")],
        route_rows(tally, ROUTES_SHOWN),
        title="\nBusiest routes, with their delay on arrival",
    )


def print_throughput(flights: int, value_bytes: int, timing: Timing, consumers: int) -> None:
    """How fast the flights went in and came out, and what kept them from being faster."""
    rows = [
        [
            direction,
            f"{flights:,}",
            f"{seconds:.2f}",
            f"{flights / seconds:,.0f}",
            f"{value_bytes / seconds / 1e6:,.1f}",
        ]
        for direction, seconds in (("in, durable", timing.in_s), ("out, computed", timing.out_s))
    ]
    columns = [
        Column("Flights"),
        *(Column(title, "right") for title in ("count", "seconds", "per second", "MB/s")),
    ]
    print_table(columns, rows, title="\nThroughput, from the first flight sent")
    readers = "1 consumer" if consumers == 1 else f"{consumers} consumers"
    count = len(os.sched_getaffinity(0))
    cores = "1 core" if count == 1 else f"{count} cores"
    write(f"The limit is computing the answer: 1 producer and {readers} on {cores}.\n")


def print_checks(checks: Sequence[Check]) -> None:
    """Every check with what was found."""
    rows = [["ok" if check.passed else "WRONG", check.found, check.question] for check in checks]
    print_table([Column(""), Column("Found"), Column("Checked")], rows, title="\nWhat went in came out")
    sys.stdout.flush()


def carrier_rows(tally: FlightTally, count: int) -> list[list[str]]:
    """Airline, flights, cancelled, delay on departure and on arrival; the most delayed on arrival first."""
    names = airline_names()
    ordered = sorted(tally.carriers.items(), key=lambda item: -(item[1].arrival_delay_mean_min or 0.0))
    return [
        [
            names.get(carrier, carrier),
            f"{delays.flights:,}",
            f"{delays.cancelled:,}",
            _minutes(delays.departure_delay_mean_min),
            _minutes(delays.arrival_delay_mean_min),
        ]
        for carrier, delays in ordered[:count]
    ]


def route_rows(tally: FlightTally, count: int) -> list[list[str]]:
    """Route, destination, flights, delay on arrival; the busiest first."""
    names = airport_names()

    def row(route: str, delays: DelayTally) -> list[str]:
        destination = names.get(route[4:], route[4:])[:AIRPORT_CHARACTERS_MAX]
        return [route, destination, f"{delays.flights:,}", _minutes(delays.arrival_delay_mean_min)]

    ordered = sorted(tally.routes.items(), key=lambda item: (-item[1].flights, item[0]))
    return [row(route, delays) for route, delays in ordered[:count]]


def _minutes(mean_min: float | None) -> str:
    return "-" if mean_min is None else f"{mean_min:+.1f}"

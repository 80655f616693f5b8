"""A report: one line of JSON that a consumer process writes to the demo about what it has done so far.

Reports are snapshots, not differences: the newest one of a consumer says all that its earlier ones said.
"""

from __future__ import annotations

import zlib

import msgspec

from demo.tally import Evidence, FlightTally, Run


class Assigned(msgspec.Struct, frozen=True, tag="assigned"):
    """The partitions that the group gave this consumer just now."""

    partitions: list[int]


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """The answer so far, and by partition the offset after the last record read."""

    tally: FlightTally
    next_offsets: dict[int, int]


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The last report: the whole answer and its evidence. `seen` is packed with zlib."""

    tally: FlightTally
    runs: list[Run]
    seen: bytes

    @classmethod
    def of(cls, tally: FlightTally, evidence: Evidence) -> Finished:
        """The report of a consumer that has stopped."""
        return cls(tally, evidence.runs, zlib.compress(evidence.seen))

    def seen_counts(self) -> bytes:
        """How often each flight came to this consumer, one byte each, by position."""
        return zlib.decompress(self.seen)


Report = Assigned | Progress | Finished

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def report_line(report: Report) -> bytes:
    """A report as one line."""
    return _encoder.encode(report) + b"\n"


def read_report(line: bytes) -> Report:
    """The report in a line. Raises msgspec.DecodeError for anything else."""
    return _decoder.decode(line)

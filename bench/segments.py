"""Opening a log: the time must not grow with the number of its segments."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench.targets import Outcome, Target
from bench.yardsticks import WORK
from odradek.protocol.batch import check_batch
from odradek.protocol.records import RecordToWrite, encode_batch
from partitions.files import OsFiles
from partitions.log import Log
from partitions.settings import LogSettings

SEGMENTS = (1, 10, 100, 1_000)
OPENINGS = 5
OPEN_S_MAX = 0.2
"""A process takes longer to start: at this a thousand segments are not felt."""
BATCH = encode_batch([RecordToWrite(1_700_000_000_000 + n, None, b"x" * 1000) for n in range(10)])
SETTINGS = LogSettings(segment_bytes=2 * len(BATCH))


def measure(directory: Path) -> Outcome:
    """The median time of opening a log after a clean end, for each number of segments."""
    found: dict[str, list[float]] = {}
    for segments in SEGMENTS:
        data = directory / f"segments-{segments}"
        _fill(data, segments)
        found[str(segments)] = [_open(data, segments) for _ in range(OPENINGS)]
    first, last = (statistics.median(found[str(segments)]) for segments in (SEGMENTS[0], SEGMENTS[-1]))
    target = Target(
        "segments", f"open a log of {SEGMENTS[-1]:,} segments", last, OPEN_S_MAX, "s",
        at_least=False, detail=f"one of a single segment takes {first:.3f} s",
        rounds=tuple(found[str(SEGMENTS[-1])]), yardstick=WORK,
    )  # fmt: skip
    return Outcome([target], {"open_s": found})


def _log(directory: Path) -> Log:
    return Log.open(directory, SETTINGS, files=OsFiles(), wall_ms=1_700_000_000_000, topic_id="bench")


def _fill(directory: Path, segments: int) -> None:
    log = _log(directory)
    header = check_batch(BATCH)
    for _ in range(2 * segments):
        log.append(BATCH, header, 1_700_000_000_000)
    log.close()


def _open(directory: Path, segments: int) -> float:
    begun_s = time.perf_counter()
    log = _log(directory)
    taken_s = time.perf_counter() - begun_s
    assert log.segment_count == segments
    log.close()
    return taken_s

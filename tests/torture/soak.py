"""A soak: a long run with retention on; besides the verdict, memory, descriptors and disk must stay flat.

Every SAMPLE_S the processes of the broker are looked at. Theil and Sen's slope, the median of the slopes
between all pairs of samples, is blind to single peaks; the first part, while caches fill, is left out.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.support.broker import BrokerProcess
from tests.torture.options import TOPIC, TortureOptions
from tests.torture.run import Result, torture
from tests.torture.workers import Workers

SAMPLE_S = 5.0
WARM_UP = 0.25
"""The part of the samples that is left out."""
SAMPLES_MIN = 12
RSS_SLOPE_MAX = 2 << 20
"""Bytes an hour that one process may gain."""
RSS_NOISE_BYTES = 1 << 20
"""Over a short run, a gain of less is not told from noise."""
ZOMBIE_SAMPLES_MAX = 1
SEGMENTS_MAX = 16
RETENTION_BYTES = 1 << 20
SLOPE_SAMPLES_MAX = 400
"""More are thinned out: pairs grow with the square."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The broker at one moment; processes by what ``ps`` calls them."""

    at_s: float
    rss: dict[str, int]
    descriptors: dict[str, int]
    threads: dict[str, int]
    started: dict[str, float]
    zombies: int
    segments: int
    data_bytes: int
    free_bytes: int


@dataclass(slots=True)
class Samples:
    """Taken at every turn that is due."""

    data: list[Sample] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    _due_s: float = 0.0

    def observe(self, broker: BrokerProcess, _: Workers) -> None:
        """Called by the run at every turn."""
        if time.monotonic() >= self._due_s and broker.running:
            self._due_s = time.monotonic() + SAMPLE_S
            self.data.append(_sample(broker, time.monotonic() - self.began_s))


def _sample(broker: BrokerProcess, at_s: float) -> Sample:
    rss, descriptors, threads, started, zombies = {}, {}, {}, {}, 0
    for process in [psutil.Process(broker.pid), *broker.tree()]:
        try:
            with process.oneshot():
                if process.status() == psutil.STATUS_ZOMBIE:
                    zombies += 1
                    continue
                title = " ".join(process.cmdline()).rstrip("\0 ")
                if not title.startswith("odradek: "):
                    continue
                name = title.removeprefix("odradek: ")
                rss[name] = process.memory_info().rss
                descriptors[name] = process.num_fds()
                threads[name] = process.num_threads()
                started[name] = process.create_time()
        except psutil.NoSuchProcess:
            continue
    files = [path for path in broker.data.rglob("*") if path.is_file()]
    segments = sum(path.suffix == ".log" and path.parent.name.startswith(TOPIC) for path in files)
    size = sum(_size(path) for path in files)
    free = shutil.disk_usage(broker.data).free
    return Sample(at_s, rss, descriptors, threads, started, zombies, segments, size, free)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # retention was faster


def theil_sen(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs; 0 for fewer than two points."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x2 > x1]
    return statistics.median(slopes) if slopes else 0.0


@dataclass(frozen=True, slots=True)
class Soaked:
    """The run's verdict, and what the samples say."""

    result: Result
    samples: tuple[Sample, ...]
    complaints: tuple[str, ...]
    figures: dict[str, str]

    @property
    def is_good(self) -> bool:
        return self.result.verdict.is_valid and not self.complaints

    def report(self) -> str:
        """For people."""
        lines = [self.result.report(), f"samples: {len(self.samples)}"]
        lines += [f"  {name}: {figure}" for name, figure in self.figures.items()]
        lines += [f"  NOT FLAT: {complaint}" for complaint in self.complaints]
        return "\n".join([*lines, "soak: " + ("good" if self.is_good else "BAD")])


def soak_options(options: TortureOptions) -> TortureOptions:
    """The same run, gentler and with retention."""
    return replace(options, retention_bytes=RETENTION_BYTES, fault_interval_s=(5.0, 20.0), rate=600.0)


def soak(options: TortureOptions) -> Soaked:
    """One soak. Raises as ``torture``."""
    samples = Samples()
    result = torture(options, samples.observe)
    complaints, figures = judge_samples(samples.data)
    if result.directory is not None:
        path = result.directory / "samples.json"
        path.write_text(json.dumps([asdict(sample) for sample in samples.data]))
    return Soaked(result, tuple(samples.data), tuple(complaints), figures)


def judge_samples(samples: Sequence[Sample]) -> tuple[list[str], dict[str, str]]:
    """(what is not flat, figures by name)."""
    if len(samples) < SAMPLES_MIN:
        return [f"{len(samples)} samples are too few to judge; {SAMPLES_MIN} take a minute"], {}
    warm = samples[int(len(samples) * WARM_UP) :]
    complaints: list[str] = []
    figures: dict[str, str] = {}
    for name in sorted({name for sample in warm for name in sample.rss}):
        _judge_process(name, warm, complaints, figures)
    zombies = max(sample.zombies for sample in warm)
    lasting = sum(sample.zombies > 0 for sample in warm)
    figures["zombies at most"] = str(zombies)
    if lasting > ZOMBIE_SAMPLES_MAX and all(sample.zombies for sample in warm[-2:]):
        complaints.append(f"zombies in {lasting} of {len(warm)} samples")
    partitions = max(1, sum(name.startswith(f"partition {TOPIC}") for name in warm[-1].rss))
    segments = [sample.segments for sample in warm]
    figures["segments"] = f"{min(segments)} to {max(segments)}"
    if max(segments) > SEGMENTS_MAX * partitions:
        complaints.append(f"{max(segments)} segments: retention does not keep up")
    sizes = [sample.data_bytes for sample in warm]
    figures["data directory"] = f"{min(sizes) / 2**20:.1f} to {max(sizes) / 2**20:.1f} MiB"
    return complaints, figures


def _judge_process(name: str, warm: Sequence[Sample], complaints: list[str], figures: dict[str, str]) -> None:
    """One process: its longest life in the samples, as each start begins with fresh memory."""
    lives: dict[float, list[Sample]] = {}
    for sample in warm:
        if name in sample.started:
            lives.setdefault(sample.started[name], []).append(sample)
    life = max(lives.values(), key=len)
    life = life[:: max(1, len(life) // SLOPE_SAMPLES_MAX)]
    slope = theil_sen([(sample.at_s, sample.rss[name]) for sample in life]) * 3600
    gain = slope / 3600 * (life[-1].at_s - life[0].at_s)
    highest = max(sample.rss[name] for sample in warm if name in sample.rss)
    descriptors = [sample.descriptors[name] for sample in life]
    threads = [sample.threads[name] for sample in life]
    figures[name] = (
        f"RSS at most {highest / 2**20:.1f} MiB, {slope / 2**20:+.2f} MiB/h over "
        f"{life[-1].at_s - life[0].at_s:.0f} s; descriptors {min(descriptors)} to {max(descriptors)}, "
        f"threads {min(threads)} to {max(threads)}"
    )
    if slope > RSS_SLOPE_MAX and gain > RSS_NOISE_BYTES:
        complaints.append(f"{name} gains {slope / 2**20:.1f} MiB/h")
    for what, counts in (("descriptors", descriptors), ("threads", threads)):
        if len(counts) >= SAMPLES_MIN and _grows(counts):
            complaints.append(f"{name}: {what} grow from {counts[0]} to {counts[-1]}")


def _grows(counts: Sequence[int]) -> bool:
    """Whether the last third never comes down to what the first third had at most."""
    third = len(counts) // 3
    return min(counts[-third:]) > max(counts[:third])

"""``python -m bench.compare``: what moved beyond noise since the baseline.

Everything is compared as a ratio: to the bare path, or to a yardstick that was taken in the same run
(``bench.yardsticks``). A target has moved where the medians of its rounds are further apart than the noise:
for each side half of what the middle half of its rounds covers, relative to the median; both added as
independent errors are; and never less than NOISE_SHARE_MIN. Where a side has a single round nobody knows its
spread, and NOISE_OF_ONE is taken for it.

Exit code 0 when nothing became worse, 1 when something did, 2 for what cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import yardsticks
from bench.worker import PROJECT

BASELINE = PROJECT / "bench" / "baseline.json"
RESULTS = PROJECT / "bench" / "results"
NOISE_SHARE_MIN = 0.05
NOISE_OF_ONE = 0.2
RUNS_KEPT_MAX = 9
LOAD_PER_CORE_MAX = 0.5
QUARTILES_ROUNDS_MIN = 4
"""With fewer rounds their whole range is taken for the middle half."""
BETTER, WORSE, SAME = "better", "WORSE", ""


@dataclass(frozen=True, slots=True)
class Ratios:
    """A target as ratios, one for each round."""

    name: str
    unit: str
    at_least: bool
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def noise(self) -> float:
        """How far the median may be off, as a share of it."""
        ordered = sorted(self.rounds)
        if len(ordered) == 1:
            return NOISE_OF_ONE
        first, last = ordered[0], ordered[-1]
        if len(ordered) >= QUARTILES_ROUNDS_MIN:
            first, _, last = statistics.quantiles(ordered, n=4, method="inclusive")
        return (last - first) / 2 / self.median


@dataclass(frozen=True, slots=True)
class Row:
    """One target in both: the change and the noise are shares of the baseline's median."""

    name: str
    unit: str
    before: float
    after: float
    noise: float
    verdict: str

    @property
    def change(self) -> float:
        return self.after / self.before - 1


class UnusableError(Exception):
    """A result that cannot be compared or kept; the message says why."""


def ratios_of(result: Mapping[str, Any]) -> dict[str, Ratios]:
    """Every target of a result, by name. Raises UnusableError for a result without yardsticks."""
    try:
        before, after = result["yardsticks"]
    except KeyError:
        raise UnusableError("it has no yardsticks: an older `make bench` wrote it; run it again") from None
    scales = {name: (before[name] + after[name]) / 2 for name in before}
    return {
        target["name"]: _ratios(target, scales)
        for part in result.values()
        if isinstance(part, dict)
        for target in part.get("targets", ())
    }


def _ratios(target: Mapping[str, Any], scales: Mapping[str, float]) -> Ratios:
    rounds = tuple(target["rounds"]) or (target["measured"],)
    yardstick, unit = target["yardstick"], target["unit"]
    if yardstick:
        # So many a second become so many a yardstick, seconds become so many yardsticks.
        scale = scales[yardstick] if unit.endswith("/s") else 1 / scales[yardstick]
        rounds, unit = tuple(value * scale for value in rounds), f"{yardstick} x"
    return Ratios(target["name"], unit, target["at_least"], rounds)


def new_baseline(results: Sequence[Mapping[str, Any]]) -> list[Ratios]:
    """The targets of several results, with the rounds of all of them."""
    kept: dict[str, Ratios] = {}
    for result in results:
        for name, found in ratios_of(result).items():
            rounds = kept[name].rounds if name in kept else ()
            kept[name] = Ratios(name, found.unit, found.at_least, (*rounds, *found.rounds))
    return list(kept.values())


def compare(baseline: Sequence[Ratios], result: Mapping[str, Any]) -> list[Row]:
    """A row for each target that both have."""
    measured = ratios_of(result)
    return [_row(kept, measured[kept.name]) for kept in baseline if kept.name in measured]


def _row(before: Ratios, after: Ratios) -> Row:
    noise = max(NOISE_SHARE_MIN, math.hypot(before.noise, after.noise))
    change = after.median / before.median - 1
    # The same factor up and down is as much: half is as far away as double.
    moved = abs(math.log(after.median / before.median)) > math.log1p(noise)
    verdict = SAME
    if moved:
        verdict = BETTER if (change > 0) == before.at_least else WORSE
    return Row(before.name, before.unit, before.median, after.median, noise, verdict)


def noisy(result: Mapping[str, Any]) -> str:
    """Why a result says little, "" where it was taken on a quiet machine."""
    load, cores = result["machine"]["load_average_before"][0], result["machine"]["cores"]
    reasons = yardsticks.changed(*result["yardsticks"])
    if load > LOAD_PER_CORE_MAX * cores:
        reasons.append(f"others used the machine (load {load:.1f} on {cores} cores)")
    return "; ".join(reasons)


def _table(rows: Sequence[Row]) -> str:
    lines = [f"{'target':50} {'baseline':>10} {'now':>10} {'unit':9} {'change':>8} {'noise':>8}"]
    for row in rows:
        lines.append(
            f"{row.name:50} {row.before:>10.3g} {row.after:>10.3g} {row.unit:9} {row.change:>+8.0%} "
            f"{f'± {row.noise:.0%}':>8}  {row.verdict}".rstrip()
        )
    return "\n".join(lines)


def _read_result(path: Path) -> Any:
    try:
        result = json.loads(path.read_text())
        ratios_of(result)
        noisy(result)
    except UnusableError as unusable:
        raise UnusableError(f"{path}: {unusable}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableError(f"{path} is no result of `make bench`: {error!r}") from None
    return result


def _read_baseline() -> list[Ratios]:
    if not BASELINE.exists():
        raise UnusableError(
            f"there is no {BASELINE.name} yet: python -m bench.compare --keep RESULT... makes it"
        )
    return [
        Ratios(each["name"], each["unit"], each["at_least"], tuple(each["rounds"]))
        for each in json.loads(BASELINE.read_text())["targets"]
    ]


def _keep(paths: Sequence[Path], *, even_if_noisy: bool) -> int:
    results = [_read_result(path) for path in paths]
    for path, result in zip(paths, results, strict=True):
        if result["failed"]:
            raise UnusableError(f"{path}: {', '.join(result['failed'])} failed; a baseline needs all parts")
        if (why := noisy(result)) and not even_if_noisy:
            raise UnusableError(f"{path}: {why}; --even-if-noisy keeps it all the same")
    targets = new_baseline(results)
    plain = {
        "machine": [result["machine"] for result in results],
        "targets": [asdict(target) for target in targets],
    }
    BASELINE.write_text(json.dumps(plain, indent=1) + "\n")
    print(f"kept {len(targets)} targets of {len(results)} runs in {BASELINE}")
    return 0


def _show(path: Path) -> int:
    result = _read_result(path)
    baseline = _read_baseline()
    rows = compare(baseline, result)
    print(_table(rows))
    known = {kept.name for kept in baseline}
    new = [name for name in ratios_of(result) if name not in known]
    missing = len(known) - len(rows)
    if new:
        print(f"not in the baseline: {', '.join(new)}")
    if missing:
        print(f"{missing} targets of the baseline were not measured in this run")
    if why := noisy(result):
        print(f"{why}: what moved may be that")
    worse = sum(row.verdict == WORSE for row in rows)
    better = sum(row.verdict == BETTER for row in rows)
    print(f"{path.name}: {worse} worse, {better} better, {len(rows) - worse - better} within the noise")
    return 1 if worse else 0


def _newest() -> list[Path]:
    return sorted(RESULTS.glob("2*.json"))[-1:]


def main() -> int:
    """Compare a result with the baseline, or keep results as the new baseline."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare",
        description="Say what moved beyond noise since the baseline, or make a new baseline.",
    )
    parser.add_argument(
        "results", nargs="*", type=Path, metavar="RESULT", help="the newest of bench/results by default"
    )
    parser.add_argument("--keep", action="store_true", help="make these results the baseline")
    parser.add_argument(
        "--even-if-noisy", action="store_true", help="keep results of a machine that others used, too"
    )
    options = parser.parse_args()
    paths = options.results or _newest()
    if not paths:
        parser.error("there is no result yet: make bench")
    if len(paths) > (RUNS_KEPT_MAX if options.keep else 1):
        parser.error(f"one result is compared, at most {RUNS_KEPT_MAX} are kept")
    try:
        return _keep(paths, even_if_noisy=options.even_if_noisy) if options.keep else _show(paths[0])
    except UnusableError as unusable:
        parser.error(str(unusable))


if __name__ == "__main__":
    sys.exit(main())

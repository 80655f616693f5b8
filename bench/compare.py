"""``python -m bench.compare``: what moved beyond noise since the baseline.

The baseline keeps what each target measured in several runs, so that the spread of those runs is the noise.
A measurement counts as moved where it lies outside that spread by more than NOISE_SHARE. Exit code 1 when
something became worse, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.worker import PROJECT

BASELINE = PROJECT / "bench" / "baseline.json"
RESULTS = PROJECT / "bench" / "results"
NOISE_SHARE = 0.1
RUNS_KEPT_MAX = 9


@dataclass(frozen=True, slots=True)
class Kept:
    """A target of the baseline: what its runs measured."""

    name: str
    unit: str
    at_least: bool
    runs: tuple[float, ...]

    def verdict(self, measured: float) -> str:
        """ "better", "worse" or "" for noise."""
        if measured > max(self.runs) * (1 + NOISE_SHARE):
            return "better" if self.at_least else "worse"
        if measured < min(self.runs) * (1 - NOISE_SHARE):
            return "worse" if self.at_least else "better"
        return ""


def targets_of(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Every target of a result file, by its name."""
    return {
        target["name"]: target
        for part in result.values()
        if isinstance(part, dict)
        for target in part.get("targets", ())
    }


def new_baseline(results: Sequence[Mapping[str, Any]]) -> list[Kept]:
    """The targets of several results, with what each run measured."""
    kept: dict[str, Kept] = {}
    for result in results:
        for name, target in targets_of(result).items():
            runs = kept[name].runs if name in kept else ()
            kept[name] = Kept(name, target["unit"], target["at_least"], (*runs, target["measured"]))
    return list(kept.values())


def compare(baseline: Sequence[Kept], result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(name, baseline, measured, verdict) of each target that both have."""
    measured = targets_of(result)
    return [
        (
            kept.name,
            f"{min(kept.runs):.3g} to {max(kept.runs):.3g} {kept.unit}",
            f"{measured[kept.name]['measured']:.3g} {kept.unit}",
            kept.verdict(measured[kept.name]["measured"]),
        )
        for kept in baseline
        if kept.name in measured
    ]


def _read_baseline() -> list[Kept]:
    plain = json.loads(BASELINE.read_text())
    return [Kept(each["name"], each["unit"], each["at_least"], tuple(each["runs"])) for each in plain]


def _write_baseline(baseline: Sequence[Kept]) -> None:
    plain = [
        {"name": kept.name, "unit": kept.unit, "at_least": kept.at_least, "runs": list(kept.runs)}
        for kept in baseline
    ]
    BASELINE.write_text(json.dumps(plain, indent=1) + "\n")


def _newest() -> Path | None:
    return max(RESULTS.glob("2*.json"), default=None, key=lambda path: path.name)


def main() -> int:
    """Compare a result with the baseline, or keep results as the new baseline."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="*", type=Path, help="the newest of bench/results by default")
    parser.add_argument("--keep", action="store_true", help="make these results the baseline")
    options = parser.parse_args()
    newest = _newest()
    paths = options.results or ([newest] if newest is not None else [])
    if not paths:
        parser.error("there is no result yet: make bench")
    if len(paths) > (RUNS_KEPT_MAX if options.keep else 1):
        parser.error(f"one result is compared, at most {RUNS_KEPT_MAX} are kept")
    results = [json.loads(path.read_text()) for path in paths]
    if options.keep:
        _write_baseline(new_baseline(results))
        return 0
    if not BASELINE.exists():
        parser.error(f"there is no {BASELINE.name} yet: python -m bench.compare --keep RESULT...")
    rows = compare(_read_baseline(), results[0])
    for name, before, now, verdict in rows:
        print(f"{name:40} {before:>22} {now:>12}  {verdict}")
    return 1 if any(row[-1] == "worse" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

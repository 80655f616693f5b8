"""Every seed an ordeal: what is promised holds under faults, and afterwards everything comes to its end.

pytest tests/simulation -k 'seed17'        repeats one
ODRADEK_SEEDS=1000 pytest tests/simulation  1,000 of them, as .ci/run does
ODRADEK_SEED=123456 pytest tests/simulation begins there instead of at 0
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from odradek.protocol.errors import OdradekError
from tests.mutants.mutations import (
    Put,
    acknowledge_before_the_sync,
    acknowledge_commits_before_the_sync,
    believe_the_wall_clock,
    recognize_no_retry,
    sync_nothing,
    take_damaged_batches,
)
from tests.simulation.ordeal import BATCHES, MEMBERS, PRODUCERS, NotLive, Ordeal
from tests.support.checker.judging import Verdict
from tests.support.tiers import in_tier

FIRST = int(os.environ.get("ODRADEK_SEED", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("ODRADEK_SEEDS", in_tier(200, 1_000))))
PART = 25
"""So many seeds are one test: a test for each would take longer to collect than to run."""
REGRESSIONS = {
    153: "a wall clock ten years ahead made a partition forget its producers: an unknown producer",
    422: "the same, and a retry was written twice",
}
"""Seeds that once failed, and why; always run."""
SABOTAGE_SEEDS_MAX = 150


def version() -> str:
    """What the seed repeats on."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return found.stdout.strip() or "unknown version"


def endure(seed: int) -> tuple[Ordeal, Verdict]:
    """One ordeal; what goes wrong names the seed."""
    try:
        ordeal = Ordeal(seed)
        verdict = ordeal.run()
    except Exception as error:
        error.add_note(f"seed {seed} at {version()}")
        raise
    return ordeal, verdict


def check(seed: int) -> None:
    _, verdict = endure(seed)
    assert verdict.is_valid, f"seed {seed} at {version()}: {verdict.report()}"


@pytest.mark.parametrize(
    "seeds",
    [range(start, start + PART) for start in range(SEEDS.start, SEEDS.stop, PART)],
    ids=lambda seeds: f"seeds{seeds.start}to{seeds.stop - 1}",
)
def test_what_is_promised_holds_and_everything_comes_to_its_end(seeds: range) -> None:
    for seed in seeds:
        check(seed)


@pytest.mark.parametrize("seed", REGRESSIONS, ids=lambda seed: f"seed{seed}")
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    check(seed)


def test_the_ordeals_are_worth_their_name() -> None:
    """Every kind of fault, records refused and unknown, commits, retries; and one seed is one history."""
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    retries = 0
    for seed in range(30):
        ordeal, verdict = endure(seed)
        faults.update(ordeal.faults)
        counts.update(verdict.counts)
        retries += sum(producer.attempts for producer in ordeal.producers) - PRODUCERS * BATCHES
        assert len(ordeal.members) == MEMBERS
    assert set(faults) == {
        *("kill", "power", "pause", "stop", "sync error", "disk full", "clock", "client"),
    }
    assert min(faults.values()) >= 3
    for name in ("acknowledged", "refused", "read", "in the files"):
        assert counts[f"records {name}"] > 30, counts
    assert counts["commits acknowledged"] > 30
    assert counts["commits unknown"] > 5
    assert retries > 30
    assert endure(3)[0].chronicle.events == endure(3)[0].chronicle.events


# -- without a protection -----------------------------------------------------------------------------


SABOTAGES: list[Callable[[Put], None]] = [
    acknowledge_before_the_sync,
    sync_nothing,
    recognize_no_retry,
    take_damaged_batches,
    believe_the_wall_clock,
    acknowledge_commits_before_the_sync,
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.__name__)
def test_without_a_protection_some_seed_fails(
    sabotage: Callable[[Put], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch.setattr)
    for seed in (*REGRESSIONS, *range(SABOTAGE_SEEDS_MAX)):
        try:
            verdict = Ordeal(seed).run()
        except (AssertionError, OdradekError, NotLive):
            return
        if not verdict.is_valid:
            return
    pytest.fail("the checker would not notice")

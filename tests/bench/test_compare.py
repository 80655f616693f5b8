"""What counts as moved since the baseline."""

from __future__ import annotations

import pytest

from bench.compare import Kept, compare, new_baseline


def _result(**measured: float) -> dict[str, object]:
    targets = [
        {"name": name, "unit": "x", "at_least": not name.startswith("time"), "measured": value}
        for name, value in measured.items()
    ]
    return {"machine": {"cores": 2}, "sdk": {"targets": targets, "numbers": {}}, "failed": []}


@pytest.mark.parametrize(
    ("at_least", "measured", "verdict"),
    [
        (True, 0.5, ""),
        (True, 0.62, ""),
        (True, 0.67, "better"),
        (True, 0.46, ""),
        (True, 0.44, "worse"),
        (False, 0.67, "worse"),
        (False, 0.44, "better"),
    ],
)
def test_only_what_leaves_the_spread_of_the_runs_has_moved(
    at_least: bool, measured: float, verdict: str
) -> None:
    assert Kept("send", "x", at_least, (0.5, 0.55, 0.6)).verdict(measured) == verdict


def test_a_baseline_keeps_every_run_of_every_target() -> None:
    baseline = new_baseline([_result(send=0.5, time=1.0), _result(send=0.6)])
    assert baseline == [Kept("send", "x", True, (0.5, 0.6)), Kept("time", "x", False, (1.0,))]


def test_a_comparison_says_what_became_worse() -> None:
    baseline = new_baseline([_result(send=0.5, time=1.0, gone=1.0)])
    rows = compare(baseline, _result(send=0.3, time=1.05, new=9.0))
    assert [(row[0], row[-1]) for row in rows] == [("send", "worse"), ("time", "")]

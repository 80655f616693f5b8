"""What counts as moved since the baseline, and what the command says and returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import compare as command
from bench.compare import BETTER, SAME, WORSE, Ratios, UnusableError, compare, new_baseline, ratios_of


def _target(name: str, *rounds: float, **changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "name": name,
        "unit": "x",
        "at_least": True,
        "measured": rounds[0],
        "rounds": list(rounds) if len(rounds) > 1 else [],
        "yardstick": "",
    }
    return plain | changes


def _result(*targets: dict[str, object], start: float = 0.1, load: float = 0.1) -> dict[str, Any]:
    yardstick = {"start": start, "work": 0.2, "memory": 10.0}
    return {
        "machine": {"cores": 2, "load_average_before": [load, 0.0, 0.0]},
        "yardsticks": [yardstick, yardstick],
        "sdk": {"targets": list(targets), "numbers": {}},
        "failed": [],
    }


def _verdict(before: tuple[float, ...], after: tuple[float, ...], *, at_least: bool = True) -> str:
    (row,) = compare(
        [Ratios("send", "x", at_least, before)], _result(_target("send", *after, at_least=at_least))
    )
    return row.verdict


QUIET = (0.50, 0.50, 0.51, 0.51, 0.52)
NOISY = (0.30, 0.42, 0.51, 0.60, 0.75)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (QUIET, QUIET, SAME),
        (QUIET, tuple(value * 1.04 for value in QUIET), SAME),
        (QUIET, tuple(value * 1.07 for value in QUIET), BETTER),
        (QUIET, tuple(value * 0.93 for value in QUIET), WORSE),
        # The same change between rounds that differ more among themselves is noise, on either side.
        (NOISY, tuple(value * 0.93 for value in QUIET), SAME),
        (QUIET, tuple(value * 0.93 for value in NOISY), SAME),
        (NOISY, tuple(value * 0.4 for value in NOISY), WORSE),
    ],
)
def test_moved_is_what_leaves_the_noise_of_the_rounds(
    before: tuple[float, ...], after: tuple[float, ...], verdict: str
) -> None:
    assert _verdict(before, after) == verdict


def test_less_is_better_where_a_target_is_a_most() -> None:
    assert _verdict(QUIET, tuple(value * 2 for value in QUIET), at_least=False) == WORSE
    assert _verdict(QUIET, tuple(value / 2 for value in QUIET), at_least=False) == BETTER


@pytest.mark.parametrize(("after", "verdict"), [(1.15, SAME), (0.87, SAME), (1.5, BETTER), (0.6, WORSE)])
def test_a_single_round_has_a_noise_that_is_assumed(after: float, verdict: str) -> None:
    assert _verdict((1.0,), (after,)) == verdict


def test_one_round_far_off_is_not_a_change() -> None:
    assert _verdict(QUIET, (0.1, 0.50, 0.51, 0.51, 0.52)) == SAME


def test_seconds_and_rates_become_ratios_to_their_yardstick() -> None:
    found = ratios_of(
        _result(
            _target("ready", 0.5, unit="s", at_least=False, yardstick="start"),
            _target("commits", 1000.0, unit="/s", yardstick="work"),
            start=0.25,
        )
    )
    assert found["ready"].rounds == (2.0,)
    assert found["commits"].rounds == (200.0,)


def test_a_machine_of_half_the_speed_has_moved_nothing() -> None:
    before = _result(_target("ready", 0.5, 0.5, unit="s", at_least=False, yardstick="start"), start=0.1)
    after = _result(_target("ready", 1.0, 1.0, unit="s", at_least=False, yardstick="start"), start=0.2)
    (row,) = compare(new_baseline([before]), after)
    assert (row.verdict, row.change) == (SAME, 0.0)


def test_a_baseline_keeps_the_rounds_of_all_runs() -> None:
    baseline = new_baseline(
        [_result(_target("send", 0.5, 0.6), _target("time", 1.0)), _result(_target("send", 0.7))]
    )
    assert baseline == [Ratios("send", "x", True, (0.5, 0.6, 0.7)), Ratios("time", "x", True, (1.0,))]


def test_a_result_without_yardsticks_is_refused() -> None:
    result = _result(_target("send", 0.5))
    del result["yardsticks"]
    with pytest.raises(UnusableError, match="run it again"):
        ratios_of(result)


# -- the command


Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on results that it writes to files; the baseline is one of this test."""
    monkeypatch.setattr(command, "BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")

    def run(*results: dict[str, Any] | str, flags: tuple[str, ...] = ()) -> int:
        paths = []
        for number, result in enumerate(results):
            path = tmp_path / f"result-{number}.json"
            path.write_text(result if isinstance(result, str) else json.dumps(result))
            paths.append(str(path))
        monkeypatch.setattr("sys.argv", ["bench.compare", *flags, *paths])
        try:
            return command.main()
        except SystemExit as ended:
            return int(str(ended.code))

    return run


def test_kept_then_compared(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = _result(_target("send", *QUIET), _target("other", *QUIET))
    assert run(quiet, quiet, flags=("--keep",)) == 0
    assert run(quiet) == 0
    assert "0 worse, 0 better, 2 within the noise" in capsys.readouterr().out
    slower = _result(_target("send", *(value / 2 for value in QUIET)), _target("new", 1.0))
    assert run(slower) == 1
    said = capsys.readouterr().out
    assert "1 worse, 0 better, 0 within the noise" in said
    assert "not in the baseline: new" in said
    assert "1 targets of the baseline were not measured" in said


def test_a_baseline_of_a_busy_machine_must_be_asked_for(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    busy = _result(_target("send", *QUIET), load=4.5)
    assert run(busy, flags=("--keep",)) == 2
    assert "others used the machine (load 4.5 on 2 cores)" in capsys.readouterr().err
    assert run(busy, flags=("--keep", "--even-if-noisy")) == 0
    assert run(busy) == 0
    assert "what moved may be that" in capsys.readouterr().out


def test_a_machine_that_changed_its_speed_under_way_is_no_quiet_one(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = _result(_target("send", *QUIET))
    changed["yardsticks"][1] = changed["yardsticks"][0] | {"work": 0.5}
    assert run(changed, flags=("--keep",)) == 2
    assert "the machine changed: work took 0.2 before and 0.5 after" in capsys.readouterr().err


def test_a_baseline_takes_no_run_with_a_part_that_failed(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_result(_target("send", *QUIET)) | {"failed": ["tree"]}, flags=("--keep",)) == 2
    assert "tree failed" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense", '{"yardsticks": [{}, {}], "sdk": {}}'])
def test_what_is_no_result_is_refused_in_one_line(
    content: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(content) == 2
    assert "result-0.json" in capsys.readouterr().err.splitlines()[-1]


def test_nothing_to_compare_with_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_result(_target("send", *QUIET))) == 2
    assert "there is no baseline.json yet" in capsys.readouterr().err
    assert run() == 2
    assert "make bench" in capsys.readouterr().err

"""The benchmark of single rooms runs: it reaches into most of them, and a change of theirs may break it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import rooms, yardsticks


def test_every_room_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SLICES": 2,
        "SMALL_PER_SLICE": 20,
        "LARGE_PER_SLICE": 1,
        "RECORDS_PER_SLICE": 500,
    }.items():
        monkeypatch.setattr(rooms, name, value)
    monkeypatch.setattr(rooms, "BATCH_BYTES_MAX", 20_000)
    outcome = rooms.measure(tmp_path)
    assert {name.partition(":")[0] for name in outcome.numbers} == {
        "producer", "wire", "router", "partition", "disk", "consumer",
    }  # fmt: skip
    assert all(isinstance(cost_us, float) and cost_us > 0 for cost_us in outcome.numbers.values())
    assert len(outcome.notes) == len(outcome.numbers) + 1
    assert outcome.targets == []


def test_yardsticks_are_taken_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yardsticks, "REPEATS", 1)
    monkeypatch.setattr(yardsticks, "WORK_STEPS", 100)
    taken = yardsticks.measure()
    assert set(taken) == {yardsticks.START, yardsticks.WORK, yardsticks.MEMORY}
    assert all(value > 0 for value in taken.values())
    assert yardsticks.changed(taken, taken) == []
    (sentence,) = yardsticks.changed(taken, taken | {yardsticks.WORK: taken[yardsticks.WORK] * 1.3})
    assert sentence.startswith("the machine changed: work took")

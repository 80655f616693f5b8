"""The page on groups is what its tool makes of the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.group_states import GROUP_TRANSITIONS, GroupState
from actors.members import TRANSITIONS
from tools import make_group_docs


def test_the_page_is_fresh() -> None:
    assert make_group_docs.main(["--check"]) == 0, "run tools/make_group_docs.py"


def test_a_stale_page_is_noticed_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "groups.md"
    monkeypatch.setattr(make_group_docs, "PROJECT", tmp_path)
    monkeypatch.setattr(make_group_docs, "PAGE", copy)
    assert make_group_docs.main(["--check"]) == 1
    copy.write_text("old")
    assert make_group_docs.main(["--check"]) == 1
    assert "groups.md is stale" in capsys.readouterr().err
    assert make_group_docs.main([]) == 0
    assert make_group_docs.main(["--check"]) == 0


def test_every_transition_is_an_arrow() -> None:
    page = make_group_docs.page()
    lines = [line for line in page.splitlines() if " --> " in line]
    for table in (GROUP_TRANSITIONS, TRANSITIONS):
        for (before, step), after in table.items():
            arrow = f"    {before.value} --> {after.value}: "
            assert any(line.startswith(arrow) and step.value in line for line in lines)


def test_a_new_transition_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_group_docs.page()
    step = next(step for state, step in GROUP_TRANSITIONS if state is GroupState.STABLE)
    monkeypatch.setitem(GROUP_TRANSITIONS, (GroupState.DEAD, step), GroupState.EMPTY)
    assert make_group_docs.page() != before

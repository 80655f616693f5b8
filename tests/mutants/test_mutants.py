"""Row 43: a protection that is switched off is noticed, by the test that is named for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mutants.__main__ import is_caught
from tests.mutants.mutations import MUTATIONS, VARIABLE
from tests.support.tiers import in_tier
from tests.torture.options import TortureOptions
from tests.torture.run import torture

QUICK = ("lock_nothing", "let_old_producers_in")
SITE = Path(__file__).parent / "site"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", in_tier(QUICK, tuple(MUTATIONS)))
def test_a_mutant_is_caught(name: str) -> None:
    for test in MUTATIONS[name].tests:
        caught, words = is_caught(name, test)
        assert caught, words


@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    os.environ.get("ODRADEK_FAULTS") != "all", reason="a mutant of a real broker: set ODRADEK_FAULTS=all"
)
def test_torture_catches_a_real_broker_that_recognizes_no_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    monkeypatch.setenv(VARIABLE, "recognize_no_retry")
    options = TortureOptions(
        seconds=20,
        seed=1,
        nemesis=("kill:partition", "kill:router", "pause:partition"),
        keep=tmp_path / "history",
        rate=1_000,
    )
    verdict = torture(options).verdict
    assert "duplicate" in verdict.names(), verdict.report()

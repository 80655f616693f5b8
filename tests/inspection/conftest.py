"""Fixtures: the command, and a partition that was closed cleanly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inspection.harness import Command, fill, open_log


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """90 records in 30 batches of an idempotent producer, in several segments, closed cleanly."""
    directory = tmp_path / "data" / "events-0"
    log = open_log(directory)
    fill(log)
    log.close()
    return directory

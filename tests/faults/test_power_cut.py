"""The disk stops at a random moment under load, as in a loss of power: nothing acknowledged is lost.

``ODRADEK_POWER_CUTS=200`` makes so many cuts, ``ODRADEK_POWER_CUT_SEED`` chooses their moments.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiers import in_tier, long

pytestmark = [pytest.mark.processes, pytest.mark.faults]

PROJECT = Path(__file__).resolve().parents[2]
CUTS = int(os.environ.get("ODRADEK_POWER_CUTS", in_tier("3", "25")))
SEED = int(os.environ.get("ODRADEK_POWER_CUT_SEED", "1"))
SECONDS_PER_CUT_MAX = 20
TMPFS = Path("/dev/shm")
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
EAT_MY_DATA = "libeatmydata.so"
"""Makes fsync and fdatasync do nothing."""
TRY_MOUNT = """
truncate -s 8m image && mkfs.ext4 -q -F image && mkdir -p mount && mount -o loop image mount && umount mount
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """On tmpfs where there is one: the cuts then cost next to nothing."""
    base = TMPFS if os.access(TMPFS, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="odradek-power-", dir=base))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def stage(directory: Path) -> Path:
    """A directory where loop mounts work; skips, and says why, where this machine has none."""
    (directory / "trial").mkdir()
    try:
        tried = subprocess.run(
            [*NAMESPACES, "sh", "-c", TRY_MOUNT], cwd=directory / "trial", capture_output=True, text=True
        )
    except FileNotFoundError as error:
        pytest.skip(f"no power cut without unshare: {error}")
    if tried.returncode:
        pytest.skip(f"no power cut without loop mounts of ext4: {tried.stderr.strip()}")
    return directory


def cut_power(stage: Path, cuts: int, *options: str) -> dict[str, Any]:
    """The report of ``tests.support.powercut``."""
    command = [*NAMESPACES, sys.executable, "-m", "tests.support.powercut", str(stage), str(cuts), str(SEED)]
    result = subprocess.run(
        [*command, *options],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60 + cuts * SECONDS_PER_CUT_MAX,
    )
    assert result.stdout, f"the stage ended with {result.returncode}:\n{result.stderr}"
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return report


@pytest.mark.timeout(120 + CUTS * SECONDS_PER_CUT_MAX)
def test_nothing_acknowledged_or_read_is_lost_when_the_power_goes(stage: Path) -> None:
    report = cut_power(stage, CUTS)
    print({name: value for name, value in report.items() if name != "broken"})
    assert report["broken"] is None, report["broken"]
    assert report["cuts"] == CUTS
    assert report["acknowledged"] >= CUTS
    assert report["read"] > 0


@long
def test_the_cut_would_find_a_broker_that_does_not_sync(stage: Path) -> None:
    """The test of the test: with fsync switched off, the same cut must lose what was acknowledged."""
    if not any(Path("/usr/lib").glob(f"*/{EAT_MY_DATA}")):
        pytest.skip("no libeatmydata to switch fsync off with: apt-get install libeatmydata1")
    report = cut_power(stage, 3, "--preload", EAT_MY_DATA)
    assert report["broken"] is not None, "records that no sync covered were there after the cut"
    assert "LOST: acknowledged" in report["broken"]

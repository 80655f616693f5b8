"""Run a piece of Python in an interpreter of its own, which has loaded nothing yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 60


def run_python(code: str, **environment: str) -> str:
    """What ``code`` prints, started in the project's directory; it fails where the code does."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
        cwd=PROJECT,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()

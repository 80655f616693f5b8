"""Read by every Python process whose PYTHONPATH has this directory: makes a mutant of a real broker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

name = os.environ.get("ODRADEK_MUTANT")
if name:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from tests.mutants.mutations import MUTATIONS

    MUTATIONS[name].apply()

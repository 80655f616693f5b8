"""Judge a saved history once more: ``python -m tests.support.checker DIRECTORY [--sparse] [--deleted]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.support.checker.anomalies import Promises
from tests.support.checker.history import read_histories
from tests.support.checker.judging import judge


def main() -> int:
    """The exit code is 0 where the history is valid."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.checker", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the .jsonl files of the history are")
    parser.add_argument("--sparse", action="store_true", help="offsets need not be dense (compaction)")
    parser.add_argument("--deleted", action="store_true", help="records may have been deleted (retention)")
    options = parser.parse_args()
    events = read_histories(options.directory)
    if not events:
        parser.error(f"{options.directory} has no history: no line in any *.jsonl")
    verdict = judge(events, Promises(dense=not options.sparse, kept=not options.deleted))
    print(verdict.report())
    return 0 if verdict.is_valid else 1


if __name__ == "__main__":
    sys.exit(main())

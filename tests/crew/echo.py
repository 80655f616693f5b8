"""A child for tests: says its lines back, ``die`` ends it with code 3, the end of its input with 0."""

from __future__ import annotations

import sys


def main() -> None:
    for line in sys.stdin:
        if line.strip() == "die":
            print("the last words", file=sys.stderr, flush=True)
            sys.exit(3)
        print(f"heard {line.strip()}", flush=True)


if __name__ == "__main__":
    main()

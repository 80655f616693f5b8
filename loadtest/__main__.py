"""``python -m loadtest``."""

import sys

from loadtest.command import loadtest

if __name__ == "__main__":
    sys.exit(loadtest(sys.argv[1:]))

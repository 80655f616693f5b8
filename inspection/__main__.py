"""`python -m inspection`: `odradek log` without the `odradek` command."""

import sys

from inspection.command import log

if __name__ == "__main__":
    sys.exit(log(sys.argv[1:]))

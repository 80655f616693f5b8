"""`python -m demo`: the demo without the `odradek` command."""

import sys

from demo.command import demo

if __name__ == "__main__":
    sys.exit(demo(sys.argv[1:]))

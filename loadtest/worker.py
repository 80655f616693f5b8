"""``python -m loadtest.worker``: one client process. Its order is the first line of its input."""

from __future__ import annotations

import sys

import msgspec

from loadtest.consuming import consume
from loadtest.link import Link, fail
from loadtest.producing import produce
from loadtest.workload import Order

FAILED = 1
INTERRUPTED = 130


def main() -> int:
    """Do what the order says; what goes wrong goes to the parent in one line."""
    link = Link()
    try:
        order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
        if order.role == "producer":
            produce(order, link)
        else:
            consume(order, link)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        # Whatever a client library raises is news for the person at the terminal, not for a traceback.
        fail(link, error)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())

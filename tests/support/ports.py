"""Ports for a server that ends and comes back: the system gives them to nobody meanwhile.

Port 0 gives one of those that connections get, too: while nobody listens there another process can take it,
and a client that tries it again and again can even be connected to itself.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path

TRIES_MAX = 100
LOWEST = 10_000
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def lasting_ports(count: int = 1) -> list[int]:
    """So many ports in a row that nobody has."""
    end = int(RANGE.read_text().split()[0])
    for _ in range(TRIES_MAX):
        first = random.randrange(LOWEST, end - count)
        with ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return list(range(first, first + count))
    raise OSError(f"no {count} ports in a row are free below {end}")

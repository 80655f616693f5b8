"""A connection: is anybody there, and if not, what to do about it."""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from odradek.cli.exits import BadInput, NoBroker
from odradek.options import bootstrap_endpoints
from odradek.protocol.errors import InvalidConfig, NetworkException, RequestTimedOut

if TYPE_CHECKING:
    from odradek.admin import Admin

ANSWER_TIMEOUT_S = 2.0
"""A broker that runs answers within this; a router that just restarts is back within it, too."""
PROBE_PAUSE_S = 0.1


@contextmanager
def connect(bootstrap: str) -> Iterator[Admin]:
    """An Admin of the broker, which has answered. Raises NoBroker within seconds, BadInput."""
    try:
        endpoints = bootstrap_endpoints(bootstrap)
    except InvalidConfig as error:
        raise BadInput(f"--bootstrap: {error.message}") from error
    _wait_for_listener(endpoints, time.monotonic() + ANSWER_TIMEOUT_S)
    from odradek.admin import Admin

    try:
        with Admin(endpoints, timeout_ms=ANSWER_TIMEOUT_S * 1000) as admin:
            admin.ping()
    except InvalidConfig as error:
        raise BadInput(error.message) from error
    except (RequestTimedOut, NetworkException) as error:
        raise NoBroker(
            f"{','.join(endpoints)} takes connections but does not answer as a broker does: "
            "look at its log, or at --bootstrap"
        ) from error
    with Admin(endpoints) as admin:
        yield admin


def partition_numbers(admin: Admin, topic: str) -> list[int]:
    """The partitions of a topic. Raises UnknownTopicOrPartition."""
    (found,) = admin.describe_topics([topic])
    return [partition.partition for partition in found.partitions]


def _wait_for_listener(endpoints: tuple[str, ...], give_up_at: float) -> None:
    """Until one endpoint takes a connection; ZeroMQ itself would wait without a word."""
    while not any(_listens(endpoint) for endpoint in endpoints):
        if time.monotonic() > give_up_at:
            raise NoBroker(f"no broker at {','.join(endpoints)}: start one with `odradek supervisor`")
        time.sleep(PROBE_PAUSE_S)


def _listens(endpoint: str) -> bool:
    if not endpoint.startswith("tcp://"):
        return True
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_TIMEOUT_S / 3):
            return True
    except OSError:
        return False

"""Waiting for what a fault does to a broker's processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]

from tests.support.broker import BrokerProcess

PATIENCE_S = 30.0
POLL_S = 0.01


def eventually(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> float:
    """Waits for something that another process does; the seconds that it took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() < began_s + timeout_s, f"not within {timeout_s:g} s: {condition}"
        threading.Event().wait(POLL_S)
    return time.monotonic() - began_s


def within(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether it came to be in time, where not coming is no failure."""
    try:
        eventually(condition, timeout_s)
    except AssertionError:
        return False
    return True


def is_gone(process: psutil.Process) -> bool:
    """Ended; a zombie, which holds nothing any more, counts as gone."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def serving_child(broker: BrokerProcess, title: str) -> psutil.Process:
    """The process called so, once there is one that the broker's log calls serving."""

    def serves() -> bool:
        pids = {
            event["pid"] for event in broker.events("serving") if event["name"] == title.replace(" ", ":", 1)
        }
        living = [process for process in broker.tree() if process.pid in pids and not is_gone(process)]
        found[:] = living
        return bool(living)

    found: list[psutil.Process] = []
    eventually(serves)
    return found[0]


def fork_server(broker: BrokerProcess) -> psutil.Process:
    """The process from which every actor is forked."""
    (server,) = psutil.Process(broker.pid).children()
    return server

"""Crew: the client processes of one run, seen from the process that started them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from crew.processes import Child, ProcessError, Processes
from loadtest.words import End, Failed, Finished, FromClient, Go, Ready, from_client_decoder
from loadtest.workload import Order

READY_S_MAX: Final = 60.0
END_S_MAX: Final = 15.0


@dataclass(slots=True)
class _Client:
    child: Child
    order: Order
    ready: bool = False
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """A word of one client."""

    order: Order
    word: FromClient


class Crew:
    """Starts the clients, brings their words, ends them all. ``work`` takes what they write on stderr."""

    def __init__(self, work: Path) -> None:
        self._processes = Processes(work)
        self._clients: dict[Child, _Client] = {}

    def start(self, orders: list[Order]) -> None:
        """Start a process for each order and wait until all are connected. Raises ProcessError."""
        for order in orders:
            child = self._processes.start(f"{order.role}-{order.index}", "loadtest.worker")
            self._clients[child] = _Client(child, order)
            child.tell(msgspec.json.encode(order))
        give_up_at = time.monotonic() + READY_S_MAX
        while not all(client.ready for client in self._clients.values()):
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                slow = ", ".join(client.child.name for client in self._clients.values() if not client.ready)
                raise ProcessError(f"not connected within {READY_S_MAX:g} s: {slow}")
            self.hear(left_s)

    def go(self, at_ns: int, roles: Collection[str]) -> None:
        """Let the clients of these roles begin at this nanosecond of the monotonic clock."""
        for client in self._clients.values():
            if client.order.role in roles:
                client.child.tell(msgspec.json.encode(Go(at_ns=at_ns)))

    def end(self, role: str) -> None:
        """Tell the clients of a role that everything is done."""
        for client in self._clients.values():
            if client.order.role == role and not client.finished:
                client.child.tell(msgspec.json.encode(End()))

    def hear(self, timeout_s: float) -> list[Heard]:
        """What clients said, after at most ``timeout_s``. Raises ProcessError where one failed."""
        heard: list[Heard] = []
        for child, lines in self._processes.hear(timeout_s):
            client = self._clients[child]
            heard += [Heard(client.order, _note(client, from_client_decoder.decode(line))) for line in lines]
            if child.ended and not client.finished:
                raise ProcessError(child.story(_ending(child)))
        return heard

    def finished(self, role: str) -> bool:
        """Whether every client of a role has said its last word."""
        return all(client.finished for client in self._clients.values() if client.order.role == role)

    def close(self) -> None:
        """End what still runs; who has not said its last word, at once."""
        everybody = all(client.finished for client in self._clients.values())
        self._processes.close(END_S_MAX if everybody else 0.0)


def _note(client: _Client, word: FromClient) -> FromClient:
    match word:
        case Ready():
            client.ready = True
        case Finished():
            client.finished = True
        case Failed():
            raise ProcessError(client.child.story(word.reason))
        case _:
            pass
    return word


def _ending(child: Child) -> str:
    try:
        return f"ended with code {child.process.wait(END_S_MAX)}"
    except subprocess.TimeoutExpired:
        return "closed its output and still runs"

"""Crew: the client processes of one run, seen from the process that started them."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import msgspec

from loadtest.words import End, Failed, Finished, FromClient, Go, Ready, from_client_decoder
from loadtest.workload import Order

READY_S_MAX: Final = 60.0
END_S_MAX: Final = 15.0
READ_BYTES: Final = 1 << 18
LOG_LINES_SHOWN: Final = 10


class CrewError(RuntimeError):
    """A client process failed; the message says which, and its last lines."""


@dataclass(slots=True)
class _Client:
    name: str
    order: Order
    process: subprocess.Popen[bytes]
    log_file: Path
    unread: bytearray = field(default_factory=bytearray)
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
        self._work = work
        self._clients: list[_Client] = []
        self._selector = selectors.DefaultSelector()

    def start(self, orders: list[Order]) -> None:
        """Start a process for each order and wait until all are connected. Raises CrewError."""
        for order in orders:
            self._start(order)
        give_up_at = time.monotonic() + READY_S_MAX
        while not all(client.ready for client in self._clients):
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                slow = ", ".join(client.name for client in self._clients if not client.ready)
                raise CrewError(f"not connected within {READY_S_MAX:g} s: {slow}")
            self.hear(left_s)

    def _start(self, order: Order) -> None:
        name = f"{order.role}-{order.index}"
        log_file = self._work / f"{name}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "loadtest.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the parent, which then ends them
            )
        client = _Client(name, order, process, log_file)
        self._clients.append(client)
        self._selector.register(_stream(process.stdout), selectors.EVENT_READ, client)
        _write(client, msgspec.json.encode(order))

    def go(self, at_ns: int, roles: Collection[str]) -> None:
        """Let the clients of these roles begin at this nanosecond of the monotonic clock."""
        for client in self._clients:
            if client.order.role in roles:
                _write(client, msgspec.json.encode(Go(at_ns=at_ns)))

    def end(self, role: str) -> None:
        """Tell the clients of a role that everything is done."""
        for client in self._clients:
            if client.order.role == role and not client.finished:
                _write(client, msgspec.json.encode(End()))

    def hear(self, timeout_s: float) -> list[Heard]:
        """What clients said, after at most ``timeout_s``. Raises CrewError where one failed."""
        heard: list[Heard] = []
        for key, _ in self._selector.select(timeout_s):
            heard += self._read(key.data)
        return heard

    def finished(self, role: str) -> bool:
        """Whether every client of a role has said its last word."""
        return all(client.finished for client in self._clients if client.order.role == role)

    def _read(self, client: _Client) -> list[Heard]:
        stream = _stream(client.process.stdout)
        data = stream.read(READ_BYTES)
        if not data:
            self._selector.unregister(stream)
            if not client.finished:
                raise CrewError(self._story(client, f"ended with code {client.process.wait(END_S_MAX)}"))
            return []
        client.unread += data
        *lines, rest = client.unread.split(b"\n")
        client.unread = bytearray(rest)
        return [Heard(client.order, self._note(client, from_client_decoder.decode(line))) for line in lines]

    def _note(self, client: _Client, word: FromClient) -> FromClient:
        match word:
            case Ready():
                client.ready = True
            case Finished():
                client.finished = True
            case Failed():
                raise CrewError(self._story(client, word.reason))
            case _:
                pass
        return word

    def _story(self, client: _Client, what: str) -> str:
        lines = client.log_file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"{client.name}: {what}", *(f"  {line}" for line in lines)])

    def close(self) -> None:
        """End what still runs."""
        for client in self._clients:
            _stream(client.process.stdin).close()
        give_up_at = time.monotonic() + END_S_MAX
        for client in self._clients:
            try:
                client.process.wait(max(0.0, give_up_at - time.monotonic()) if client.finished else 0)
            except subprocess.TimeoutExpired:
                client.process.kill()
                client.process.wait()
            _stream(client.process.stdout).close()
        self._selector.close()


def _write(client: _Client, line: bytes) -> None:
    # A client that has ended cannot hear; reading from it tells why.
    with contextlib.suppress(BrokenPipeError):
        _stream(client.process.stdin).write(line + b"\n")


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream

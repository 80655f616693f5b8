"""A pickle that writes a file when somebody loads it, and every request with it in every field.

Run as a program it gives all of them to the decoders and a router, under an audit hook that ends the process
at the first sign of code being loaded: ``python -m tests.security.canary FILE``.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec

from actors.messages import TO_CHILD, TO_SUPERVISOR
from actors.router import RouterActor, RouterOptions
from odradek.protocol.codec import BadRequest, RequestDecoder, public_decoder
from tests.support.clock import FakeClock
from tests.support.network import routes, topic_route
from tests.support.transcript import ask
from transport.links import inner_decoder

PROJECT = Path(__file__).resolve().parents[2]
CAUGHT = 97
FORBIDDEN = frozenset(
    {
        "pickle.find_class",
        "marshal.loads",
        "code.__new__",
        "exec",
        "compile",
        "import",
        "os.system",
        "os.exec",
    }
    | {"os.posix_spawn", "subprocess.Popen", "ctypes.dlopen", "open"}
)
"""Nothing of this happens while a message is read and decided upon."""


class Canary:
    """Unpickled, it writes its file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (_sing, (str(self.path), "w"))


def _sing(path: str, mode: str) -> object:
    with open(path, mode, encoding="utf-8") as file:  # noqa: PTH123  # as a pickle would
        return file.write("sang")


def canaries(path: Path) -> list[bytes]:
    """The same in each form that a loader takes."""
    text = f"c__builtin__\nopen\n(S'{path}'\nS'w'\ntR.".encode()
    return [pickle.dumps(Canary(path)), cloudpickle.dumps(Canary(path)), text]


def requests() -> list[dict[str, Any]]:
    """A header of each public request, most with their fields filled in."""
    cases = json.loads((PROJECT / "clients/conformance/requests.json").read_text())
    return [case["means"] for case in cases]


def infected(header: Mapping[str, Any], value: object) -> Iterator[dict[str, Any]]:
    """Copies of a header, each with ``value`` in the place of one field, at any depth, or as its name."""
    for path in _places(header):
        changed = copy.deepcopy(dict(header))
        place: Any = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        yield changed
    if isinstance(value, str):
        yield {**header, value: value}


def _places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        yield from _places(inner, (*path, key))


def infected_frames(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(header, payload frame): every request with a canary in every field, in both encodings."""
    for canary in canaries(path):
        yield canary, canary
        text = canary.decode("latin-1")
        for header in requests():
            for changed in infected(header, text):
                yield json.dumps(changed).encode(), canary
            for changed in infected(header, {"base64": base64.b64encode(canary).decode()}):
                yield json.dumps(changed).encode(), canary
            for changed in infected(header, canary):
                yield msgspec.msgpack.encode(changed), canary


def main(path: Path) -> int:
    """The number of messages that were read without a sign of life of the canary, on stdout."""
    now = FakeClock().now()
    router = RouterActor(RouterOptions(index=0, server="canary 1"))
    router.receive(ask(routes(1, topic_route("events", "ipc://p"))), now)
    decoders = (public_decoder(), inner_decoder(), RequestDecoder(TO_CHILD), RequestDecoder(TO_SUPERVISOR))
    frames = list(infected_frames(path))

    def run() -> int:
        for header, payload in frames:
            for decoder in decoders:
                try:
                    request, _ = decoder.decode(header)
                except BadRequest:
                    continue
                if decoder is decoders[0]:
                    router.receive(ask(request, payload), now)
                    router.settle(now)
        return len(frames)

    run()  # what is imported late is imported by now
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in FORBIDDEN:
            os.write(2, f"{event} {arguments!r}\n".encode())
            os._exit(CAUGHT)

    sys.addaudithook(hook)
    count = run()
    watching = False
    sys.stdout.write(f"{count}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

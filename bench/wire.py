"""The native protocol by hand: a DEALER and JSON headers, so that nothing of the SDK is measured."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq

REPLY_MS_MAX = 120_000


class RequestFailed(RuntimeError):
    """The broker answered with an error, or not at all."""


class Wire:
    """One connection; requests may be pipelined with ``tell`` and ``hear``."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.RCVTIMEO, REPLY_MS_MAX)
        self._dealer.setsockopt(zmq.LINGER, 0)
        self._dealer.connect(endpoint)

    def tell(self, header: dict[str, Any], payload: Sequence[bytes] = ()) -> None:
        """Send a request."""
        self._dealer.send_multipart([msgspec.json.encode(header), *payload], copy=False)

    def hear(self) -> dict[str, Any]:
        """The header of the next reply. Raises RequestFailed where it says an error."""
        try:
            frames = self._dealer.recv_multipart()
        except zmq.Again:
            raise RequestFailed(f"no reply in {REPLY_MS_MAX} ms") from None
        reply: dict[str, Any] = msgspec.json.decode(frames[0])
        if reply.get("error"):
            raise RequestFailed(f"{reply['error']['name']}: {reply['error']['message']}")
        return reply

    def ask(self, header: dict[str, Any], payload: Sequence[bytes] = ()) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        self.tell(header, payload)
        return self.hear()

    def create_topic(self, name: str, partitions: int) -> None:
        """Create one topic and wait until it serves. Raises RequestFailed."""
        topic = {"name": name, "partitions": partitions}
        reply = self.ask({"api": "create_topics", "topics": [topic], "timeout_ms": REPLY_MS_MAX})
        error = reply["topics"][0]["error"]
        if error:
            raise RequestFailed(f"{error['name']}: {error['message']}")

    def delete_topic(self, name: str) -> None:
        """Delete one topic and its log."""
        self.ask({"api": "delete_topics", "names": [name]})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)

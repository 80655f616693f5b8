"""Requests that wait for a topic that is being created: bounded by number and by bytes."""

from __future__ import annotations

from actors.actor import Envelope
from odradek.protocol.errors import ThrottlingQuotaExceeded

WAITING_REQUESTS_MAX = 10_000
WAITING_BYTES_MAX = 64 << 20


class WaitingRoom:
    """Requests by the topic that they wait for, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Envelope]] = {}
        self._requests = 0
        self._bytes = 0

    @property
    def topics(self) -> list[str]:
        """What is waited for."""
        return list(self._waiting)

    def admit(self, topic: str, envelope: Envelope) -> bool:
        """Keep a request; whether it is the first for its topic. Raises ThrottlingQuotaExceeded."""
        size_bytes = envelope.size_bytes
        if self._requests >= WAITING_REQUESTS_MAX:
            raise ThrottlingQuotaExceeded(f"{self._requests} requests wait for new topics already")
        if self._bytes + size_bytes > WAITING_BYTES_MAX:
            raise ThrottlingQuotaExceeded(f"{self._bytes} bytes wait for new topics already")
        first = topic not in self._waiting
        self._waiting.setdefault(topic, []).append(envelope)
        self._requests += 1
        self._bytes += size_bytes
        return first

    def leave(self, topic: str) -> list[Envelope]:
        """All that waited for a topic; they wait no longer."""
        envelopes = self._waiting.pop(topic, [])
        self._requests -= len(envelopes)
        self._bytes -= sum(envelope.size_bytes for envelope in envelopes)
        return envelopes

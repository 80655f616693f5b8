"""Odradek itself, as a user starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from bench.peers.peer import Facts, Peer, Running
from loadtest.workload import Target


class _Ready(msgspec.Struct):
    """Of what the broker says when it serves."""

    router: str
    kafka: str


class RunningOdradek(Running):
    """``python -m supervisor``."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._ready_file = data.with_name(f"{data.name}.ready")

    def start(self) -> None:
        """As Running."""
        self._ready_file.unlink(missing_ok=True)
        ports = ("--port", "0", "--kafka-port", "0", "--http-port", "0")
        files = ("--data", str(self.data / "log"), "--ready-file", str(self._ready_file))
        self.spawn([sys.executable, "-P", "-m", "supervisor", *files, *ports])
        self.wait_until(self._ready_file.exists)

    def _ready(self) -> _Ready:
        return msgspec.json.decode(self._ready_file.read_bytes(), type=_Ready)

    def target(self) -> Target:
        """As Running."""
        return Target(address=self._ready().router)


class Odradek(Peer):
    """With its own protocol and SDK."""

    client = "odradek"
    facts = Facts(
        name="Odradek",
        version="this tree",
        durability="fdatasync before the acknowledgement (acks=all)",
        client="odradek (Python), acks=all, idempotent",
        batch="up to 1 MB, linger 0 ms; send_many() with a call of several",
        source="this repository",
    )

    def prepare(self) -> None:
        """As Peer."""

    def running(self, data: Path) -> Running:
        """As Peer."""
        return RunningOdradek(data)


class RunningGateway(RunningOdradek):
    """The same broker, by its Kafka listener."""

    def target(self) -> Target:
        """As Running."""
        return Target(address=self._ready().kafka, client="kafka")


class OdradekGateway(Peer):
    """With Kafka's protocol and Kafka's client."""

    client = "kafka"
    main = False
    facts = Facts(
        name="Odradek, Kafka protocol",
        version="this tree",
        durability="fdatasync before the acknowledgement (acks=all)",
        client="confluent-kafka (Python, librdkafka), acks=all, idempotent",
        batch="up to 1 MB, linger 0 ms",
        limit="consuming: confluent-kafka makes an object of each message",
        source="this repository",
    )

    def prepare(self) -> None:
        """As Peer."""

    def running(self, data: Path) -> Running:
        """As Peer."""
        return RunningGateway(data)

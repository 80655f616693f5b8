"""Redis Streams: redis-server of Debian, a stream for each partition."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from bench.peers.peer import Facts, Peer, PeerUnavailable, Running, accepts, debian_version, free_port
from loadtest.workload import Target

CLIENT = "bench.peers.redis_client"


class RunningRedis(Running):
    """``redis-server`` with an append-only file."""

    def __init__(self, data: Path, fsync: str) -> None:
        super().__init__(data)
        self._fsync = fsync
        self._port = free_port()

    def start(self) -> None:
        """As Running."""
        self.data.mkdir(parents=True, exist_ok=True)
        flags = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": "",
        }
        self.spawn(
            ["redis-server", *(part for name, value in flags.items() for part in (f"--{name}", value))]
        )
        self.wait_until(lambda: accepts(self._port))

    def target(self) -> Target:
        """As Running."""
        return Target(address=f"127.0.0.1:{self._port}", client=CLIENT)


class Redis(Peer):
    """``fsync``: always or everysec."""

    client = CLIENT

    def __init__(self, fsync: str) -> None:
        self._fsync = fsync
        self.main = fsync == "always"
        self.facts = Facts(
            name=f"Redis Streams, appendfsync {fsync}",
            version="of Debian",
            durability="fsync before the reply" if fsync == "always" else "fsync once a second",
            client="redis-py with hiredis: XADD without waiting for replies, XREAD",
            batch="a pipeline for each call, 10,000 XADDs without a reply at most",
            source="apt-get install redis-server",
        )

    def prepare(self) -> None:
        """As Peer."""
        if shutil.which("redis-server") is None:
            raise PeerUnavailable("Redis is not here: apt-get install redis-server")
        self.facts = replace(self.facts, version=debian_version("redis-server"))

    def running(self, data: Path) -> Running:
        """As Peer."""
        return RunningRedis(data, self._fsync)

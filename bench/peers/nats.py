"""NATS JetStream: nats-server, built by Go from its module proxy; a file stream for each partition."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from bench.peers.peer import Facts, Peer, PeerUnavailable, Running, accepts, free_port
from loadtest.workload import Target

VERSION = "v2.12.2"
MODULE = f"github.com/nats-io/nats-server/v2@{VERSION}"
BUILD_S_MAX = 600.0
_CONFIG = """\
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{data}/jetstream", sync_interval: {sync} }}
"""
CLIENT = "bench.peers.nats_client"


class RunningNats(Running):
    """``nats-server`` with JetStream."""

    def __init__(self, data: Path, program: Path, sync: str) -> None:
        super().__init__(data)
        self._program = program
        self._sync = sync
        self._port = free_port()

    def start(self) -> None:
        """As Running."""
        self.data.mkdir(parents=True, exist_ok=True)
        config = self.data / "nats.conf"
        config.write_text(_CONFIG.format(port=self._port, data=self.data, sync=self._sync))
        self.spawn([str(self._program), "-c", str(config)])
        self.wait_until(lambda: accepts(self._port))

    def target(self) -> Target:
        """As Running."""
        return Target(address=f"nats://127.0.0.1:{self._port}", client=CLIENT)


class Nats(Peer):
    """``sync`` is JetStream's sync_interval: "always", or its default of two minutes."""

    client = CLIENT

    def __init__(self, sync: str) -> None:
        self._sync = sync
        self.main = sync != "always"
        self._program = Path()
        self.facts = Facts(
            name="NATS JetStream, sync always" if sync == "always" else "NATS JetStream",
            version=VERSION,
            durability="fsync before the ack" if sync == "always" else "page cache, fsync every two minutes",
            client="nats-py: publish_async(), ordered push consumer",
            batch="none: a message each, 4,000 unacknowledged at most",
            limit="nats-py handles each message in Python, on both ways",
            source=f"Go module proxy: {MODULE}",
        )

    def prepare(self) -> None:
        """As Peer. The program is kept in ~/go/bin."""
        if shutil.which("go") is None:
            raise PeerUnavailable("NATS is built by Go: apt-get install golang-go")
        self._program = Path.home() / "go" / "bin" / "nats-server"
        if not self._program.exists():
            environment = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "auto"}
            done = subprocess.run(
                ["go", "install", MODULE],
                capture_output=True,
                text=True,
                timeout=BUILD_S_MAX,
                env=environment,
                check=False,
            )
            if done.returncode != 0:
                raise PeerUnavailable(f"go install {MODULE}: {done.stderr.strip()[-300:]}")

    def running(self, data: Path) -> Running:
        """As Peer."""
        return RunningNats(data, self._program, self._sync)

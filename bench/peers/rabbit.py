"""RabbitMQ Streams: rabbitmq-server of Debian with its stream plugin, a node beside Debian's service.

Nothing of /etc/rabbitmq and /var/lib/rabbitmq is read or written: the node has its own name, cookie, data,
ports and epmd, all of them on the loopback.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from bench.peers.peer import (
    STOP_S_MAX,
    Facts,
    Peer,
    PeerUnavailable,
    Running,
    accepts,
    debian_version,
    free_port,
)
from loadtest.workload import Target

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
EPMD = Path("/usr/bin/epmd")
NODE = "odradek-peer@localhost"
"""Always the same, since the data directory carries it; our own epmd knows no other node."""
_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
stream.listeners.tcp.1 = 127.0.0.1:{stream}
stream.advertised_host = 127.0.0.1
stream.advertised_port = {stream}
log.console = true
log.console.level = error
log.file = false
"""
_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
CLIENT = "bench.peers.rabbit_client"


class RunningRabbit(Running):
    """``rabbitmq-server`` and the epmd that Erlang needs for the node's name."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._amqp, self._stream, self._distribution, self._epmd_port = (free_port() for _ in range(4))
        self._epmd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """As Running."""
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "rabbitmq.conf").write_text(_CONFIG.format(amqp=self._amqp, stream=self._stream))
        (self.data / "plugins").write_text("[rabbitmq_stream].\n")
        (self.data / "environment").write_text("")
        environment = self._environment()
        self._epmd = subprocess.Popen(
            [str(EPMD)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self.spawn([str(SERVER)], environment)
        self.wait_until(lambda: accepts(self._stream))

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return kept | {
            "HOME": str(self.data),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _LOOPBACK,
            "RABBITMQ_CONF_ENV_FILE": str(self.data / "environment"),
            "RABBITMQ_CONFIG_FILE": str(self.data / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.data / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.data / "logs"),
            "RABBITMQ_PID_FILE": str(self.data / "pid"),
        }

    def target(self) -> Target:
        """As Running."""
        return Target(address=f"127.0.0.1:{self._stream}", client=CLIENT)

    def kill(self) -> None:
        """As Running."""
        super().kill()
        self._end_epmd()

    def stop(self) -> None:
        """As Running."""
        try:
            super().stop()
        finally:
            self._end_epmd()

    def _end_epmd(self) -> None:
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.kill()
            epmd.wait(STOP_S_MAX)


class Rabbit(Peer):
    """Streams, as the plugin has them; there is nothing to choose about syncs."""

    client = CLIENT
    start_and_stop_s = 8.0
    facts = Facts(
        name="RabbitMQ Streams",
        version="of Debian",
        durability="page cache: streams never sync by themselves",
        client="rstream (asyncio), plain bytes, send_batch() with confirmations",
        batch="a frame for each call, 10,000 messages unconfirmed at most",
        source="apt-get install rabbitmq-server, plugin rabbitmq_stream",
        limit="rstream reads its socket 256 bytes at a time and calls back for each message, in Python",
    )

    def prepare(self) -> None:
        """As Peer."""
        if not SERVER.exists() or not EPMD.exists():
            raise PeerUnavailable(
                "RabbitMQ is not here: apt-get install rabbitmq-server, and stop its service"
            )
        self.facts = replace(self.facts, version=debian_version("rabbitmq-server"))

    def running(self, data: Path) -> Running:
        """As Peer."""
        return RunningRabbit(data)

"""From a spawn order to a ChildSpec: where the pieces of one broker are. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from actors.messages import COORDINATOR
from partitions.ballast import BALLAST_NAME
from supervisor.ballastkeeper import records_free_bytes_min
from supervisor.children import Role
from supervisor.childspec import ChildSpec
from supervisor.datadirectory import partition_directory_name
from supervisor.effects import SpawnOrder
from supervisor.kafkasettings import sasl_mechanisms
from supervisor.kafkaspec import LISTENERS, kafka_broker_config, tls_files
from supervisor.rundirectory import INNER_PREFIX, RunDirectory
from supervisor.settings import Settings
from transport.keys import KeyPair

OFFSETS_TOPIC = "__consumer_offsets"
OFFSETS_SEGMENT_BYTES = 2 << 20
"""The coordinator's log is compacted by whole segments, so they are small."""


def tcp_endpoint(host: str, port: int) -> str:
    """A ZeroMQ endpoint; an IPv6 address stands in brackets."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def kafka_endpoint(host: str, port: int) -> str:
    """ "host:port", as Kafka's clients write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class SpecWriter:
    """Knows the broker's directories and settings."""

    settings: Settings
    data: Path
    run: RunDirectory
    offsets_topic_id: str
    server: str
    keys: KeyPair | None = None
    """The server's, where native clients come in by CURVE only."""

    def write(self, order: SpawnOrder) -> ChildSpec:
        """The spec of the ordered process."""
        match order.role:
            case Role.ROUTER:
                return self._router(order)
            case Role.GATEWAY:
                return self._gateway(order)
            case Role.COORDINATOR:
                return self._coordinator(order)
            case Role.PARTITION:
                return self._partition(order)

    def _base(self, order: SpawnOrder) -> ChildSpec:
        return ChildSpec(
            name=order.name,
            role=order.role,
            incarnation=order.incarnation,
            control=self.run.control,
            listeners=(),
            beat_interval_s=order.beat_interval_s or self.settings.heartbeat_interval_s,
            is_first=order.is_first,
            log_level=self.settings.log_level,
            log_json=self.settings.log_json,
        )

    def _inner(self, order: SpawnOrder, address: str) -> str:
        """A new endpoint at each start: nothing that was sent to one process can reach its successor."""
        return self.run.endpoint(address, f"{INNER_PREFIX}{order.incarnation}")

    def _router(self, order: SpawnOrder) -> ChildSpec:
        port = self.settings.port and self.settings.port + order.index
        # A router that comes back listens where it did before: clients know that endpoint.
        endpoint = order.endpoints[0] if order.endpoints else tcp_endpoint(self.settings.host, port)
        return replace(
            self._base(order),
            listeners=(("public", endpoint),),
            index=order.index,
            server=self.server,
            auto_create_topics=self.settings.auto_create_topics,
            default_partitions=self.settings.default_partitions,
            memory_bytes_max=self.settings.router_memory_bytes_max,
            keys=self.keys,
            access=order.access,
            is_access_enforced=self.settings.access_enforced,
        )

    def _gateway(self, order: SpawnOrder) -> ChildSpec:
        port = self.settings.kafka_port and self.settings.kafka_port + order.index
        # As with a router: clients know where it was.
        endpoint = order.endpoints[0] if order.endpoints else kafka_endpoint(self.settings.host, port)
        return replace(
            self._base(order),
            kafka_listeners=((LISTENERS[self.settings.kafka_security], endpoint),),
            advertised_host=self.settings.kafka_advertised_host,
            sasl_mechanisms=sasl_mechanisms(self.settings),
            tls=tls_files(self.settings),
            config=kafka_broker_config(self.settings),
            directory=str(self.data),
            access=order.access,
            is_access_enforced=self.settings.access_enforced,
            index=order.index,
            server=self.server,
            auto_create_topics=self.settings.auto_create_topics,
            default_partitions=self.settings.default_partitions,
            memory_bytes_max=self.settings.gateway_memory_bytes_max,
            connections_max=self.settings.kafka_connections_max,
        )

    def _coordinator(self, order: SpawnOrder) -> ChildSpec:
        return replace(
            self._base(order),
            listeners=(("inner", self._inner(order, COORDINATOR)),),
            directory=str(self.data / partition_directory_name(OFFSETS_TOPIC, 0)),
            topic=OFFSETS_TOPIC,
            topic_id=self.offsets_topic_id,
            config={"segment.bytes": OFFSETS_SEGMENT_BYTES},
            group_session_timeout_s=self.settings.group_session_timeout_s,
            group_initial_rebalance_delay_s=self.settings.group_initial_rebalance_delay_s,
            group_heartbeat_interval_s=self.settings.group_heartbeat_interval_s,
            offsets_retention_minutes=self.settings.offsets_retention_minutes,
            ballast_directory=str(self.data / BALLAST_NAME),
            ballast_bytes=self.settings.ballast_bytes,
        )

    def _partition(self, order: SpawnOrder) -> ChildSpec:
        topic = order.topic
        assert topic is not None, "a partition is spawned only while its topic is in the catalogue"
        return replace(
            self._base(order),
            listeners=(
                ("inner", self._inner(order, order.name)),
                ("direct", self.run.endpoint(order.name, "direct")),
            ),
            directory=str(self.data / partition_directory_name(topic.name, order.partition)),
            topic=topic.name,
            topic_id=topic.topic_id,
            partition=order.partition,
            config=dict(topic.config),
            retention_check_interval_s=self.settings.retention_check_interval_s,
            disk_free_bytes_min=records_free_bytes_min(
                self.settings.disk_free_bytes_min, self.settings.ballast_bytes
            ),
            ballast_directory=str(self.data / BALLAST_NAME),
            ballast_bytes=self.settings.ballast_bytes,
        )

"""What travels from the supervisor to a process that it starts: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from actors.messages import Access
from supervisor.children import Role
from transport.kafka.tlsfiles import TlsFiles
from transport.keys import KeyPair


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """All that a child must know; plain data, because it travels to another process."""

    name: str
    role: Role
    incarnation: int
    control: str
    listeners: tuple[tuple[str, str], ...]
    beat_interval_s: float
    log_level: str
    log_json: bool
    is_first: bool = True
    """No former process of this name has left sockets behind."""
    directory: str = ""
    topic: str = ""
    topic_id: str = ""
    partition: int = 0
    index: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    server: str = ""
    auto_create_topics: bool = True
    default_partitions: int = 1
    group_session_timeout_s: float = 45.0
    group_heartbeat_interval_s: float = 1.0
    group_initial_rebalance_delay_s: float = 0.5
    offsets_retention_minutes: int = 10_080
    memory_bytes_max: int = 0
    kafka_listeners: tuple[tuple[str, str], ...] = ()
    """(name, "host:port") of a gateway's listeners."""
    advertised_host: str = ""
    sasl_mechanisms: tuple[str, ...] = ()
    """By which Kafka clients must log in."""
    tls: TlsFiles | None = None
    """What a Kafka listener shows, where it speaks TLS."""
    connections_max: int = 0
    retention_check_interval_s: float = 300.0
    disk_free_bytes_min: int = 0
    ballast_directory: str = ""
    ballast_bytes: int = 0
    keys: KeyPair | None = None
    access: Access | None = None
    is_access_enforced: bool = False

"""What travels from the supervisor to a process that it starts: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from supervisor.children import Role


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
    offsets_retention_minutes: int = 10_080
    memory_bytes_max: int = 0
    retention_check_interval_s: float = 300.0
    disk_free_bytes_min: int = 0

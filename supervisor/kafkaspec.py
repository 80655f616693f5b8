"""A gateway's part of its spec: the listener, and the broker's settings under Kafka's names. Pure."""

from __future__ import annotations

from supervisor.kafkasettings import is_encrypted, sasl_mechanisms
from supervisor.settings import Settings
from transport.kafka.tlsfiles import TlsFiles

LISTENERS = {
    "plaintext": "PLAINTEXT",
    "ssl": "SSL",
    "sasl_plaintext": "SASL_PLAINTEXT",
    "sasl_ssl": "SASL_SSL",
}
"""Kafka's names of what a listener demands."""


def tls_files(settings: Settings) -> TlsFiles | None:
    """The files of TLS, where the listener speaks it."""
    if not is_encrypted(settings):
        return None
    return TlsFiles(
        settings.kafka_tls_certificate, settings.kafka_tls_key, settings.kafka_tls_client_certificates
    )


def kafka_broker_config(settings: Settings) -> dict[str, str]:
    """The broker's settings as DescribeConfigs tells them, under Kafka's names."""
    retention = settings.offsets_retention_minutes
    session_ms = round(settings.group_session_timeout_s * 1000)
    heartbeat_ms = round(settings.group_heartbeat_interval_s * 1000)
    authorizer = "odradek.acls" if settings.access_enforced else ""
    return {
        "authorizer.class.name": authorizer,
        "auto.create.topics.enable": str(settings.auto_create_topics).lower(),
        "connections.max.idle.ms": "600000",
        "default.replication.factor": "1",
        "delete.topic.enable": "true",
        "group.consumer.heartbeat.interval.ms": str(heartbeat_ms),
        "group.consumer.session.timeout.ms": str(session_ms),
        "group.coordinator.rebalance.protocols": "classic,consumer",
        "listener.security.protocol.map": ",".join(f"{name}:{name}" for name in LISTENERS.values()),
        "log.dirs": str(settings.data),
        "max.connections": str(settings.kafka_connections_max),
        "min.insync.replicas": "1",
        "num.partitions": str(settings.default_partitions),
        "offsets.retention.minutes": str(retention),
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "sasl.enabled.mechanisms": ",".join(sasl_mechanisms(settings)),
        "super.users": settings.super_users,
        "transaction.state.log.replication.factor": "1",
        "unclean.leader.election.enable": "false",
    }

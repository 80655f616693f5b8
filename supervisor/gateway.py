"""A gateway put together: the actor that decides and the server that speaks Kafka's protocol."""

from __future__ import annotations

import secrets
from functools import partial

from actors.gateway import GatewayActor
from actors.kafka.handling import GatewayOptions
from actors.kafka.registry import HANDLERS, SERVED
from actors.pending import PendingTable
from supervisor.childspec import ChildSpec
from supervisor.logs import EventLog
from transport.kafka.server import KafkaListener, KafkaServer, KafkaServerOptions, Wrap
from transport.kafka.streams import PlainStream

PENDING_REQUESTS_MAX = 100_000
NONCE_BYTES = 24
PENDING_MEMORY_SHARE = 4
"""Records on their way to partitions may take this part of the memory limit: a quarter."""


def build_gateway(spec: ChildSpec) -> tuple[GatewayActor, KafkaServer]:
    """The gateway that the spec describes."""
    options = GatewayOptions(
        index=spec.index,
        auto_create_topics=spec.auto_create_topics,
        default_partitions=spec.default_partitions,
        server=spec.server,
        is_access_enforced=spec.is_access_enforced,
        broker_config=spec.config,
        log_directory=spec.directory,
        advertised_host=spec.advertised_host,
        sasl_mechanisms=spec.sasl_mechanisms,
        new_nonce=lambda: secrets.token_urlsafe(NONCE_BYTES),
    )
    pending = PendingTable(PENDING_REQUESTS_MAX, spec.memory_bytes_max // PENDING_MEMORY_SHARE)
    server = KafkaServer(
        KafkaServerOptions(
            listeners=_listeners(spec),
            versions=SERVED,
            connections_max=spec.connections_max,
            memory_bytes_max=spec.memory_bytes_max,
        ),
        EventLog(spec.name, spec.log_level, json=spec.log_json),
    )
    actor = GatewayActor(options, HANDLERS, pending)
    if spec.access is not None:
        actor.take_access(spec.access)
    return actor, server


def _listeners(spec: ChildSpec) -> tuple[KafkaListener, ...]:
    wrap: Wrap = PlainStream
    if spec.tls is not None:
        from transport.kafka.tls import TlsStream, server_context  # noqa: PLC0415  # loads OpenSSL

        wrap = partial(TlsStream, context=server_context(spec.tls))
    must_log_in = bool(spec.sasl_mechanisms)
    return tuple(_listener(name, endpoint, wrap, must_log_in) for name, endpoint in spec.kafka_listeners)


def _listener(name: str, endpoint: str, wrap: Wrap, must_log_in: bool) -> KafkaListener:
    host, _, port = endpoint.rpartition(":")
    return KafkaListener(name, host.strip("[]"), int(port), wrap, must_log_in)

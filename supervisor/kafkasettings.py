"""The Kafka listener's settings: what they mean together. Pure, and without what only a gateway needs."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from odradek.protocol.access import SCRAM_HASHES
from supervisor.settings import Settings

PLAIN = "PLAIN"
MECHANISMS = (*SCRAM_HASHES, PLAIN)


def is_encrypted(settings: Settings) -> bool:
    """Whether Kafka clients come by TLS."""
    return settings.kafka_security.endswith("ssl")


def sasl_mechanisms(settings: Settings) -> tuple[str, ...]:
    """By which Kafka clients must log in; none where nobody need."""
    if not settings.kafka_security.startswith("sasl"):
        return ()
    named = settings.kafka_sasl_mechanisms.split(",")
    return tuple(dict.fromkeys(name.strip().upper() for name in named if name.strip()))


def kafka_contradictions(settings: Settings, sources: Mapping[str, str]) -> list[str]:
    """What is wrong with the settings of the listener taken together, a sentence each."""
    if not settings.gateways:
        return []
    problems = []
    if is_encrypted(settings):
        problems += [
            f"kafka_security is {settings.kafka_security!r} (from {sources['kafka_security']}), which needs "
            f"{name}: the path of a PEM file"
            for name in ("kafka_tls_certificate", "kafka_tls_key")
            if not getattr(settings, name)
        ]
    mechanisms = sasl_mechanisms(settings)
    source = sources["kafka_sasl_mechanisms"]
    if settings.kafka_security.startswith("sasl") and not mechanisms:
        problems.append(f"kafka_sasl_mechanisms is empty (from {source}), so nobody could log in")
    problems += [
        f"kafka_sasl_mechanisms names {name!r} (from {source}); there are {', '.join(MECHANISMS)}"
        for name in mechanisms
        if name not in MECHANISMS
    ]
    if not ipaddress.ip_address(settings.host).is_loopback and not settings.allow_insecure_host:
        problems += _open_to_strangers(settings, sources, mechanisms)
    return problems


def _open_to_strangers(
    settings: Settings, sources: Mapping[str, str], mechanisms: tuple[str, ...]
) -> list[str]:
    """Why the Kafka listener may not be where other machines reach it."""
    host = f"host is {settings.host!r} (from {sources['host']}), which other machines can reach"
    knows_clients = mechanisms or (is_encrypted(settings) and settings.kafka_tls_client_certificates)
    if not knows_clients and not settings.access_enforced:
        return [
            f"{host}, and Kafka clients need not say who they are there: set kafka_security to sasl_ssl, or "
            "to ssl with kafka_tls_client_certificates; or run without Kafka clients (gateways 0), or say "
            "--allow-insecure-host if the network itself keeps strangers out"
        ]
    if PLAIN in mechanisms and not is_encrypted(settings):
        return [
            f"{host}, and SASL PLAIN sends passwords there for everybody to read: set kafka_security to "
            "sasl_ssl, or kafka_sasl_mechanisms to SCRAM-SHA-256,SCRAM-SHA-512"
        ]
    return []

"""Topics: the topic of a run, made before it and deleted after it."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtest.clients import confluent
from loadtest.workload import Target

TIMEOUT_S: Final = 60.0
NAME_BYTES: Final = 4


def new_topic_name() -> str:
    """A name that no run had before."""
    return f"loadtest-{secrets.token_hex(NAME_BYTES)}"


@contextmanager
def topic_of(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    """The target's topic, empty, for as long as the context lasts; ``keep`` leaves it there."""
    if target.kafka is not None:
        yield from _kafka_topic(target, partitions, keep=keep)
    else:
        yield from _odradek_topic(target, partitions, keep=keep)


def _odradek_topic(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    from odradek import Admin  # noqa: PLC0415  # not needed for Kafka

    assert target.bootstrap is not None
    with Admin(target.bootstrap) as admin:
        admin.create_topic(target.topic, partitions)
        try:
            yield
        finally:
            if not keep:
                admin.delete_topics([target.topic])


def _kafka_topic(target: Target, partitions: int, *, keep: bool) -> Iterator[None]:
    confluent()  # says what to install where it is not there
    package: Any = importlib.import_module("confluent_kafka.admin")
    admin = package.AdminClient({"bootstrap.servers": target.kafka})
    made = admin.create_topics([package.NewTopic(target.topic, partitions, 1)], operation_timeout=TIMEOUT_S)
    made[target.topic].result(TIMEOUT_S)
    try:
        yield
    finally:
        if not keep:
            admin.delete_topics([target.topic], operation_timeout=TIMEOUT_S)[target.topic].result(TIMEOUT_S)

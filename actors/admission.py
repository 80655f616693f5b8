"""Admission: what a topic asks of every record, in a batch that is appended or before it is gathered.

Most topics ask nothing: then nobody looks into a batch, and the record codec is not loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from actors.messages import TopicRoute
from odradek.protocol.batch import (
    CONTROL_MASK,
    DELETE_HORIZON_MASK,
    TRANSACTIONAL_MASK,
    BatchHeader,
    Buffer,
)
from odradek.protocol.errors import CorruptMessage, InvalidRecord, OdradekError
from partitions.settings import COMPACT, INT64_MAX, LogSettings

TIMESTAMP_BOUNDS = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms")


def check_records(batch: Buffer, header: BatchHeader, settings: LogSettings, wall_ms: int) -> None:
    """That every record of a batch may stand in the topic; ``wall_ms`` is the time of day.

    Raises InvalidRecord, InvalidTimestamp or CorruptMessage.
    """
    if not (settings.compacts or settings.bounds_timestamps):
        return
    if settings.compacts and header.attributes & DELETE_HORIZON_MASK:
        raise InvalidRecord(
            f"the batch's attributes {header.attributes:#x} have the bit {DELETE_HORIZON_MASK:#x}, by which "
            "compaction marks its own batches; send it without"
        )
    if header.attributes & (CONTROL_MASK | TRANSACTIONAL_MASK):
        return
    for index, (has_key, timestamp) in enumerate(_asked(batch)):
        if settings.compacts and not has_key:
            raise InvalidRecord(
                f"record {index} of the batch has no key, and the topic is compacted "
                "(cleanup.policy): there every record needs one"
            )
        if settings.bounds_timestamps:
            settings.check_timestamp(timestamp, wall_ms)


def check_record(topic: TopicRoute, key: bytes | None, timestamp: int, wall_ms: int) -> None:
    """The same of a record that is to share a batch: the partition would refuse it with those of others.

    Raises InvalidRecord or InvalidTimestamp.
    """
    config = topic.config
    if key is None and COMPACT in str(config.get("cleanup.policy")):
        raise InvalidRecord(f"{topic.name!r} is compacted (cleanup.policy): there every record needs a key")
    if any(config.get(name, INT64_MAX) != INT64_MAX for name in TIMESTAMP_BOUNDS):
        settings = LogSettings.from_config(config)
        if settings.bounds_timestamps:
            settings.check_timestamp(timestamp, wall_ms)


class _Asked(NamedTuple):
    """What is asked about a record."""

    has_key: bool
    timestamp: int


def _asked(batch: Buffer) -> Iterator[_Asked]:
    """Of each record of a batch. Raises CorruptMessage."""
    from odradek.protocol.sparse import stored_records  # noqa: PLC0415

    try:
        yield from (_Asked(record.key is not None, record.timestamp) for record in stored_records(batch))
    except OdradekError:
        raise
    except Exception as error:
        # What a producer signed may be anything, and the codec has no exception of its own for it.
        raise CorruptMessage(f"the records of a batch cannot be read: {error}") from error

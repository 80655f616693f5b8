"""Which partition a key belongs to: Kafka's default partitioner, so that both sides agree."""

from __future__ import annotations

import murmurhash2

KAFKA_SEED = 0x9747B28C
"""The seed of ``org.apache.kafka.common.utils.Utils.murmur2``."""


def partition_for_key(key: bytes, partition_count: int) -> int:
    """murmur2 of the key, made non-negative by masking, modulo the number of partitions."""
    return int(murmurhash2.murmurhash2(key, KAFKA_SEED) & 0x7FFFFFFF) % partition_count

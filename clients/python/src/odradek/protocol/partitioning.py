"""Which partition a key belongs to: Kafka's default partitioner, so that both sides agree.

The compiled murmur2 gives up the interpreter for each call, which is dear beside a thread that is ready
to run. So the hashes of the latest keys are remembered. (A murmur2 in Python is slower even then.)
"""

from __future__ import annotations

import functools
from typing import Final

import murmurhash2

KAFKA_SEED = 0x9747B28C
"""The seed of ``org.apache.kafka.common.utils.Utils.murmur2``."""
REMEMBERED_KEYS_MAX: Final = 65_536


def partition_for_key(key: bytes, partition_count: int) -> int:
    """murmur2 of the key, made non-negative by masking, modulo the number of partitions."""
    return positive_hash(key) % partition_count


@functools.lru_cache(REMEMBERED_KEYS_MAX)
def positive_hash(key: bytes) -> int:
    """murmur2 of the key, made non-negative by masking."""
    return int(murmurhash2.murmurhash2(key, KAFKA_SEED)) & 0x7FFFFFFF

"""Which partition a key belongs to: Kafka's default partitioner, so that both sides agree.

The compiled murmur2 gives up the interpreter for each call, which is dear beside a thread that is ready
to run. So the hashes of keys are remembered. (A murmur2 in Python is slower even then.)
"""

from __future__ import annotations

from typing import Final

import murmurhash2

KAFKA_SEED = 0x9747B28C
"""The seed of ``org.apache.kafka.common.utils.Utils.murmur2``."""
REMEMBERED_KEYS_MAX: Final = 16_384
REMEMBERED_KEY_BYTES_MAX: Final = 256
"""A longer key is hashed each time: what is remembered stays within a few MiB."""


class _Hashes(dict[bytes, int]):
    """murmur2 by key. It is emptied when it is full: to find out which key is the oldest costs more."""

    def __missing__(self, key: bytes) -> int:
        found = int(murmurhash2.murmurhash2(key, KAFKA_SEED)) & 0x7FFFFFFF
        if len(key) <= REMEMBERED_KEY_BYTES_MAX:
            if len(self) >= REMEMBERED_KEYS_MAX:
                self.clear()
            self[key] = found
        return found


positive_hash = _Hashes().__getitem__
"""murmur2 of a key, made non-negative by masking."""


def partition_for_key(key: bytes, partition_count: int) -> int:
    """murmur2 of the key, made non-negative by masking, modulo the number of partitions."""
    return positive_hash(key) % partition_count

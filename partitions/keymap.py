"""The key map of a compaction: which record is the latest of its key, for as many keys as memory allows.

The keys themselves are kept, not their hashes: two keys never pass for one. What has no room is left for the
next pass; ``end_offset`` tells how far this one sees.
"""

from __future__ import annotations

from collections.abc import Iterable

from odradek.protocol.sparse import StoredRecord

KEY_OVERHEAD_BYTES = 190
"""About what a key takes beside its bytes: the object, its offset, its place in the table."""


class KeyMap:
    """Latest offsets by key, about ``bytes_max`` large: only a batch that was begun is taken whole."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._size_bytes = 0
        self.latest: dict[bytes, int] = {}
        self.end_offset = 0
        """Behind the last record that is known."""

    @property
    def full(self) -> bool:
        return self._size_bytes >= self._bytes_max

    def put(self, records: Iterable[StoredRecord]) -> None:
        """Later records than all that were put before."""
        latest = self.latest
        for record in records:
            key = record.key
            if key is None:
                continue
            if key not in latest:
                self._size_bytes += len(key) + KEY_OVERHEAD_BYTES
            latest[key] = record.offset

"""The internal log stays small: now and then all that is live is written again, and what lies before goes.

Rule 1. A snapshot is a run of ordinary entries between the others. Each holds what its key means at the
        moment at which it is written, and whatever changes the key afterwards comes behind it. So the log
        from the snapshot's first entry on says the same as the whole log, once the snapshot is complete.
Rule 2. Only when the whole snapshot is durable is the start of the log moved to its first entry. A crash
        before that finds the old start, and entries that say once more what was known.
Rule 3. One piece goes out with each round, so that no turn takes long however much is live.
Rule 4. When a round fails, the snapshot is given up, and begun anew with a later round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from actors.ledger import Entry, encode_entry

LOG_BYTES_MIN = 4 << 20
"""A log smaller than this is left alone."""
GROWTH_MAX = 2
"""The log may have this many times the bytes of what is live: a restart reads all of it, and 100,000
offsets are to be there within a second."""
PIECE_ENTRIES_MAX = 500
PIECE_BYTES_MAX = 400_000
RETRY_BYTES = 1 << 20
"""After a snapshot that failed the log may grow by this much until the next try."""

RecordBytes = tuple[bytes, bytes | None]


class LiveState(Protocol):
    """What is to be kept."""

    def live_entries(self) -> Iterator[list[Entry]]: ...

    def count_entries(self) -> int: ...


class Compaction:
    """What the log costs, and the snapshot that is under way."""

    def __init__(self, state: LiveState, move_start: Callable[[int], int]) -> None:
        self._state = state
        self._move_start = move_start
        self._pieces: Iterator[list[Entry]] | None = None
        self._first_offset: int | None = None
        self._complete = False
        self._copied_bytes = 0
        self._copied_entries = 0
        self._log_bytes = 0
        self._log_entries = 0
        self._behind_bytes = 0
        """Bytes of the log from the snapshot's first entry on."""
        self._limit_bytes = LOG_BYTES_MIN
        self._bytes_per_entry = 0.0

    def note(self, size_bytes: int, entries: int) -> None:
        """So much was recovered from the log, or written to it."""
        self._log_bytes += size_bytes
        self._log_entries += entries
        self._behind_bytes += size_bytes

    @property
    def log_bytes(self) -> int:
        """Bytes that a recovery would read."""
        return self._log_bytes

    def next_piece(self, end_offset: int) -> list[RecordBytes]:
        """Records that the round that is about to be written has to end with; mostly none.

        ``end_offset`` is where that round begins.
        """
        if self._pieces is None:
            if self._complete or not self._is_due():
                return []
            self._pieces = self._state.live_entries()
            self._first_offset = end_offset
            self._behind_bytes = self._copied_bytes = self._copied_entries = 0
        records: list[RecordBytes] = []
        size_bytes = 0
        for entries in self._pieces:
            encoded = [encode_entry(entry) for entry in entries]
            records += encoded
            size_bytes += sum(len(key) + len(value or b"") for key, value in encoded)
            if len(records) >= PIECE_ENTRIES_MAX or size_bytes >= PIECE_BYTES_MAX:
                break
        else:
            self._pieces = None
            self._complete = True
        self._copied_bytes += size_bytes
        self._copied_entries += len(records)
        return records

    def _is_due(self) -> bool:
        if self._log_bytes <= self._limit_bytes:
            return False
        per_entry = self._bytes_per_entry or self._log_bytes / max(self._log_entries, 1)
        self._limit_bytes = max(LOG_BYTES_MIN, int(GROWTH_MAX * per_entry * self._state.count_entries()))
        return self._log_bytes > self._limit_bytes

    def synced(self) -> int | None:
        """A round is durable. The new start of the log, where that was the snapshot's last one.

        Raises OdradekError where the start could not be moved: then all is as it was.
        """
        if not self._complete or self._first_offset is None:
            return None
        first_offset = self._first_offset
        self._move_start(first_offset)
        self._first_offset, self._complete = None, False
        self._log_bytes, self._log_entries = self._behind_bytes, 0
        self._bytes_per_entry = self._behind_bytes / max(self._copied_entries, 1)
        self._limit_bytes = LOG_BYTES_MIN
        return first_offset

    def give_up(self) -> None:
        """A round failed, or the start could not be moved."""
        if self._first_offset is not None:
            self._limit_bytes = self._log_bytes + RETRY_BYTES
        self._pieces, self._first_offset, self._complete = None, None, False

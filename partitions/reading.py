"""Reading: batches of a log, whole and durable, around whatever is damaged.

Headers are proved by the chain of their offsets; where the chain breaks, the place is examined, quarantined
and named. Positions come from the indexes, which are rebuilt where they were caught lying.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from odradek.protocol.batch import HEADER_BYTES, BatchHeader, checksum, read_header
from odradek.protocol.errors import CorruptMessage, KafkaStorageError, OffsetOutOfRange
from partitions.errors import LogFailed
from partitions.scan import Damage, Selection, Window, header_at, resume_point, select, valid_batch
from partitions.segment import Segment
from partitions.state import LogState, base_offset_of, first_of

NEXT_READS_KEPT = 64
"""Positions behind the latest reads: a consumer that reads on needs no look-up."""
DAMAGES_PER_READ = 1000
"""A read that meets more damaged places than this gives up."""


class Reader:
    """Reads one log; ``state`` is the log's own."""

    def __init__(self, state: LogState) -> None:
        self._state = state
        self._next_reads: dict[int, tuple[Segment, int]] = {}

    def forget_positions(self) -> None:
        """Segments have gone or changed: what was remembered of them no longer holds."""
        self._next_reads.clear()

    # -- reading

    def read(self, offset: int, max_bytes: int, *, max_offset: int | None = None) -> bytes | memoryview:
        """Whole batches from the one with ``offset`` on: about ``max_bytes``, but at least one batch.

        Only durable batches, and only those wholly below ``max_offset``; b"" where there is none yet. The
        batches end with their segment or before damage: ask again behind them. Headers are proved here, of
        the checksums only the last one: readers verify. Raises OffsetOutOfRange, CorruptMessage (a
        quarantined range, named), LogFailed (behind the durable end of a failed log) or KafkaStorageError
        (the disk).
        """
        limit = (
            self._state.durable_offset if max_offset is None else min(max_offset, self._state.durable_offset)
        )
        if not self._state.start_offset <= offset <= self._state.end_offset:
            raise OffsetOutOfRange(
                f"offset {offset} is outside the log, "
                f"which has {self._state.start_offset} to {self._state.durable_offset}"
            )
        if offset >= limit:
            if self._state.failure is not None and offset >= self._state.durable_offset:
                raise LogFailed(self._state.failure)
            return b""
        for _ in range(DAMAGES_PER_READ):
            self._refuse_damaged(offset)
            segment = self._segment_of(offset)
            try:
                return self._read_segment(segment, offset, max_bytes, limit)
            except BrokenError as broken:
                if self._next_reads.pop(offset, None) is not None:
                    continue  # the read before ended with a batch whose length may be wrong: look it up
                self.quarantine(segment, broken.position, broken.expected_offset)
            except OSError as error:
                raise KafkaStorageError(f"reading {segment.path} failed: {error}") from error
        raise CorruptMessage(f"{segment.path} is damaged in more than {DAMAGES_PER_READ} places")

    def _read_segment(self, segment: Segment, offset: int, max_bytes: int, limit: int) -> bytes | memoryview:
        position, expected, exact = self._locate(segment, offset)
        for damage in self._state.damages:
            if damage.segment != segment.base_offset:
                continue
            if damage.first > offset:
                limit = min(limit, damage.first)
            elif damage.last < offset and damage.end_position > position:
                position, expected, exact = damage.end_position, damage.last + 1, False
        end = segment.durable_size
        wanted = max(max_bytes, HEADER_BYTES) + (0 if exact else self._state.settings.index_interval_bytes)
        descriptor, previous = segment.reader(), None
        while True:
            size = min(wanted, end - position)
            buffer = self._state.files.pread(descriptor, size, position)
            found = select(buffer, expected, offset, limit)
            if found.previous[0] >= 0:
                previous = (position + found.previous[0], found.previous[1])
            if found.start >= 0:
                stop, next_offset = self._prove_last(buffer, position, found)
                self._keep_next(segment, position + stop, next_offset)
                return buffer if found.start == 0 and stop == size else memoryview(buffer)[found.start : stop]
            if len(buffer) < size or _is_stuck(found, end - position):
                self._blame(segment, (position + found.position, found.expected_offset), previous)
            if found.needed == 0:
                self._prove(segment, position + found.position, found.expected_offset)
                return b""
            position, expected = position + found.position, found.expected_offset
            wanted = max(max_bytes, found.needed)

    def _prove_last(self, buffer: bytes, position: int, found: Selection) -> tuple[int, int]:
        """(end in ``buffer``, next offset) of what may be returned, the last batch left off if it is unsound.

        The last checksum proves all headers: a wrong length or count in one breaks the chain at the next.
        """
        last, base = found.previous
        if checksum(memoryview(buffer)[last : found.end]) == read_header(buffer, last).crc:
            return found.end, found.expected_offset
        if last == found.start:
            raise BrokenError(position + last, base)
        return last, base

    def _blame(self, segment: Segment, here: tuple[int, int], previous: tuple[int, int] | None) -> None:
        """No batch stands ``here``, or the length of the ``previous`` one is wrong. Raises BrokenError."""
        if previous is not None:
            window = Window(self._state.files, segment.reader(), segment.durable_size)
            if valid_batch(window, previous[0]) is None:
                raise BrokenError(*previous)
        raise BrokenError(*here)

    def _prove(self, segment: Segment, position: int, expected: int) -> None:
        """The batch at ``position`` says that it reaches over the limit: raises BrokenError where it lies."""
        window = Window(self._state.files, segment.reader(), segment.durable_size)
        if valid_batch(window, position) is None:
            raise BrokenError(position, expected)

    def _segment_of(self, offset: int) -> Segment:
        last = self._state.segments[-1]
        if offset >= last.base_offset:
            return last
        return self._state.segments[
            max(0, bisect_right(self._state.segments, offset, key=base_offset_of) - 1)
        ]

    def _locate(self, segment: Segment, offset: int) -> tuple[int, int, bool]:
        """(position, base offset, exact) of a batch at or before ``offset``; exact: it begins there."""
        if offset == segment.base_offset:
            return 0, offset, True
        known = self._next_reads.get(offset)
        if known is not None and known[0] is segment:
            return known[1], offset, True
        if segment.indexed:
            position, base = segment.position_before(offset)
        if not segment.indexed:
            self.rebuild_indexes(segment)
            position, base = segment.position_before(offset) if segment.indexed else (0, segment.base_offset)
        return position, base, False

    def _keep_next(self, segment: Segment, position: int, next_offset: int) -> None:
        """Remembers where a reader that got everything below ``next_offset`` will go on."""
        self._next_reads[next_offset] = (segment, position)
        if len(self._next_reads) > NEXT_READS_KEPT:
            del self._next_reads[next(iter(self._next_reads))]

    def rebuild_indexes(self, segment: Segment) -> None:
        """Makes both indexes anew from the batches; not while batches of this segment are under way."""
        if segment.durable_size != segment.size:
            return
        fresh = self._state.new_segment(segment.base_offset)
        for position, header in self.walk(segment, 0, segment.base_offset):
            fresh.size = position
            fresh.stage(header, header.base_offset, 0, self._state.settings.index_interval_bytes)
        if segment is not self._state.segments[-1]:
            fresh.append_time_entry()
        segment.forget_readers()
        segment.index, segment.time_index, segment.indexed = fresh.index, fresh.time_index, True
        segment.write_indexes(least=1)

    def walk(self, segment: Segment, position: int, expected: int) -> Iterator[tuple[int, BatchHeader]]:
        """(position, header) of each durable batch from ``position`` on; damage is noted and passed over."""
        window = Window(self._state.files, segment.reader(), segment.durable_size)
        while position < segment.durable_size:
            damage = next((item for item in self._damages_of(segment) if item.position == position), None)
            if damage is None:
                header = header_at(window, position)
                if header is not None and header.base_offset == expected:
                    yield position, header
                    position, expected = position + header.size_bytes, header.next_offset
                    continue
                damage = self.quarantine(segment, position, expected)
            position, expected = damage.end_position, damage.last + 1

    # -- damage

    def _damages_of(self, segment: Segment) -> Iterator[Damage]:
        return (
            item
            for item in self._state.damages
            if item.segment == segment.base_offset and item.end_position > item.position
        )

    def _refuse_damaged(self, offset: int) -> None:
        if not self._state.damages:
            return
        number = bisect_right(self._state.damages, offset, key=first_of) - 1
        for damage in self._state.damages[max(0, number - 1) : number + 1]:
            if damage.first <= offset <= damage.last:
                raise CorruptMessage(
                    f"offsets {damage.first} to {damage.last} are damaged on disk and quarantined; "
                    f"the log goes on at {damage.last + 1}"
                )

    def quarantine(self, segment: Segment, position: int, expected: int) -> Damage:
        """Notes the damage at ``position``, where ``expected`` should stand, up to the next sound batch."""
        window = Window(self._state.files, segment.reader(), segment.durable_size)
        resume = resume_point(window, position, expected)
        if resume is not None:
            end_position, next_offset = resume
        else:
            following = bisect_right(self._state.segments, segment.base_offset, key=base_offset_of)
            is_last = following == len(self._state.segments)
            next_offset = (
                self._state.durable_offset if is_last else self._state.segments[following].base_offset
            )
            end_position = segment.durable_size
        damage = Damage(expected, next_offset - 1, segment.base_offset, position, end_position)
        self._state.damages.append(damage)
        self._state.damages.sort(key=first_of)
        self._state.checkpoint_due = True
        return damage


class BrokenError(Exception):
    """At ``position`` no batch of ``expected_offset`` stands."""

    def __init__(self, position: int, expected_offset: int) -> None:
        super().__init__(position, expected_offset)
        self.position, self.expected_offset = position, expected_offset


def _is_stuck(found: Selection, remaining: int) -> bool:
    """No batch can follow where the walk stopped, though ``remaining`` bytes of the segment say so."""
    return found.broken or found.position >= remaining or found.position + found.needed > remaining

"""Times: which offset belongs to a timestamp, exact to the batch."""

from __future__ import annotations

from partitions.reading import Reader
from partitions.segment import MaxTimestamp, Segment
from partitions.state import LogState


class Times:
    """Looks timestamps up in one log; ``state`` and ``reader`` are the log's own."""

    def __init__(self, state: LogState, reader: Reader) -> None:
        self._state = state
        self._reader = reader

    def first_at(self, timestamp_ms: int) -> tuple[int, int] | None:
        """(base offset, largest timestamp) of the first durable batch with a timestamp >= ``timestamp_ms``.

        Exact to the batch: which record of it is the first, only its decoded records tell. None where
        there is no such batch.
        """
        for segment in list(self._state.segments):
            if (
                segment.durable_max.timestamp < timestamp_ms
                or segment.next_offset <= self._state.start_offset
            ):
                continue
            for _, header in self._reader.walk(segment, *self._locate_time(segment, timestamp_ms)):
                if header.max_timestamp >= timestamp_ms and header.last_offset >= self._state.start_offset:
                    return max(header.base_offset, self._state.start_offset), header.max_timestamp
        return None

    def _locate_time(self, segment: Segment, timestamp_ms: int) -> tuple[int, int]:
        """(position, base offset) of a batch before which all timestamps are below ``timestamp_ms``."""
        if not segment.indexed:
            self._reader.rebuild_indexes(segment)
        durable = segment.time_index.find(self._state.durable_offset - 1 - segment.base_offset, field=1)
        found = segment.time_index.find(timestamp_ms)
        if durable is None or found is None or not segment.indexed:
            return 0, segment.base_offset
        timestamp, relative = min(found, durable)[1]
        last_offset = segment.base_offset + relative
        for position, header in self._reader.walk(segment, *segment.position_before(last_offset)):
            if header.last_offset >= last_offset:
                if header.last_offset == last_offset and header.max_timestamp == timestamp:
                    return position, header.base_offset
                break
        segment.indexed = False
        return 0, segment.base_offset

    def of_max_timestamp(self) -> tuple[int, int] | None:
        """(base offset, timestamp) of the first durable batch with the largest timestamp of the log."""
        best = max(
            (self._durable_max(segment) for segment in self._state.segments),
            key=lambda item: (item.timestamp, -item.base_offset),
        )
        if best.timestamp < 0:
            return None
        return max(best.base_offset, self._state.start_offset), best.timestamp

    def _durable_max(self, segment: Segment) -> MaxTimestamp:
        largest = segment.durable_max
        if largest.timestamp < 0 or largest.last_offset >= self._state.start_offset:
            return largest
        largest = MaxTimestamp()
        for _, header in self._reader.walk(segment, 0, segment.base_offset):
            if header.last_offset >= self._state.start_offset and header.max_timestamp > largest.timestamp:
                largest = MaxTimestamp(header.max_timestamp, header.base_offset, header.last_offset)
        return largest

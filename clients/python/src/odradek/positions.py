"""Positions: where a consumer stands in each of its partitions, and how it moves there."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from odradek.connection import Outcome
from odradek.fetcher import Fetcher, PartitionReader, TopicPartition
from odradek.membership import Attention
from odradek.options import ConsumerOptions
from odradek.protocol.errors import OffsetOutOfRange
from odradek.protocol.messages import ListOffsets
from odradek.session import Session


class _Gathered:
    """Offsets that come in one by one in the I/O thread, for a user's thread that waits for all."""

    def __init__(self, count: int) -> None:
        self._open = count
        self._found: dict[TopicPartition, int] = {}
        self._done = threading.Event()

    def take(self, partition: TopicPartition, outcome: Outcome) -> None:
        if outcome.error is None:
            self._found[partition] = int(outcome.reply.offset)
        self._open -= 1
        if self._open == 0:
            self._done.set()

    def wait(self, timeout_s: float) -> dict[TopicPartition, int]:
        """What came until all had an outcome or the time was over."""
        self._done.wait(timeout_s)
        return dict(self._found)


class Positions:
    """The part of a consumer that knows partitions and offsets, but no group."""

    def __init__(self, session: Session, options: ConsumerOptions) -> None:
        self.options = options
        self._session = session
        self._changed = threading.Condition()
        self._readers: dict[TopicPartition, PartitionReader] = {}
        self._attention = Attention()
        # Handed to a wrapper but not yet to its user: not to be committed.
        self._held: Mapping[TopicPartition, int] = {}
        self._fetcher = Fetcher(session, options, self._changed, self._reset_offset)

    def _begin(self) -> None:
        """Take up what is to be read, where that has not happened yet."""
        raise NotImplementedError

    def assignment(self) -> set[TopicPartition]:
        """The partitions that this consumer reads now."""
        return set(self._readers)

    def position(self, partition: TopicPartition) -> int:
        """The offset of the next record that will be handed out."""
        key = TopicPartition(*partition)
        return self._held.get(key, self._reader(key).position)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at ``offset``. Raises ValueError for a negative one."""
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise ValueError(f"an offset is a whole number of at least 0, not {offset!r}")
        self._seek({partition: offset})

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on at the first record that is kept; without arguments, in every partition."""
        self._seek(self._list_offsets(partitions or self.assignment(), "earliest"))

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on behind the last record; without arguments, in every partition."""
        self._seek(self._list_offsets(partitions or self.assignment(), "latest"))

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand out nothing of these (or all) until ``resume``; their positions stay."""
        self._set_paused(partitions, paused=True)

    def resume(self, *partitions: TopicPartition) -> None:
        """Hand out records of these (or all) again."""
        self._set_paused(partitions, paused=False)

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return {key for key, reader in self._readers.items() if reader.paused}

    def offsets_for_times(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int | None]:
        """The first offset at or after a time in milliseconds, None where no record is as late."""
        found = {}
        for partition, at in times.items():
            offset = self._list_offset(partition, at)
            found[partition] = None if offset < 0 else offset
        return found

    def beginning_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The first offset that is kept, of each."""
        return self._list_offsets(partitions or self.assignment(), "earliest")

    def end_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The offset after the last durable record, of each."""
        return self._list_offsets(partitions or self.assignment(), "latest")

    def lag(self, partition: TopicPartition) -> int:
        """How many records lie between the position and the end."""
        reader = self._reader(partition)
        end = reader.high_watermark
        if end is None:
            end = self._list_offset(partition, "latest")
        return max(0, end - self.position(partition))

    def _seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        readers = {self._reader(partition): offset for partition, offset in offsets.items()}
        with self._changed:
            for reader, offset in readers.items():
                reader.seek(offset)
            self._attention.raised = True
        self._session.network.call(self._fetcher.fetch_all)

    def _set_paused(self, partitions: Iterable[TopicPartition], *, paused: bool) -> None:
        readers = [self._reader(partition) for partition in partitions or self.assignment()]
        with self._changed:
            for reader in readers:
                reader.paused = paused
            self._attention.raised = True
        self._session.network.call(self._fetcher.fetch_all)

    def _reader(self, partition: TopicPartition) -> PartitionReader:
        self._begin()
        reader = self._readers.get(TopicPartition(*partition))
        if reader is None:
            raise ValueError(f"{partition[0]}-{partition[1]} is not assigned to this consumer")
        return reader

    def _list_offset(self, partition: TopicPartition, at: Any) -> int:
        topic, number = partition
        request = ListOffsets(topic=topic, partition=number, at=at)
        return int(self._session.call(request, partition=(topic, number)).offset)

    def _list_offsets(self, partitions: Iterable[TopicPartition], at: Any) -> dict[TopicPartition, int]:
        """All are asked at once; those that cannot answer now are asked again, one after the other."""
        wanted = list(dict.fromkeys(TopicPartition(*each) for each in partitions))
        if len(wanted) < 2:
            return {each: self._list_offset(each, at) for each in wanted}
        self._session.check_usable()
        gathered = _Gathered(len(wanted))
        timeout_s = self._session.request_timeout_s
        for topic, number in wanted:
            request = ListOffsets(topic=topic, partition=number, at=at)
            take = functools.partial(gathered.take, TopicPartition(topic, number))
            submit = functools.partial(self._session.submit_to_partition, timeout_s=timeout_s)
            self._session.network.call(submit, topic, number, request, (), take)
        found = gathered.wait(timeout_s)
        return {each: found[each] if each in found else self._list_offset(each, at) for each in wanted}

    def _reset_offset(self, error: OffsetOutOfRange, reply: Any) -> int | None:
        if self.options.auto_offset_reset == "none":
            return None
        ends = (reply.log_start_offset, reply.high_watermark)
        found = ends[self.options.auto_offset_reset == "latest"]
        return found if isinstance(found, int) else None

    # -- for wrappers that read ahead ----------------------------------------------------------

    def hold(self, positions: Mapping[TopicPartition, int]) -> None:
        """Nothing from these offsets on is the user's yet."""
        self._held = positions

    def rewind_held(self) -> None:
        """Go back to the offsets that are held: they will be handed out again."""
        held = {key: offset for key, offset in self._held.items() if key in self._readers}
        self._held = {}
        if held:
            self._seek(held)

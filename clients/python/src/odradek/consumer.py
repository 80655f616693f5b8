"""Consumer: records come out in order, partition by partition, and positions are committed.

A consumer is used by one thread at a time. Fetching and heartbeats go on in its I/O thread; everything
that a user may notice (callbacks, partitions that come and go, automatic commits) happens inside his own
calls, between two records.
"""

from __future__ import annotations

import functools
import itertools
import logging
import operator
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import msgspec
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

from odradek.connection import Outcome
from odradek.fetcher import Fetcher, PartitionReader, TopicPartition
from odradek.membership import Attention, Membership, grouped
from odradek.options import Bootstrap, ConsumerOptions, OffsetReset, SessionOptions
from odradek.protocol.errors import (
    CorruptMessage,
    InvalidGroupId,
    OdradekError,
    OffsetOutOfRange,
    StaleMemberEpoch,
    UnknownTopicOrPartition,
    UnsupportedCompressionType,
    error_from_wire,
)
from odradek.protocol.messages import (
    CommitOffset,
    ListOffsets,
    OffsetCommit,
    OffsetFetch,
)
from odradek.protocol.names import check_group_name, check_topic_name
from odradek.session import ClientClosed, Session

__all__ = ["Consumer", "Record", "TopicPartition"]

logger = logging.getLogger("odradek")

WAIT_S_MAX: Final = 1.0
"""A waiting poll looks around this often: it still counts as polling."""
LEAVE_TIMEOUT_S: Final = 2.0
COMMIT_TIMEOUT_S: Final = 10.0
STALE_EPOCH_TRIES_MAX: Final = 5
"""How often a commit is tried with a newer epoch before the user hears of it."""

_FIELDS = operator.attrgetter("offset", "timestamp", "key", "value", "headers")
_DECODING_ERRORS = (CorruptRecordException, UnsupportedCodecError, ValueError, EOFError, OSError)

AssignmentCallback: TypeAlias = Callable[[list[TopicPartition]], object]


class Record(msgspec.Struct, gc=False):
    """One record: the timestamp in milliseconds since 1970, value None for a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Consumer:
    """Reads records; iterable; a context manager that commits, leaves its group and closes.

    Args:
        bootstrap: "tcp://127.0.0.1:5559", "127.0.0.1:5559", or several of them.
        group: its members share the partitions of their topics; None reads them all, alone.
        topics: what to read; None to ``assign`` partitions later.
        auto_offset_reset: where to begin without a committed offset: "earliest", "latest", or "none"
            to raise OffsetOutOfRange.
        enable_auto_commit: commit what was handed out, every ``auto_commit_interval_ms``, before a
            partition moves away and on close. A record counts when the next one is asked for.
        poll_interval_ms_max: a member that does not ask for records for so long gives up its
            partitions until it asks again.
        fetch_bytes_max, fetch_wait_ms_max: how much one fetch asks for and how long it waits.
        prefetch_bytes_max: bound of what is fetched ahead.
        check_crcs: verify each batch's checksum.
        instance_id: makes a static member, which keeps its partitions over a short restart.
        assignor: the coordinator's rule for sharing; None for its default.
        idle_timeout_s: iteration ends when no record came for so long; None: never.
        on_assigned, on_revoked: called, with the partitions, between two records.
        client_id, request_timeout_ms, connect_timeout_ms, retry_backoff_ms, retry_backoff_max_ms,
            metadata_age_max_ms, direct: see odradek.options.SessionOptions.

    Raises InvalidConfig, InvalidTopic, InvalidGroupId for what cannot be.
    """

    def __init__(
        self,
        bootstrap: Bootstrap = "tcp://127.0.0.1:5559",
        *,
        group: str | None = None,
        topics: Iterable[str] | None = None,
        auto_offset_reset: OffsetReset = "earliest",
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: float = 5_000,
        poll_interval_ms_max: float = 300_000,
        fetch_bytes_max: int = 1 << 20,
        fetch_wait_ms_max: float = 500,
        prefetch_bytes_max: int = 16 << 20,
        check_crcs: bool = True,
        instance_id: str | None = None,
        assignor: str | None = None,
        idle_timeout_s: float | None = None,
        on_assigned: AssignmentCallback | None = None,
        on_revoked: AssignmentCallback | None = None,
        client_id: str | None = None,
        request_timeout_ms: float = 10_000,
        connect_timeout_ms: float = 3_000,
        retry_backoff_ms: float = 20,
        retry_backoff_max_ms: float = 1_000,
        metadata_age_max_ms: float = 300_000,
        direct: bool = True,
    ) -> None:
        self.options = ConsumerOptions(
            auto_offset_reset=auto_offset_reset,
            enable_auto_commit=enable_auto_commit,
            auto_commit_interval_ms=auto_commit_interval_ms,
            poll_interval_ms_max=poll_interval_ms_max,
            fetch_bytes_max=fetch_bytes_max,
            fetch_wait_ms_max=fetch_wait_ms_max,
            prefetch_bytes_max=prefetch_bytes_max,
            check_crcs=check_crcs,
            instance_id=instance_id,
            assignor=assignor,
            idle_timeout_s=idle_timeout_s,
        )
        session_options = SessionOptions(
            client_id=client_id,
            request_timeout_ms=request_timeout_ms,
            connect_timeout_ms=connect_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
            retry_backoff_max_ms=retry_backoff_max_ms,
            metadata_age_max_ms=metadata_age_max_ms,
            direct=direct,
        )
        self.group = None if group is None else check_group_name(group)
        self._topics = None if topics is None else _topic_names(topics)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._changed = threading.Condition()
        self._readers: dict[TopicPartition, PartitionReader] = {}
        self._turn = 0
        self._attention = Attention()
        self._closed = False
        self._started = False
        self._committed: dict[TopicPartition, int] = {}
        # Handed to a wrapper but not yet to its user: not to be committed.
        self._held: Mapping[TopicPartition, int] = {}
        self._commit_at = time.monotonic() + self.options.auto_commit_interval_ms / 1000
        self._session = Session(bootstrap, session_options, "consumer")
        self._fetcher = Fetcher(self._session, self.options, self._changed, self._reset_offset)
        self._membership: Membership | None = None

    # -- reading -------------------------------------------------------------------------------

    def poll(self, timeout_s: float = 1.0, max_records: int = 500) -> list[Record]:
        """Up to ``max_records`` records, as soon as there is one; an empty list after ``timeout_s``.

        Raises what keeps a partition from being read (OffsetOutOfRange, CorruptMessage, ...), or the
        member from its group; the other partitions go on with the next call.
        """
        if isinstance(max_records, bool) or not isinstance(max_records, int) or max_records < 1:
            raise ValueError(f"max_records is a whole number of at least 1, not {max_records!r}")
        deadline = time.monotonic() + timeout_s
        records: list[Record] = []
        self._housekeep()
        while len(records) < max_records:
            reader = self._ready(0 if records else max(0.0, deadline - time.monotonic()), quiet=bool(records))
            if reader is None:
                break
            self._read(reader, max_records - len(records), records)
        self._attention.raised = True  # an iteration that goes on after this begins with a fresh look
        return records

    def __iter__(self) -> Iterator[Record]:
        """Records for ever, or until ``idle_timeout_s`` without any, or until close()."""
        while not self._closed:
            self._housekeep()
            reader = self._ready(self.options.idle_timeout_s, quiet=False)
            if reader is None:
                return
            topic, partition = reader.key
            attention = self._attention
            try:
                for raw in reader.records:
                    reader.current = offset = raw.offset
                    yield Record(topic, partition, offset, raw.timestamp, raw.key, raw.value, raw.headers)
                    # A seek, a rebalance or a poll() between two records changes what comes next.
                    if attention.raised:
                        break
                else:
                    self._finish_batch(reader)
            except _DECODING_ERRORS as error:
                self._set_unreadable(reader, error)

    def _read(self, reader: PartitionReader, records_max: int, records: list[Record]) -> None:
        """Append up to ``records_max`` records; from the encoded batch to the list without bytecode."""
        before = len(records)
        some = map(_FIELDS, itertools.islice(reader.records, records_max))
        try:
            records.extend(itertools.starmap(functools.partial(Record, *reader.key), some))
        except _DECODING_ERRORS as error:
            self._note_handed_out(reader, records, before)
            self._set_unreadable(reader, error)
            return
        self._note_handed_out(reader, records, before)
        if len(records) - before < records_max:
            self._finish_batch(reader)

    @staticmethod
    def _note_handed_out(reader: PartitionReader, records: list[Record], before: int) -> None:
        if len(records) > before:
            reader.current = records[-1].offset

    def _set_unreadable(self, reader: PartitionReader, error: Exception) -> None:
        """The next call raises this, and so does each one after it until the user seeks past the place."""
        with self._changed:
            reader.seek(reader.position)
            reader.error = _unreadable(reader, error)

    def _finish_batch(self, reader: PartitionReader) -> None:
        with self._changed:
            reader.finish_batch()
        if self._fetcher.stalled:
            self._session.network.call(self._fetcher.fetch_all)

    def _ready(self, timeout_s: float | None, *, quiet: bool) -> PartitionReader | None:
        """The next partition with records; waits for one. ``quiet`` leaves errors for the next call."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                reader = self._pick(quiet=quiet)
                if reader is not None or self._closed:
                    return reader
                left_s = WAIT_S_MAX if deadline is None else deadline - time.monotonic()
                if left_s <= 0:
                    return None
                if not self.needs_care:
                    self._changed.wait(min(left_s, WAIT_S_MAX))
            self._housekeep()

    def _pick(self, *, quiet: bool) -> PartitionReader | None:
        readers = list(self._readers.values())
        for step in range(len(readers)):
            reader = readers[(self._turn + step) % len(readers)]
            if reader.paused:
                continue
            if reader.has_records:
                if self._open(reader, quiet=quiet):
                    self._turn = (self._turn + step + 1) % len(readers)
                    return reader
            elif reader.error is not None and not quiet:
                error, reader.error = reader.error, None
                self._session.network.call(self._fetcher.fetch_all)
                raise error
        return None

    def _open(self, reader: PartitionReader, *, quiet: bool) -> bool:
        if reader.opened:
            return True
        try:
            return reader.open_next(check_crcs=self.options.check_crcs)
        except CorruptMessage:
            if quiet:
                return False
            raise

    # -- positions -----------------------------------------------------------------------------

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
        self._seek({each: self._list_offset(each, "earliest") for each in partitions or self.assignment()})

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go on behind the last record; without arguments, in every partition."""
        self._seek({each: self._list_offset(each, "latest") for each in partitions or self.assignment()})

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
        return {each: self._list_offset(each, "earliest") for each in partitions or self.assignment()}

    def end_offsets(self, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The offset after the last durable record, of each."""
        return {each: self._list_offset(each, "latest") for each in partitions or self.assignment()}

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
        self._start()
        reader = self._readers.get(TopicPartition(*partition))
        if reader is None:
            raise ValueError(f"{partition[0]}-{partition[1]} is not assigned to this consumer")
        return reader

    def _list_offset(self, partition: TopicPartition, at: Any) -> int:
        topic, number = partition
        request = ListOffsets(topic=topic, partition=number, at=at)
        return int(self._session.call(request, partition=(topic, number)).offset)

    # -- what is read --------------------------------------------------------------------------

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these, outside of any rebalancing; a group only keeps the committed offsets.

        Raises UnknownTopicOrPartition; ValueError where topics are subscribed to.
        """
        if self._topics is not None:
            raise ValueError(
                "this consumer has subscribed to topics; assign() is for one made without topics"
            )
        wanted = {TopicPartition(*partition) for partition in partitions}
        for topic, number in wanted:
            count = self._partition_count(topic)
            if not 0 <= number < count:
                raise UnknownTopicOrPartition(
                    f"topic {topic!r} has partitions 0 to {count - 1}, not {number}"
                )
        self._session.check_usable()
        self._started = True
        self._drop(set(self._readers) - wanted)
        self._add(wanted - set(self._readers))

    def assignment(self) -> set[TopicPartition]:
        """The partitions that this consumer reads now."""
        return set(self._readers)

    def _partition_count(self, topic: str) -> int:
        timeout_s = self._session.request_timeout_s
        return len(self._session.topic(topic, create=False, timeout_s=timeout_s).partitions)

    def _start(self) -> None:
        if self._closed:
            raise ClientClosed("this consumer is closed; make a new one")
        if self._started:
            return
        self._session.check_usable()
        if self._topics is None:
            raise ValueError("nothing to read: give topics to Consumer(), or call assign()")
        if self.group is None:
            wanted = {
                TopicPartition(topic, number)
                for topic in self._topics
                for number in range(self._partition_count(topic))
            }
            self._add(wanted)
        else:
            self._membership = Membership(
                self._session, self.group, self._topics, self.options, self._changed, self._attention
            )
            self._session.network.call(self._membership.beat)
        self._started = True

    def _drop(self, partitions: set[TopicPartition]) -> None:
        with self._changed:
            for partition in partitions:
                self._readers.pop(partition).dropped = True
                self._committed.pop(partition, None)
            readers = list(self._readers.values())
        self._session.network.call(self._fetcher.replace, readers)

    def _add(self, partitions: set[TopicPartition]) -> None:
        positions = self._locate(partitions)
        with self._changed:
            for partition in sorted(partitions):
                self._readers[partition] = PartitionReader(
                    partition, positions[partition], self._session.backoff()
                )
            readers = list(self._readers.values())
        if self._on_assigned is not None and partitions:
            self._on_assigned(sorted(partitions))
        self._session.network.call(self._fetcher.replace, readers)

    def _locate(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        """Where to begin: at the committed offset, else where ``auto_offset_reset`` says."""
        positions = {} if self.group is None else self.committed(*partitions)
        found: dict[TopicPartition, int] = {}
        for partition in partitions:
            committed = positions.get(partition)
            if committed is not None:
                found[partition] = self._committed[partition] = committed
            elif self.options.auto_offset_reset == "none":
                raise OffsetOutOfRange(
                    f"{partition.topic}-{partition.partition} has no committed offset, and "
                    "auto_offset_reset='none' says to begin nowhere else"
                )
            else:
                found[partition] = self._list_offset(partition, self.options.auto_offset_reset)
        return found

    def _reset_offset(self, error: OffsetOutOfRange, reply: Any) -> int | None:
        if self.options.auto_offset_reset == "none":
            return None
        ends = (reply.log_start_offset, reply.high_watermark)
        found = ends[self.options.auto_offset_reset == "latest"]
        return found if isinstance(found, int) else None

    # -- what has to be done between two records -----------------------------------------------

    @property
    def needs_care(self) -> bool:
        """Whether the group has news for the next call."""
        return self._attention.group

    def take_care(self) -> set[TopicPartition]:
        """Do what waits, without reading; the assignment after it. For wrappers that read ahead."""
        self._housekeep()
        return set(self._readers)

    def hold(self, positions: Mapping[TopicPartition, int]) -> None:
        """Nothing from these offsets on is the user's yet. For wrappers that read ahead."""
        self._held = positions

    def rewind_held(self) -> None:
        """Go back to the offsets that are held: they will be handed out again."""
        held = {key: offset for key, offset in self._held.items() if key in self._readers}
        self._held = {}
        if held:
            self._seek(held)

    def _housekeep(self) -> None:
        self._start()
        self._session.check_usable()
        attention = self._attention
        attention.raised = False
        membership = self._membership
        if membership is not None:
            membership.polled_at = time.monotonic()
            if attention.group:
                attention.group = False
                self._reconcile(membership)
        if self.options.enable_auto_commit and self.group is not None and time.monotonic() >= self._commit_at:
            self._commit_at = time.monotonic() + self.options.auto_commit_interval_ms / 1000
            self._commit_in_background()

    def _reconcile(self, membership: Membership) -> None:
        """Let go of what was taken away, take up what was given, and say so."""
        with self._changed:
            error, lost, target = membership.error, membership.lost, set(membership.target)
            membership.lost = False
        if error is not None:
            raise error
        held = set(self._readers)
        if lost:
            self._release(held, commit=False)
            self._session.network.call(membership.come_back)
            self._attention.call()  # what it has been given meanwhile is looked at next time
            return
        if target == held:
            return
        self._release(held - target, commit=self.options.enable_auto_commit)
        self._add(target - held)
        self._session.network.call(membership.own, target)

    def _release(self, partitions: set[TopicPartition], *, commit: bool) -> None:
        if not partitions:
            return
        if self._on_revoked is not None:
            self._on_revoked(sorted(partitions))
        if commit:
            try:
                self._commit(self._uncommitted(partitions), COMMIT_TIMEOUT_S)
            except OdradekError as error:
                logger.warning(
                    "group %s: positions of partitions that move away were not committed, their next "
                    "owner will see some records again: %s",
                    self.group,
                    error,
                )
        self._drop(partitions)

    # -- committing ----------------------------------------------------------------------------

    def commit(
        self, offsets: Mapping[TopicPartition, int] | None = None, *, wait: bool = True
    ) -> dict[TopicPartition, int]:
        """Store positions in the group: durable when this returns, or later without ``wait``.

        Args:
            offsets: the next offset to read, by partition; None for exactly what was handed out.
            wait: False returns at once; an error is logged then.

        Returns what is committed. Raises InvalidGroupId without a group, StaleMemberEpoch,
        UnknownMemberId or FencedMemberEpoch where the partitions have moved on to another member.
        """
        if self.group is None:
            raise InvalidGroupId("this consumer has no group to commit to; give one to Consumer(group=...)")
        if self._closed:
            raise ClientClosed("this consumer is closed; make a new one")
        wanted = self._positions(set(self._readers)) if offsets is None else _checked_offsets(offsets)
        if not wait:
            self._submit_commit(wanted)
        elif wanted:
            self._commit(wanted, self._session.request_timeout_s)
        return dict(wanted)

    def committed(self, *partitions: TopicPartition) -> dict[TopicPartition, int | None]:
        """The group's committed offset of each (or of all assigned), None where there is none."""
        if self.group is None:
            raise InvalidGroupId("this consumer has no group; give one to Consumer(group=...)")
        wanted = {TopicPartition(*each) for each in partitions or self.assignment()}
        found: dict[TopicPartition, int | None] = dict.fromkeys(wanted)
        if not wanted:
            return found
        reply = self._session.call(OffsetFetch(group=self.group, topics=list(grouped(wanted))))
        for item in reply.offsets:
            key = TopicPartition(item.topic, item.partition)
            if key in wanted and item.offset >= 0:
                found[key] = item.offset
        return found

    def _positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {key: self._held.get(key, self._readers[key].position) for key in partitions}

    def _uncommitted(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        positions = self._positions(partitions)
        return {key: offset for key, offset in positions.items() if self._committed.get(key) != offset}

    def _commit_request(self, offsets: Mapping[TopicPartition, int]) -> OffsetCommit:
        assert self.group is not None
        membership = self._membership
        return OffsetCommit(
            group=self.group,
            member_id=None if membership is None else membership.member_id,
            member_epoch=None if membership is None else membership.epoch,
            offsets=[
                CommitOffset(topic=topic, partition=partition, offset=offset)
                for (topic, partition), offset in offsets.items()
            ],
        )

    def _commit(self, offsets: Mapping[TopicPartition, int], timeout_s: float) -> None:
        """Commit and wait; with a newer epoch where the group has moved on meanwhile."""
        if not offsets:
            return
        deadline = time.monotonic() + timeout_s
        for attempt in range(1, STALE_EPOCH_TRIES_MAX + 1):
            request = self._commit_request(offsets)
            left_s = max(0.001, deadline - time.monotonic())
            try:
                self._note_commit(offsets, self._session.call(request, timeout_s=left_s))
            except StaleMemberEpoch:
                if attempt == STALE_EPOCH_TRIES_MAX or not self._wait_for_epoch(
                    request.member_epoch, deadline
                ):
                    raise
            else:
                return

    def _wait_for_epoch(self, old_epoch: int | None, deadline: float) -> bool:
        membership = self._membership
        if membership is None or time.monotonic() >= deadline:
            return False
        self._session.network.call(membership.beat)
        with self._changed:
            return self._changed.wait_for(
                lambda: membership.epoch != old_epoch and not membership.lost, deadline - time.monotonic()
            )

    def _note_commit(self, offsets: Mapping[TopicPartition, int], reply: Any) -> None:
        for item in reply.offsets:
            if item.error is not None:
                raise error_from_wire(item.error)
        self._committed.update({key: offset for key, offset in offsets.items() if key in self._readers})

    def _commit_in_background(self) -> None:
        offsets = self._uncommitted(self._readers)
        if offsets:
            self._submit_commit(offsets)

    def _submit_commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if not offsets:
            return
        request = self._commit_request(offsets)

        def after(outcome: Outcome) -> None:
            try:
                if outcome.error is not None:
                    raise outcome.error
                self._note_commit(offsets, outcome.reply)
            except OdradekError as error:
                logger.warning("group %s: a commit failed, the next one includes it: %s", self.group, error)

        self._session.network.call(self._session.submit, request, after)

    # -- the end -------------------------------------------------------------------------------

    def close(self, timeout_s: float = 5.0) -> None:
        """Commit what was handed out (with auto commit), leave the group, end the thread.

        Closing again does nothing. Errors of the last commit are raised after everything is closed.
        """
        self.close_after(timeout_s, commit=self.options.enable_auto_commit)

    def close_after(self, timeout_s: float, *, commit: bool) -> None:
        """``close``, with or without a last commit."""
        if self._closed:
            return
        self._closed = True
        if not self._session.network.usable_here:
            return
        try:
            if commit and self.group is not None:
                self._commit(self._uncommitted(self._readers), timeout_s)
        finally:
            self._leave(timeout_s)
            with self._changed:
                self._changed.notify_all()
            self._session.close(timeout_s)

    def _leave(self, timeout_s: float) -> None:
        membership = self._membership
        if membership is None:
            return
        self._session.network.call(membership.end)
        try:
            self._session.call(membership.leave_request(), timeout_s=min(timeout_s, LEAVE_TIMEOUT_S))
        except OdradekError as error:
            logger.debug("group %s: leaving: %s", self.group, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. After an exception nothing is committed: its record was handed out, but not dealt with."""
        self.close_after(5.0, commit=error is None and self.options.enable_auto_commit)


def _topic_names(topics: Iterable[str]) -> list[str]:
    if isinstance(topics, str):
        raise TypeError(f"topics is a list of names; write topics=[{topics!r}]")
    names = list(dict.fromkeys(topics))
    if not names:
        raise ValueError("topics is empty; name at least one, or leave it out and call assign()")
    for name in names:
        check_topic_name(name)
    return names


def _checked_offsets(offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    checked = {}
    for partition, offset in offsets.items():
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise ValueError(f"an offset is a whole number of at least 0, not {offset!r}")
        checked[TopicPartition(*partition)] = offset
    return checked


def _unreadable(reader: PartitionReader, error: Exception) -> OdradekError:
    place = f"{reader.key.topic}-{reader.key.partition} at offset {reader.position}"
    if isinstance(error, UnsupportedCodecError):
        return UnsupportedCompressionType(f"{place}: {error}")
    return CorruptMessage(f"{place}: a batch cannot be decoded: {error}")

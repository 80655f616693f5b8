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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

from odradek.commits import Commits
from odradek.fetcher import PartitionReader, TopicPartition
from odradek.membership import Membership, Subscription
from odradek.options import Bootstrap, ConsumerOptions, OffsetReset, SessionOptions
from odradek.positions import Positions
from odradek.protocol.errors import (
    CorruptMessage,
    InvalidGroupId,
    OdradekError,
    OffsetOutOfRange,
    UnknownTopicOrPartition,
    UnsupportedCompressionType,
)
from odradek.protocol.messages import TopicMetadata
from odradek.protocol.names import check_group_name, check_topic_name
from odradek.security import Curve
from odradek.session import ClientClosed, Session

__all__ = ["Consumer", "Record", "TopicPartition"]

logger = logging.getLogger("odradek")

WAIT_S_MAX: Final = 1.0
"""A waiting poll looks around this often: it still counts as polling."""
LEAVE_TIMEOUT_S: Final = 2.0
COMMIT_TIMEOUT_S: Final = 10.0
LOOK_UP_S_MIN: Final = 0.25
"""How often, at most, the age of what is known of the topics is looked at."""

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


class Consumer(Positions):
    """Reads records; iterable; a context manager that commits, leaves its group and closes.

    Args:
        bootstrap: "tcp://127.0.0.1:5559", "127.0.0.1:5559", or several of them.
        group: its members share the partitions of their topics; None reads them all, alone.
        topics: what to read; None to ``assign`` partitions later.
        topics_pattern: reads, in a group, every topic too whose whole name matches this regular
            expression, also those that are made later; docs/groups.md has its syntax.
        auto_offset_reset: where to begin without a committed offset: "earliest", "latest", or "none"
            to raise OffsetOutOfRange.
        enable_auto_commit: commit what was handed out, every ``auto_commit_interval_ms``, before a
            partition moves away and on close. A record counts when the next one is asked for.
        poll_interval_ms_max: Kafka's ``max.poll.interval.ms``. Heartbeats go on whatever a handler
            does, but a member that does not ask for records for so long gives up its partitions, with
            a warning, until it asks again.
        fetch_bytes_max, fetch_wait_ms_max: how much one fetch asks for and how long it waits.
        prefetch_bytes_max: bound of what is fetched ahead.
        check_crcs: verify each batch's checksum.
        instance_id: makes a static member, which keeps its partitions over a short restart.
        assignor: the coordinator's rule for sharing; None for its default.
        idle_timeout_s: iteration ends when no record came for so long; None: never.
        on_assigned: called, with the new partitions, between two records; it may ``seek``.
        on_revoked: called, with partitions that are about to move away, between two records and by
            close(): they are still this member's, so it may ``commit``. Automatic commits come after it.
        on_lost: called in place of on_revoked where the partitions are another member's already, so that
            nothing can be committed any more; None: on_revoked is called then too.
        client_id, request_timeout_ms, connect_timeout_ms, retry_backoff_ms, retry_backoff_max_ms,
            metadata_age_max_ms, direct, security: see odradek.options.SessionOptions.

    Raises InvalidConfig, InvalidTopic, InvalidGroupId for what cannot be. What a callback raises comes
    out of the call that it interrupted, after the rebalance has gone on without it.
    """

    def __init__(
        self,
        bootstrap: Bootstrap = "tcp://127.0.0.1:5559",
        *,
        group: str | None = None,
        topics: Iterable[str] | None = None,
        topics_pattern: str | None = None,
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
        on_lost: AssignmentCallback | None = None,
        client_id: str | None = None,
        request_timeout_ms: float = 10_000,
        connect_timeout_ms: float = 3_000,
        retry_backoff_ms: float = 20,
        retry_backoff_max_ms: float = 1_000,
        metadata_age_max_ms: float = 300_000,
        direct: bool = True,
        security: Curve | None = None,
    ) -> None:
        options = ConsumerOptions(
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
            security=security,
        )
        self.group = None if group is None else check_group_name(group)
        self._topics = None if topics is None else _topic_names(topics)
        self._topics_pattern = None if topics_pattern is None else _pattern(topics_pattern, group)
        super().__init__(Session(bootstrap, session_options, "consumer"), options)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._on_lost = on_revoked if on_lost is None else on_lost
        self._turn = 0
        self._closed = False
        self._started = False
        self._commit_at = time.monotonic() + options.auto_commit_interval_ms / 1000
        self._look_up_at = 0.0
        self._membership: Membership | None = None
        self._commits = None if group is None else Commits(self._session, group, self._changed)
        if group is None and topics is not None:
            self._session.on_topic = self._learn

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

    # -- what is read --------------------------------------------------------------------------

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these, outside of any rebalancing; a group only keeps the committed offsets.

        Raises UnknownTopicOrPartition; ValueError where topics are subscribed to.
        """
        if self._subscribed:
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
        added = wanted - set(self._readers)
        self._add(added, self._locate(added))

    def _partition_count(self, topic: str) -> int:
        timeout_s = self._session.request_timeout_s
        return len(self._session.topic(topic, create=False, timeout_s=timeout_s).partitions)

    @property
    def _subscribed(self) -> bool:
        return self._topics is not None or self._topics_pattern is not None

    def _begin(self) -> None:
        if self._closed:
            raise ClientClosed("this consumer is closed; make a new one")
        if self._started:
            return
        self._session.check_usable()
        if not self._subscribed:
            raise ValueError("nothing to read: give topics to Consumer(), or call assign()")
        topics = self._topics or []
        if self.group is None:
            wanted = {
                TopicPartition(topic, number)
                for topic in topics
                for number in range(self._partition_count(topic))
            }
            self._add(wanted, self._locate(wanted))
        else:
            self._membership = Membership(
                self._session,
                self.group,
                Subscription(topics, self._topics_pattern),
                self.options,
                self._changed,
                self._attention,
            )
            assert self._commits is not None
            self._commits.membership = self._membership
            self._session.network.call(self._membership.beat)
        self._started = True

    def _drop(self, partitions: set[TopicPartition]) -> None:
        with self._changed:
            for partition in partitions:
                self._readers.pop(partition).dropped = True
                if self._commits is not None:
                    self._commits.forget(partition)
            readers = list(self._readers.values())
        self._session.network.call(self._fetcher.replace, readers)

    def _add(self, partitions: set[TopicPartition], positions: dict[TopicPartition, int]) -> None:
        with self._changed:
            for partition in sorted(partitions):
                self._readers[partition] = PartitionReader(
                    partition, positions[partition], self._session.backoff()
                )
            readers = list(self._readers.values())
        try:
            if self._on_assigned is not None and partitions:
                self._on_assigned(sorted(partitions))
        finally:
            self._session.network.call(self._fetcher.replace, readers)

    def _locate(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        """Where to begin: at the committed offset, else where ``auto_offset_reset`` says."""
        positions = {} if self._commits is None else self._commits.fetch(partitions)
        found = {key: offset for key, offset in positions.items() if offset is not None}
        for partition, committed in found.items():
            if self._commits is not None:
                self._commits.note(partition, committed)
        unknown = sorted(partitions - found.keys())
        if unknown and self.options.auto_offset_reset == "none":
            raise OffsetOutOfRange(
                f"{unknown[0].topic}-{unknown[0].partition} has no committed offset, and "
                "auto_offset_reset='none' says to begin nowhere else"
            )
        return found | self._list_offsets(unknown, self.options.auto_offset_reset)

    # -- what has to be done between two records -----------------------------------------------

    @property
    def needs_care(self) -> bool:
        """Whether the group has news for the next call."""
        return self._attention.group

    def take_care(self) -> set[TopicPartition]:
        """Do what waits, without reading; the assignment after it. For wrappers that read ahead."""
        self._housekeep()
        return set(self._readers)

    def _housekeep(self) -> None:
        self._begin()
        self._session.check_usable()
        attention = self._attention
        attention.raised = False
        membership = self._membership
        if membership is not None:
            membership.polled_at = time.monotonic()
            if attention.group:
                attention.group = False
                self._reconcile(membership)
        elif self._topics is not None:
            self._look_for_partitions(self._topics)
        if self._commits is not None and self.options.enable_auto_commit:
            self._commit_now_and_then(self._commits)

    def _commit_now_and_then(self, commits: Commits) -> None:
        now = time.monotonic()
        if now >= self._commit_at:
            self._commit_at = now + self.options.auto_commit_interval_ms / 1000
            commits.store_later(commits.missing(self._positions(self._readers)))

    def _look_for_partitions(self, topics: list[str]) -> None:
        """Read partitions that topics were given since: from their start, so that nothing is missed."""
        now = time.monotonic()
        if now >= self._look_up_at:
            self._look_up_at = now + LOOK_UP_S_MIN
            self._session.network.call(self._session.refresh_old, topics)
        if not self._attention.group:
            return
        known = [self._session.known_topic(topic) for topic in topics]
        added = {
            TopicPartition(topic.name, number)
            for topic in known
            if topic is not None
            for number in range(len(topic.partitions))
        } - set(self._readers)
        positions = self._list_offsets(sorted(added), "earliest")
        self._attention.group = False
        if added:
            self._add(added, positions)

    def _learn(self, topic: TopicMetadata) -> None:
        with self._changed:
            known = sum(1 for key in self._readers if key.topic == topic.name)
            if self._started and len(topic.partitions) > known:
                self._attention.call()
                self._changed.notify_all()

    def _reconcile(self, membership: Membership) -> None:
        """Let go of what was taken away, take up what was given, and say so."""
        with self._changed:
            error, lost, target = membership.error, membership.lost, set(membership.target)
        if error is not None:
            raise error
        held = set(self._readers)
        if lost:
            self._give_up(membership, held)
            return
        network = self._session.network
        moving = held - target
        if moving:
            try:
                self._release(moving, commit=self.options.enable_auto_commit)
            finally:
                network.call(membership.own, set(self._readers))  # their next owner waits for this
        added = target - held
        if added:
            positions = self._locate(added)
            try:
                self._add(added, positions)
            finally:
                network.call(membership.own, set(self._readers))

    def _give_up(self, membership: Membership, held: set[TopicPartition]) -> None:
        """The partitions are another's already: forget them, and join anew."""
        try:
            if held and self._on_lost is not None:
                self._on_lost(sorted(held))
        finally:
            self._drop(held)
            with self._changed:
                membership.lost = False  # not sooner: until here nothing of it may be committed
            self._session.network.call(membership.come_back)
            self._attention.call()  # what it has been given meanwhile is looked at next time

    def _release(self, partitions: set[TopicPartition], *, commit: bool) -> None:
        try:
            if self._on_revoked is not None:
                self._on_revoked(sorted(partitions))
        finally:
            self._commit_last(partitions, commit=commit)
            self._drop(partitions)

    def _commit_last(self, partitions: set[TopicPartition], *, commit: bool) -> None:
        if commit and self._commits is not None:
            try:
                self._commits.store(self._commits.missing(self._positions(partitions)), COMMIT_TIMEOUT_S)
            except OdradekError as error:
                logger.warning(
                    "group %s: positions of partitions that move away were not committed, their next "
                    "owner will see some records again: %s",
                    self.group,
                    error,
                )

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
        commits = self._require_commits()
        if self._closed:
            raise ClientClosed("this consumer is closed; make a new one")
        wanted = self._positions(self._readers) if offsets is None else _checked_offsets(offsets)
        if wait:
            commits.store(wanted, self._session.request_timeout_s)
        else:
            commits.store_later(wanted)
        return dict(wanted)

    def committed(self, *partitions: TopicPartition) -> dict[TopicPartition, int | None]:
        """The group's committed offset of each (or of all assigned), None where there is none."""
        commits = self._require_commits()
        return commits.fetch({TopicPartition(*each) for each in partitions or self.assignment()})

    def _require_commits(self) -> Commits:
        if self._commits is None:
            raise InvalidGroupId("this consumer has no group to commit to; give one to Consumer(group=...)")
        return self._commits

    def _positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {key: self._held.get(key, self._readers[key].position) for key in partitions}

    # -- the end -------------------------------------------------------------------------------

    def close(self, timeout_s: float = 5.0) -> None:
        """Call on_revoked, commit what was handed out (with auto commit), leave the group, end the thread.

        Closing again does nothing. Errors of the last commit are raised after everything is closed.
        """
        self.close_after(timeout_s, done=True)

    def close_after(self, timeout_s: float, *, done: bool) -> None:
        """``close``; where what was handed out is not ``done``, without on_revoked and a last commit."""
        if self._closed:
            return
        if not self._session.network.usable_here:
            self._closed = True
            return
        try:
            if done:
                self._say_farewell()
        finally:
            self._end(timeout_s, commit=done and self.options.enable_auto_commit)

    def _say_farewell(self) -> None:
        membership = self._membership
        if membership is None or membership.lost or not self._readers or self._session.network.stopped:
            return
        if self._on_revoked is not None:
            self._on_revoked(sorted(self._readers))

    def _end(self, timeout_s: float, *, commit: bool) -> None:
        self._closed = True
        try:
            if commit and self._commits is not None:
                self._commits.store(self._commits.missing(self._positions(self._readers)), timeout_s)
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
        self.close_after(5.0, done=error is None)


def _topic_names(topics: Iterable[str]) -> list[str]:
    if isinstance(topics, str):
        raise TypeError(f"topics is a list of names; write topics=[{topics!r}]")
    names = list(dict.fromkeys(topics))
    if not names:
        raise ValueError("topics is empty; name at least one, or leave it out and call assign()")
    for name in names:
        check_topic_name(name)
    return names


def _pattern(pattern: str, group: str | None) -> str:
    """The coordinator knows which topics match, and reads the expression itself."""
    if not isinstance(pattern, str) or not pattern:
        raise ValueError(f"topics_pattern is a regular expression such as 'events\\..*', not {pattern!r}")
    if group is None:
        raise ValueError("topics_pattern is for members of a group; give one to Consumer(group=...)")
    return pattern


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

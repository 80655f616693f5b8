"""Consumer: records come out in order, partition by partition, and positions are committed.

A consumer is used by one thread at a time. Fetching and heartbeats go on in its I/O thread; everything
that a user may notice (callbacks, partitions that come and go, automatic commits) happens inside his own
calls, between two records.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, NoReturn, Self

import msgspec
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

from odradek.assignments import AssignmentCallback, Assignments, Callbacks, check_wanted
from odradek.fetcher import PartitionReader, TopicPartition
from odradek.options import FETCH_BYTES_DEFAULT, Bootstrap, ConsumerOptions, OffsetReset, SessionOptions
from odradek.protocol.errors import CorruptMessage, OdradekError, UnsupportedCompressionType
from odradek.security import Curve
from odradek.session import Session

__all__ = ["Consumer", "Record", "TopicPartition"]

logger = logging.getLogger("odradek")

WAIT_S_MAX: Final = 1.0
"""A waiting poll looks around this often: it still counts as polling."""
LEAVE_TIMEOUT_S: Final = 2.0

_DECODING_ERRORS = (CorruptRecordException, UnsupportedCodecError, ValueError, EOFError, OSError)


class _NoHeaders(list[tuple[str, bytes | None]]):
    """The headers of all records that have none: empty, and it stays so.

    A list for each would be an object for the garbage collector in each record, and going through those took
    a fifth of a reader's time.
    """

    __slots__ = ()

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError("records without headers share this list; make a list of your own")

    append = extend = insert = __iadd__ = __setitem__ = _refuse


NO_HEADERS: Final = _NoHeaders()


class Record(msgspec.Struct, gc=False):
    """One record: the timestamp in milliseconds since 1970, value None for a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Consumer(Assignments):
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
        fetch_bytes_max: how much one fetch asks for at most: 1 MiB at first, twice as much after each full
            and quick answer, half as much after one that was late.
        fetch_wait_ms_max: how long a fetch waits where there is nothing.
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
        fetch_bytes_max: int = FETCH_BYTES_DEFAULT,
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
        wanted = check_wanted(group, topics, topics_pattern)
        callbacks = Callbacks(on_assigned, on_revoked, on_revoked if on_lost is None else on_lost)
        super().__init__(Session(bootstrap, session_options, "consumer"), options, wanted, callbacks)
        self._turn = 0

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
                    headers = raw.headers or NO_HEADERS
                    yield Record(topic, partition, offset, raw.timestamp, raw.key, raw.value, headers)
                    # A seek, a rebalance or a poll() between two records changes what comes next.
                    if attention.raised:
                        break
                else:
                    self._finish_batch(reader)
            except _DECODING_ERRORS as error:
                self._set_unreadable(reader, error)

    def _read(self, reader: PartitionReader, records_max: int, records: list[Record]) -> None:
        """Append up to ``records_max`` records; where one cannot be decoded, those before it."""
        before = len(records)
        topic, partition = reader.key
        take = records.append
        try:
            for raw in itertools.islice(reader.records, records_max):
                headers = raw.headers or NO_HEADERS
                take(Record(topic, partition, raw.offset, raw.timestamp, raw.key, raw.value, headers))
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
            elif reader.resume_at is not None:
                reader.seek(reader.resume_at)
                self._session.network.call(self._fetcher.fetch_all)
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
        if membership is None or not self._readers or self._session.network.stopped:
            return
        callback = self._callbacks.on_lost if membership.lost else self._callbacks.on_revoked
        if callback is not None:
            callback(sorted(self._readers))

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


def _unreadable(reader: PartitionReader, error: Exception) -> OdradekError:
    place = f"{reader.key.topic}-{reader.key.partition} at offset {reader.position}"
    if isinstance(error, UnsupportedCodecError):
        return UnsupportedCompressionType(f"{place}: {error}")
    return CorruptMessage(f"{place}: a batch cannot be decoded: {error}")

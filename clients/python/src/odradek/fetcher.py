"""Fetcher: keeps ahead of the reader, partition by partition, within a bound of bytes.

The I/O thread asks for whole batches and lays them down unopened; the reader's thread checks and decodes
them, one batch at a time. Each seek raises ``generation``, so that an answer to an older question is
dropped.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch

from odradek.connection import Outcome
from odradek.options import ConsumerOptions
from odradek.protocol.batch import CHECKSUM_START, CONTROL_MASK, BatchHeader, checksum, iterate_headers
from odradek.protocol.errors import CorruptMessage, OdradekError, OffsetOutOfRange, RequestTimedOut
from odradek.protocol.messages import Fetch
from odradek.session import Backoff, Session

logger = logging.getLogger("odradek")

FETCH_BYTES_SHARE_MIN: Final = 64 * 1024
"""Many partitions share the prefetch bound; a single fetch still asks for this much."""
FETCH_BYTES_FIRST: Final = 1 << 20
"""What a partition is asked for at first: the first records are there soon."""
FETCH_GROWS_WITHIN_S: Final = 1.0
"""Full answers double what is asked for next, unless they took so long: a slow link must not be late."""
FETCH_TIMEOUT_GRACE_S: Final = 5.0
"""A long poll is late when it takes this much longer than it may wait."""
FETCH_WAIT_MS_PER_PARTITION: Final = 5
"""Who reads many partitions asks each of them less often; records end a long poll at once, however long."""
FETCH_WAIT_MS_MAX: Final = 300_000
FETCHES_OUTDATED_MAX: Final = 4
"""Long polls of one partition that a seek made pointless; beyond it a seek waits for one of them."""
_NOTHING: Iterator[Any] = iter(())


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class FetchedBatch(NamedTuple):
    """One batch as it came, not looked into."""

    header: BatchHeader
    data: memoryview


class PartitionReader:
    """One partition of a consumer: what is fetched, and how far the user has been given it.

    ``position`` is the next offset to hand out; ``fetch_offset`` the next to ask for. A loop over
    ``records`` notes the offset of the one it hands out in ``current``. ``resume_at`` is where to go on
    when all that was fetched is handed out: only the user's thread may move what it is reading.
    """

    __slots__ = (
        "_opened",
        "_position",
        "backoff",
        "batches",
        "buffered_bytes",
        "current",
        "dropped",
        "error",
        "fetch_bytes",
        "fetch_offset",
        "fetches",
        "fetching",
        "generation",
        "high_watermark",
        "key",
        "log_start_offset",
        "paused",
        "records",
        "resume_at",
        "retrying",
        "topic_id",
        "unsure",
    )

    def __init__(self, key: TopicPartition, position: int, backoff: Backoff) -> None:
        self.key = key
        self._position = position
        self.current: int | None = None
        self.fetch_offset = position
        self.backoff = backoff
        self.batches: deque[FetchedBatch] = deque()
        self.records: Iterator[Any] = _NOTHING
        self._opened: FetchedBatch | None = None
        self.buffered_bytes = 0
        self.fetch_bytes = FETCH_BYTES_FIRST
        """What the next fetch asks for where the bounds of the consumer leave room."""
        self.generation = 0
        self.fetching = False
        self.fetches = 0
        self.retrying = False
        self.resume_at: int | None = None
        self.topic_id: str | None = None
        self.unsure = False
        """What answers behind a refusal may be a later topic of the same name, at the same place."""
        self.paused = False
        self.dropped = False
        self.error: OdradekError | None = None
        self.high_watermark: int | None = None
        self.log_start_offset: int | None = None

    @property
    def position(self) -> int:
        """The offset after the last record that was handed out."""
        current = self.current
        return self._position if current is None else current + 1

    @property
    def opened(self) -> bool:
        """Whether ``records`` are those of a batch that is not finished."""
        return self._opened is not None

    def adapt_fetch_bytes(self, received_bytes: int, elapsed_s: float, bytes_max: int) -> None:
        """A quick and full answer: the next fetch asks for twice as much, of which each byte is cheaper."""
        if 2 * received_bytes >= self.fetch_bytes and elapsed_s < FETCH_GROWS_WITHIN_S:
            self.fetch_bytes = max(self.fetch_bytes, min(2 * self.fetch_bytes, bytes_max))

    def shrink_fetch_bytes(self) -> None:
        """An answer that did not come in time may have been too large for the link."""
        self.fetch_bytes = max(self.fetch_bytes // 2, FETCH_BYTES_SHARE_MIN)

    def seek(self, offset: int) -> None:
        """Go on at ``offset``; what was fetched is forgotten, and what is being fetched will be."""
        self.generation += 1
        self.fetching = False
        self.batches.clear()
        self.buffered_bytes = 0
        self.records = _NOTHING
        self._opened = None
        self.current = None
        self._position = offset
        self.fetch_offset = offset
        self.resume_at = None
        self.error = None

    def open_next(self, *, check_crcs: bool) -> bool:
        """Make ``records`` those of the next batch; False where none is fetched."""
        while self.batches:
            batch = self.batches[0]
            if check_crcs and checksum(batch.data) != batch.header.crc:
                raise CorruptMessage(
                    f"{self.key.topic}-{self.key.partition}: the batch at offset {batch.header.base_offset} "
                    f"fails its checksum (from byte {CHECKSUM_START}); seek past "
                    f"{batch.header.last_offset} to skip it"
                )
            self.batches.popleft()
            self._opened = batch
            if batch.header.attributes & CONTROL_MASK:
                self.finish_batch()
                continue
            # The codec's iterator may be begun only once; chain() can be left and taken up again.
            records: Iterator[Any] = itertools.chain(DefaultRecordBatch(batch.data))
            if batch.header.base_offset < self.position:
                records = _from_offset(self.position, records)
            self.records = records
            return True
        return False

    def finish_batch(self) -> None:
        """All of the opened batch is handed out; offsets that compaction removed are passed over."""
        if self._opened is not None:
            self.buffered_bytes -= len(self._opened.data)
            self._position = max(self.position, self._opened.header.next_offset)
            self.current = None
            self._opened = None
        self.records = _NOTHING

    @property
    def has_records(self) -> bool:
        """Whether there is something to hand out without waiting."""
        return self._opened is not None or bool(self.batches)


def _from_offset(offset: int, records: Iterator[Any]) -> Iterator[Any]:
    return itertools.dropwhile(lambda raw: raw.offset < offset, records)


class Fetcher:
    """The part of a consumer that lives in the I/O thread and fetches."""

    def __init__(
        self,
        session: Session,
        options: ConsumerOptions,
        changed: threading.Condition,
        reset_offset: Callable[[OffsetOutOfRange, Any], int | None],
    ) -> None:
        """``changed`` is notified of everything new; ``reset_offset`` says where to go on, or None."""
        self._session = session
        self._options = options
        self._changed = changed
        self._reset_offset = reset_offset
        self._readers: dict[TopicPartition, PartitionReader] = {}
        self.stalled = False
        """Whether a partition waits until the reader has made room."""

    def replace(self, readers: Iterable[PartitionReader]) -> None:
        """Fetch these partitions from now on and no others."""
        self._readers = {reader.key: reader for reader in readers}
        self.fetch_all()

    def fetch_all(self) -> None:
        """Ask for whatever may be asked for now."""
        self.stalled = False
        for reader in self._readers.values():
            self._fetch(reader)

    def _fetch(self, reader: PartitionReader) -> None:
        if reader.fetching or reader.retrying or reader.paused or reader.dropped or reader.error is not None:
            return
        if reader.resume_at is not None:
            return
        if reader.topic_id is None:
            self._note_topic(reader)
        if reader.fetches > FETCHES_OUTDATED_MAX:
            return  # the next one that ends asks anew
        if self._buffered_bytes() >= self._options.prefetch_bytes_max:
            self.stalled = True
            return
        share = self._options.prefetch_bytes_max // max(1, len(self._readers))
        wait_ms = int(self._options.fetch_wait_ms_max)
        if wait_ms:
            wait_ms = min(max(wait_ms, FETCH_WAIT_MS_PER_PARTITION * len(self._readers)), FETCH_WAIT_MS_MAX)
        request = Fetch(
            topic=reader.key.topic,
            partition=reader.key.partition,
            offset=reader.fetch_offset,
            max_bytes=min(
                reader.fetch_bytes, self._options.fetch_bytes_max, max(share, FETCH_BYTES_SHARE_MIN)
            ),
            max_wait_ms=wait_ms,
            format="batch",
        )
        with self._changed:
            generation = reader.generation
            request.offset = reader.fetch_offset
            reader.fetching = True
        reader.fetches += 1
        asked_s = time.monotonic()
        self._session.submit_to_partition(
            *reader.key,
            request,
            (),
            lambda outcome: self._fetched(reader, generation, asked_s, outcome),
            timeout_s=wait_ms / 1000 + FETCH_TIMEOUT_GRACE_S,
        )

    def _buffered_bytes(self) -> int:
        return sum(reader.buffered_bytes for reader in self._readers.values())

    def _fetched(self, reader: PartitionReader, generation: int, asked_s: float, outcome: Outcome) -> None:
        reader.fetches -= 1
        if reader.dropped:
            return
        if generation == reader.generation:
            reader.fetching = False
            try:
                if outcome.error is not None:
                    self._refused(reader, outcome.error, outcome.reply)
                elif reader.unsure:
                    self._make_sure(reader)
                else:
                    self._take(reader, generation, outcome)
                    elapsed_s = time.monotonic() - asked_s
                    received_bytes = sum(map(len, outcome.frames))
                    reader.adapt_fetch_bytes(received_bytes, elapsed_s, self._options.fetch_bytes_max)
            except OdradekError as error:
                self._set_error(reader, error)
        self._fetch(reader)

    def _take(self, reader: PartitionReader, generation: int, outcome: Outcome) -> None:
        reader.backoff.reset()
        frames = outcome.frames
        payload = frames[0] if len(frames) == 1 else memoryview(b"".join(frames))
        batches = [
            FetchedBatch(header, payload[position : position + header.size_bytes])
            for position, header in iterate_headers(payload)
            if header.last_offset >= reader.fetch_offset
        ]
        with self._changed:
            if generation != reader.generation:
                return  # the user has sought meanwhile
            reader.high_watermark = outcome.reply.high_watermark
            reader.log_start_offset = outcome.reply.log_start_offset
            if batches:
                reader.batches.extend(batches)
                reader.buffered_bytes += sum(len(batch.data) for batch in batches)
                reader.fetch_offset = batches[-1].header.next_offset
                self._changed.notify_all()

    def _refused(self, reader: PartitionReader, error: OdradekError, reply: Any) -> None:
        if isinstance(error, OffsetOutOfRange):
            offset = self._reset_offset(error, reply)
            if offset is not None:
                logger.warning("%s-%d: %s; going on at %d", *reader.key, error, offset)
                self._resume_at(reader, offset)
                return
        if not error.retriable:
            self._set_error(reader, error)
            return
        if isinstance(error, RequestTimedOut):
            reader.shrink_fetch_bytes()
        reader.retrying = reader.unsure = True
        self._session.network.call_later(reader.backoff.next_s(), lambda: self._look_up(reader))

    def _look_up(self, reader: PartitionReader) -> None:
        """Before it is tried again: the topic may have been deleted and made again meanwhile."""
        self._session.refresh(reader.key.topic, lambda _: self._retry(reader))

    def _make_sure(self, reader: PartitionReader) -> None:
        """The look-up before may still have found the former topic: what came is fetched again."""
        reader.retrying = True
        self._session.refresh(reader.key.topic, lambda error: self._made_sure(reader, error))

    def _made_sure(self, reader: PartitionReader, error: OdradekError | None) -> None:
        if error is not None and error.retriable and not reader.dropped:
            self._session.network.call_later(reader.backoff.next_s(), lambda: self._make_sure(reader))
            return
        reader.unsure = False
        self._retry(reader)

    def _retry(self, reader: PartitionReader) -> None:
        reader.retrying = False
        known_id = reader.topic_id
        self._note_topic(reader)
        if known_id not in (None, reader.topic_id):
            logger.warning("%s-%d: the topic was deleted and made again; going on at its start", *reader.key)
            self._resume_at(reader, 0)
        self._fetch(reader)

    def _note_topic(self, reader: PartitionReader) -> None:
        topic = self._session.known_topic(reader.key.topic)
        if topic is not None:
            reader.topic_id = topic.topic_id

    def _resume_at(self, reader: PartitionReader, offset: int) -> None:
        with self._changed:
            reader.resume_at = offset
            self._changed.notify_all()

    def _set_error(self, reader: PartitionReader, error: OdradekError) -> None:
        with self._changed:
            reader.error = type(error)(f"{reader.key.topic}-{reader.key.partition}: {error.message}")
            self._changed.notify_all()

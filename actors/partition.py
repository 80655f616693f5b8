"""The partition actor: one partition's log, served.

What is appended in one turn is written by one system call and made durable by one fdatasync, which
runs while the next turn gathers; a reply to acks=all leaves when the sync that covers it is back.
Readers see only what is durable, so a fetch of what is not there yet is parked until it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from actors.acks import acks_of, wants_no_reply
from actors.actor import Envelope, Message, Moment, Synced, Worked
from actors.admission import check_records
from actors.contents import Found, first_record, read_records, recompressed
from actors.effects import Effect, Fail, Reply, Sender, Sync
from actors.effects import Log as LogLine
from actors.flush import Flush
from actors.maintenance import Maintenance
from actors.messages import Configure, EpochEnd, EpochEndReply, MeasureLog, MeasureLogReply, Watch
from actors.parking import Parked, Parking
from actors.pressure import DiskPressure
from actors.watching import Watching
from odradek.protocol.batch import COMPRESSIONS, Buffer, check_batch, iterate_headers
from odradek.protocol.errors import (
    InvalidRequest,
    KafkaStorageError,
    LeaderNotAvailable,
    OdradekError,
    OffsetOutOfRange,
    PolicyViolation,
    ThrottlingQuotaExceeded,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import (
    DeleteRecords,
    DeleteRecordsReply,
    Fetch,
    FetchReply,
    ListOffsets,
    ListOffsetsReply,
    Ping,
    PingReply,
    Produce,
    ProduceReply,
    api_name,
    failure,
)
from partitions.log import Log
from partitions.settings import LogSettings
from partitions.tickets import SyncTicket

UNSYNCED_BYTES_MAX = 256 << 20
"""Accepted but not yet durable; beyond it a producer is told to slow down."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A produce whose reply waits until everything up to ``last_offset`` is written, or durable."""

    last_offset: int
    size_bytes: int
    reply: Reply


class PartitionActor:
    """Decides about one partition. ``log`` is the only thing it keeps that outlives it."""

    def __init__(
        self,
        topic: str,
        partition: int,
        log: Log,
        maintenance_interval_s: float | None = None,
        free_bytes_min: int = 0,
    ) -> None:
        """Without a ``maintenance_interval_s`` nothing is ever deleted unasked.

        With less than ``free_bytes_min`` left on the disk, records are refused.
        """
        self._topic = topic
        self._partition = partition
        self._log = log
        self._unwritten: list[tuple[bool, Unanswered]] = []
        self._undurable: deque[Unanswered] = deque()
        self._undurable_bytes = 0
        self._ticket: SyncTicket | None = None
        # Bytes since this start: appended; covered by the sync under way; durable.
        self._appended_bytes = self._syncing_bytes = self._durable_bytes = 0
        self._flush = Flush(log)
        self._pressure = DiskPressure(log, free_bytes_min)
        self._parking = Parking()
        self._watching = Watching()
        self._failed = False
        self._maintenance = None
        if maintenance_interval_s is not None:
            self._maintenance = Maintenance(log, maintenance_interval_s, free_bytes_min)

    # -- Actor -----------------------------------------------------------------------------------------

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        """Produce and fetch, list offsets and delete records; anything else is refused."""
        if isinstance(message, Synced):
            return self._synced(message)
        if isinstance(message, Worked) and self._maintenance is not None:
            return self._maintenance.worked(message)
        if not isinstance(message, Envelope):
            raise TypeError(f"a partition asks nobody, so nobody answers it: {message!r}")
        try:
            return self._handle(message, now)
        except OdradekError as error:
            return self._refuse(message, error)

    def settle(self, now: Moment) -> Sequence[Effect]:
        """Write what was appended, start the next sync, release the fetches whose time is over."""
        effects = [*self._write(), *self._expire(now)]
        effects += self._pressure.report()
        if self._maintenance is not None:
            if self._pressure.is_high:
                self._maintenance.hurry(now)
            effects += self._maintenance.settle(now)
        if self._ticket is not None:
            return effects
        if self._log.failure is not None:
            return effects + self._fail_stop(self._log.failure)
        if self._flush.is_due(now) and (ticket := self._begin_sync()) is not None:
            effects.append(Sync(ticket))
        return effects

    def deadline(self) -> float | None:
        """When the next parked fetch must be answered, or the log wants maintenance."""
        deadlines = [self._parking.deadline(), self._watching.deadline()]
        if self._ticket is None:
            deadlines.append(self._flush.deadline())
        if self._maintenance is not None:
            deadlines.append(self._maintenance.deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def stop(self, now: Moment) -> Sequence[Effect]:
        """Make durable and answer what was accepted; send the waiting readers elsewhere."""
        effects = self._write()
        if self._log.failure is not None:
            effects += self._fail_stop(self._log.failure)
        elif (ticket := self._begin_sync()) is not None:
            error = None
            try:
                ticket.run()
            except OSError as failed:
                error = failed
            effects += self._synced(Synced(ticket, error))
        stopping = LeaderNotAvailable(f"{self._topic}-{self._partition} is stopping")
        effects += [Reply(parked.sender, self._fetch_failure(stopping)) for parked in self._parking.clear()]
        return effects + self._watching.refuse(stopping)

    # -- requests --------------------------------------------------------------------------------------

    def _handle(self, envelope: Envelope, now: Moment) -> Sequence[Effect]:
        request = envelope.request
        match request:
            case Produce():
                self._check_place(request.topic, request.partition)
                return self._produce(envelope, request, now)
            case Fetch():
                self._check_place(request.topic, request.partition)
                return self._fetch(envelope, request, now)
            case ListOffsets():
                self._check_place(request.topic, request.partition)
                return (Reply(envelope.sender, self._list_offsets(request)),)
            case DeleteRecords():
                self._check_place(request.topic, request.partition)
                return (Reply(envelope.sender, self._delete_records(request)),)
            case MeasureLog():
                self._check_place(request.topic, request.partition)
                measured = MeasureLogReply(size_bytes=self._log.size_bytes, free_bytes=self._log.free_bytes())
                return [Reply(envelope.sender, measured)]
            case Watch():
                self._check_place(request.topic, request.partition)
                return self._watching.add(
                    envelope.sender, request, self._log.durable_offset, self._log.start_offset, now
                )
            case EpochEnd():
                self._check_place(request.topic, request.partition)
                epoch, end_offset = self._log.epoch_end_offset(request.leader_epoch)
                return (Reply(envelope.sender, EpochEndReply(leader_epoch=epoch, end_offset=end_offset)),)
            case Ping():
                return (Reply(envelope.sender, PingReply()),)
            case Configure():
                self._log.reconfigure(LogSettings.from_config(request.config))
                return ()
        raise InvalidRequest(
            f"a partition's own endpoint takes produce, fetch, list_offsets and delete_records; "
            f"send {api_name(type(request))} to a router"
        )

    def _check_place(self, topic: str, partition: int | None) -> None:
        if topic != self._topic or partition != self._partition:
            raise UnknownTopicOrPartition(
                f"this endpoint serves {self._topic}-{self._partition}, not {topic}-{partition}"
            )

    def _refuse(self, envelope: Envelope, error: OdradekError) -> Sequence[Effect]:
        request = envelope.request
        if isinstance(request, Produce) and wants_no_reply(request):
            return ()
        if isinstance(request, Fetch):
            return (Reply(envelope.sender, self._fetch_failure(error)),)
        if isinstance(request, Configure):
            # The supervisor told; it asked nothing.
            return (LogLine("configuration refused", {"error": error.message}),)
        return (Reply(envelope.sender, failure(error)),)

    # -- produce ---------------------------------------------------------------------------------------

    def _produce(self, envelope: Envelope, request: Produce, now: Moment) -> Sequence[Effect]:
        if request.format != "batch" or len(envelope.payload) != 1:
            raise InvalidRequest(
                f"a partition's own endpoint takes format 'batch' with one payload frame; this is "
                f"{request.format!r} with {len(envelope.payload)}: send single records to a router"
            )
        batch = envelope.payload[0]
        if self._undurable_bytes + len(batch) > UNSYNCED_BYTES_MAX:
            raise ThrottlingQuotaExceeded(
                f"{self._undurable_bytes} bytes of {self._topic}-{self._partition} wait for the disk already"
            )
        self._pressure.check(len(batch), now)
        header = check_batch(batch)
        codec = self._log.settings.codec
        if codec is not None and codec != COMPRESSIONS[header.compression]:
            batch, header = recompressed(batch, codec)
        check_records(batch, header, self._log.settings, now.wall_ms)
        appended = self._log.append(batch, header, now.wall_ms)
        self._appended_bytes += len(batch)
        self._flush.appended(header.record_count, now)
        if wants_no_reply(request):
            return ()
        reply = ProduceReply(
            topic=self._topic,
            partition=self._partition,
            offset=appended.base_offset,
            timestamp=appended.timestamp,
            count=header.record_count,
        )
        if self._log.settings.log_append_time:
            reply.log_append_time = appended.timestamp
        waiting = Unanswered(appended.last_offset, len(batch), Reply(envelope.sender, reply))
        self._undurable_bytes += waiting.size_bytes
        self._unwritten.append((acks_of(request) == "all", waiting))
        return ()

    def _write(self) -> list[Effect]:
        """One write for the turn; where it fails, nobody of the turn was appended and all are told."""
        unwritten, self._unwritten = self._unwritten, []
        try:
            self._log.write()
        except KafkaStorageError as error:
            self._pressure.forget()
            self._undurable_bytes -= sum(waiting.size_bytes for _, waiting in unwritten)
            return [Reply(waiting.reply.to, failure(error)) for _, waiting in unwritten]
        effects: list[Effect] = []
        for until_durable, waiting in unwritten:
            if until_durable and not self._flush.is_late and waiting.last_offset >= self._log.durable_offset:
                self._undurable.append(waiting)
            else:
                self._undurable_bytes -= waiting.size_bytes
                effects.append(waiting.reply)
        return effects

    def _begin_sync(self) -> SyncTicket | None:
        self._ticket = self._log.sync_begin()
        self._flush.begun()
        self._syncing_bytes = self._appended_bytes
        return self._ticket

    def _synced(self, synced: Synced) -> list[Effect]:
        assert self._ticket is not None
        ticket, self._ticket = self._ticket, None
        self._log.sync_done(ticket, synced.error)
        self._durable_bytes = self._syncing_bytes
        effects: list[Effect] = []
        durable_offset = self._log.durable_offset
        while self._undurable and self._undurable[0].last_offset < durable_offset:
            waiting = self._undurable.popleft()
            self._undurable_bytes -= waiting.size_bytes
            effects.append(waiting.reply)
        if self._log.failure is not None:
            effects += self._fail_stop(self._log.failure)
        return effects + self._release()

    def _fail_stop(self, reason: str) -> list[Effect]:
        """The disk failed: nothing that waited is known to be durable, and nothing more is taken."""
        error = KafkaStorageError(reason)
        waiting = [*self._undurable, *(unanswered for _, unanswered in self._unwritten)]
        self._undurable.clear()
        self._unwritten.clear()
        self._undurable_bytes = 0
        effects: list[Effect] = [Reply(unanswered.reply.to, failure(error)) for unanswered in waiting]
        if not self._failed:
            self._failed = True
            effects.append(Fail(error))
        return effects

    # -- fetch -----------------------------------------------------------------------------------------

    def _fetch(self, envelope: Envelope, fetch: Fetch, now: Moment) -> Sequence[Effect]:
        # Who does not wait takes what there is.
        wait_ms = min(fetch.max_wait_ms, fetch.max_wait_ms if fetch.timeout_ms is None else fetch.timeout_ms)
        wanted_bytes = min(fetch.min_bytes, fetch.max_bytes) if wait_ms else 0
        found = self._read(fetch)
        if self._enough(found, wanted_bytes):
            return (self._fetched(envelope.sender, fetch, found.batches),)
        worthwhile_bytes = self._durable_bytes + wanted_bytes - found.useful_bytes
        deadline_s = now.monotonic_s + wait_ms / 1000
        oldest = self._parking.park(Parked(envelope.sender, fetch, worthwhile_bytes), deadline_s)
        early = self._answer_parked(oldest, 0) if oldest is not None else None
        return (early,) if early is not None else ()

    def _read(self, fetch: Fetch) -> Found:
        """What there is for a fetch. Raises OffsetOutOfRange, which tells both ends."""
        log = self._log
        if not log.start_offset <= fetch.offset <= log.end_offset:
            raise OffsetOutOfRange(
                f"{self._topic}-{self._partition} has offsets {log.start_offset} to {log.durable_offset}, "
                f"not {fetch.offset}"
            )
        return read_records(log, fetch.offset, fetch.max_bytes)

    def _fetched(self, sender: Sender, fetch: Fetch, batches: Buffer) -> Reply:
        payload = (batches,) if batches else ()
        if fetch.format == "batch":
            return Reply(sender, self._fetch_reply(), payload)
        # Only a client on the direct path asks this of a partition: a router asks for batches.
        from actors.waiters import as_records  # noqa: PLC0415

        return Reply(sender, *as_records(self._fetch_reply(), payload, fetch.offset))

    def _enough(self, found: Found, wanted_bytes: int) -> bool:
        """Batches are whole, so a reply that is as full as it can be may be short of the bytes wanted."""
        return found.useful_bytes >= wanted_bytes or not self._reaches_end(found.batches)

    def _reaches_end(self, batches: Buffer) -> bool:
        """Whether nothing durable follows; batches are whole, so a full reply may be short of its bytes."""
        ends = [header.next_offset for _, header in iterate_headers(batches)]
        return not ends or ends[-1] >= self._log.durable_offset

    def _fetch_reply(self) -> FetchReply:
        return FetchReply(
            topic=self._topic,
            partition=self._partition,
            high_watermark=self._log.durable_offset,
            log_start_offset=self._log.start_offset,
        )

    def _fetch_failure(self, error: OdradekError) -> FetchReply:
        """Both ends go with every error of a fetch, so that a reader can find its way back."""
        reply = self._fetch_reply()
        reply.error = error.wire()
        return reply

    def _release(self) -> list[Effect]:
        """Answer the parked fetches that have enough now."""
        effects: list[Effect] = []

        def answer(parked: Parked) -> bool:
            wanted_bytes = min(parked.fetch.min_bytes, parked.fetch.max_bytes)
            reply = self._answer_parked(parked, wanted_bytes)
            if reply is None:
                return False
            effects.append(reply)
            return True

        self._parking.release(self._durable_bytes, answer)
        return effects + self._watching.moved(self._log.durable_offset, self._log.start_offset)

    def _expire(self, now: Moment) -> list[Effect]:
        """Answer the parked fetches whose time is over with what there is."""
        replies = (self._answer_parked(parked, 0) for parked in self._parking.expired(now.monotonic_s))
        told = self._watching.expire(self._log.durable_offset, self._log.start_offset, now)
        return [*(reply for reply in replies if reply is not None), *told]

    def _answer_parked(self, parked: Parked, wanted_bytes: int) -> Reply | None:
        try:
            found = self._read(parked.fetch)
        except OdradekError as error:
            return Reply(parked.sender, self._fetch_failure(error))
        return (
            self._fetched(parked.sender, parked.fetch, found.batches)
            if self._enough(found, wanted_bytes)
            else None
        )

    # -- the rest --------------------------------------------------------------------------------------

    def _list_offsets(self, request: ListOffsets) -> ListOffsetsReply:
        log = self._log
        if request.at == "earliest":
            return ListOffsetsReply(offset=log.start_offset, timestamp=-1)
        if request.at == "latest":
            return ListOffsetsReply(offset=log.durable_offset, timestamp=-1)
        if request.at == "max_timestamp":
            found = log.offset_of_max_timestamp()
            at_ms = found[1] if found is not None else 0
        else:
            at_ms = int(request.at)
            found = log.offset_for_timestamp(at_ms)
        if found is None:
            return ListOffsetsReply(offset=-1, timestamp=-1)
        offset, timestamp = first_record(log, found[0], at_ms)
        return ListOffsetsReply(offset=offset, timestamp=timestamp)

    def _delete_records(self, request: DeleteRecords) -> DeleteRecordsReply:
        log = self._log
        if not log.settings.deletes:
            # As Kafka: what compaction alone may take stays the latest of each key.
            raise PolicyViolation(
                f"records of {self._topic}-{self._partition} cannot be deleted: its cleanup.policy is not "
                "'delete'; set it to 'compact,delete', or produce null values for the keys that are to go"
            )
        before = log.durable_offset if request.before_offset == -1 else request.before_offset
        if not 0 <= before <= log.durable_offset:
            raise OffsetOutOfRange(
                f"{self._topic}-{self._partition} has offsets {log.start_offset} to {log.durable_offset}; "
                f"records before {before} cannot be deleted"
            )
        later = self._maintenance is not None
        return DeleteRecordsReply(log_start_offset=log.advance_start(before, unlink_later=later))

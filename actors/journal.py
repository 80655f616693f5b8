"""Nothing is answered before it is durable: entries, the log, and the replies that wait for it.

Rule 1. ``stage`` applies an entry at once, so that the next request is decided on what came before it.
        What stood there before is kept until the entry is durable.
Rule 2. Every reply waits for every entry that was staged before it, reads too: nobody ever sees what
        a crash could take back.
Rule 3. One round is on its way to the disk while the next one gathers.
Rule 4. When a round fails, what it and the one behind it did is undone, last first; writers get the
        error, reads are answered anew from what is left, which is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from actors.actor import Moment, Synced
from actors.compaction import Compaction, LiveState
from actors.effects import Effect, Fail, Log, Reply, Sender, Sync, SyncTicket
from actors.ledger import OFFSET_KEY_START, Entry, Value, decode_entry, encode_entry
from odradek.protocol.batch import BatchHeader, Buffer, check_batch, iterate_headers
from odradek.protocol.errors import CoordinatorNotAvailable, KafkaStorageError, OdradekError, PolicyViolation
from odradek.protocol.messages import Reply as ReplyMessage
from odradek.protocol.messages import failure

READ_BYTES = 4 << 20
"""How much of the log one read of the recovery asks for."""
OFFSETS_UNDECODED_MAX = 200_000
"""How many committed offsets the recovery holds back in the hope that later ones take their place."""
BATCH_BYTES_TARGET = 500_000
ENTRY_BYTES_MAX = 900_000
"""With both, a batch stays below Kafka's default of max.message.bytes, 1,048,588."""
RECORD_OVERHEAD_BYTES = 40
"""At most what a record adds to its key and value."""
STAGED_ENTRIES_MAX = 200_000
"""Beyond this (and one request more) the journal says that it is full."""
HELD_REPLIES_MAX = 100_000


class CoordinatorLog(Protocol):
    """What the coordinator asks of ``partitions.log.Log``."""

    @property
    def start_offset(self) -> int: ...

    @property
    def durable_offset(self) -> int: ...

    @property
    def end_offset(self) -> int: ...

    def append(self, batch: Buffer, header: BatchHeader, wall_ms: int) -> Any: ...

    def write(self) -> None: ...

    def sync_begin(self) -> SyncTicket | None: ...

    def sync_done(self, ticket: Any, error: OSError | None) -> None: ...

    def read(self, offset: int, max_bytes: int) -> Buffer: ...

    def advance_start(self, offset: int) -> int: ...


class _Held(NamedTuple):
    """A reply that waits. ``read`` makes it anew, for a request that changed nothing."""

    to: Sender
    reply: ReplyMessage
    read: Callable[[], ReplyMessage] | None


@dataclass(slots=True)
class _Round:
    """What is made durable together."""

    records: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    undo: list[Entry] = field(default_factory=list)
    held: list[_Held] = field(default_factory=list)


class JournaledState(LiveState, Protocol):
    """The state that the log stands for."""

    def replay(self, entry: Entry) -> Value | None:
        """Apply one entry, live and in recovery; the value that it replaced."""


class Journal:
    """The coordinator's log, and everything that waits for it."""

    def __init__(self, log: CoordinatorLog, state: JournaledState) -> None:
        self._log = log
        self._replay = state.replay
        self._compaction = Compaction(state, log.advance_start)
        self._gathering = _Round()
        self._in_flight: _Round | None = None
        self._ticket: SyncTicket | None = None
        self._broken: KafkaStorageError | None = None
        self.failures = 0
        """How many times what was staged was undone, because it could not be written."""

    # -- recovery ----------------------------------------------------------------------------------

    def recover(self, progress: Callable[[], None]) -> int:
        """Replay the whole log; how many entries it had. ``progress`` is called after each read.

        Raises CorruptMessage: an entry that cannot be read may be an offset that would go back.
        """
        # The codec costs 0.15 s to import, which other processes of the broker never pay.
        from odradek.protocol.records import decode_batches  # noqa: PLC0415

        offset, count = self._log.start_offset, 0
        # Of an offset that was committed many times only the last is decoded; no other entry asks for it.
        offsets: dict[bytes, bytes | None] = {}
        while offset < self._log.durable_offset:
            batches = self._log.read(offset, READ_BYTES)
            before = count
            for record in decode_batches(batches, offset):
                count += 1
                if record.key is not None and record.key.startswith(OFFSET_KEY_START):
                    offsets[record.key] = record.value
                else:
                    self._replay(decode_entry(record.key, record.value))
            if len(offsets) >= OFFSETS_UNDECODED_MAX:
                self._replay_all(offsets)
            self._compaction.note(len(batches), count - before)
            last = max((header.next_offset for _, header in iterate_headers(batches)), default=offset)
            if last <= offset:
                raise KafkaStorageError(f"the coordinator's log ends at {offset}, before its durable end")
            offset = last
            progress()
        self._replay_all(offsets)
        return count

    def _replay_all(self, entries: dict[bytes, bytes | None]) -> None:
        for key, value in entries.items():
            self._replay(decode_entry(key, value))
        entries.clear()

    # -- one request -------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether all that was ever staged is durable, or was undone."""
        return self._in_flight is None and not self._gathering.records

    @property
    def is_writing(self) -> bool:
        """Whether a round is on its way to the disk; ``synced`` ends it."""
        return self._in_flight is not None

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the disk that new requests must be refused."""
        rounds = [self._gathering, *([self._in_flight] if self._in_flight else [])]
        return (
            len(self._gathering.records) >= STAGED_ENTRIES_MAX
            or sum(len(round_.held) for round_ in rounds) >= HELD_REPLIES_MAX
        )

    def stage(self, entries: Iterable[Entry]) -> None:
        """Apply entries now, write them with the next ``settle``.

        Raises PolicyViolation for an entry over ENTRY_BYTES_MAX; what was staged before it stays.
        """
        gathering = self._gathering
        for entry in entries:
            key, value = encode_entry(entry)
            size_bytes = len(key) + len(value or b"")
            if size_bytes > ENTRY_BYTES_MAX:
                raise PolicyViolation(
                    f"what is to be stored has {size_bytes} bytes, {ENTRY_BYTES_MAX} are allowed"
                )
            before = self._replay(entry)
            gathering.records.append((key, value))
            gathering.undo.append(Entry(entry.key, before))

    def mark(self) -> int:
        """A place to ``rollback`` to."""
        return len(self._gathering.records)

    def rollback(self, mark: int) -> None:
        """Undo all that was staged since: its request failed."""
        undo = self._gathering.undo
        self._undo(undo[mark:])
        del undo[mark:]
        del self._gathering.records[mark:]

    def answer(
        self, to: Sender, reply: ReplyMessage, read: Callable[[], ReplyMessage] | None
    ) -> Sequence[Effect]:
        """Reply as soon as everything staged until now is durable: at once, where it is."""
        round_ = self._gathering if self._gathering.records else self._in_flight
        if round_ is None:
            return [Reply(to, reply)]
        round_.held.append(_Held(to, reply, read))
        return []

    # -- durability --------------------------------------------------------------------------------

    def settle(self, now: Moment) -> Sequence[Effect]:
        """Write what gathered, unless a round is still on its way to the disk."""
        if self._in_flight is not None:
            return []
        if self._broken is None:
            self._gathering.records += self._compaction.next_piece(self._log.end_offset)
        return self._write_round(now)

    def _write_round(self, now: Moment) -> Sequence[Effect]:
        if not self._gathering.records:
            return []
        try:
            ticket = self._write(now.wall_ms)
        except KafkaStorageError as error:
            return self._fail(error)
        self._in_flight, self._gathering = self._gathering, _Round()
        if ticket is None:
            return self._release()
        self._ticket = ticket
        return [Sync(ticket)]

    def synced(self, message: Synced) -> Sequence[Effect]:
        """A round is durable, or failed for good."""
        if message.ticket is not self._ticket:
            return []
        error: KafkaStorageError | None = None
        try:
            self._log.sync_done(message.ticket, message.error)
        except KafkaStorageError as raised:
            error = raised
        if message.error is not None:
            error = error or KafkaStorageError(f"the coordinator's log could not be synced: {message.error}")
        if error is None:
            return self._release()
        self._broken = error
        return self._fail(error)

    def stop(self, now: Moment) -> Sequence[Effect]:
        """The last call: everything that waits is made durable and answered.

        What is still on its way to the disk cannot be waited for here: its outcome is unknown, and
        what gathered behind it was not written.
        """
        if self._in_flight is not None:
            return self._fail(
                CoordinatorNotAvailable("the coordinator is stopping; whether this took effect is unknown")
            )
        effects = self._write_round(now)
        if self._ticket is None:
            return effects
        ticket, error = self._ticket, None
        try:
            ticket.run()
        except OSError as raised:
            error = raised
        return self.synced(Synced(ticket, error))

    def _write(self, wall_ms: int) -> SyncTicket | None:
        """Everything that gathered goes to the log. Raises KafkaStorageError, and nothing is there."""
        if self._broken is not None:
            raise self._broken
        size_bytes = 0
        try:
            for batch in _batches(self._gathering.records, wall_ms):
                self._log.append(batch, check_batch(batch), wall_ms)
                size_bytes += len(batch)
        except OdradekError as error:
            # Batches before this one may be staged in the log and cannot be taken back one by one.
            self._broken = KafkaStorageError(f"the coordinator's log took no more batches: {error}")
            raise self._broken from error
        self._log.write()
        self._compaction.note(size_bytes, len(self._gathering.records))
        try:
            return self._log.sync_begin()
        except KafkaStorageError as error:
            self._broken = error
            raise

    def _release(self) -> Sequence[Effect]:
        round_, self._in_flight, self._ticket = self._in_flight, None, None
        replies = [Reply(held.to, held.reply) for held in round_.held] if round_ is not None else []
        return [*replies, *self._compact()]

    def _compact(self) -> Sequence[Effect]:
        """Where a whole snapshot is durable, what lies before it goes."""
        before_bytes = self._compaction.log_bytes
        try:
            start_offset = self._compaction.synced()
        except OdradekError as error:
            self._compaction.give_up()
            return [Log("coordinator_log_not_compacted", {"error": str(error)})]
        if start_offset is None:
            return []
        fields: dict[str, object] = {
            "start_offset": start_offset,
            "bytes_before": before_bytes,
            "bytes": self._compaction.log_bytes,
        }
        return [Log("coordinator_log_compacted", fields)]

    def _fail(self, error: OdradekError) -> Sequence[Effect]:
        """Undo all that is not durable, the latest first, and answer everybody."""
        rounds = [round_ for round_ in (self._in_flight, self._gathering) if round_ is not None]
        self._in_flight, self._ticket, self._gathering = None, None, _Round()
        self.failures += 1
        self._compaction.give_up()
        for round_ in reversed(rounds):
            self._undo(round_.undo)
        fields: dict[str, object] = {
            "error": str(error),
            "entries": sum(len(round_.undo) for round_ in rounds),
            "final": self._broken is not None,
        }
        effects: list[Effect] = [Log("coordinator_write_failed", fields)]
        if self._broken is not None:
            effects.append(Fail(self._broken))
        for round_ in rounds:
            for held in round_.held:
                reply = failure(error) if held.read is None else held.read()
                effects.append(Reply(held.to, reply))
        return effects

    def _undo(self, undo: Sequence[Entry]) -> None:
        for entry in reversed(undo):
            self._replay(entry)


def _batches(records: Sequence[tuple[bytes, bytes | None]], wall_ms: int) -> Iterator[bytes]:
    """The records in as few batches as the log takes."""
    from odradek.protocol.records import RecordToWrite, encode_batch  # noqa: PLC0415

    group: list[RecordToWrite] = []
    size_bytes = 0
    for key, value in records:
        record_bytes = len(key) + len(value or b"") + RECORD_OVERHEAD_BYTES
        if group and size_bytes + record_bytes > BATCH_BYTES_TARGET:
            yield encode_batch(group)
            group, size_bytes = [], 0
        group.append(RecordToWrite(wall_ms, key, value))
        size_bytes += record_bytes
    yield encode_batch(group)

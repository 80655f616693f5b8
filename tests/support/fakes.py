"""Stand-ins for what an actor talks to: a log in memory, with a crash and a disk that can fail."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.actor import Moment
from actors.effects import Sender
from odradek.protocol.batch import BatchHeader, Buffer, placed_prefix, read_header
from odradek.protocol.codec import Encoding
from odradek.protocol.errors import KafkaStorageError


@dataclass(eq=False)
class FakeTicket:
    """Covers the batches that were written when it was made."""

    covered: int
    error: OSError | None = None
    runs: int = 0

    def run(self) -> None:
        self.runs += 1
        if self.error is not None:
            raise self.error


@dataclass
class FakeLog:
    """An in-memory ``partitions.log.Log``: staged, then written, then durable."""

    batches: list[bytes] = field(default_factory=list)
    """Written batches, at their offsets; the first ``durable`` of them survive a crash."""
    durable: int = 0
    start_offset: int = 0
    end_offset: int = 0
    fail_writes: KafkaStorageError | None = None
    fail_syncs: OSError | None = None
    fail_advances: KafkaStorageError | None = None
    reads: int = 0
    _staged: list[bytes] = field(default_factory=list)
    _failed: KafkaStorageError | None = None

    @property
    def durable_offset(self) -> int:
        return read_header(self.batches[self.durable - 1]).next_offset if self.durable else self.start_offset

    def append(self, batch: Buffer, header: BatchHeader, wall_ms: int) -> None:
        if self._failed is not None:
            raise self._failed
        self._staged.append(placed_prefix(header, self.end_offset, 0) + bytes(batch)[16:])
        self.end_offset += header.record_count

    def write(self) -> None:
        staged, self._staged = self._staged, []
        if self.fail_writes is not None:
            self.end_offset -= sum(read_header(batch).record_count for batch in staged)
            raise self.fail_writes
        self.batches.extend(staged)

    def sync_begin(self) -> FakeTicket | None:
        if len(self.batches) == self.durable:
            return None
        return FakeTicket(len(self.batches), self.fail_syncs)

    def sync_done(self, ticket: FakeTicket, error: OSError | None) -> None:
        if error is not None:
            self._failed = KafkaStorageError(f"fdatasync failed: {error}")
            return
        self.durable = max(self.durable, ticket.covered)

    def read(self, offset: int, max_bytes: int) -> bytes:
        self.reads += 1
        found: list[bytes] = []
        for batch in self.batches[: self.durable]:
            if read_header(batch).next_offset <= offset:
                continue
            if found and sum(map(len, found)) + len(batch) > max_bytes:
                break
            found.append(batch)
        return b"".join(found)

    def advance_start(self, offset: int) -> int:
        """As the real log does, it is durable at once; batches below the start go."""
        if self.fail_advances is not None:
            raise self.fail_advances
        assert offset <= self.durable_offset, "only what is durable may be the start"
        gone = sum(read_header(batch).next_offset <= offset for batch in self.batches)
        self.start_offset = max(self.start_offset, offset)
        del self.batches[:gone]
        self.durable -= gone
        return self.start_offset

    def after_crash(self, *, kept: int = 0) -> FakeLog:
        """What a new process finds: all that was durable, and ``kept`` batches of what was only written."""
        survivors = self.batches[: self.durable + kept]
        end = read_header(survivors[-1]).next_offset if survivors else self.start_offset
        return FakeLog(list(survivors), len(survivors), self.start_offset, end)

    @property
    def unsynced(self) -> int:
        """How many written batches a crash may take."""
        return len(self.batches) - self.durable


@dataclass
class FakeClock:
    """Both clocks, moved by hand."""

    monotonic_s: float = 1000.0
    wall_ms: int = 1_700_000_000_000

    def now(self) -> Moment:
        return Moment(self.monotonic_s, self.wall_ms)

    def advance(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_ms += int(seconds * 1000)


def sender(number: int) -> Sender:
    """A return path that can be told from others by its id."""
    return Sender("inner", b"client", False, Encoding.JSON, number)

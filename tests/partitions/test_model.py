"""The log against a model that is a list: any order of appends, syncs, crashes, restarts and reads."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from odradek.protocol.batch import iterate_headers
from partitions.settings import DAY_MS
from partitions.tickets import SyncTicket
from tests.partitions.harness import NOW_MS, append, open_log, read_all, signed, sync
from tests.support.batches import idempotent, make_batch
from tests.support.simdisk import SimDisk

LATER_MS = NOW_MS + 365 * DAY_MS


class LogMachine(RuleBasedStateMachine):
    """``batches`` is the model: (base offset, next offset, signed bytes) of all that was appended."""

    @initialize()
    def begin(self) -> None:
        self.disk = SimDisk()
        self.log = open_log(self.disk)
        self.batches: list[tuple[int, int, bytes]] = []
        self.sequence = 0
        self.sent: list[tuple[bytes, int]] = []
        self.ticket: SyncTicket | None = None
        self.epoch = 0
        self.start = 0

    @rule(count=st.integers(1, 5), size=st.integers(0, 900), produced=st.booleans())
    def append(self, count: int, size: int, produced: bool) -> None:
        payload = bytes([size % 251]) * size
        batch = make_batch(count, payload=payload)
        if produced:
            batch = idempotent(3, self.sequence, count, payload=payload)
            self.sent.append((batch, self.log.end_offset))
            self.sequence += count
        [appended] = append(self.log, batch)
        end = self.batches[-1][1] if self.batches else 0
        assert appended == (end, end + count - 1, 1_700_000_000_000, False)
        self.batches.append((end, end + count, signed(batch)))

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(1, 5))
    def repeat(self, back: int) -> None:
        batch, offset = self.sent[-min(back, len(self.sent))]
        [appended] = append(self.log, batch)
        assert (appended.base_offset, appended.duplicate) == (offset, True)

    @rule()
    def write(self) -> None:
        self.log.write()

    @precondition(lambda self: self.ticket is None)
    @rule()
    def begin_sync(self) -> None:
        self.log.write()
        self.ticket = self.log.sync_begin()

    @precondition(lambda self: self.ticket is not None)
    @rule()
    def end_sync(self) -> None:
        assert self.ticket is not None
        self.ticket.run()
        self.log.sync_done(self.ticket, None)
        self.ticket = None

    @precondition(lambda self: self.ticket is None)
    @rule()
    def reopen(self) -> None:
        self.log.close()
        assert self.log.durable_offset == self.log.end_offset
        self.reopened()
        assert self.log.recovery.bytes_scanned == 0

    @rule(keep=st.sampled_from(["none", "all", "subset"]), seed=st.integers(0, 999), again=st.booleans())
    def power_cut(self, keep: str, seed: int, again: bool) -> None:
        durable, written = self.log.durable_offset, self.log._writer.written_offset
        self.disk = self.disk.crash(seed, keep=keep)
        self.reopened()
        assert durable <= self.log.end_offset <= written
        if keep == "all":
            assert self.log.end_offset == written
        lost = [batch for batch, offset in self.sent if offset >= self.log.end_offset]
        self.forget_lost()
        if again:
            self.send_again(lost)

    def send_again(self, lost: list[bytes]) -> None:
        """The producer's batches in flight, same sequences, in order: appended once, at dense offsets."""
        for batch in lost:
            [appended] = append(self.log, batch)
            end = self.batches[-1][1] if self.batches else 0
            assert (appended.base_offset, appended.duplicate) == (end, False)
            self.sent.append((batch, end))
            self.batches.append((end, appended.last_offset + 1, signed(batch)))
            self.sequence += appended.last_offset - end + 1

    @rule()
    def killed(self) -> None:
        written = self.log._writer.written_offset
        self.disk.release()
        self.reopened()
        assert self.log.end_offset == written
        self.forget_lost()

    def reopened(self) -> None:
        self.ticket = None
        self.log = open_log(self.disk)
        self.epoch += 1
        assert self.log.leader_epoch == self.epoch

    def forget_lost(self) -> None:
        end = self.log.end_offset
        self.batches = [item for item in self.batches if item[1] <= end]
        self.sent = [item for item in self.sent if item[1] < end]
        state = self.log._producers.get(3)
        self.sequence = state.batches[-1].last_sequence + 1 if state is not None else 0

    @rule()
    def retire(self) -> None:
        """Everything is too old: what is closed and durable goes, the active segment with the next sync."""
        self.log.roll_expired(LATER_MS)
        kept = self.log.retention(LATER_MS)
        assert self.start <= kept.start_offset <= self.log.durable_offset
        self.start = self.log.advance_start(kept.start_offset, unlink_later=True)
        assert self.start == kept.start_offset

    @rule()
    def unlink(self) -> None:
        unlinking = self.log.take_unlinking()
        if unlinking is not None:
            list(unlinking.run())

    @precondition(lambda self: self.log.durable_offset > self.start)
    @rule(data=st.data(), max_bytes=st.integers(1, 3000))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        offset = data.draw(st.integers(self.start, self.log.durable_offset - 1))
        content = self.log.read(offset, max_bytes)
        found = [
            (
                header.base_offset,
                header.next_offset,
                bytes(content[position + 16 : position + header.size_bytes]),
            )
            for position, header in iterate_headers(content)
        ]
        first = next(number for number, item in enumerate(self.batches) if item[1] > offset)
        assert found
        assert found == self.batches[first : first + len(found)]
        assert found[-1][1] <= self.log.durable_offset

    @invariant()
    def offsets_are_in_order(self) -> None:
        log = self.log
        end = self.batches[-1][1] if self.batches else 0
        assert log.start_offset == self.start <= log.durable_offset <= log.end_offset == end
        assert log.damages == ()

    def teardown(self) -> None:
        if self.ticket is not None:
            self.end_sync()
        sync(self.log)
        kept = [content for first, _, content in self.batches if first >= self.start]
        assert list(read_all(self.log).batches.values()) == kept


LogMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestLog = LogMachine.TestCase

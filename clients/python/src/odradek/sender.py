"""Sender: takes batches from their partition's queue to the broker, in order and once.

Rules of this file:
1. ``queue.sent`` holds the batches that were given a sequence and are not yet all acknowledged up to
   there, in the order of their sequences. Its length never exceeds ``in_flight_max`` (but for the parts
   of a batch that was split), because the partition recognizes a retry only that far back.
2. Once one of them must be sent again, nothing new is sent; when the others have ended too, all that
   are not acknowledged are sent again in order, with the sequences they had.
3. When a batch fails for good, all after it fail with the same story, and the partition's next batch
   begins a new producer session: so nothing after a failure becomes durable.
4. Answers come in the order of the batches. So a later one's answer says that the answer of an earlier
   one got lost, as does a new leader of the partition: then it is sent again without waiting for more.
5. A batch that was never tried, or only refused, may get another sequence; one whose outcome is unknown
   may not.

Everything here runs in the I/O thread; what it shares with senders (``open``, ``pending``) is under the
producer's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from odradek.batches import Batch, Clock
from odradek.connection import Outcome, Timer
from odradek.delivery import UNKNOWN_OFFSET
from odradek.options import ProducerOptions
from odradek.protocol.batch import SEQUENCE_MODULUS, read_header
from odradek.protocol.errors import (
    MessageTooLarge,
    OdradekError,
    OutOfOrderSequenceNumber,
    RequestTimedOut,
    UnknownProducerId,
)
from odradek.protocol.messages import InitProducerId, Produce
from odradek.protocol.records import DecodedRecord, decode_batch
from odradek.queues import PartitionQueue
from odradek.rounds import Rounds
from odradek.session import Session

logger = logging.getLogger("odradek")

CLOCK_TICK_S: Final = 0.01
"""How old the timestamp of a record may be that joins an open batch: one clock read serves many."""
PROBE_S: Final = 0.25
"""A batch that is on its way for so long may be on its way to a leader that is gone: that is looked up."""


class Sender:
    """The part of a producer that lives in the I/O thread."""

    def __init__(
        self,
        session: Session,
        options: ProducerOptions,
        clock: Clock,
        *,
        seal: Callable[[PartitionQueue], Batch | None],
        seal_all: Callable[[PartitionQueue], list[Batch]],
        release: Callable[[Batch, int], None],
        failed: Callable[[Batch], None],
    ) -> None:
        """``seal`` moves the next batch to ``sent``, ``seal_all`` all; ``release`` frees buffer."""
        self._session = session
        self._options = options
        self._clock = clock
        self._seal = seal
        self._seal_all = seal_all
        self._release = release
        self._failed = failed
        self._identity: tuple[int, int] | None = None
        self._identity_asked = False
        self._identity_backoff = session.backoff()
        self._wait_identity: dict[PartitionQueue, None] = {}
        self._queues: set[PartitionQueue] = set()
        self._touched: set[str] = set()
        self._tick_timer: Timer | None = None
        self._rounds = Rounds()
        self._round_timer: Timer | None = None
        self._round_due = False
        self.flushing = 0

    # -- what leaves next ----------------------------------------------------------------------

    def dispatch(self, queue: PartitionQueue) -> None:
        """Send whatever of this queue may be sent now, and arrange to come back for the rest."""
        queue.notified = False
        if not queue.busy:
            return
        self._queues.add(queue)
        self._touched.add(queue.topic)
        self._keep_clock()
        self._watch_deadline(queue)
        if any(not batch.flying and not batch.done for batch in queue.sent):
            self._resend(queue)
            return
        while len(queue.sent) < self._options.in_flight_max:
            if self._options.deduplicated and not self._identify(queue):
                return
            full = bool(queue.pending)
            batch = self._take(queue)
            if batch is None:
                return
            if not full:
                self._rounds.left(batch)
            self._encode(queue, batch)
            if not self._transmit(queue, batch):
                return

    def dispatch_all(self, queues: Iterable[PartitionQueue]) -> None:
        """``dispatch`` for each."""
        for queue in queues:
            self.dispatch(queue)

    def _take(self, queue: PartitionQueue) -> Batch | None:
        if queue.pending:
            return self._seal(queue)
        batch = queue.open
        if batch is None:
            return None
        linger_s = self._options.linger_ms / 1000
        wait_s = batch.opened_at + linger_s - time.monotonic()
        if self.flushing or (wait_s <= 0 and (linger_s or queue.open_may_leave)):
            if not (self.flushing or self._rounds.admits(queue)):
                self._await_round()
                return None
            # The sender may have filled and sealed it meanwhile, so what is taken is what is first now.
            return self._seal(queue)
        if linger_s and queue.linger_timer is None:
            queue.linger_timer = self._session.network.call_later(wait_s, lambda: self._lingered(queue))
        return None

    def _lingered(self, queue: PartitionQueue) -> None:
        queue.linger_timer = None
        self.dispatch(queue)

    def _await_round(self) -> None:
        """Come back when the round may begin at the latest; most are back before."""
        if self._round_timer is None:
            delay_s = self._rounds.wait_s()
            self._round_timer = self._session.network.call_later(delay_s, self._begin_round)

    def _begin_round(self) -> None:
        self._round_timer, self._round_due = None, False
        if not self._rounds.has_waiting:
            return
        if self._rounds.wait_s() > 0:
            self._await_round()
            return
        for queue in self._rounds.begin():
            self.dispatch(queue)
        self._rounds.begun()

    def _landed(self, batch: Batch) -> None:
        self._rounds.landed(batch)
        if self._round_timer is not None and not self._round_due and self._rounds.wait_s() == 0:
            # Not from here: whoever calls is in the middle of a queue.
            self._round_due = True
            self._round_timer.cancel()
            self._round_timer = self._session.network.call_later(0, self._begin_round)

    def _encode(self, queue: PartitionQueue, batch: Batch) -> None:
        assert batch.builder is not None
        batch.identity = queue.identity
        if queue.identity is not None:
            batch.base_sequence = queue.next_sequence
            batch.builder.set_producer_state(*queue.identity, batch.base_sequence)
        batch.payload = batch.builder.build()
        batch.builder = None
        # As the encoder counts: an interrupt between its word and ours must not shift what follows.
        batch.count = read_header(batch.payload).record_count
        queue.next_sequence = (queue.next_sequence + batch.count) % SEQUENCE_MODULUS
        self._release(batch, batch.reserved_bytes - len(batch.payload))

    def _transmit(self, queue: PartitionQueue, batch: Batch) -> bool:
        """Send one batch; False where it has to wait for the connection (only without replies)."""
        assert batch.payload is not None
        if queue.endpoint is None or not any(other.flying for other in queue.sent):
            # The road may change only while nothing is on it, so that nothing overtakes.
            queue.endpoint = self._session.route(queue.topic, queue.partition)
            queue.leader_epoch = self._session.leader_epoch(queue.topic, queue.partition)
        request = Produce(
            topic=queue.topic, partition=queue.partition, acks=self._options.acks, format="batch"
        )
        batch.attempt += 1
        if self._options.acks == 0:
            return self._transmit_unanswered(queue, batch, request)
        batch.flying = True
        batch.sent_at = time.monotonic()
        attempt = batch.attempt
        batch.ticket = self._session.submit_to_partition(
            queue.topic,
            queue.partition,
            request,
            (batch.payload,),
            lambda outcome: self._answered(queue, batch, attempt, outcome),
            endpoint=queue.endpoint,
        )
        return True

    def _transmit_unanswered(self, queue: PartitionQueue, batch: Batch, request: Produce) -> bool:
        assert batch.payload is not None
        if self._session.submit_unanswered(queue.topic, queue.partition, request, (batch.payload,)):
            self._finish(queue, batch, UNKNOWN_OFFSET, None)
            return True
        self._retry_later(queue)
        return False

    # -- what came back ------------------------------------------------------------------------

    def _answered(self, queue: PartitionQueue, batch: Batch, attempt: int, outcome: Outcome) -> None:
        if batch.done or attempt != batch.attempt:
            return  # it has failed meanwhile, by its delivery timeout or with one before it
        batch.flying = False
        self._landed(batch)
        self._clock.read()
        error = outcome.error
        if error is None or isinstance(error, OutOfOrderSequenceNumber):
            self._abandon(queue, queue.sent[: queue.sent.index(batch)])
        if error is None:
            queue.backoff.reset()
            offset, append_time = outcome.reply.offset, outcome.reply.log_append_time
            self._finish(
                queue,
                batch,
                offset if isinstance(offset, int) else UNKNOWN_OFFSET,
                None,
                append_time if isinstance(append_time, int) else None,
            )
        else:
            self._refused(queue, batch, error, maybe_done=outcome.maybe_done)
        self.dispatch(queue)

    def _refused(self, queue: PartitionQueue, batch: Batch, error: OdradekError, *, maybe_done: bool) -> None:
        queue.last_error = error
        batch.maybe_done = batch.maybe_done or maybe_done
        if isinstance(error, OutOfOrderSequenceNumber | UnknownProducerId):
            self._out_of_order(queue, batch, error)
        elif isinstance(error, MessageTooLarge) and batch.count > 1:
            self._split(queue, batch)
        elif error.retriable and time.monotonic() < batch.deadline:
            logger.debug("%s-%d: a batch is sent again after: %s", queue.topic, queue.partition, error)
        else:
            self._fail_from(queue, batch, error)

    def _abandon(self, queue: PartitionQueue, batches: list[Batch]) -> None:
        """Wait no more for the answers to these: they got lost, and what became of the batches is unknown."""
        if not self._options.deduplicated:
            return  # to send it again could write it twice, so that has to wait as long as it may
        for batch in batches:
            if batch.flying and batch.ticket is not None:
                logger.debug("%s-%d: the answer to a batch got lost", queue.topic, queue.partition)
                self._session.network.abandon(*batch.ticket)
                batch.flying = False
                batch.maybe_done = True
                self._landed(batch)

    def _probe(self, queue: PartitionQueue) -> None:
        """Look for a new leader where the present one has been silent for long."""
        now = time.monotonic()
        flying_since = [batch.sent_at for batch in queue.sent if batch.flying]
        if flying_since and now - max(flying_since[0], queue.asked_at) > PROBE_S:
            queue.asked_at = now
            self._session.refresh(queue.topic, lambda _: self._probed(queue))

    def _probed(self, queue: PartitionQueue) -> None:
        leader_epoch = self._session.leader_epoch(queue.topic, queue.partition)
        if leader_epoch != queue.leader_epoch:
            queue.leader_epoch = leader_epoch
            self._abandon(queue, list(queue.sent))
            self.dispatch(queue)

    def _out_of_order(self, queue: PartitionQueue, batch: Batch, error: OdradekError) -> None:
        first = next(other for other in queue.sent if not other.done)
        if first is not batch:
            return  # one before it was lost on the way; both are sent again
        if batch.maybe_done or any(other.maybe_done for other in queue.sent if not other.done):
            self._fail_from(queue, batch, error)
            return
        logger.warning(
            "%s-%d has forgotten this producer's sequence; a new producer session begins: %s",
            queue.topic,
            queue.partition,
            error,
        )
        self._renumber(queue)

    def _renumber(self, queue: PartitionQueue) -> None:
        """Give batches that the partition surely does not have to a new producer session."""
        again = [batch for batch in queue.sent if not batch.done]
        if any(batch.flying for batch in again):
            return  # the same refusal is on its way to each of them
        self._burn(queue)
        queue.sent = []
        for batch in reversed(again):
            self._rebuild(queue, batch)

    def _rebuild(self, queue: PartitionQueue, batch: Batch) -> None:
        """Back to a builder, so that ``_encode`` can give it the sequence of the new session."""
        fresh = self._child(batch, 0, _records_of(batch))
        self._adopt(batch, [(0, fresh)])
        queue.pending.appendleft(fresh)

    def _split(self, queue: PartitionQueue, batch: Batch) -> None:
        """Two halves with the sequences that the whole had: the topic takes only smaller batches."""
        records = _records_of(batch)
        middle = len(records) // 2
        halves = [(0, self._child(batch, 0, records[:middle]))]
        halves.append((middle, self._child(batch, middle, records[middle:])))
        assert batch.payload is not None
        queue.bytes_max = max(1, min(queue.bytes_max, len(batch.payload) // 2))
        for _, half in halves:
            assert half.builder is not None
            if half.identity is not None:
                half.builder.set_producer_state(*half.identity, half.base_sequence)
            half.payload = half.builder.build()
            half.builder = None
        position = queue.sent.index(batch)
        queue.sent[position : position + 1] = [half for _, half in halves]
        self._adopt(batch, halves)

    def _child(self, parent: Batch, first: int, records: list[DecodedRecord]) -> Batch:
        child = Batch(
            parent.topic,
            parent.partition,
            parent.lock,
            bytes_max=2**31 - 1,
            compression=self._options.compression,
            opened_at=parent.opened_at,
            deadline=parent.deadline,
            clock=self._clock,
        )
        for record in records:
            child.put((record.value, record.key, list(record.headers), record.timestamp))
        child.seal()
        child.identity = parent.identity
        child.base_sequence = (parent.base_sequence + first) % SEQUENCE_MODULUS
        child.reserved_bytes = parent.reserved_bytes * len(records) // max(1, parent.count)
        child.parent = parent
        return child

    def _adopt(self, parent: Batch, children: list[tuple[int, Batch]]) -> None:
        parent.children = children
        rest = parent.reserved_bytes - sum(child.reserved_bytes for _, child in children)
        children[0][1].reserved_bytes += rest
        parent.reserved_bytes = 0

    # -- how it ends ---------------------------------------------------------------------------

    def _finish(
        self,
        queue: PartitionQueue,
        batch: Batch,
        offset: int,
        error: OdradekError | None,
        append_time: int | None = None,
    ) -> None:
        batch.flying = False
        self._landed(batch)
        self._release(batch, batch.reserved_bytes)
        batch.finish(offset, error, append_time)
        if error is not None:
            self._failed(batch)
        self._finish_parent(batch)
        while queue.sent and queue.sent[0].done:
            del queue.sent[0]
        if not queue.busy:
            self._queues.discard(queue)

    def _finish_parent(self, batch: Batch) -> None:
        parent = batch.parent
        while parent is not None and all(child.done for _, child in parent.children):
            errors = [child.error for _, child in parent.children if child.error is not None]
            parent.finish(UNKNOWN_OFFSET, errors[0] if errors else None)
            parent = parent.parent

    def _fail_from(self, queue: PartitionQueue, batch: Batch, error: OdradekError) -> None:
        """This batch fails, and so does every one after it that is waiting or on its way."""
        doomed = [other for other in queue.sent[queue.sent.index(batch) :] if not other.done]
        self._fail(queue, doomed + self._seal_all(queue), error)

    def _fail(self, queue: PartitionQueue, doomed: list[Batch], error: OdradekError) -> None:
        self._burn(queue)
        place = f"{queue.topic}-{queue.partition}"
        story = error.message
        for batch in doomed:
            self._finish(queue, batch, UNKNOWN_OFFSET, type(error)(f"{place}: {story}"))
            story = f"an earlier batch of this producer failed: {error.message}"

    def fail_all(self, error: OdradekError) -> None:
        """The client ends: whatever was not acknowledged is reported as such."""
        for queue in list(self._queues):
            doomed = [batch for batch in queue.sent if not batch.done]
            self._fail(queue, doomed + self._seal_all(queue), error)

    # -- time ----------------------------------------------------------------------------------

    def _resend(self, queue: PartitionQueue) -> None:
        if any(batch.flying for batch in queue.sent):
            return  # wait for the others of this round, then send all again in order
        if queue.retry_timer is None:
            self._retry_later(queue)

    def _retry_later(self, queue: PartitionQueue) -> None:
        def again() -> None:
            queue.retry_timer = None
            if self._options.acks == 0:
                self._retry_unanswered(queue)
                return
            waiting = [batch for batch in queue.sent if not batch.done and not batch.flying]
            for batch in waiting[: self._options.in_flight_max]:
                self._transmit(queue, batch)

        if queue.retry_timer is None:
            queue.retry_timer = self._session.network.call_later(queue.backoff.next_s(), again)

    def _retry_unanswered(self, queue: PartitionQueue) -> None:
        for batch in [batch for batch in queue.sent if not batch.done]:
            if not self._transmit(queue, batch):
                return
        queue.backoff.reset()
        self.dispatch(queue)

    def _watch_deadline(self, queue: PartitionQueue) -> None:
        if queue.deadline_timer is not None:
            return
        oldest = self._oldest(queue)
        if oldest is not None:
            delay_s = max(0.0, oldest.deadline - time.monotonic())
            queue.deadline_timer = self._session.network.call_later(delay_s, lambda: self._expire(queue))

    @staticmethod
    def _oldest(queue: PartitionQueue) -> Batch | None:
        for batch in queue.sent:
            if not batch.done:
                return batch
        # Only this thread takes from ``pending``, so what is there now stays.
        return queue.pending[0] if queue.pending else queue.open

    def _expire(self, queue: PartitionQueue) -> None:
        queue.deadline_timer = None
        oldest = self._oldest(queue)
        if oldest is not None and oldest.deadline <= time.monotonic():
            doomed = [batch for batch in queue.sent if not batch.done]
            self._fail(queue, doomed + self._seal_all(queue), self._late(queue, oldest))
        self.dispatch(queue)

    def _late(self, queue: PartitionQueue, batch: Batch) -> OdradekError:
        limit = f"not acknowledged within delivery_timeout_ms={self._options.delivery_timeout_ms:g}"
        if batch.flying or batch.maybe_done:
            certainty = "whether it was written is unknown"
        else:
            certainty = "it was not written"
        last = "" if queue.last_error is None else f"; last: {queue.last_error}"
        return RequestTimedOut(f"{limit}: {certainty} ({batch.attempt} attempts{last})")

    def _keep_clock(self) -> None:
        self._clock.read()
        if self._tick_timer is None:
            self._tick_timer = self._session.network.call_later(CLOCK_TICK_S, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        touched, self._touched = self._touched, {queue.topic for queue in self._queues}
        self._session.refresh_old(touched)
        if self._queues:
            self._keep_clock()
            for queue in list(self._queues):
                self._probe(queue)

    # -- producer ids --------------------------------------------------------------------------

    def _burn(self, queue: PartitionQueue) -> None:
        """The partition's next batch begins a new producer session."""
        if queue.identity is not None:
            queue.burnt = queue.identity
            queue.identity = None

    def _identify(self, queue: PartitionQueue) -> bool:
        """Whether the queue has a producer id that it may go on with; asks for one where not."""
        if queue.identity is not None:
            return True
        if queue.sent:
            return False  # what is left of the old session ends first
        if self._identity is not None and self._identity != queue.burnt:
            queue.identity = self._identity
            queue.next_sequence = 0
            return True
        self._wait_identity[queue] = None
        if not self._identity_asked:
            self._identity_asked = True
            self._identity = None
            self._session.submit(InitProducerId(), self._identified)
        return False

    def _identified(self, outcome: Outcome) -> None:
        error = outcome.error
        if error is not None and error.retriable:
            for queue in self._wait_identity:
                queue.last_error = error
            self._session.network.call_later(self._identity_backoff.next_s(), self._ask_identity_again)
            return
        self._identity_asked = False
        waiting, self._wait_identity = list(self._wait_identity), {}
        if error is None:
            self._identity = (outcome.reply.producer_id, outcome.reply.producer_epoch)
            self._identity_backoff.reset()
            self.dispatch_all(waiting)
            return
        for queue in waiting:
            self._fail(queue, self._seal_all(queue), error)

    def _ask_identity_again(self) -> None:
        self._session.submit(InitProducerId(), self._identified)


def _records_of(batch: Batch) -> list[DecodedRecord]:
    assert batch.payload is not None
    return list(decode_batch(batch.payload))

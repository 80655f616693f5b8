"""Producers: the memory that makes a retry harmless.

Of every producer id the log keeps the epoch and the last five batches. Rules, in this order:

1. A batch of an older epoch is refused: a newer session has taken over.
2. A new epoch, and a producer never seen, begins at sequence 0. (A producer never seen may begin
   anywhere once the log start has advanced: its state may have gone with its records.)
3. A batch equal in sequences to one of the last five is a retry: it gets the offsets it got before.
4. Any other batch follows the last one without a gap, or is refused.

Live appends and recovery fill the table through the same ``record``; nothing here touches a file.
"""

from __future__ import annotations

from typing import NamedTuple

from odradek.protocol.batch import SEQUENCE_MODULUS, BatchHeader
from odradek.protocol.errors import InvalidProducerEpoch, OutOfOrderSequenceNumber, UnknownProducerId

BATCHES_KEPT = 5
"""As many as a producer may have in flight (Kafka's max.in.flight.requests.per.connection)."""
PRODUCERS_KEPT = 1_000
"""So many, those that appended last, are known whatever their age: the clock that tells it may be wrong,
and a producer that is forgotten between a batch and its retry writes it twice."""


class ProducerBatch(NamedTuple):
    """One batch that was appended: sequences of the producer, offsets of the log, timestamp in ms."""

    base_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int
    timestamp: int


class ProducerState(NamedTuple):
    """One producer id; ``batches`` in the order of their offsets, never empty."""

    epoch: int
    appended_ms: int
    batches: tuple[ProducerBatch, ...]


class Producers:
    """The table, in the order of the last append. ``ids_max`` bounds it, the longest silent goes first."""

    def __init__(self, ids_max: int, expiry_ms: int) -> None:
        self._ids_max = ids_max
        self._expiry_ms = expiry_ms
        self._states: dict[int, ProducerState] = {}
        self._undo: list[tuple[int, ProducerState | None]] = []

    def __len__(self) -> int:
        return len(self._states)

    def get(self, producer_id: int) -> ProducerState | None:
        return self._states.get(producer_id)

    def configure(self, ids_max: int, expiry_ms: int) -> None:
        self._ids_max, self._expiry_ms = ids_max, expiry_ms

    def check(self, header: BatchHeader) -> ProducerBatch | None:
        """The earlier append that ``header`` repeats; None for a batch that may be appended.

        An unknown producer begins at sequence 0, always: were a later one taken, the batch before it might
        have been lost. Deleting records from the start forgets no producer, so none is unknown for that.

        Raises InvalidProducerEpoch, UnknownProducerId or OutOfOrderSequenceNumber.
        """
        state = self._states.get(header.producer_id)
        if state is None:
            if header.base_sequence != 0:
                raise UnknownProducerId(
                    f"producer {header.producer_id} is unknown here and sends sequence "
                    f"{header.base_sequence}; "
                    "a new producer begins at 0, an old one must ask for a new producer id"
                )
            return None
        if header.producer_epoch != state.epoch:
            _check_new_epoch(header, state)
            return None
        for batch in state.batches:
            if batch.base_sequence == header.base_sequence and batch.last_sequence == header.last_sequence:
                return batch
        expected = (state.batches[-1].last_sequence + 1) % SEQUENCE_MODULUS
        if header.base_sequence != expected:
            raise OutOfOrderSequenceNumber(
                f"producer {header.producer_id} epoch {header.producer_epoch}: "
                f"expected sequence {expected}, got {header.base_sequence}"
            )
        return None

    def record(self, header: BatchHeader, base_offset: int, appended_ms: int) -> None:
        """Remembers that the batch stands at ``base_offset``; takes back nothing by itself."""
        producer_id = header.producer_id
        previous = self._states.pop(producer_id, None)
        self._undo.append((producer_id, previous))
        batch = ProducerBatch(
            header.base_sequence,
            header.last_sequence,
            base_offset,
            base_offset + header.last_offset_delta,
            header.max_timestamp,
        )
        if previous is None or previous.epoch != header.producer_epoch:
            batches: tuple[ProducerBatch, ...] = (batch,)
        else:
            batches = (*previous.batches[1 - BATCHES_KEPT :], batch)
        self._states[producer_id] = ProducerState(header.producer_epoch, appended_ms, batches)
        if previous is None and len(self._states) > self._ids_max:
            oldest = next(iter(self._states))
            self._undo.append((oldest, self._states.pop(oldest)))

    def commit(self) -> None:
        """What was recorded stands."""
        self._undo.clear()

    def roll_back(self) -> None:
        """Takes back all that was recorded since the last commit, order included."""
        for producer_id, previous in reversed(self._undo):
            self._states.pop(producer_id, None)
            if previous is not None:
                self._states[producer_id] = previous
        self._undo.clear()
        self._states = dict(sorted(self._states.items(), key=lambda item: item[1].batches[-1].base_offset))

    def expire(self, wall_ms: int) -> None:
        """Forgets the producers that appended nothing for the expiry time, but for the latest PRODUCERS_KEPT.

        Nothing may be uncommitted.
        """
        oldest_ms = wall_ms - self._expiry_ms
        spare = max(0, len(self._states) - PRODUCERS_KEPT)
        for producer_id in list(self._states)[:spare]:
            if self._states[producer_id].appended_ms < oldest_ms:
                del self._states[producer_id]

    def snapshot(self) -> list[tuple[int, ProducerState]]:
        """Every producer as it is now; for the checkpoint."""
        return list(self._states.items())

    def restore(self, states: list[tuple[int, ProducerState]]) -> None:
        """Back to a snapshot."""
        self._states = dict(states)
        self._undo.clear()


def _check_new_epoch(header: BatchHeader, state: ProducerState) -> None:
    if header.producer_epoch < state.epoch:
        raise InvalidProducerEpoch(
            f"producer {header.producer_id} sends with epoch {header.producer_epoch}, "
            f"epoch {state.epoch} has taken over"
        )
    if header.base_sequence != 0:
        raise OutOfOrderSequenceNumber(
            f"producer {header.producer_id} begins epoch {header.producer_epoch} with sequence "
            f"{header.base_sequence}; expected sequence 0, got {header.base_sequence}"
        )

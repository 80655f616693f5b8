"""Producer ids: taken from blocks, so that one entry in the log is enough for a thousand of them."""

from __future__ import annotations

from actors.ledger import Entry, ProducerIdBlock, ProducerIdsKey

PRODUCER_IDS_PER_BLOCK = 1000


class ProducerIds:
    """The next id to give out. Ids of a block that was open in a crash are skipped, never repeated."""

    def __init__(self) -> None:
        self._next_block = 0
        self._next = 0
        self._end = 0

    def replay(self, value: ProducerIdBlock | None) -> ProducerIdBlock:
        """Apply one entry; what stood there before. No block is open afterwards."""
        before = ProducerIdBlock(self._next_block)
        self._next_block = self._next = self._end = value.next_block if value is not None else 0
        return before

    def block(self) -> ProducerIdBlock:
        """What the log says now."""
        return ProducerIdBlock(self._next_block)

    def new_block(self) -> list[Entry]:
        """The entry that opens the next block, where the open one is used up."""
        if self._next < self._end:
            return []
        return [Entry(ProducerIdsKey(), ProducerIdBlock(self._next_block + PRODUCER_IDS_PER_BLOCK))]

    def take(self) -> int:
        """An id that nobody has; ``new_block`` was replayed before where it gave an entry."""
        if self._next == self._end:
            self._next = self._next_block - PRODUCER_IDS_PER_BLOCK
            self._end = self._next_block
        taken = self._next
        self._next += 1
        return taken

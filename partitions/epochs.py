"""Leader epochs: which epoch wrote from which offset on.

Kept in Kafka's own text format (``leader-epoch-checkpoint``)::

    0            version
    2            number of entries
    0 0          epoch, first offset written in it
    3 170
"""

from __future__ import annotations

from bisect import bisect_right

FILE_NAME = "leader-epoch-checkpoint"
VERSION = 0
UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class LeaderEpochs:
    """Epochs and their first offsets, both strictly ascending. An epoch without records leaves no entry
    once a later one begins."""

    def __init__(self, entries: list[tuple[int, int]] | None = None) -> None:
        self.entries: list[tuple[int, int]] = []
        for epoch, start in entries or ():
            self.assign(epoch, start)

    @property
    def latest(self) -> int:
        return self.entries[-1][0] if self.entries else UNDEFINED_EPOCH

    def assign(self, epoch: int, start_offset: int) -> None:
        """From ``start_offset`` on, ``epoch`` writes; an epoch not above the latest changes nothing."""
        if epoch <= self.latest:
            return
        while self.entries and self.entries[-1][1] >= start_offset:
            self.entries.pop()
        self.entries.append((epoch, start_offset))

    def drop_above(self, end_offset: int) -> None:
        """Forgets the epochs that began behind ``end_offset``: their records do not exist."""
        while self.entries and self.entries[-1][1] > end_offset:
            self.entries.pop()

    def drop_below(self, start_offset: int) -> None:
        """Forgets the epochs whose last record lies before ``start_offset``."""
        kept = bisect_right(self.entries, start_offset, key=lambda entry: entry[1])
        if kept > 0:
            epoch = self.entries[kept - 1][0]
            self.entries[:kept] = [(epoch, start_offset)]

    def end_offset(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """Kafka's OffsetForLeaderEpoch: (the largest epoch <= ``epoch``, where the next one begins).

        (-1, -1) for an epoch that has not begun yet.
        """
        if epoch == UNDEFINED_EPOCH or epoch > self.latest:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == self.latest:
            return epoch, log_end_offset
        above = bisect_right(self.entries, epoch, key=lambda entry: entry[0])
        floor = self.entries[above - 1][0] if above > 0 else epoch
        return floor, self.entries[above][1]


def format_epochs(epochs: LeaderEpochs) -> bytes:
    """The text of the file."""
    lines = [str(VERSION), str(len(epochs.entries)), *(f"{epoch} {start}" for epoch, start in epochs.entries)]
    return ("\n".join(lines) + "\n").encode()


def parse_epochs(text: bytes) -> LeaderEpochs | None:
    """What the file says; None where it is not in its format."""
    try:
        version, count, *lines = text.decode("ascii").splitlines()
        entries = [(int(epoch), int(start)) for epoch, start in (line.split(" ") for line in lines)]
        well_formed = int(version) == VERSION and int(count) == len(entries)
    except ValueError:
        return None
    if not well_formed or any(epoch < 0 or start < 0 for epoch, start in entries):
        return None
    epochs = LeaderEpochs(entries)
    return epochs if epochs.entries == entries else None

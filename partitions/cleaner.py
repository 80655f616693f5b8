"""The cleaner: compaction as the log's own thread sees it. It plans passes and does the swaps they promise.

The segments of a pass belong to it until it ends: retention moves the start offset over them, but their
files go afterwards. Only segments that the last checkpoint knows as closed are cleaned, and one swap at a
time waits for its checkpoint: so whatever a start finds, the note of the last swap explains it.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from partitions.checkpoint import Checkpoint
from partitions.compaction import decide_compaction, group_segments
from partitions.producers import Producers
from partitions.reading import Reader
from partitions.segment import Segment
from partitions.state import LogState
from partitions.swapping import FILE_NAME, Swap, is_settled, rename_files

if TYPE_CHECKING:
    from partitions.cleaning import Cleaning


class Cleaner:
    """Of one log; ``state``, ``producers`` and ``reader`` are the log's own.

    ``busy`` are the segments of the pass under way, ``cleaned_offset`` is how far passes have come.
    """

    def __init__(
        self, state: LogState, producers: Producers, reader: Reader, owner: str, cleaned_offset: int
    ) -> None:
        self._state = state
        self._producers = producers
        self._reader = reader
        self._owner = owner
        self.cleaned_offset = cleaned_offset
        self._vouched_offset = -1
        self._cleaning: Cleaning | None = None
        self._swap: Swap | None = None
        self._in_doubt = False
        self.busy: frozenset[Segment] = frozenset()

    def plan(self, unsynced: Container[Segment], wall_ms: int, free_bytes_min: int) -> Cleaning | None:
        """The next pass if it is time for one; ``unsynced`` segments wait. One at a time."""
        state, settings = self._state, self._state.settings
        if not settings.compacts or self._cleaning is not None or self._in_doubt:
            return None
        if self._swap is not None or state.damages or state.failure is not None:
            return None
        closed = []
        for segment in state.segments[:-1]:
            if segment in unsynced or segment.base_offset >= self._vouched_offset:
                break
            closed.append(segment)
        span = decide_compaction(closed, self.cleaned_offset, settings, wall_ms)
        if span is None:
            return None
        # It loads the record codec, which nobody else here needs.
        from partitions.cleaning import Cleaning, CleaningPlan, source_of  # noqa: PLC0415

        chosen = closed[: span.segments]
        plan = CleaningPlan(
            directory=state.directory,
            owner=self._owner,
            groups=[
                [source_of(item) for item in group]
                for group in group_segments(chosen, settings.segment_bytes)
            ],
            dirty=[source_of(item) for item in chosen[span.dirty_from :]],
            cleaned_offset=self.cleaned_offset,
            producers=self._producers.snapshot(),
            delete_retention_ms=settings.delete_retention_ms,
            index_interval_bytes=settings.index_interval_bytes,
            map_bytes_max=settings.compaction_map_bytes_max,
            free_bytes_min=free_bytes_min,
            wall_ms=wall_ms,
        )
        self.busy = frozenset(chosen)
        self._cleaning = Cleaning(state.files, plan, settings.compaction_bytes_per_s_max)
        return self._cleaning

    def take(self, cleaning: Cleaning, error: OSError | None) -> list[Path]:
        """A run of the pass has ended: does the swap that it promised; the old files' new names.

        Raises LogFailed where the swap cannot be done: the next start does it.
        """
        assert cleaning is self._cleaning
        renamed: list[Path] = []
        self._in_doubt = cleaning.in_doubt
        if cleaning.swap is not None:
            renamed = self._do(cleaning.swap)
        if cleaning.broken is not None:
            self._quarantine(cleaning)
        if error is not None or cleaning.broken is not None or self._state.failure is not None:
            self.give_up()
        elif cleaning.complete:
            self.cleaned_offset = max(self.cleaned_offset, cleaning.end_offset)
            self.give_up()
        return renamed

    def give_up(self) -> None:
        """No pass is under way any longer."""
        self._cleaning = None
        self.busy = frozenset()

    @property
    def under_way(self) -> bool:
        """Whether a pass has not come to its end."""
        return self._cleaning is not None

    @property
    def may_go_on(self) -> bool:
        """Whether a pass is under way and the checkpoint knows of its last swap."""
        return self._cleaning is not None and self._swap is None

    def _do(self, swap: Swap) -> list[Path]:
        """The new segment takes the place of the old ones, on the disk and in memory."""
        state = self._state
        try:
            renamed = rename_files(state.files, state.directory, swap)
        except OSError as error:
            raise state.fail(f"a cleaned segment could not take its place: {error}") from error
        replaced = [segment for segment in state.segments if swap.covers(segment.base_offset)]
        for segment in replaced:
            segment.forget_readers()
            segment.close()
        first = state.segments.index(replaced[0])
        cleaned = state.new_segment(swap.entry.base_offset)
        cleaned.adopt(swap.entry)
        cleaned.load_indexes_later()
        state.segments[first : first + len(replaced)] = [cleaned]
        state.damages = [item for item in state.damages if not swap.covers(item.segment)]
        self.busy = (self.busy - {*replaced}) | {cleaned}
        self._reader.forget_positions()
        self._swap = swap
        state.checkpoint_due = True
        return renamed

    def _quarantine(self, cleaning: Cleaning) -> None:
        """What the pass could not read gets its name; until it is mended nothing more is cleaned."""
        broken = cleaning.broken
        assert broken is not None
        for segment in self._state.segments:
            if segment.base_offset == broken.segment:
                self._reader.quarantine(segment, broken.position, broken.expected_offset)

    def checkpointed(self, checkpoint: Checkpoint) -> None:
        """A checkpoint is durable: the note of a swap that it knows is needed no more."""
        self._vouched_offset = checkpoint.segments[-1].base_offset
        if self._swap is not None and is_settled(checkpoint, self._swap):
            self._swap = None
            with suppress(OSError):
                # A note that stays says what the checkpoint says.
                self._state.files.unlink(self._state.directory / FILE_NAME)

"""Surroundings: what the small files beside the segments say, and whether they can be believed.

The checkpoint and the witness tell how far the log was durable. They are read before the segments are,
so that in the log of a running broker everything below that point is there when the walk comes to it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import crc32c

from inspection.files import ReadOnlyFiles
from inspection.places import LOG_LOCK_NAME, PartitionPlace
from partitions import checkpoint as checkpoint_file
from partitions import epochs as epochs_file
from partitions import swapping
from partitions import witness as witness_file
from partitions.checkpoint import Checkpoint, load_checkpoint, load_start_offset
from partitions.cuttings import SUFFIX as CUT_SUFFIX
from partitions.epochs import LeaderEpochs, parse_epochs
from partitions.files import read_file
from partitions.recovery import METADATA_NAME, segment_bases
from partitions.segment import SUFFIXES
from partitions.witness import DurablePosition, load_witness

State = Literal["ok", "missing", "damaged", "foreign", "stale"]
ASIDE_PREFIX = "set-aside-"
LEFTOVER_SUFFIXES = (".deleted", ".tmp", ".cleaned", ".swap")
_CRC = struct.Struct(">I")
_SEGMENT_NAME = re.compile(r"(\d{20})\.(?:log|index|timeindex)")
_OWN_NAMES = {
    checkpoint_file.FILE_NAME,
    checkpoint_file.START_FILE_NAME,
    epochs_file.FILE_NAME,
    witness_file.FILE_NAME,
    swapping.FILE_NAME,
    METADATA_NAME,
    LOG_LOCK_NAME,
}


@dataclass(frozen=True, slots=True)
class PromisedSwap:
    """Segments that compaction replaces by one; ``unfinished`` until the new file has its name."""

    sources: tuple[int, ...]
    unfinished: bool


@dataclass(frozen=True, slots=True)
class Surroundings:
    """``durable`` is how far the log certainly was durable; None where nobody knows."""

    names: tuple[str, ...]
    bases: tuple[int, ...]
    topic_id: str | None
    checkpoint: Checkpoint | None
    start_offset: int | None
    epochs: LeaderEpochs | None
    durable: DurablePosition | None
    states: dict[str, State]
    swap: PromisedSwap | None = None

    @property
    def known_start(self) -> int | None:
        """Where the log begins, as far as that was written down."""
        places = [self.start_offset, self.checkpoint.start_offset if self.checkpoint is not None else None]
        return max((offset for offset in places if offset is not None), default=None)

    @property
    def cuttings(self) -> list[str]:
        """Files with batches that a recovery took off the end, and directories of repairs."""
        return [name for name in self.names if name.endswith(CUT_SUFFIX) or name.startswith(ASIDE_PREFIX)]

    @property
    def leftovers(self) -> list[str]:
        """What an interrupted deletion or replacement left; the next start cleans it up."""
        return [name for name in self.names if name.endswith(LEFTOVER_SUFFIXES)]

    @property
    def orphans(self) -> list[str]:
        """Index files without their segment."""
        bases = set(self.bases)
        matches = ((name, _SEGMENT_NAME.fullmatch(name)) for name in self.names)
        return [name for name, match in matches if match is not None and int(match[1]) not in bases]

    @property
    def strangers(self) -> list[str]:
        """Files whose names are not the log's own; it leaves them alone."""
        ours = {*_OWN_NAMES, *self.cuttings, *self.leftovers}
        return [name for name in self.names if name not in ours and not _SEGMENT_NAME.fullmatch(name)]


def look_around(files: ReadOnlyFiles, place: PartitionPlace) -> Surroundings:
    """Reads the small files, then the names. Raises OSError.

    Where ``partition.metadata`` cannot be read, the catalogue says whose checkpoint it has to be.
    """
    directory = place.directory
    topic_id = _topic_id(read_file(files, directory / METADATA_NAME))
    known_id = place.known.topic_id if place.known is not None else None
    owner = f"{topic_id or known_id} {directory.name}"
    checkpoint = load_checkpoint(files, directory, owner)
    text = read_file(files, directory / epochs_file.FILE_NAME)
    epochs = parse_epochs(text) if text is not None else None
    session = checkpoint.leader_epoch if checkpoint is not None else epochs.latest if epochs else None
    witness = load_witness(files, directory, owner, session) if session is not None else None
    start_offset = load_start_offset(files, directory)
    states: dict[str, State] = {
        METADATA_NAME: _state(files, directory / METADATA_NAME, topic_id is not None),
        epochs_file.FILE_NAME: _state(files, directory / epochs_file.FILE_NAME, epochs is not None),
        checkpoint_file.FILE_NAME: _sealed_state(
            files, directory / checkpoint_file.FILE_NAME, checkpoint is not None
        ),
        checkpoint_file.START_FILE_NAME: _state(
            files, directory / checkpoint_file.START_FILE_NAME, start_offset is not None
        ),
        witness_file.FILE_NAME: _witness_state(files, directory / witness_file.FILE_NAME, witness),
    }
    swap = swapping.load_swap(files, directory, owner)
    finished = swap is not None and swapping.is_finished(files, directory, swap)
    if checkpoint is not None and swap is not None and finished:
        checkpoint = swapping.with_swap(checkpoint, swap)
    names = tuple(sorted(files.list_directory(directory)))
    return Surroundings(
        names=names,
        bases=tuple(segment_bases(list(names))),
        topic_id=topic_id,
        checkpoint=checkpoint,
        start_offset=start_offset,
        epochs=epochs,
        durable=_durable(checkpoint, witness),
        states=states,
        swap=PromisedSwap(tuple(swap.sources), not finished) if swap is not None else None,
    )


def sizes(directory: Path, base_offset: int) -> dict[str, int]:
    """Bytes of each file that a segment has, by suffix."""
    found = {}
    for suffix in SUFFIXES:
        path = directory / f"{base_offset:020d}{suffix}"
        if path.exists():
            found[suffix] = path.stat().st_size
    return found


def _durable(checkpoint: Checkpoint | None, witness: DurablePosition | None) -> DurablePosition | None:
    places = [witness] if witness is not None else []
    if checkpoint is not None:
        active = checkpoint.segments[-1]
        places.append(DurablePosition(active.base_offset, active.size, active.next_offset))
    return max(places, key=lambda place: place.offset, default=None)


def _topic_id(content: bytes | None) -> str | None:
    """The topic id in Kafka's ``partition.metadata``; None where it is not in its format."""
    match = re.fullmatch(rb"version: 0\ntopic_id: ([^\n]+)\n", content or b"")
    if match is None:
        return None
    try:
        return match[1].decode()
    except UnicodeDecodeError:
        return None


def _state(files: ReadOnlyFiles, path: Path, readable: bool) -> State:
    if readable:
        return "ok"
    return "missing" if read_file(files, path) is None else "damaged"


def _sealed_state(files: ReadOnlyFiles, path: Path, readable: bool) -> State:
    """A checkpoint that is whole and yet not ours came with a copy of another directory."""
    if readable:
        return "ok"
    content = read_file(files, path)
    if content is None:
        return "missing"
    whole = len(content) > _CRC.size and _CRC.unpack_from(content)[0] == crc32c.crc32c(content[_CRC.size :])
    return "foreign" if whole else "damaged"


def _witness_state(files: ReadOnlyFiles, path: Path, witness: DurablePosition | None) -> State:
    """A witness that cannot be used is of an earlier session, or torn: either only says less."""
    if witness is not None:
        return "ok"
    return "stale" if read_file(files, path) else "missing"

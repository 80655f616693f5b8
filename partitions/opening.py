"""Opening: the small files beside the segments that say whose a directory is and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from odradek.protocol.errors import KafkaStorageError
from partitions import epochs as epoch_file
from partitions.checkpoint import load_checkpoint, load_start_offset
from partitions.errors import LogForeign, LogLocked, StorageFull
from partitions.files import SPACE_ERRORS, Files, OpenFiles, read_file, replace_file
from partitions.recovery import METADATA_NAME, Recovery
from partitions.settings import LogSettings
from partitions.swapping import Swap, with_swap
from partitions.witness import load_witness

LOCK_NAME = ".lock"


def owner_of(directory: Path, topic_id: str) -> str:
    """Whose checkpoint it is: one that was copied from another partition must not count."""
    return f"{topic_id} {directory.name}"


def lock_directory(files: Files, directory: Path) -> int:
    try:
        files.make_directory(directory)
        return files.lock(directory / LOCK_NAME)
    except BlockingIOError as error:
        raise LogLocked(f"{directory} is in use by another process; stop it first") from error
    except OSError as error:
        kind = StorageFull if error.errno in SPACE_ERRORS else KafkaStorageError
        raise kind(f"{directory} cannot be opened: {error}") from error


def new_recovery(
    directory: Path,
    settings: LogSettings,
    files: Files,
    open_files: OpenFiles,
    wall_ms: int,
    topic_id: str,
    swap: Swap | None,
) -> Recovery:
    """Collects what the small files beside the segments know; ``swap`` is what was finished just now."""
    owner = owner_of(directory, topic_id)
    checkpoint = load_checkpoint(files, directory, owner)
    if checkpoint is not None and swap is not None:
        checkpoint = with_swap(checkpoint, swap)
    text = read_file(files, directory / epoch_file.FILE_NAME)
    known_epochs = epoch_file.parse_epochs(text) if text is not None else None
    session = None  # the epoch in which the log was open last
    if checkpoint is not None:
        session = checkpoint.leader_epoch
    elif known_epochs is not None:
        session = known_epochs.latest
    return Recovery(
        files=files,
        open_files=open_files,
        directory=directory,
        settings=settings,
        wall_ms=wall_ms,
        checkpoint=checkpoint,
        witness=load_witness(files, directory, owner, session) if session is not None else None,
        start_offset=load_start_offset(files, directory),
        known_epochs=known_epochs,
    )


def check_metadata(files: Files, directory: Path, topic_id: str) -> None:
    """Writes ``partition.metadata`` where there is none that can be read; another topic's is refused."""
    path = directory / METADATA_NAME
    found = _parse_metadata(read_file(files, path))
    if found is None:
        replace_file(files, path, f"version: 0\ntopic_id: {topic_id}\n".encode())
    elif found != topic_id:
        raise LogForeign(
            f"{directory} belongs to topic id {found}, not to {topic_id}; "
            f"move it aside, or correct {path.name} in it if you know better"
        )


def _parse_metadata(content: bytes | None) -> str | None:
    if content is None or not content.endswith(b"\n"):
        return None
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        return None
    fields: Mapping[str, str] = dict(line.split(": ", 1) for line in lines if ": " in line)
    return fields.get("topic_id") if fields.get("version") == "0" else None

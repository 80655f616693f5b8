"""Cuttings: whole batches that recovery took off the end of a log, kept beside it.

Nobody was ever told that they were stored, so no promise is about them; but nothing is deleted in
silence. A file ``<segment>.<position>.<leader epoch>.cut`` holds what stood in that segment from that
position on when the session of that epoch had ended: a copy of the segment's bytes, batches back to
back where they are sound, with zeros behind the last one (reserved space, in the copy a hole). It is safe to
delete. Those of the newest CUTTINGS_KEPT recoveries stay.
"""

from __future__ import annotations

import re
from pathlib import Path

from partitions.files import Files, write_all

SUFFIX = ".cut"
CUTTINGS_KEPT = 10
"""Recoveries whose cuttings are kept; where there are more, those of the oldest leader epochs go."""
COPY_BYTES = 1 << 20
_NAME = re.compile(r"(\d{20})\.(\d+)\.(\d+)" + re.escape(SUFFIX))


def cutting_path(log_path: Path, position: int, leader_epoch: int) -> Path:
    """Where the bytes of the segment file ``log_path`` from ``position`` on are kept."""
    return log_path.with_name(f"{log_path.stem}.{position}.{leader_epoch}{SUFFIX}")


def copy_aside(files: Files, descriptor: int, position: int, used: int, file_size: int, target: Path) -> None:
    """Makes ``target`` of the file from ``position`` to ``file_size``, durably and whole. Raises OSError.

    Only ``used`` bytes are not zero up to the end; the rest becomes a hole that takes no space. Some of those
    zeros may be the last batch's own: records without headers end with one.
    """
    temporary = target.with_name(target.name + ".tmp")
    copy = files.open(temporary, create=True)
    try:
        files.truncate(copy, 0)
        for start in range(0, used, COPY_BYTES):
            content = files.pread(descriptor, min(COPY_BYTES, used - start), position + start)
            write_all(files, copy, [content], start, len(content))
        files.truncate(copy, file_size - position)
        files.fdatasync(copy)
    finally:
        files.close(copy)
    files.rename(temporary, target)
    files.fsync_directory(target.parent)


def remove_oldest(files: Files, directory: Path) -> list[str]:
    """Unlinks the cuttings of all but the newest CUTTINGS_KEPT recoveries; returns their names."""
    epochs: dict[str, int] = {}
    for name in files.list_directory(directory):
        match = _NAME.fullmatch(name)
        if match is not None:
            epochs[name] = int(match.group(3))
    kept = set(sorted(set(epochs.values()))[-CUTTINGS_KEPT:])
    removed = sorted(name for name, epoch in epochs.items() if epoch not in kept)
    for name in removed:
        files.unlink(directory / name)
    return removed

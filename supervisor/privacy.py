"""What belongs to the broker alone: directories that nobody else may change, files that nobody else reads."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS_MAY_ANYTHING = stat.S_IRWXG | stat.S_IRWXO
_SHELL_MODE = {OTHERS_MAY_WRITE: "go-w", OTHERS_MAY_ANYTHING: "go-rwx"}


class NotPrivate(Exception):
    """A directory or a file is open to other users; the message says how to close it."""


def check_private(what: str, path: Path, forbidden: int) -> None:
    """Raises NotPrivate unless ``path`` is ours and gives others none of the ``forbidden`` rights; OSError.

    A symbolic link is looked at itself, and is never private.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise NotPrivate(
            f"the {what} {path} is a symbolic link, and whoever may change it decides where it leads"
        )
    if found.st_uid != os.geteuid():
        raise NotPrivate(
            f"the {what} {path} belongs to user {found.st_uid}, and the broker runs as user {os.geteuid()}: "
            f"run it as the owner, or chown -R {os.geteuid()} {path}"
        )
    if found.st_mode & forbidden:
        may = "write to" if forbidden == OTHERS_MAY_WRITE else "read or enter"
        raise NotPrivate(
            f"other users of this machine may {may} the {what} {path} (mode "
            f"{stat.S_IMODE(found.st_mode):04o}): chmod {_SHELL_MODE[forbidden]} it"
        )


def check_parent(what: str, path: Path) -> None:
    """Raises NotPrivate where another user could put something else in the place of ``path``; OSError."""
    parent = path.parent.stat()
    if parent.st_mode & OTHERS_MAY_WRITE and not parent.st_mode & stat.S_ISVTX:
        raise NotPrivate(
            f"other users of this machine may replace the {what} {path}, because they may write to "
            f"{path.parent} (mode {stat.S_IMODE(parent.st_mode):04o}): chmod go-w it, or use another place"
        )

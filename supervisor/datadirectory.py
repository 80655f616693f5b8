"""The data directory: its lock, its catalogue file and the directories of partitions in it.

Rule 1. The flock is taken before anything else is touched; it belongs to the file, so a symbolic link to
        the directory leads to the same lock.
Rule 2. What the catalogue does not know is renamed to ``<name>.<8 hex>-stray`` and never unlinked.
Rule 3. Only what was renamed to ``<name>.<8 hex>-delete`` is unlinked: a deletion is decided by the
        catalogue, made visible by a rename, and finished whenever there is time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from odradek.protocol.names import INTERNAL_TOPICS
from supervisor.access import ACCESS_FILE_NAME, AccessList, AccessListDamaged, decode_access, encode_access
from supervisor.catalog import (
    CATALOG_BYTES_MAX,
    CATALOG_FILE_NAME,
    Catalog,
    CatalogDamaged,
    decode_catalog,
    encode_catalog,
)
from supervisor.privacy import OTHERS_MAY_WRITE, check_private

LOCK_FILE_NAME = "odradek.lock"
DIRECTORY_MODE = 0o700
FILE_NAME_BYTES_MAX = 255
_PARTITION = re.compile(r"(?P<topic>.+)-(?P<partition>0|[1-9][0-9]*)", re.ASCII | re.DOTALL)
_ASIDE = re.compile(r".+\.[0-9a-f]{8}-(?P<kind>delete|stray)", re.ASCII | re.DOTALL)


class DataDirectoryLocked(Exception):
    """Another broker runs on this data directory."""


class DataDirectoryUnusable(Exception):
    """The data directory cannot be used; the message says why and what to do."""


def partition_directory_name(topic: str, partition: int) -> str:
    """The directory of one partition."""
    return f"{topic}-{partition}"


def aside_name(name: str, kind: str, mark: str) -> str:
    """What a directory is renamed to; ``mark`` (8 hex) keeps two of one name apart."""
    suffix = f".{mark}-{kind}"
    return name[: FILE_NAME_BYTES_MAX - len(suffix)] + suffix


class DataDirectory:
    """One directory, held by this process until ``close``."""

    def __init__(self, path: Path) -> None:
        """Creates the directory where there is none, and locks it.

        Raises DataDirectoryLocked, DataDirectoryUnusable or NotPrivate.
        """
        try:
            path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            self.path = path.resolve(strict=True)
            self._refuse_strangers()
            self._lock = os.open(self.path / LOCK_FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryUnusable(
                f"the data directory {path} cannot be used: {error.strerror}"
            ) from None
        self._take_lock()

    def close(self) -> None:
        """Lets another broker have it."""
        os.close(self._lock)

    @property
    def ignores_case(self) -> bool:
        """Whether ``a`` and ``A`` are one file here."""
        with contextlib.suppress(OSError):
            return (self.path / LOCK_FILE_NAME.upper()).samefile(self.path / LOCK_FILE_NAME)
        return False

    # -- the catalogue ---------------------------------------------------------------------------------

    def load(self) -> Catalog | None:
        """The catalogue, or None in a directory that never had one.

        Raises CatalogDamaged, also where partitions exist and the catalogue does not.
        """
        path = self.path / CATALOG_FILE_NAME
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            self._refuse_orphaned_partitions(path)
            return None
        except OSError as error:
            raise CatalogDamaged(f"the catalogue {path} cannot be read: {error.strerror}") from None
        return decode_catalog(content, path)

    def save(self, catalog: Catalog) -> None:
        """Makes ``catalog`` durable; the file holds the old one or the new, whole. Raises OSError."""
        path = self.path / CATALOG_FILE_NAME
        content = encode_catalog(catalog)
        if len(content) > CATALOG_BYTES_MAX:
            raise OSError(errno.EFBIG, f"a catalogue is at most {CATALOG_BYTES_MAX} bytes", str(path))
        self._replace(path, content)

    def load_access(self) -> AccessList:
        """The access list; empty in a directory that never had one. Raises AccessListDamaged."""
        path = self.path / ACCESS_FILE_NAME
        try:
            return decode_access(path.read_bytes(), path)
        except FileNotFoundError:
            previous = _previous_path(path)
            if previous.exists():
                raise AccessListDamaged(
                    f"the list of access rules and users {path} is missing, yet {previous.name} is there, "
                    f"which is the list before its last change. Copy it over {path.name}, or move it away "
                    "and every rule and user is gone"
                ) from None
            return AccessList()
        except OSError as error:
            raise AccessListDamaged(
                f"the list of access rules and users {path} cannot be read: {error.strerror}"
            ) from None

    def save_access(self, access: AccessList) -> None:
        """Makes ``access`` durable; the file holds the old one or the new, whole. Raises OSError."""
        self._replace(self.path / ACCESS_FILE_NAME, encode_access(access))

    def _replace(self, path: Path, content: bytes) -> None:
        fresh = path.with_name(path.name + ".tmp")
        try:
            _write_durably(fresh, content)
            self._keep_previous(path)
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)  # on a full disk it would stand in its own way
            raise
        self._sync()

    def _keep_previous(self, path: Path) -> None:
        """``<name>.bak`` becomes a second name of the file that is about to be replaced."""
        link = path.with_name(path.name + ".bak.tmp")
        link.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.link(path, link)
            link.replace(_previous_path(path))

    # -- directories of partitions -----------------------------------------------------------------------

    def set_strays_aside(self, catalog: Catalog) -> list[str]:
        """Renames each partition directory that the catalogue does not know; returns the new names.

        Raises OSError.
        """
        known = {
            partition_directory_name(topic.name, partition)
            for topic in (*catalog.topics, *catalog.deleting)
            for partition in range(topic.partitions)
        }
        known.update(partition_directory_name(name, 0) for name in INTERNAL_TOPICS)
        strays = sorted(name for name in self._partition_directories() if name not in known)
        return self._rename_aside(strays, "stray")

    def discard(self, topic: str, partitions: int) -> None:
        """Renames the directories of a deleted topic, durably; ``unlink_discarded`` frees the space.

        Raises OSError.
        """
        names = [partition_directory_name(topic, partition) for partition in range(partitions)]
        self._rename_aside([name for name in names if (self.path / name).is_dir()], "delete")

    def unlink_discarded(self) -> None:
        """Removes every directory that was renamed for deletion. Slow: meant for a thread. Raises OSError."""
        for entry in sorted(self.path.iterdir()):
            match = _ASIDE.fullmatch(entry.name)
            if match is not None and match["kind"] == "delete" and not entry.is_symlink():
                shutil.rmtree(entry)

    def _rename_aside(self, names: Iterable[str], kind: str) -> list[str]:
        renamed = []
        for name in names:
            target = aside_name(name, kind, secrets.token_hex(4))
            (self.path / name).rename(self.path / target)
            renamed.append(target)
        if renamed:
            self._sync()
        return renamed

    def _partition_directories(self) -> list[str]:
        found = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                is_partition = _PARTITION.fullmatch(entry.name) is not None
                if is_partition and entry.is_dir() and _ASIDE.fullmatch(entry.name) is None:
                    found.append(entry.name)
        return found

    def _refuse_orphaned_partitions(self, path: Path) -> None:
        found = self._partition_directories()
        if found:
            raise CatalogDamaged(
                f"the catalogue {path} is missing, yet {len(found)} partition directories are there, such as "
                f"{sorted(found)[0]!r}. Nothing was changed. Bring the catalogue back (an older one may "
                f"be {path.name}.bak), or start with another data directory"
            )

    # -- the directory itself ----------------------------------------------------------------------------

    def _refuse_strangers(self) -> None:
        check_private("data directory", self.path, OTHERS_MAY_WRITE)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            by = f" (process {holder})" if holder.isdecimal() else ""
            raise DataDirectoryLocked(
                f"another broker{by} runs on the data directory {self.path}: stop it, or give this one "
                "another directory with --data"
            ) from None
        except OSError as error:
            os.close(self._lock)
            raise DataDirectoryUnusable(
                f"the file system of the data directory {self.path} has no locks ({error.strerror}), and "
                "without them two brokers could damage it"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _previous_path(path: Path) -> Path:
    return path.with_name(path.name + ".bak")


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)

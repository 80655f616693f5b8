"""The directory of keys: the server's own pair, and the list of the client keys that may come in.

``<data>/keys``, of mode 0700, holds ``server.key`` (0600) and ``clients.json``, which ``odradek keys``
writes and people may edit: a running broker sees it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from supervisor.clientkeys import ClientList
from supervisor.privacy import OTHERS_MAY_ANYTHING, OTHERS_MAY_WRITE, check_private
from transport.keys import KeyPair, new_key_pair

KEYS_DIRECTORY_NAME = "keys"
SERVER_KEY_FILE_NAME = "server.key"
CLIENTS_FILE_NAME = "clients.json"
FILE_BYTES_MAX = 16 << 20
LOOK_INTERVAL_S = 0.5
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


class KeysUnusable(Exception):
    """A file of keys is missing or cannot be used; the message says why and what to do."""


class KeyDirectory:
    """``<data>/keys``."""

    def __init__(self, data: Path) -> None:
        self.path = data / KEYS_DIRECTORY_NAME
        self.server_file = self.path / SERVER_KEY_FILE_NAME
        self.clients_file = self.path / CLIENTS_FILE_NAME

    # -- the server's pair -----------------------------------------------------------------------------

    def load_server(self) -> KeyPair:
        """The server's pair. Raises KeysUnusable, NotPrivate."""
        self._check_directory()
        values = _read_json(self.server_file, self._missing_server())
        pair = KeyPair(str(values.get("public_key")), str(values.get("secret_key")))
        if not pair.is_pair():
            raise KeysUnusable(
                f"{self.server_file} holds no pair of keys: bring back the file that was there"
            )
        return pair

    def make_server(self) -> tuple[KeyPair, bool]:
        """The server's pair, and whether it was made just now. Raises KeysUnusable, NotPrivate, OSError."""
        self._make_directory()
        with self._locked():
            if self.server_file.exists():
                return self.load_server(), False
            pair = new_key_pair()
            document = {"public_key": pair.public, "secret_key": pair.secret}
            self._write(self.server_file, _as_json(document))
            return pair, True

    def _missing_server(self) -> str:
        return (
            f"there is no {self.server_file}: make the server's keys with "
            f"`odradek keys server --data {self.path.parent}`"
        )

    # -- the clients -----------------------------------------------------------------------------------

    def load_clients(self) -> ClientList:
        """The clients that may come in; none where there is no list. Raises KeysUnusable, NotPrivate."""
        if not self.clients_file.exists():
            return ClientList()
        self._check_directory()
        check_private("list of client keys", self.clients_file, OTHERS_MAY_WRITE)
        content = _read(self.clients_file)
        try:
            clients = msgspec.json.decode(content, type=ClientList)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeysUnusable(
                f"the list of client keys {self.clients_file} cannot be read: {error}"
            ) from None
        problem = clients.problem()
        if problem is not None:
            raise KeysUnusable(f"the list of client keys {self.clients_file} cannot be used: {problem}")
        return clients

    def save_clients(self, clients: ClientList) -> None:
        """Replaces the list, whole or not at all. Raises KeysUnusable, OSError."""
        problem = clients.problem()
        if problem is not None:
            raise KeysUnusable(problem)
        self._write(self.clients_file, _as_json(msgspec.to_builtins(clients)))

    @contextmanager
    def changing(self) -> Iterator[ClientList]:
        """The list, for one who changes it; two such take turns. Raises KeysUnusable, NotPrivate, OSError."""
        self._make_directory()
        with self._locked():
            yield self.load_clients()

    # -- the directory ---------------------------------------------------------------------------------

    def _check_directory(self) -> None:
        try:
            check_private("directory of keys", self.path, OTHERS_MAY_ANYTHING)
        except FileNotFoundError:
            raise KeysUnusable(self._missing_server()) from None
        if self.server_file.exists():
            check_private("file of the server's keys", self.server_file, OTHERS_MAY_ANYTHING)

    def _make_directory(self) -> None:
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(mode=DIRECTORY_MODE, parents=True)
        self.path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        self._check_directory()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write(self, path: Path, content: bytes) -> None:
        fresh = path.with_name(path.name + ".tmp")
        fresh.unlink(missing_ok=True)
        write_private(fresh, content)
        fresh.replace(path)


class KeyWatch:
    """Notices that the list of clients was changed; looks at most once in ``LOOK_INTERVAL_S``."""

    def __init__(self, directory: KeyDirectory) -> None:
        """Raises KeysUnusable, NotPrivate."""
        self._directory = directory
        self._seen = self._signature()
        self.clients = directory.load_clients()
        self._next_s = 0.0

    def look(self, now_s: float) -> ClientList | None:
        """The new list, where there is one. Raises KeysUnusable, NotPrivate: then the old one holds."""
        if now_s < self._next_s:
            return None
        self._next_s = now_s + LOOK_INTERVAL_S
        signature = self._signature()
        if signature == self._seen:
            return None
        self._seen = signature
        self.clients = self._directory.load_clients()
        return self.clients

    def _signature(self) -> tuple[int, ...]:
        try:
            found = self._directory.clients_file.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            return (error.errno or 0,)
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


class Keyring(NamedTuple):
    """What a broker whose clients must show a key needs."""

    pair: KeyPair
    watch: KeyWatch


def open_keyring(data: Path) -> Keyring:
    """The keys in a data directory. Raises KeysUnusable, NotPrivate."""
    directory = KeyDirectory(data)
    return Keyring(directory.load_server(), KeyWatch(directory))


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner may read, durably. Raises FileExistsError, OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _as_json(document: object) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeysUnusable(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise KeysUnusable(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    return content


def _read_json(path: Path, missing: str) -> dict[str, object]:
    if not path.exists():
        raise KeysUnusable(missing)
    try:
        values = json.loads(_read(path))
    except ValueError as error:
        raise KeysUnusable(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise KeysUnusable(f"{path} holds no pair of keys")
    return values

"""Curve: the keys with which a client comes in where the broker demands them.

A pair of the client's own, whose public key an administrator allowed (``odradek keys``), and the public
key of the broker, without which somebody else could pass for it. All keys are in Z85, 40 characters each.
"""

# ruff: noqa: PLC0415  # imported late, so that the command's help comes at once

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from odradek.protocol.errors import InvalidConfig

if TYPE_CHECKING:
    import zmq

FILE_VARIABLE: Final = "ODRADEK_CURVE_FILE"
VARIABLES: Final = {
    "server_key": "ODRADEK_CURVE_SERVER_KEY",
    "public_key": "ODRADEK_CURVE_PUBLIC_KEY",
    "secret_key": "ODRADEK_CURVE_SECRET_KEY",
}
FILE_BYTES_MAX: Final = 65_536
KEY_CHARACTERS: Final = 40
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Curve:
    """A client's keys.

    Args:
        server_key: the broker's public key; `odradek keys server` shows it.
        public_key: the client's own, which the broker must know.
        secret_key: the client's own, which nobody else must know.

    Raises InvalidConfig for what are no keys, or no pair.
    """

    server_key: str
    public_key: str
    secret_key: str = field(repr=False)

    def __post_init__(self) -> None:
        import zmq

        for each in fields(self):
            key = getattr(self, each.name)
            if not isinstance(key, str) or len(key) != KEY_CHARACTERS or not key.isascii():
                raise InvalidConfig(f"{each.name} is not a key, which has {KEY_CHARACTERS} characters (Z85)")
        try:
            public = zmq.curve_public(self.secret_key.encode()).decode()
        except zmq.ZMQError:
            raise InvalidConfig("secret_key is not a key (Z85)") from None
        if public != self.public_key:
            raise InvalidConfig("public_key and secret_key are not of one pair")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], server_key: str | None = None) -> Curve:
        """The keys in a file that `odradek keys client` made; ``server_key`` where the file has none.

        Raises InvalidConfig, also where other users may read the file.
        """
        values = _read(Path(path))
        if server_key is not None:
            values["server_key"] = server_key
        if not values.get("server_key"):
            raise InvalidConfig(
                f"{path} has no server_key: write the broker's public key into it, which "
                f"`odradek keys server` shows, or set {VARIABLES['server_key']}"
            )
        try:
            return cls(*(values.get(each.name, "") for each in fields(cls)))
        except InvalidConfig as error:
            raise InvalidConfig(f"{path}: {error.message}") from None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Curve | None:
        """The keys in the file of ODRADEK_CURVE_FILE, or those of ODRADEK_CURVE_SERVER_KEY, _PUBLIC_KEY and
        _SECRET_KEY; None where there are none.

        Raises InvalidConfig for some and not all of them.
        """
        path = environment.get(FILE_VARIABLE)
        found = {name: environment.get(variable, "") for name, variable in VARIABLES.items()}
        given = {name: key for name, key in found.items() if key}
        if path:
            return cls.from_file(path, given.get("server_key"))
        if not given:
            return None
        missing = [variable for name, variable in VARIABLES.items() if name not in given]
        if missing:
            raise InvalidConfig(f"{' and '.join(missing)} must be set too, or {FILE_VARIABLE} alone")
        return cls(**given)

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket that is not connected yet use these keys."""
        socket.curve_serverkey = self.server_key.encode()
        socket.curve_publickey = self.public_key.encode()
        socket.curve_secretkey = self.secret_key.encode()


def _read(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise InvalidConfig(f"the file of keys {path} cannot be read: {error.strerror}") from None
    if mode & _OTHERS:
        raise InvalidConfig(
            f"other users may read the secret key in {path} (mode {stat.S_IMODE(mode):04o}): chmod 600 it"
        )
    try:
        values = json.loads(content)
    except ValueError as error:
        raise InvalidConfig(f"the file of keys {path} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise InvalidConfig(f"the file of keys {path} holds no keys")
    return values

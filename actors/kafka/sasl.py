"""SASL: how a Kafka client proves who it is. State machines of two or three steps, pure.

Rule 1. Every failure is one error with one sentence, whatever was wrong: an unknown user is led through
        the same steps, with the same cost, as one whose password is wrong.
Rule 2. An exchange is over with its first error; the client must connect again.

::

    PLAIN    C: authzid NUL user NUL password              S: (nothing)
    SCRAM    C: n,,n=user,r=<nonce>                        S: r=<nonce><more>,s=<salt>,i=<iterations>
             C: c=<gs2 header>,r=<nonce><more>,p=<proof>   S: v=<signature>
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, get_args

from actors.messages import User
from odradek.protocol.access import (
    ITERATIONS_DEFAULT,
    SCRAM_HASHES,
    USER_PREFIX,
    ScramCredential,
    ScramMechanism,
)
from odradek.protocol.errors import SaslAuthenticationFailed, UnsupportedSaslMechanism
from odradek.protocol.scram import (
    PASSWORD_BYTES_MAX,
    credential_from_salted,
    is_password,
    is_proof,
    server_signature,
)

PLAIN = "PLAIN"
MECHANISMS: tuple[str, ...] = (PLAIN, *get_args(ScramMechanism))
TOKEN_BYTES_MAX = 8_192
NONCE_CHARACTERS_MAX = 1_024
REMEMBERED_MAX = 10_000
"""Passwords that were right, as keyed hashes: a thousand clients that come back at once cost little."""
FAILURE_DELAY_S = 0.1
"""A failed log-in is answered so much later, as Kafka does: guessing is slow on one connection."""

_GS2_HEADER = re.compile(r"[ny],(?:a=([^,]*))?,", re.DOTALL)
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


@dataclass(frozen=True, slots=True)
class Logins:
    """What log-ins are checked against. ``users`` is None until the supervisor has told them."""

    mechanisms: tuple[str, ...] = ()
    users: Mapping[str, User] | None = None
    new_nonce: Callable[[], str] = field(default=lambda: "")
    decoy_secret: bytes = b""
    """Makes the salts of users that do not exist, the same at each try."""
    remembered: dict[bytes, ScramCredential] = field(default_factory=dict)
    """The credentials that passwords were right for."""

    def begin(self, mechanism: str) -> Exchange:
        """A log-in by that mechanism. Raises UnsupportedSaslMechanism."""
        if mechanism not in self.mechanisms:
            raise UnsupportedSaslMechanism(
                f"SASL mechanism {mechanism[:40]!r} is not served here; use {' or '.join(self.mechanisms)}"
            )
        if mechanism == PLAIN:
            return PlainExchange(self)
        return ScramExchange(self, "SCRAM-SHA-512" if mechanism == "SCRAM-SHA-512" else "SCRAM-SHA-256")

    def credentials(self, user: str) -> tuple[ScramCredential, ...]:
        """The credentials of a user, none of one that does not exist."""
        known = (self.users or {}).get(user)
        return known.credentials if known is not None else ()

    def is_password(self, user: str, password: bytes, credential: ScramCredential) -> bool:
        """Whether the credential was made of it: thousands of hashes at first, one when it comes again."""
        digest = hmac.digest(self.decoy_secret, user.encode() + b"\0" + password, "sha256")
        if self.remembered.get(digest) == credential:
            return True
        if not is_password(credential, password):
            return False
        if len(self.remembered) >= REMEMBERED_MAX:
            self.remembered.clear()
        self.remembered[digest] = credential
        return True

    def decoy(self, user: str, mechanism: ScramMechanism) -> ScramCredential:
        """A credential like any other, of which nobody knows the password."""
        secret = hmac.digest(self.decoy_secret, user.encode(), SCRAM_HASHES[mechanism])
        return credential_from_salted(mechanism, secret, secret[:24], ITERATIONS_DEFAULT)


class Exchange(Protocol):
    """One log-in."""

    principal: str | None
    """Who the client is, once it has proved it."""

    def step(self, token: bytes) -> bytes:
        """What the client said, to what it is told. Raises SaslAuthenticationFailed."""


class PlainExchange:
    """RFC 4616: the password as it is; only for connections that nobody can listen to."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins
        self.principal: str | None = None

    def step(self, token: bytes) -> bytes:
        """User and password come together. Raises SaslAuthenticationFailed."""
        parts = token.split(b"\0") if len(token) <= TOKEN_BYTES_MAX else []
        if len(parts) != 3 or not parts[1] or len(parts[2]) > PASSWORD_BYTES_MAX:
            raise _failed(PLAIN)
        authorized, name, password = parts
        user = _text(name, PLAIN)
        known = self._logins.credentials(user)
        usual = sorted(known, key=lambda credential: credential.mechanism)
        credential = usual[0] if usual else self._logins.decoy(user, "SCRAM-SHA-256")
        is_right = self._logins.is_password(user, password, credential)
        if not is_right or authorized not in (b"", name) or not known:
            raise _failed(PLAIN)
        self.principal = USER_PREFIX + user
        return b""


class ScramExchange:
    """RFC 5802 without channel binding, as every Kafka client speaks it."""

    def __init__(self, logins: Logins, mechanism: ScramMechanism) -> None:
        self._logins = logins
        self._mechanism = mechanism
        self._user = ""
        self._credential: ScramCredential | None = None
        self._gs2_header = self._nonce = self._said = ""
        self.principal: str | None = None

    def step(self, token: bytes) -> bytes:
        """First the name, then the proof. Raises SaslAuthenticationFailed."""
        if len(token) > TOKEN_BYTES_MAX:
            raise _failed(self._mechanism)
        message = _text(token, self._mechanism)
        if self._credential is None:
            return self._first(message)
        return self._final(message, self._credential)

    def _first(self, message: str) -> bytes:
        header = _GS2_HEADER.match(message)
        if header is None:
            raise _failed(self._mechanism)
        bare = message[header.end() :]
        said = _attributes(bare, self._mechanism)
        user, nonce = _unescape(said.get("n", "")), said.get("r", "")
        authorized = _unescape(header[1]) if header[1] else user
        is_readable = user and authorized == user and list(said)[:2] == ["n", "r"]
        if not is_readable or len(nonce) > NONCE_CHARACTERS_MAX or not _NONCE.fullmatch(nonce):
            raise _failed(self._mechanism)
        self._user, self._gs2_header = user or "", header[0]
        known = self._logins.credentials(self._user)
        mine = [credential for credential in known if credential.mechanism == self._mechanism]
        credential = mine[0] if mine else self._logins.decoy(self._user, self._mechanism)
        self._credential = credential
        self._nonce = nonce + self._logins.new_nonce()
        answer = f"r={self._nonce},s={credential.salt},i={credential.iterations}"
        self._said = f"{bare},{answer}"
        return answer.encode()

    def _final(self, message: str, credential: ScramCredential) -> bytes:
        without_proof, separator, _ = message.rpartition(",p=")
        said = _attributes(message, self._mechanism)
        binding = base64.b64encode(self._gs2_header.encode()).decode()
        is_mine = said.get("c") == binding and said.get("r") == self._nonce and list(said)[:2] == ["c", "r"]
        if not separator or not is_mine or self.principal is not None:
            raise _failed(self._mechanism)
        auth_message = f"{self._said},{without_proof}".encode()
        try:
            proof = base64.b64decode(said.get("p", ""), validate=True)
        except binascii.Error:
            raise _failed(self._mechanism) from None
        # A decoy can have no proof either: its keys come from a secret that is not a password's.
        if not is_proof(credential, proof, auth_message):
            raise _failed(self._mechanism)
        self.principal = USER_PREFIX + self._user
        return b"v=" + base64.b64encode(server_signature(credential, auth_message))


def _failed(mechanism: str) -> SaslAuthenticationFailed:
    return SaslAuthenticationFailed(
        f"authentication by {mechanism} failed: the user or the password is wrong"
    )


def _text(token: bytes, mechanism: str) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        raise _failed(mechanism) from None


def _attributes(message: str, mechanism: str) -> dict[str, str]:
    """``n=user,r=nonce`` as a mapping; an extension that must be understood is not."""
    said: dict[str, str] = {}
    for part in message.split(","):
        name, separator, value = part.partition("=")
        if len(name) != 1 or not separator or name in said or name == "m":
            raise _failed(mechanism)
        said[name] = value
    return said


def _unescape(name: str) -> str | None:
    """A user's name as it was before its commas and equal signs were escaped; None where it cannot be."""
    if re.search(r"=(?!2C|3D)", name):
        return None
    return name.replace("=2C", ",").replace("=3D", "=")


def decoy_secret_of(text: str) -> bytes:
    """A secret of this process, made of random text."""
    return hashlib.sha256(text.encode()).digest()

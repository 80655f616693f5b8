"""A key pair of CURVE: what a listener proves itself with, and what a client is known by."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import zmq
from zmq.utils import z85

KEY_CHARACTERS = 40
"""A key in Z85; 32 bytes."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both keys in Z85; the secret one stands in no representation, so that no log can show it."""

    public: str
    secret: str = field(repr=False)

    def is_pair(self) -> bool:
        """Whether both are keys, and belong together."""
        if not is_key(self.public) or not is_key(self.secret):
            return False
        public: bytes = zmq.curve_public(self.secret.encode())
        return public == self.public.encode()


def new_key_pair() -> KeyPair:
    """Keys that nobody else has; the public one can be a command's argument, so it begins with no dash."""
    while True:
        public, secret = zmq.curve_keypair()
        if not public.startswith(b"-"):
            return KeyPair(public.decode(), secret.decode())


def is_key(text: str) -> bool:
    """Whether this is one key in Z85."""
    if len(text) != KEY_CHARACTERS or not text.isascii():
        return False
    try:
        return z85.encode(z85.decode(text)) == text.encode()
    except (KeyError, struct.error):
        return False

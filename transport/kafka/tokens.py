"""Bare SASL tokens: how clients log in that began with version 0 of SaslHandshake.

Until the log-in is done, no frame of such a connection is a request: each is one token, and so is each
answer. A failed log-in has no answer, the connection ends.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from odradek.protocol.batch import Buffer
from transport.kafka.codec import Header, Request

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
LOG_IN_KEYS = frozenset({SASL_HANDSHAKE, SASL_AUTHENTICATE})
"""The only requests whose answers change how a connection is read."""
BARE_VERSION = -1
"""Stands for the version of a SaslAuthenticate that is only a token."""
_LENGTH = struct.Struct(">i")


class BareToken(NamedTuple):
    """Read like the request that it stands for."""

    auth_bytes: bytes


def begins_tokens(api_key: int, version: int, body: Mapping[str, Any]) -> bool:
    """Whether behind this answer the client's tokens come bare."""
    return api_key == SASL_HANDSHAKE and version == 0 and not body["error_code"]


def is_logged_in(api_key: int, body: Mapping[str, Any]) -> bool:
    """Whether this answer says that the client is who it said."""
    return api_key == SASL_AUTHENTICATE and bool(body["is_done"]) and not body["error_code"]


def read_token(frame: Buffer) -> Request:
    """The request that a bare token stands for."""
    return Request(Header(SASL_AUTHENTICATE, BARE_VERSION, 0), "", BareToken(bytes(frame)))


def encode_token(body: Mapping[str, Any]) -> list[Buffer]:
    """The answer to a bare token; nothing where the log-in has failed."""
    if body["error_code"]:
        return []
    return [_LENGTH.pack(len(body["auth_bytes"])) + body["auth_bytes"]]

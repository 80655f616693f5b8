"""Requests and responses of Kafka's protocol to bytes and back, through kio's schemas, loaded when needed.

::

    request    [ api key: int16 ][ version: int16 ][ correlation id: int32 ][ client id ][ tags ]? [ body ]
    response   [ length: int32 ][ correlation id: int32 ][ tags ]? [ body ]

The tags are there in flexible versions, but never in a response to ApiVersions: who asks for versions
does not know yet which we speak.
"""

from __future__ import annotations

import importlib
import struct
import sys
from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import msgspec

from odradek.protocol.batch import Buffer
from transport.kafka.datapath import encode_fetch_response, encode_produce_response, read_produce_request
from transport.kafka.decoding import begin_request, entity_reader, skip_tags
from transport.kafka.encoding import entity_encoder

PRODUCE = 0
FETCH = 1
API_VERSIONS = 18
READABLE_PRODUCE_VERSION_MIN = 3
"""Older produce requests are advertised, see ``actors.kafka.versions``, and refused by their handler."""
_FIXED = struct.Struct(">hhi")
_CLIENT_ID = struct.Struct(">h")
_NO_TRANSACTIONAL_ID = b"\xff\xff"

Versions = Mapping[int, tuple[int, int]]


class RequestRefused(Exception):
    """A request that cannot be read: there is no answer of which one could be sure that it is understood."""


class Header(msgspec.Struct, frozen=True):
    """What stands before the body of a request."""

    api_key: int
    version: int
    correlation_id: int


class Request(msgspec.Struct, frozen=True):
    """A request that was read. ``body`` is None for an ApiVersions of a version unknown here."""

    header: Header
    client_id: str
    body: Any


def read_request(frame: Buffer, versions: Versions) -> Request:
    """The request in a frame. Raises RequestRefused."""
    header = Header(*_FIXED.unpack_from(frame))
    low, high = versions.get(header.api_key, (0, -1))
    if not low <= header.version <= high:
        if header.api_key == API_VERSIONS:
            return Request(Header(header.api_key, 0, header.correlation_id), "", None)
        raise RequestRefused(f"api key {header.api_key} version {header.version} is not served here")
    try:
        return _read_known(header, memoryview(frame).toreadonly())
    except Exception as error:
        # Bytes that are no message raise errors of many kinds, none of which means a fault here.
        raise RequestRefused(
            f"api key {header.api_key} version {header.version}: {type(error).__name__}: {error}"
        ) from error


def _read_known(header: Header, frame: memoryview) -> Request:
    client_id, position = _read_client_id(frame)
    if header.api_key == PRODUCE and header.version < READABLE_PRODUCE_VERSION_MIN:
        # Version 3 put one field in front, and changed nothing else.
        frame = memoryview(_NO_TRANSACTIONAL_ID + frame[position:])
        position = 0
        flexible, read = _request_reader(PRODUCE, READABLE_PRODUCE_VERSION_MIN)
    else:
        flexible, read = _request_reader(header.api_key, header.version)
    if flexible:
        position = skip_tags(frame, position)
    if header.api_key != PRODUCE:
        begin_request()  # produce counts its items by itself
    body, end = read(frame, position)
    if end != len(frame) and not flexible:
        # A version with tags can say more than we know, and Kafka does not look behind its end either.
        raise RequestRefused(f"{len(frame) - end} bytes follow behind the body")
    return Request(header, client_id, body)


def _read_client_id(frame: memoryview) -> tuple[str, int]:
    (size,) = _CLIENT_ID.unpack_from(frame, _FIXED.size)
    start = _FIXED.size + _CLIENT_ID.size
    if size <= 0:
        return "", start
    if start + size > len(frame):
        raise RequestRefused("the client id is longer than the request")
    return str(frame[start : start + size], "utf-8"), start + size


@cache
def _schemas() -> ModuleType:
    """kio's index of schemas, loaded when the first is needed: see ``warm_up``.

    Where hypothesis is installed kio loads that, too, which takes longer than all the rest and 10 MB.
    """
    hides = "hypothesis" not in sys.modules
    if hides:
        sys.modules["hypothesis"] = None  # type: ignore[assignment]  # so that importing it fails
    try:
        return importlib.import_module("kio.index")
    finally:
        if hides:
            del sys.modules["hypothesis"]


@cache
def _request_reader(api_key: int, version: int) -> tuple[bool, Callable[[memoryview, int], tuple[Any, int]]]:
    if api_key == PRODUCE:
        return False, read_produce_request
    schema: Any = _schemas().load_request_schema(api_key, version)
    return schema.__flexible__, entity_reader(schema)


@cache
def _response_encoder(
    api_key: int, version: int
) -> tuple[bool, Callable[[bytearray, Mapping[str, Any]], None]]:
    schema = _schemas().load_response_schema(api_key, version)
    return schema.__flexible__, entity_encoder(schema)


def warm_up() -> None:
    """Load kio with what every client asks first: when the first one has come.

    Before, it would delay the start of a broker and hold 4 MiB in one that no Kafka client uses.
    """
    for version in range(4):
        _request_reader(API_VERSIONS, version)
        _response_encoder(API_VERSIONS, version)


def encode_response(api_key: int, version: int, correlation_id: int, body: Mapping[str, Any]) -> list[Buffer]:
    """The whole response, its length first; records stand in it as they came. Raises EncodingError."""
    if api_key == FETCH:
        return encode_fetch_response(version, correlation_id, body)
    if api_key == PRODUCE:
        return [encode_produce_response(version, correlation_id, body)]
    flexible, encode = _response_encoder(api_key, version)
    out = bytearray(8)
    if flexible and api_key != API_VERSIONS:
        out.append(0)
    encode(out, body)
    struct.pack_into(">ii", out, 0, len(out) - 4, correlation_id)
    return [out]

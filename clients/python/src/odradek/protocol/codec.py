"""Headers to bytes and back, in JSON or MessagePack; the reply speaks what the request spoke."""

from __future__ import annotations

import base64
import binascii
import enum
import functools
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import msgspec

from odradek.protocol.batch import Buffer
from odradek.protocol.errors import InvalidRequest, OdradekError, UnsupportedVersion
from odradek.protocol.messages import APIS, REPLY_OF, Blob, Reply, Request, Scalar, api_name

RequestT = TypeVar("RequestT", bound=Request)
ReplyT = TypeVar("ReplyT", bound=Reply)


class Encoding(enum.Enum):
    """How a header is written."""

    JSON = "json"
    MSGPACK = "msgpack"


class BadRequest(Exception):
    """A header that could not be read, with all that a reply to it needs."""

    def __init__(self, error: OdradekError, request_id: Scalar, encoding: Encoding) -> None:
        super().__init__(str(error))
        self.error = error
        self.request_id = request_id
        self.encoding = encoding


def _decode_blob(kind: type, value: Any) -> Any:
    if kind is not Blob:
        raise NotImplementedError(f"no decoding for {kind}")
    if isinstance(value, str):
        return Blob(value.encode())
    if isinstance(value, bytes):
        return Blob(value)
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        try:
            return Blob(base64.b64decode(value["base64"], validate=True))
        except binascii.Error as error:
            raise ValueError(f"Invalid base64: {error}") from None
    raise ValueError('Expected bytes: a string or {"base64": "..."}')


def _blob_for_json(value: Any) -> Any:
    if not isinstance(value, bytes):
        raise NotImplementedError(f"no encoding for {type(value)}")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _blob_for_msgpack(value: Any) -> Any:
    if not isinstance(value, bytes):
        raise NotImplementedError(f"no encoding for {type(value)}")
    return bytes(value)


_encode_json = msgspec.json.Encoder(enc_hook=_blob_for_json).encode
_encode_msgpack = msgspec.msgpack.Encoder(enc_hook=_blob_for_msgpack).encode
_MSGPACK_MAP_STARTS = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])
_SCALARS = (str, int, float, bool, type(None))


def encode(message: Any, encoding: Encoding) -> bytes:
    """A header's bytes. ``message`` is a request or a reply."""
    return _encode_json(message) if encoding is Encoding.JSON else _encode_msgpack(message)


def encoding_of(frame: Buffer) -> Encoding:
    """JSON where the first byte is '{', else MessagePack; anything else is refused in JSON."""
    first = frame[0] if len(frame) else None
    if first == ord("{"):
        return Encoding.JSON
    if first in _MSGPACK_MAP_STARTS:
        return Encoding.MSGPACK
    found = "an empty frame" if first is None else f"first byte {first:#04x}"
    raise BadRequest(
        InvalidRequest(f"the header is a JSON object or a MessagePack map; found {found}"),
        None,
        Encoding.JSON,
    )


class RequestDecoder(Generic[RequestT]):
    """Reads the headers of one family of requests; what is outside the family does not exist for it."""

    def __init__(self, requests: Iterable[type[RequestT]]) -> None:
        self._requests = {api_name(request): request for request in requests}
        union: Any = None
        for request in self._requests.values():
            union = request if union is None else union | request
        self._json = msgspec.json.Decoder(union, dec_hook=_decode_blob)
        self._msgpack = msgspec.msgpack.Decoder(union, dec_hook=_decode_blob)

    def decode(self, frame: Buffer) -> tuple[RequestT, Encoding]:
        """The request in ``frame`` and how it was written. Raises BadRequest with what a reply needs."""
        encoding = encoding_of(frame)
        try:
            decoder = self._json if encoding is Encoding.JSON else self._msgpack
            request: Any = decoder.decode(frame)
        except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as error:
            raise self._explain(frame, encoding, error) from None
        self._check_version(request.v, type(request), request.id, encoding)
        return request, encoding

    def _explain(self, frame: Buffer, encoding: Encoding, error: Exception) -> BadRequest:
        """Why the header cannot be read: the id, the api and the version decide what is said."""
        try:
            loose: Any = (
                msgspec.json.decode(frame) if encoding is Encoding.JSON else msgspec.msgpack.decode(frame)
            )
        except (msgspec.DecodeError, ValueError, RecursionError, OverflowError):
            return BadRequest(InvalidRequest(f"the header cannot be read: {error}"), None, encoding)
        found_id = loose.get("id")
        request_id = found_id if isinstance(found_id, _SCALARS) else None
        api = loose.get("api")
        if not isinstance(api, str):
            return BadRequest(InvalidRequest("the header has no 'api' string"), request_id, encoding)
        request = self._requests.get(api)
        if request is None:
            unknown = InvalidRequest(f"unknown api {api[:64]!r}; known: {', '.join(sorted(self._requests))}")
            return BadRequest(unknown, request_id, encoding)
        version = loose.get("v", 1)
        if isinstance(version, int):
            try:
                self._check_version(version, request, request_id, encoding)
            except BadRequest as unsupported:
                return unsupported
        return BadRequest(InvalidRequest(f"{api}: {error}"), request_id, encoding)

    @staticmethod
    def _check_version(version: int, request: Any, request_id: Scalar, encoding: Encoding) -> None:
        lowest, highest = request.versions
        if not lowest <= version <= highest:
            name = api_name(request)
            raise BadRequest(
                UnsupportedVersion(f"{name}: version {version} is not among {lowest} to {highest}"),
                request_id,
                encoding,
            )


@functools.cache
def public_decoder() -> RequestDecoder[Request]:
    """Reads every request of the public protocol. One for the process: to study the messages takes 5 ms."""
    return RequestDecoder(APIS.values())


class ReplyDecoder:
    """Reads the replies to one kind of request, in either encoding."""

    def __init__(self, reply: type[Reply]) -> None:
        self._json = msgspec.json.Decoder(reply, dec_hook=_decode_blob)
        self._msgpack = msgspec.msgpack.Decoder(reply, dec_hook=_decode_blob)

    def decode(self, frame: Buffer) -> Any:
        """The reply in ``frame``. Raises InvalidRequest for what is not one."""
        try:
            if len(frame) and frame[0] == ord("{"):
                return self._json.decode(frame)
            return self._msgpack.decode(frame)
        except (msgspec.DecodeError, ValueError) as error:
            raise InvalidRequest(f"the reply cannot be read: {error}") from error


_loose_id_json = msgspec.json.Decoder(Reply)
_loose_id_msgpack = msgspec.msgpack.Decoder(Reply)


def peek_reply(frame: Buffer) -> Reply:
    """Only ``id`` and ``error`` of a reply, to find out whose it is."""
    if len(frame) and frame[0] == ord("{"):
        return _loose_id_json.decode(frame)
    return _loose_id_msgpack.decode(frame)


class _Kind(msgspec.Struct):
    api: str | None = None


_kind_msgpack = msgspec.msgpack.Decoder(_Kind)


def is_reply(frame: Buffer) -> bool:
    """Whether a MessagePack header answers something; a header that asks names its ``api``."""
    return _kind_msgpack.decode(frame).api is None


REPLY_DECODERS: dict[type[Request], ReplyDecoder] = {
    request: ReplyDecoder(reply) for request, reply in REPLY_OF.items()
}

"""A line: one record as text, as `produce` reads it and `consume` writes it.

`consume --json` writes what `produce --json` reads, so that a pipe of the two copies records byte for byte: a
string is its UTF-8 bytes, `{"base64": "..."}` is any bytes, null is no key or a null value (a tombstone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from odradek.cli.output import human_timestamp, printable
from odradek.protocol.messages import INT64_MAX

Headers = Sequence[tuple[str, bytes | None]]


class LineError(ValueError):
    """A line that is not a record; the message says why."""


class Base64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes that are not UTF-8."""

    base64: bytes


Text = str | Base64 | None


class JsonRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record as one JSON object; of what is read, topic, partition and offset only say whence it came."""

    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)] | None = None
    key: Text = None
    value: Text | msgspec.UnsetType = msgspec.UNSET
    headers: list[tuple[str, Text]] = []


_encode_json = msgspec.json.Encoder().encode
_json_decoder = msgspec.json.Decoder(JsonRecord)


@dataclass(frozen=True, slots=True)
class RecordToSend:
    """What `produce` sends; the timestamp in milliseconds, None for now."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a line becomes a record."""

    json: bool = False
    key_separator: bytes | None = None
    null_marker: bytes | None = None
    headers: Headers = ()

    def read(self, line: bytes) -> RecordToSend:
        """The record in a line without its line end. Raises LineError."""
        return self._read_json(line) if self.json else self._read_text(line)

    def _read_text(self, line: bytes) -> RecordToSend:
        key: bytes | None = None
        value: bytes | None = line
        if self.key_separator is not None:
            found, separator, rest = line.partition(self.key_separator)
            if not separator:
                raise LineError(f"no key: {_shown(line)} has no separator {_shown(self.key_separator)}")
            key, value = self._or_null(found), rest
        if value is not None:
            value = self._or_null(value)
        return RecordToSend(key, value, self.headers)

    def _or_null(self, text: bytes) -> bytes | None:
        return None if text == self.null_marker else text

    def _read_json(self, line: bytes) -> RecordToSend:
        try:
            record = _json_decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise LineError(f"{_shown(line)} is not a JSON record: {error}") from error
        if record.value is msgspec.UNSET:
            raise LineError(f"{_shown(line)} has no value; a tombstone has null")
        headers = [(name, _to_bytes(value)) for name, value in record.headers]
        return RecordToSend(
            _to_bytes(record.key), _to_bytes(record.value), [*headers, *self.headers], record.timestamp
        )


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a record becomes a line."""

    json: bool = False
    key_separator: str = "\t"
    show_key: bool = False
    show_partition: bool = False
    show_offset: bool = False
    show_timestamp: bool = False
    show_headers: bool = False
    terminal: bool = False

    def write(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
    ) -> bytes:
        """The record as a line with its line end."""
        if self.json:
            return json_line(topic, partition, offset, timestamp, key, value, headers)
        parts: list[bytes] = []
        if self.show_timestamp:
            parts.append(human_timestamp(timestamp).encode())
        if self.show_partition:
            parts.append(b"%d" % partition)
        if self.show_offset:
            parts.append(b"%d" % offset)
        if self.show_headers:
            parts.append(b",".join(name.encode() + b"=" + self._shown(value) for name, value in headers))
        if self.show_key:
            parts.append(self._shown(key))
        parts.append(self._shown(value))
        return self.key_separator.encode().join(parts) + b"\n"

    def _shown(self, content: bytes | None) -> bytes:
        """Bytes as they are, but for people: nothing that steers a terminal, base64 where it is no text."""
        if content is None:
            return b"null"
        if not self.terminal:
            return content
        text = _from_bytes(content)
        if isinstance(text, Base64):
            return b"base64:" + _encode_json(text.base64).strip(b'"')
        return printable(text or "").encode()


def json_line(
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
) -> bytes:
    """The record as a line of JSON with its line end."""
    record = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": timestamp,
        "key": _from_bytes(key),
        "value": _from_bytes(value),
        "headers": [(name, _from_bytes(value)) for name, value in headers],
    }
    return _encode_json(record) + b"\n"


def _from_bytes(content: bytes | None) -> Text:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return Base64(content)


def _to_bytes(text: Text | msgspec.UnsetType) -> bytes | None:
    if isinstance(text, str):
        return text.encode()
    return text.base64 if isinstance(text, Base64) else None


def _shown(line: bytes) -> str:
    return repr(line[:60].decode(errors="replace") + ("..." if len(line) > 60 else ""))

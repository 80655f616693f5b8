"""A sealed file: one JSON object of a format number, a content, and the CRC-32C of the content's bytes."""

from __future__ import annotations

from typing import TypeVar

import crc32c
import msgspec

FORMAT = 1

Content = TypeVar("Content", bound=msgspec.Struct)


class SealBroken(Exception):
    """A file is not what was sealed; the message says in what, to be put behind the file's name."""


def seal(name: str, content: msgspec.Struct) -> bytes:
    """The file that holds ``content`` under ``name``."""
    body = msgspec.json.encode(content)
    sealed = {"format": FORMAT, "crc32c": crc32c.crc32c(body), name: msgspec.Raw(body)}
    return msgspec.json.encode(sealed) + b"\n"


def unseal(name: str, content_type: type[Content], sealed: bytes) -> Content:
    """What was sealed under ``name``. Raises SealBroken."""
    try:
        members = msgspec.json.decode(sealed, type=dict[str, msgspec.Raw])
        # First: a format that is not ours may have nothing else that we know.
        _check_format(msgspec.json.decode(members["format"]))
        if set(members) != {"format", "crc32c", name}:
            raise SealBroken(f"it has the members {', '.join(sorted(members))}")
        body = bytes(members[name])
        if msgspec.json.decode(members["crc32c"]) != crc32c.crc32c(body):
            raise SealBroken("its checksum does not match its content")
        return msgspec.json.decode(body, type=content_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SealBroken(str(error)) from None
    except KeyError as error:
        raise SealBroken(f"it has no {error}") from None


def _check_format(found: object) -> None:
    if found != FORMAT:
        raise SealBroken(f"it has format {found!r}, and this version reads format {FORMAT}")

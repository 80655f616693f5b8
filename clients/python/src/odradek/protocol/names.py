"""Which names are allowed. Every name is checked here before it reaches a table or a path."""

from __future__ import annotations

import re

from odradek.protocol.errors import InvalidGroupId, InvalidTopic

TOPIC_NAME_CHARACTERS_MAX = 249
GROUP_NAME_BYTES_MAX = 255
INTERNAL_TOPICS = frozenset({"__consumer_offsets"})

_TOPIC_NAME = re.compile(rf"[a-zA-Z0-9._-]{{1,{TOPIC_NAME_CHARACTERS_MAX}}}", re.ASCII)


def is_topic_name(name: str) -> bool:
    """Whether a topic may have this name."""
    return name not in (".", "..") and _TOPIC_NAME.fullmatch(name) is not None


def check_topic_name(name: str) -> str:
    """The name itself where it is allowed, else InvalidTopic that says what is."""
    if not is_topic_name(name):
        shown = name if len(name) <= 64 else name[:64] + "..."
        raise InvalidTopic(
            f"{shown!r} is not a topic name: 1 to {TOPIC_NAME_CHARACTERS_MAX} of a-z A-Z 0-9 . _ -, "
            "and neither '.' nor '..'"
        )
    return name


def check_group_name(name: str) -> str:
    """The name itself where it is allowed, else InvalidGroupId that says what is."""
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidGroupId("a group name is valid UTF-8; this one has a lone surrogate") from None
    if not 1 <= size_bytes <= GROUP_NAME_BYTES_MAX:
        raise InvalidGroupId(
            f"a group name has 1 to {GROUP_NAME_BYTES_MAX} bytes of UTF-8, this one has {size_bytes}"
        )
    return name

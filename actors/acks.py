"""What a producer's ``acks`` asks for, told apart in one place."""

from __future__ import annotations

from typing import Literal

from odradek.protocol.messages import Produce

Acks = Literal["all", 1, 0]
"""Answer when it is durable, when it is written, not at all."""


def acks_of(request: Produce) -> Acks:
    """What the request asks for, however it spells it; whatever is not weaker means all."""
    if request.acks in (0, "0"):
        return 0
    return 1 if request.acks in (1, "1") else "all"


def wants_no_reply(request: Produce) -> bool:
    """acks=0: the producer asked for silence, errors included."""
    return acks_of(request) == 0

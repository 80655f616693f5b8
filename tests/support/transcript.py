"""Envelopes as a test writes them, and effects as it reads them: one line of a dialogue each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from actors.actor import Answer, Envelope
from actors.effects import Effect, Forward, Sender, Sync
from actors.effects import Reply as ReplyEffect
from odradek.protocol.batch import Buffer
from odradek.protocol.codec import Encoding
from odradek.protocol.messages import Reply, Request

R = TypeVar("R", bound=Reply)


def sender(name: str = "client", request_id: int | str | None = None) -> Sender:
    """A return path; ``name`` finds its replies again."""
    return Sender("public", name.encode(), False, Encoding.MSGPACK, request_id)


def ask(request: Request, *payload: Buffer, by: str = "client") -> Envelope:
    """A client's request."""
    return Envelope(sender(by), request, payload)


def answer(forward: Forward, reply: Reply, *payload: Buffer) -> Answer:
    """What another actor says to a request that was sent on to it."""
    return Answer(forward.token, reply, payload)


def replies(effects: Iterable[Effect]) -> list[ReplyEffect]:
    return [effect for effect in effects if isinstance(effect, ReplyEffect)]


def forwards(effects: Iterable[Effect]) -> list[Forward]:
    return [effect for effect in effects if isinstance(effect, Forward)]


def syncs(effects: Iterable[Effect]) -> list[Sync]:
    return [effect for effect in effects if isinstance(effect, Sync)]


def only_reply(effects: Sequence[Effect], kind: type[R]) -> R:
    """The reply of the one effect there is."""
    assert len(effects) == 1, effects
    effect = effects[0]
    assert isinstance(effect, ReplyEffect), effect
    assert isinstance(effect.reply, kind), effect.reply
    return effect.reply


def only_forward(effects: Sequence[Effect]) -> Forward:
    assert len(effects) == 1, effects
    effect = effects[0]
    assert isinstance(effect, Forward), effect
    return effect


def error_name(effects: Sequence[Effect]) -> str:
    """The name of the error in the one reply there is."""
    reply = only_reply(effects, Reply)
    assert reply.error is not None, reply
    return reply.error.name


def said(effects: Iterable[Effect]) -> list[tuple[str, str]]:
    """(client, error name or "ok") of each reply, in order."""
    return [
        (effect.to.identity.decode(), "ok" if effect.reply.error is None else effect.reply.error.name)
        for effect in replies(effects)
    ]

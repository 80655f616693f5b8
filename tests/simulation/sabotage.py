"""Protections switched off, each by a patch: a simulation that notices nothing would be worth nothing."""

from __future__ import annotations

import pytest

from actors.effects import Effect
from actors.partition import PartitionActor
from partitions.producers import Producers
from partitions.tickets import SyncTicket


def answer_before_the_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    write = PartitionActor._write

    def impatient(actor: PartitionActor) -> list[Effect]:
        effects = write(actor)
        effects += [waiting.reply for waiting in actor._undurable]
        actor._undurable.clear()
        return effects

    monkeypatch.setattr(PartitionActor, "_write", impatient)


def sync_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyncTicket, "run", lambda ticket: None)


def recognize_no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Producers, "check", lambda producers, header, **state: None)

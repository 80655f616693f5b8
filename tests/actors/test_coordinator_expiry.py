"""Offsets expire with groups that nobody uses, never under a group that lives, never by a clock's jump."""

from __future__ import annotations

import pytest

from actors import expiry as expiry_module
from actors.expiry import CHECK_INTERVAL_S
from odradek.protocol.errors import KafkaStorageError
from odradek.protocol.messages import GroupList, GroupListReply
from tests.support.coordinating import Coordinating, heartbeat

DAY_S = 86_400.0


def groups(c: Coordinating) -> list[str]:
    listed = c.ask(GroupList(), GroupListReply).groups
    assert isinstance(listed, list)
    return [group.group for group in listed]


def rest(c: Coordinating, seconds: float) -> None:
    """Time goes by; nobody says anything."""
    c.pass_time(seconds)


def test_a_group_without_members_is_forgotten_after_the_retention() -> None:
    c = Coordinating()
    c.commit({0: 5, 1: 6})
    rest(c, 7 * DAY_S - CHECK_INTERVAL_S)
    assert len(c.committed()) == 2
    c.commit({0: 7})
    rest(c, 3 * CHECK_INTERVAL_S)
    assert c.committed() == {("events", 0): 7}, "each by its own commit"
    assert groups(c) == ["group"]
    rest(c, 7 * DAY_S)
    assert (c.committed(), groups(c)) == ({}, [])
    assert sum(int(str(line.fields["entries"])) for line in c.lines if line.event == "offsets_expired") == 3
    c.crash()
    assert (c.committed(), groups(c)) == ({}, [])


def test_a_group_with_members_keeps_all_and_is_counted_from_when_the_last_left() -> None:
    c = Coordinating()
    c.join("a")
    c.commit({0: 5}, "a", 1)
    c.clock.wall_ms += int(8 * DAY_S * 1000)
    c.crash()
    for _ in range(40):
        c.pass_time(40.0)
        c.beat("a", 1, {"events": [0, 1, 2, 3]})
    assert c.committed() == {("events", 0): 5}
    c.beat("a", -1)
    rest(c, 6 * DAY_S)
    assert c.committed() == {("events", 0): 5}, "empty for six days only"
    c.crash()
    rest(c, 2 * DAY_S)
    assert (c.committed(), groups(c)) == ({}, []), "known after a crash too"


def test_one_that_comes_back_in_time_starts_the_clock_anew() -> None:
    c = Coordinating()
    c.join("a")
    c.commit({0: 5}, "a", 1)
    c.beat("a", -1)
    rest(c, 6 * DAY_S)
    c.join("a")
    c.beat("a", -1)
    rest(c, 6 * DAY_S)
    assert c.committed() == {("events", 0): 5}


def test_an_expelled_member_leaves_an_empty_group_too() -> None:
    c = Coordinating()
    c.join("a")
    rest(c, 46)
    assert groups(c) == ["group"]
    rest(c, 7 * DAY_S + 2 * CHECK_INTERVAL_S)
    assert groups(c) == []


def test_a_clock_that_jumps_forward_expires_nothing() -> None:
    c = Coordinating()
    c.commit({0: 5})
    c.clock.wall_ms += int(3650 * DAY_S * 1000)
    rest(c, 3 * CHECK_INTERVAL_S)
    assert c.committed() == {("events", 0): 5}


def test_a_turn_forgets_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry_module, "EXPIRED_PER_TURN_MAX", 10)
    monkeypatch.setattr(expiry_module, "EXAMINED_PER_TURN_MAX", 15)
    c = Coordinating(topics={"events": 100})
    c.commit(dict.fromkeys(range(100), 1))
    for number in range(20):
        c.commit({0: 1}, group=f"other-{number}")
    rest(c, 8 * DAY_S)
    assert (c.committed(), groups(c)) == ({}, [])
    turns = [int(str(line.fields["entries"])) for line in c.lines if line.event == "offsets_expired"]
    assert sum(turns) == 100 + 1 + 20 * 2
    assert max(turns) <= 10


def test_an_expiry_that_cannot_be_written_is_tried_again() -> None:
    c = Coordinating()
    c.commit({0: 5})
    c.log.fail_writes = KafkaStorageError("no space left on device")
    rest(c, 8 * DAY_S)
    assert c.committed() == {("events", 0): 5}
    assert groups(c) == ["group"]
    c.log.fail_writes = None
    rest(c, 2 * CHECK_INTERVAL_S)
    assert (c.committed(), groups(c)) == ({}, [])


def test_while_the_disk_is_slow_nothing_spins() -> None:
    c = Coordinating()
    c.commit({0: 5}, group="old")
    c.clock.advance(8 * DAY_S)
    c.send(heartbeat("a", 0, {}, topics=["events"]))
    c.settle()
    deadline = c.actor.deadline()
    assert c.syncs
    assert deadline is None or deadline > c.clock.monotonic_s, "the sync wakes it, not the clock"
    c.run()
    assert "old" not in groups(c)

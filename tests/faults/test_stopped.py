"""Processes that stand still: stopped by a signal, or hung within one call."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from partitions.files import OsFiles
from partitions.log import Log
from partitions.settings import LogSettings
from tests.processes.test_groups import judge
from tests.support.broker import BrokerProcess
from tests.support.load import Load
from tests.support.rawclient import RawClient
from tests.support.strace import Injection, needs_strace
from tests.support.tiers import in_tier, long
from tests.support.victims import eventually, is_gone, serving_child

pytestmark = [pytest.mark.processes, pytest.mark.faults]

PARTITIONS = 2
RECORDS_BETWEEN = 30
VICTIM = "partition events-0"
SESSION_S = 1.0
HANG_MICROSECONDS = 30_000_000
REFUSALS = ("FENCED_MEMBER_EPOCH", "STALE_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID")


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    settings = {
        "heartbeat_interval_s": 0.2,
        "heartbeat_timeout_s": 2,
        "restarts_max": 1_000,
        "group_session_timeout_s": SESSION_S,
        "group_heartbeat_interval_s": 0.2,
    }
    with BrokerProcess(**settings) as running:  # type: ignore[arg-type]
        with RawClient(running.bootstrap) as client:
            client.create("events", PARTITIONS)
        yield running


def load_of(broker: BrokerProcess) -> Load:
    return Load(lambda: broker.bootstrap, "events", PARTITIONS)


@long
def test_a_stopped_partition_is_dead_before_its_successor_opens_the_log(broker: BrokerProcess) -> None:
    """Row 16: killed and reaped, so that there is nobody whom SIGCONT could wake."""
    with load_of(broker) as load:
        for _ in range(in_tier(1, 5)):
            load.wait_for(RECORDS_BETWEEN)
            victim = serving_child(broker, VICTIM)
            victim.suspend()
            eventually(lambda victim=victim: is_gone(victim))  # type: ignore[misc]
            assert serving_child(broker, VICTIM).pid != victim.pid
        load.wait_for(RECORDS_BETWEEN)
    print(load.judge())
    order = [event["event"] for event in broker.events() if event.get("name") == "partition:events-0"]
    assert order == ["serving", *["killing", "process ended", "serving"] * in_tier(1, 5)]


@long
def test_a_short_stop_is_no_death(broker: BrokerProcess) -> None:
    """Row 16: continued before its time is up, the same process serves on."""
    with load_of(broker) as load:
        load.wait_for(RECORDS_BETWEEN)
        victim = serving_child(broker, VICTIM)
        victim.suspend()
        load.wait_for(1)  # of the other partition: nobody waits for the stopped one
        victim.resume()
        load.wait_for(RECORDS_BETWEEN)
        assert serving_child(broker, VICTIM).pid == victim.pid
    print(load.judge())


def test_nobody_opens_the_log_of_a_stopped_partition(tmp_path: Path) -> None:
    """Row 16: the flock is the second lock, should a supervisor ever err."""
    with BrokerProcess() as broker:
        with RawClient(broker.bootstrap) as client:
            client.create("events", 1)
            client.produce("events", b"kept")
        victim = serving_child(broker, VICTIM)
        victim.suspend()
        try:
            with pytest.raises(Exception, match="in use by another process"):
                Log.open(
                    broker.data / "events-0",
                    LogSettings(),
                    files=OsFiles(),
                    wall_ms=0,
                    topic_id="another's",
                )
        finally:
            victim.resume()


@long
@needs_strace
def test_a_loop_that_hangs_within_a_call_is_noticed_and_replaced(broker: BrokerProcess) -> None:
    """Row 18: the process lives and ZeroMQ's own thread answers; only the beats of the loop are missing."""
    with load_of(broker) as load:
        load.wait_for(RECORDS_BETWEEN)
        victim = serving_child(broker, VICTIM)
        with Injection(
            victim.pid, "poll,ppoll,epoll_wait", f"delay_enter={HANG_MICROSECONDS}", every_thread=False
        ):
            # strace keeps what it delays from ending, so the end itself is waited for without it.
            took_s = eventually(lambda: bool(broker.events("killing")))
        eventually(lambda: is_gone(victim))
        load.wait_for(RECORDS_BETWEEN)
    assert took_s < HANG_MICROSECONDS / 1e6, "it was the hang that ended, and nobody noticed it"
    (killing,) = broker.events("killing")
    assert "silent" in killing["reason"]
    print(f"killed after {took_s:.1f} s; {load.judge()}")


def test_a_consumer_that_slept_past_its_session_takes_nothing_back(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    """Row 17: others have its partitions by then; it joins anew, and no offset ever goes back."""
    members = [Member(broker, tmp_path / f"member-{number}") for number in range(2)]
    try:
        with load_of(broker) as load:
            eventually(lambda: all(member.has("committed") for member in members))
            for _ in range(in_tier(1, 4)):
                sleeper, other = members
                sleeper.process.send_signal(signal.SIGSTOP)
                noted = len(other.events())
                eventually(lambda: {0, 1} == other.held(noted))  # noqa: B023  # asked within this turn only
                sleeper.process.send_signal(signal.SIGCONT)
                epoch = sleeper.events()[-1][3]
                eventually(lambda: sleeper.held_since(epoch))  # noqa: B023
                members.reverse()
            load.wait_for(RECORDS_BETWEEN)
    finally:
        for member in members:
            member.end()
    events = sorted((event for member in members for event in member.events()), key=lambda event: event[0])
    judge(events, committed(broker))
    print(load.judge())


def test_a_commit_that_slept_is_refused(broker: BrokerProcess, tmp_path: Path) -> None:
    """Row 17: the first thing that a member does when it wakes is to commit, with an epoch of long ago."""
    command = [sys.executable, "-m", "tests.support.sleeper", broker.bootstrap, "sleepers", "events"]
    with load_of(broker) as load:
        sleeper = subprocess.Popen([*command, str(tmp_path / "sleeper")], stdout=subprocess.PIPE, text=True)
        asleep = psutil.Process(sleeper.pid)
        eventually(lambda: bool(asleep.status() == psutil.STATUS_STOPPED))
        other = Member(broker, tmp_path / "other")
        try:
            eventually(lambda: other.held(0) == {0, 1} and other.has("committed"))
            before = committed(broker)
            sleeper.send_signal(signal.SIGCONT)
            said = sleeper.communicate(timeout=30)[0].strip()
            after = committed(broker)
        finally:
            other.end()
    assert said in REFUSALS, f"a commit of a member without partitions was answered with {said}"
    assert all(new >= old for new, old in zip(after, before, strict=True)), (before, after)
    print(f"{said}; {load.judge()}")


def committed(broker: BrokerProcess) -> list[int]:
    """The group's offsets, by partition."""
    with RawClient(broker.bootstrap) as client:
        asked = [{"topic": "events", "partitions": list(range(PARTITIONS))}]
        rows = client.call("offset_fetch", group="sleepers", topics=asked).ok()["offsets"]
    return [max(0, row["offset"]) for row in rows]


class Member:
    """A group member in a process of its own, and the history that it writes."""

    def __init__(self, broker: BrokerProcess, history: Path) -> None:
        self._history = history
        command = [sys.executable, "-m", "tests.support.groupmember", broker.bootstrap, "sleepers", "events"]
        self.process = subprocess.Popen([*command, str(history)])

    def events(self) -> list[list[Any]]:
        if not self._history.exists():
            return []
        return [json.loads(line) for line in self._history.read_text().split("\n")[:-1]]

    def has(self, kind: str) -> bool:
        return any(event[1] == kind for event in self.events())

    def held(self, first: int) -> set[int]:
        """What it was given last, among the events from the ``first`` on."""
        given = [set(event[4]) for event in self.events()[first:] if event[1] == "assigned"]
        return given[-1] if given else set()

    def held_since(self, epoch: int) -> bool:
        """Whether it was given partitions in a later epoch than that."""
        return any(event[1] == "assigned" and event[3] > epoch and event[4] for event in self.events())

    def end(self) -> None:
        """Lets it leave, also where it stands still."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(30)

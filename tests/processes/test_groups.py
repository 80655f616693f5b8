"""A storm of members, and a coordinator that is killed in it: nothing is lost, reversed or owned twice.

Consumer processes join, leave, are stopped (SIGSTOP) longer than their session lasts, and are killed, while
records flow and the coordinator itself gets kill -9 in the middle. Every process writes down what it saw;
afterwards the histories are judged together.

In a normal run that is 8 processes for 8 s. The long storm of the same test::

    ODRADEK_STORM_PROCESSES=20 ODRADEK_STORM_SECONDS=60 .venv/bin/pytest tests/processes/test_groups.py -s
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient

pytestmark = pytest.mark.processes

PROCESSES = int(os.environ.get("ODRADEK_STORM_PROCESSES", "8"))
STORM_S = float(os.environ.get("ODRADEK_STORM_SECONDS", "8"))
PARTITIONS = 8
SESSION_MS = 1_500
"""Six heartbeats. A killed member is one that is not heard: nobody can know of it sooner."""
HEARTBEAT_S = 0.25
TROUBLE_INTERVAL_S = (0.1, 0.5)
STOPPED_S = (0.2, 3 * SESSION_MS / 1000)
RECORDS_PER_ROUND = 20
SETTLED_S_MAX = 60.0
CONVERGENCE_S_MAX = 15.0
"""From the moment the coordinator knows who lives. A heartbeat of each member or two do it, 0.1 s to 0.5 s;
the rest is for a machine that is busy with other things."""
CATCH_UP_S_MAX = 60.0


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    """With sessions of 45 s, the default, a storm would take minutes."""
    with BrokerProcess(
        group_session_timeout_s=SESSION_MS / 1000, group_heartbeat_interval_s=HEARTBEAT_S
    ) as process:
        yield process


class Storm:
    """The member processes, and the trouble that they have. Only processes that it started itself."""

    def __init__(self, endpoint: str, directory: Path, seed: int) -> None:
        self._endpoint = endpoint
        self._directory = directory
        self._dice = random.Random(seed)
        self._numbers = itertools.count()
        self.living: list[subprocess.Popen[bytes]] = []
        self._histories: dict[int, Path] = {}
        self._stopped: list[tuple[float, subprocess.Popen[bytes]]] = []
        self._ended: list[subprocess.Popen[bytes]] = []

    def join(self) -> None:
        history = self._directory / f"{next(self._numbers)}.jsonl"
        command = [sys.executable, "-m", "tests.support.groupmember", self._endpoint, "storm", "events"]
        self.living.append(subprocess.Popen([*command, str(history)]))
        self._histories[self.living[-1].pid] = history

    def trouble(self) -> None:
        """One thing happens to one process."""
        now_s = time.monotonic()
        for due_s, process in list(self._stopped):
            if due_s <= now_s:
                self._stopped.remove((due_s, process))
                process.send_signal(signal.SIGCONT)
                self.living.append(process)
        busy = len(self.living) + len(self._stopped)
        if busy < PROCESSES and (len(self.living) < 2 or self._dice.random() < 0.5):
            self.join()
            return
        process = self.living.pop(self._dice.randrange(len(self.living)))
        match self._dice.choice(["leave", "kill", "stop", "stop"]):
            case "leave":
                process.terminate()
                self._ended.append(process)
            case "kill":
                process.kill()
                self._ended.append(process)
            case "stop":
                process.send_signal(signal.SIGSTOP)
                self._stopped.append((now_s + self._dice.uniform(*STOPPED_S), process))

    def pause(self) -> float:
        return self._dice.uniform(*TROUBLE_INTERVAL_S)

    def calm(self) -> None:
        """No more trouble: who was stopped goes on, and there are at least two."""
        for _, process in self._stopped:
            process.send_signal(signal.SIGCONT)
            self.living.append(process)
        self._stopped.clear()
        while len(self.living) < 2:
            self.join()

    def living_members(self) -> set[str] | None:
        """The ids of those that live; None as long as one of them has not joined yet."""
        members: set[str] = set()
        for process in self.living:
            history = self._histories[process.pid]
            line = history.read_text().partition("\n") if history.exists() else ("", "", "")
            if not line[1]:
                return None
            members.add(json.loads(line[0])[2])
        return members

    def close(self) -> None:
        for process in [*self.living, *self._ended, *(process for _, process in self._stopped)]:
            if process.poll() is None:
                process.kill()
            process.wait()

    def events(self) -> list[list[Any]]:
        """What all of them saw, in the order of time. A line that a kill cut off does not count."""
        lines = [
            line for path in self._directory.glob("*.jsonl") for line in path.read_text().splitlines(True)
        ]
        return sorted((json.loads(line) for line in lines if line.endswith("\n")), key=lambda event: event[0])


def produce(endpoint: str, until: threading.Event, counts: list[int]) -> None:
    """Records flow into every partition until the event; ``counts`` are those that were acknowledged."""
    with RawClient(endpoint) as client:
        while not until.wait(0.05):
            for partition in range(PARTITIONS):
                rows: list[dict[str, Any]] = [
                    {"key": None, "headers": [], "timestamp": None, "null": False}
                ] * RECORDS_PER_ROUND
                payload = [b"x"] * RECORDS_PER_ROUND
                client.call("produce", *payload, topic="events", partition=partition, records=rows).ok()
                counts[partition] += RECORDS_PER_ROUND


def wait_for(what: str, holds: Callable[[], bool], timeout_s: float) -> float:
    """The seconds until it holds."""
    begun_s = time.monotonic()
    while not holds():
        assert time.monotonic() - begun_s < timeout_s, f"not within {timeout_s:g} s: {what}"
        threading.Event().wait(0.02)
    return time.monotonic() - begun_s


@pytest.mark.timeout(STORM_S + 180)
def test_a_storm_of_members_loses_nothing_and_settles(broker: BrokerProcess, tmp_path: Path) -> None:
    histories = tmp_path / "histories"
    histories.mkdir()
    calm, counts = threading.Event(), [0] * PARTITIONS
    with RawClient(broker.bootstrap) as client:
        client.create("events", PARTITIONS)
        storm = Storm(broker.bootstrap, histories, seed=848)
        producer = threading.Thread(target=produce, args=(broker.bootstrap, calm, counts))
        producer.start()
        try:
            rage(storm, broker)
            settled_s, convergence_s = settle(client, storm)
            calm.set()
            producer.join()
            wait_for("all committed", lambda: committed(client) == counts, CATCH_UP_S_MAX)
        finally:
            calm.set()
            producer.join()
            storm.close()
        events = storm.events()
        final = committed(client)
    check_owners(events)
    check_commits(events, final)
    check_deliveries(events, final)
    epochs = max(event[3] for event in events)
    print(
        f"storm: {len(list(histories.iterdir()))} processes, {epochs} epochs, {sum(final)} records, "
        f"stable {settled_s:.2f} s after it (sessions last {SESSION_MS / 1000:g} s), "
        f"{convergence_s:.2f} s after the coordinator knew who lives"
    )
    assert epochs > 5, "that was no storm"
    assert convergence_s < CONVERGENCE_S_MAX


def rage(storm: Storm, broker: BrokerProcess) -> None:
    """The storm; in the middle of it the coordinator is killed."""
    for _ in range(PROCESSES // 2):
        storm.join()
    begun_s = time.monotonic()
    killed = False
    while time.monotonic() - begun_s < STORM_S:
        threading.Event().wait(storm.pause())
        storm.trouble()
        if not killed and time.monotonic() - begun_s > STORM_S / 2:
            broker.child("coordinator").kill()
            killed = True
    storm.calm()
    assert killed


def settle(client: RawClient, storm: Storm) -> tuple[float, float]:
    """The seconds until the living members, and nobody else, hold every partition.

    From now, and from when the coordinator knew who lives: the last of the dead expelled, the last of the
    living joined. Whoever seems dead meanwhile, because the machine is busy, begins the second time anew.
    """
    begun_s = time.monotonic()
    known_s: float | None = None
    while (now_s := time.monotonic()) < begun_s + SETTLED_S_MAX:
        reply = client.call("group_describe", group="storm")
        rows = reply["members"] if reply.code is None else []
        if {row["member_id"] for row in rows} != storm.living_members():
            known_s = None
        else:
            known_s = known_s or now_s
            held = [number for row in rows for item in row["assignment"] for number in item["partitions"]]
            if reply["state"] == "Stable" and sorted(held) == list(range(PARTITIONS)):
                return now_s - begun_s, now_s - known_s
        threading.Event().wait(0.01)
    raise AssertionError(f"not within {SETTLED_S_MAX:g} s: stable")


def committed(client: RawClient) -> list[int]:
    found = [0] * PARTITIONS
    for row in client.call("offset_fetch", group="storm", topics=["events"]).ok()["offsets"]:
        found[row["partition"]] = max(row["offset"], 0)
    return found


# -- the judgement -------------------------------------------------------------------------------------


def check_owners(events: list[list[Any]]) -> None:
    """No partition was given to two members in one epoch."""
    owners: dict[tuple[int, int], str] = {}
    for _, kind, member, epoch, *details in events:
        for partition in details[0] if kind == "assigned" else ():
            owner = owners.setdefault((partition, epoch), member)
            assert owner == member, f"partition {partition} belonged to two members in epoch {epoch}"
    assert owners


def check_commits(events: list[list[Any]], final: list[int]) -> None:
    """What was acknowledged before something began is never above what that found or committed."""
    acknowledged: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for at_ns, kind, _member, _epoch, *details in events:
        if kind != "committed":
            continue
        offsets, begun_ns = details
        for name, offset in offsets.items():
            earlier = acknowledged[int(name)]
            best = max((acked for acked_ns, acked in earlier if acked_ns < begun_ns), default=0)
            assert offset >= best, f"partition {name} went back from {best} to {offset}"
            earlier.append((at_ns, offset))
    assert sum(map(len, acknowledged.values())) > 0
    for partition, acks in acknowledged.items():
        assert final[partition] >= max(offset for _, offset in acks), "an acknowledged commit was lost"


def check_deliveries(events: list[list[Any]], final: list[int]) -> None:
    """Each member read on without a gap from where it took up, and together they read everything."""
    delivered: list[set[int]] = [set() for _ in range(PARTITIONS)]
    positions: dict[tuple[str, int], int] = {}
    for _, kind, member, _epoch, *details in events:
        if kind == "took":
            partition, position = details
            positions[member, partition] = position
            assert set(range(position)) <= delivered[partition], "taken up behind what nobody read"
        elif kind == "delivered":
            partition, first, last = details
            assert positions[member, partition] == first, "a member skipped records"
            positions[member, partition] = last + 1
            delivered[partition].update(range(first, last + 1))
    for partition, end in enumerate(final):
        missing = set(range(end)) - delivered[partition]
        assert not missing, f"partition {partition}: {len(missing)} records were committed and never read"


# -- the judges themselves -------------------------------------------------------------------------------

GOOD: list[list[Any]] = [
    [1, "assigned", "a", 1, [0]],
    [2, "took", "a", 1, 0, 0],
    [3, "delivered", "a", 1, 0, 0, 9],
    [5, "committed", "a", 1, {"0": 10}, 4],
    [6, "assigned", "b", 2, [0]],
    [7, "took", "b", 2, 0, 10],
    [8, "delivered", "b", 2, 0, 10, 19],
    [10, "committed", "b", 2, {"0": 20}, 9],
]
FINAL = [20, *[0] * (PARTITIONS - 1)]


def judge(events: list[list[Any]], final: list[int]) -> None:
    check_owners(events)
    check_commits(events, final)
    check_deliveries(events, final)


def test_a_good_history_passes() -> None:
    judge(GOOD, FINAL)


@pytest.mark.parametrize(
    ("place", "event", "says"),
    [
        (4, [6, "assigned", "b", 1, [0]], "two members in epoch 1"),
        (5, [7, "took", "b", 2, 0, 11], "taken up behind what nobody read"),
        (6, [8, "delivered", "b", 2, 0, 12, 19], "skipped records"),
        (7, [10, "committed", "b", 2, {"0": 9}, 9], "went back from 10 to 9"),
        (7, [10, "committed", "b", 2, {"0": 21}, 9], "an acknowledged commit was lost"),
        (6, [8, "delivered", "b", 2, 0, 10, 18], "1 records were committed and never read"),
    ],
)
def test_a_bad_history_is_noticed(place: int, event: list[Any], says: str) -> None:
    events = [*GOOD[:place], event, *GOOD[place + 1 :]]
    with pytest.raises(AssertionError, match=says):
        judge(events, FINAL)

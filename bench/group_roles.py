"""Raw clients of the coordinator, each role a process: committers, and a crowd of members.

Each member has a DEALER of its own, as members in life have; times are CLOCK_MONOTONIC, which all
processes share.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zmq

from bench.targets import percentile
from bench.wire import RequestFailed, Wire
from bench.worker import say

TOPIC = "events"
COMMITS_IN_FLIGHT = 256
PARTITIONS = 8
QUIET_S = 2.5
"""Longer than two heartbeats: who has heard nothing new by then has converged."""
CROWD_S_MAX = 90.0
PACED_S = 4.0
FLAT_OUT_S = 3.0


def commit(router: str, group: str, count: int) -> None:
    """Positions one by one, with requests in flight; the clock stops when all are durable."""
    with Wire(router) as wire:
        wire.ask({"api": "ping"})
        begun = time.monotonic()
        for number in range(count):
            if number >= COMMITS_IN_FLIGHT:
                _check_stored(wire.hear())
            offset = {"topic": TOPIC, "partition": number % PARTITIONS, "offset": number}
            wire.tell({"api": "offset_commit", "group": group, "offsets": [offset]})
        for _ in range(min(count, COMMITS_IN_FLIGHT)):
            _check_stored(wire.hear())
        say(begun=begun, ended=time.monotonic())


def _check_stored(reply: dict[str, Any]) -> None:
    for offset in reply["offsets"]:
        if offset["error"]:
            raise RequestFailed(str(offset["error"]))


@dataclass(slots=True)
class Member:
    """One member with its connection."""

    socket: zmq.Socket[bytes]
    name: str = field(default_factory=lambda: str(uuid.uuid4()))
    epoch: int = 0
    owned: list[dict[str, Any]] = field(default_factory=list)
    sent_at: float = 0.0


class Crowd:
    """Members of one group in one process; each beats as the coordinator asks it to."""

    def __init__(self, router: str, group: str, count: int) -> None:
        self._group = group
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, count + 16)
        self._poller = zmq.Poller()
        self._members: dict[zmq.Socket[bytes], Member] = {}
        self._due: list[tuple[float, int, Member]] = []
        self._order = itertools.count()
        self.changed_at = 0.0
        self.latencies_s: list[float] = []
        for _ in range(count):
            socket = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(router)
            self._poller.register(socket, zmq.POLLIN)
            self._members[socket] = Member(socket)

    @property
    def joined(self) -> bool:
        """Whether every member has an epoch."""
        return all(member.epoch > 0 for member in self._members.values())

    @property
    def held(self) -> int:
        """How many partitions the members hold."""
        return sum(len(row["partitions"]) for member in self._members.values() for row in member.owned)

    def join(self) -> None:
        """Everybody at once."""
        for member in self._members.values():
            self._beat(member)

    def run(self, done: Callable[[], bool], *, flat_out: bool = False) -> None:
        """Serve until ``done``; ``flat_out``: the next heartbeat right after each reply."""
        give_up_at = time.monotonic() + CROWD_S_MAX
        while not done():
            now = time.monotonic()
            if now > give_up_at:
                raise RequestFailed(f"the crowd did not come to rest within {CROWD_S_MAX:.0f} s")
            while self._due and (flat_out or self._due[0][0] <= now):
                self._beat(heapq.heappop(self._due)[2])
            wait_s = self._due[0][0] - now if self._due else 0.1
            for socket, _ in self._poller.poll(max(0, min(100, int(wait_s * 1000) + 1))):
                self._hear(self._members[socket])

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _beat(self, member: Member) -> None:
        member.sent_at = time.monotonic()
        header = {
            "api": "group_heartbeat",
            "group": self._group,
            "member_id": member.name,
            "member_epoch": member.epoch,
            "owned": member.owned,
        }
        if member.epoch == 0:
            header |= {"topics": [TOPIC], "rebalance_timeout_ms": 60_000}
        member.socket.send(msgspec.json.encode(header))

    def _hear(self, member: Member) -> None:
        reply = msgspec.json.decode(member.socket.recv_multipart()[0])
        now = time.monotonic()
        if reply["error"]:
            raise RequestFailed(f"{reply['error']['name']}: {reply['error']['message']}")
        self.latencies_s.append(now - member.sent_at)
        due_at = now + reply["heartbeat_interval_ms"] / 1000
        if reply["member_epoch"] != member.epoch:
            member.epoch, self.changed_at = reply["member_epoch"], now
        given = reply["assignment"]
        if given is not None and given != member.owned:
            member.owned, self.changed_at, due_at = given, now, now
        heapq.heappush(self._due, (due_at, next(self._order), member))


def crowd(router: str, group: str, count: int) -> None:
    """Join, come to rest, beat as asked, beat flat out."""
    members = Crowd(router, group, count)
    begun = time.monotonic()
    members.join()
    members.run(lambda: members.joined)
    joined = time.monotonic()
    members.run(lambda: time.monotonic() > members.changed_at + QUIET_S)
    converged = members.changed_at
    members.latencies_s.clear()
    until = time.monotonic() + PACED_S
    members.run(lambda: time.monotonic() > until)
    paced_s, members.latencies_s = members.latencies_s, []
    flat_out_begun = time.monotonic()
    members.run(lambda: time.monotonic() > flat_out_begun + FLAT_OUT_S, flat_out=True)
    say(
        begun=begun,
        joined=joined,
        converged=converged,
        held=members.held,
        paced_per_s=len(paced_s) / PACED_S,
        beat_p99_ms=percentile(paced_s, 99) * 1000,
        beats_per_s=len(members.latencies_s) / (time.monotonic() - flat_out_begun),
    )
    members.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A role of the benchmark of groups.")
    roles = {"commit": commit, "crowd": crowd}
    parser.add_argument("role", choices=roles)
    parser.add_argument("--router", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    roles[options.role](options.router, options.group, options.count)


if __name__ == "__main__":
    main()

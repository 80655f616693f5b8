"""A member of a group as a process of its own: joins, reads, commits, and writes down all that it sees.

    python -m tests.support.groupmember ENDPOINT GROUP TOPIC HISTORY

It speaks the native protocol with nothing of Odradek's own code. Each line of the history is one JSON
array that was written before the next thing was done, so that kill -9 takes nothing back; times are
CLOCK_MONOTONIC in ns, which all processes share::

    [t, "assigned", member, epoch, [partitions]]        what a heartbeat's reply gave
    [t, "took", member, epoch, partition, position]     where reading begins: the committed offset
    [t, "delivered", member, epoch, partition, first, last]
    [t, "committing", member, epoch, {partition: offset}]
    [t, "committed", member, epoch, {partition: offset}, t of the committing]

SIGTERM lets it commit, leave and end.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import zmq

REPLY_TIMEOUT_MS = 1500
COMMIT_INTERVAL_S = 0.1
FETCH_BYTES = 20_000
IDLE_S = 0.02


class NoAnswer(Exception):
    """Nothing came in time; whether the request took effect is unknown."""


class Refused(Exception):
    """The broker answered with an error; the argument is its name."""


class GroupMember:
    """One member; ``run`` is its whole life."""

    def __init__(self, endpoint: str, group: str, topic: str, history: Path) -> None:
        self._endpoint, self._group, self._topic = endpoint, group, topic
        self._history = os.open(history, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._ids = itertools.count(1)
        self._id = str(uuid.uuid4())
        self._epoch = 0
        self._positions: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._leaving = False

    def leave_soon(self, *_: object) -> None:
        self._leaving = True

    def run(self) -> None:
        beat_at_s = commit_at_s = 0.0
        while not self._leaving:
            try:
                now_s = time.monotonic()
                if now_s >= beat_at_s:
                    beat_at_s = now_s + self._beat()
                if now_s >= commit_at_s:
                    commit_at_s = now_s + COMMIT_INTERVAL_S
                    self._commit(set(self._positions))
                if not self._read():
                    _idle()
            except (NoAnswer, Refused) as error:
                self._cope(error)
                beat_at_s = time.monotonic() + IDLE_S
        try:
            self._commit(set(self._positions))
            self._call("group_heartbeat", member_id=self._id, member_epoch=-1)
        except (NoAnswer, Refused):
            return

    def _cope(self, error: Exception) -> None:
        if str(error) in ("FENCED_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID"):
            self._epoch = 0
            self._positions, self._committed = {}, {}
        _idle()

    # -- what a member does ------------------------------------------------------------------------

    def _beat(self) -> float:
        """One heartbeat, and what its reply says; the seconds until the next one."""
        reply = self._call(
            "group_heartbeat",
            member_id=self._id,
            member_epoch=self._epoch,
            topics=[self._topic],
            rebalance_timeout_ms=10_000,
            owned=[{"topic": self._topic, "partitions": sorted(self._positions)}],
        )
        self._epoch = reply["member_epoch"]
        if reply["assignment"] is None:
            return float(reply["heartbeat_interval_ms"]) / 1000
        given = {number for row in reply["assignment"] for number in row["partitions"]}
        self._note("assigned", sorted(given))
        self._reconcile(given)
        return 0.0

    def _reconcile(self, given: set[int]) -> None:
        gone = set(self._positions) - given
        self._commit(gone)
        for partition in gone:
            self._positions.pop(partition, None)
            self._committed.pop(partition, None)
        new = sorted(given - set(self._positions))
        if not new:
            return
        asked = [{"topic": self._topic, "partitions": new}]
        for row in self._call("offset_fetch", topics=asked)["offsets"]:
            position = max(row["offset"], 0)
            self._note("took", row["partition"], position)
            self._positions[row["partition"]] = self._committed[row["partition"]] = position

    def _read(self) -> bool:
        """One fetch from each partition; whether there was anything."""
        found = False
        for partition, position in list(self._positions.items()):
            fields = {"topic": self._topic, "partition": partition, "offset": position}
            rows = self._call("fetch", **fields, max_wait_ms=0, max_bytes=FETCH_BYTES)["records"]
            offsets = [row["offset"] for row in rows]
            if offsets:
                assert offsets == list(range(position, position + len(offsets)))
                self._note("delivered", partition, offsets[0], offsets[-1])
                self._positions[partition] = offsets[-1] + 1
                found = True
        return found

    def _commit(self, partitions: set[int]) -> None:
        offsets = {
            number: self._positions[number]
            for number in sorted(partitions)
            if self._positions[number] > self._committed[number]
        }
        if not offsets:
            return
        begun_ns = self._note("committing", offsets)
        rows = [
            {"topic": self._topic, "partition": number, "offset": offset}
            for number, offset in offsets.items()
        ]
        reply = self._call("offset_commit", member_id=self._id, member_epoch=self._epoch, offsets=rows)
        stored = {row["partition"]: offsets[row["partition"]] for row in reply["offsets"] if not row["error"]}
        self._note("committed", stored, begun_ns)
        self._committed |= stored

    # -- the wire, and the history -----------------------------------------------------------------

    def _call(self, api: str, **fields: Any) -> dict[str, Any]:
        if self._socket is None:
            self._socket = self._context.socket(zmq.DEALER)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.connect(self._endpoint)
        number = next(self._ids)
        self._socket.send(json.dumps({"api": api, "id": number, "group": self._group, **fields}).encode())
        deadline_s = time.monotonic() + REPLY_TIMEOUT_MS / 1000
        while self._socket.poll(max(0, int((deadline_s - time.monotonic()) * 1000))):
            reply: dict[str, Any] = json.loads(self._socket.recv_multipart()[0])
            if reply["id"] == number:
                if reply["error"] is not None:
                    raise Refused(reply["error"]["name"])
                return reply
        self._socket.close()
        self._socket = None
        raise NoAnswer(api)

    def _note(self, kind: str, *details: object) -> int:
        now_ns = time.monotonic_ns()
        line = json.dumps([now_ns, kind, self._id, self._epoch, *details])
        os.write(self._history, line.encode() + b"\n")
        return now_ns


def _idle() -> None:
    threading.Event().wait(IDLE_S)


if __name__ == "__main__":
    member = GroupMember(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    signal.signal(signal.SIGTERM, member.leave_soon)
    member.run()

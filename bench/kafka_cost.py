"""What one request costs the gateway: the CPU time of its process, thread by thread, in short rounds.

``python -m bench.kafka_cost ADDRESS PID`` sends prepared requests over plain sockets, so that the client
costs little, and reads what Linux accounted to the gateway's threads meanwhile: the one that runs Python,
with its calls of the system, and those of libzmq. On a shared machine caches and stolen time only ever
make a round dearer, so the least of several rounds is what the code costs; the median says how it went.
"""

from __future__ import annotations

import selectors
import socket
import statistics
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.worker import say
from tests.support.batches import make_batch
from tests.support.kafka import KafkaSocket, fetch_body, framed, produce_body, request_frame

TOPIC = "bench-cost"
GROUP = "bench-cost"
VALUE_BYTES = 100
ROUNDS = 7
WARM_UP_REQUESTS = 200
REQUESTS_PER_ROUND = 1_000
CONNECTIONS = 16
PIPELINE = 4
"""Requests that each of several connections keeps under way."""
PRODUCE, FETCH, METADATA, HEARTBEAT, JOIN_GROUP, SYNC_GROUP = 0, 1, 3, 12, 11, 14
SESSION_MS = 300_000
RECEIVE_BYTES = 1 << 16


class Cpu(NamedTuple):
    """CPU time in nanoseconds: of the thread that runs Python, and of the others together."""

    python_ns: int
    other_ns: int

    @classmethod
    def of(cls, pid: int) -> Cpu:
        """Until now."""
        python_ns = other_ns = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            run_ns = int((task / "schedstat").read_text().split()[0])
            if task.name == str(pid):
                python_ns = run_ns
            else:
                other_ns += run_ns
        return cls(python_ns, other_ns)


class Case(NamedTuple):
    """A request that can be sent any number of times, and over how many connections."""

    name: str
    request: bytes
    connections: int = 1
    pipeline: int = 1


def _cases(address: str) -> list[Case]:
    batch = make_batch(1, payload=bytes(VALUE_BYTES))
    produce = framed(request_frame(PRODUCE, 7, 1, produce_body({(TOPIC, 0): batch})))
    fetch_all = fetch_body([(TOPIC, 0, 0)], partition_max_bytes=1)
    fetch = framed(request_frame(FETCH, 11, 1, {**fetch_all, "session_id": 0, "session_epoch": -1}))
    metadata = {"topics": [{"name": TOPIC}], "allow_auto_topic_creation": True}
    with KafkaSocket(address) as client:
        client.call(METADATA, 5, metadata)
        while client.call(METADATA, 5, metadata).topics[0].error_code.value:
            pass
        heartbeat = _join(client)
    return [
        Case("produce of one record, one connection in lock step", produce),
        Case(f"produce of one record, {PIPELINE} each of {CONNECTIONS} connections", produce, CONNECTIONS,
             PIPELINE),
        Case("fetch of one small batch", fetch),
        Case("metadata of one topic", framed(request_frame(METADATA, 5, 1, metadata))),
        Case("heartbeat of a group's member", framed(request_frame(HEARTBEAT, 3, 1, heartbeat))),
    ]  # fmt: skip


def _join(client: KafkaSocket) -> Mapping[str, Any]:
    """Become the only member of a group; the body of its heartbeats."""
    joined = client.call(JOIN_GROUP, 2, {
        "group_id": GROUP, "session_timeout": SESSION_MS, "rebalance_timeout": SESSION_MS, "member_id": "",
        "protocol_type": "consumer", "protocols": [{"name": "range", "metadata": b"\0"}],
    })  # fmt: skip
    member = {"group_id": GROUP, "generation_id": joined.generation_id, "member_id": joined.member_id}
    client.call(SYNC_GROUP, 1, {
        **member, "assignments": [{"member_id": joined.member_id, "assignment": b"\0"}],
    })  # fmt: skip
    return {**member, "group_instance_id": None}


class Load:
    """Connections that each keep so many of the same request under way."""

    def __init__(self, address: str, case: Case) -> None:
        host, _, port = address.rpartition(":")
        self._case = case
        self._selector = selectors.EpollSelector()
        self._left_bytes: dict[socket.socket, int] = {}
        self._connected = [socket.create_connection((host, int(port))) for _ in range(case.connections)]
        for connected in self._connected:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connected, selectors.EVENT_READ)
        self._response_bytes = self._probe(self._connected[0])

    def _probe(self, connected: socket.socket) -> int:
        connected.sendall(self._case.request)
        (size,) = struct.unpack(">i", connected.recv(4, socket.MSG_WAITALL))
        connected.recv(size, socket.MSG_WAITALL)
        return int(size) + 4

    def run(self, requests: int) -> None:
        """As many requests, spread over the connections; returns when all are answered."""
        unsent = requests
        received = dict.fromkeys(self._connected, 0)
        for connected in self._connected:
            connected.sendall(self._case.request * self._case.pipeline)
            unsent -= self._case.pipeline
        answered = 0
        while answered < requests:
            for key, _ in self._selector.select():
                connected = key.fileobj  # type: ignore[assignment]
                before = received[connected] // self._response_bytes
                received[connected] += len(connected.recv(RECEIVE_BYTES))
                done = received[connected] // self._response_bytes - before
                answered += done
                again = min(done, unsent)
                if again:
                    unsent -= again
                    connected.sendall(self._case.request * again)

    def close(self) -> None:
        self._selector.close()
        for connected in self._connected:
            connected.close()


def measure(address: str, pid: int) -> list[dict[str, Any]]:
    """Each case: microseconds of CPU for a request, of all threads and of the one that runs Python."""
    return [_measure_case(address, pid, case) for case in _cases(address)]


def _measure_case(address: str, pid: int, case: Case) -> dict[str, Any]:
    load = Load(address, case)
    load.run(WARM_UP_REQUESTS)
    rounds: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        before = Cpu.of(pid)
        load.run(REQUESTS_PER_ROUND)
        after = Cpu.of(pid)
        python_us = (after.python_ns - before.python_ns) / REQUESTS_PER_ROUND / 1000
        other_us = (after.other_ns - before.other_ns) / REQUESTS_PER_ROUND / 1000
        rounds.append((python_us + other_us, python_us))
    load.close()
    return {
        "name": case.name,
        "cpu_us": min(total for total, _ in rounds),
        "cpu_us_median": statistics.median(total for total, _ in rounds),
        "python_thread_us": min(python for _, python in rounds),
        "python_thread_us_median": statistics.median(python for _, python in rounds),
    }


if __name__ == "__main__":
    say(cases=measure(sys.argv[1], int(sys.argv[2])))

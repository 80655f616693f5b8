"""Strangers at the Kafka port of a real broker: refused or bounded, and nobody else notices."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

import odradek
from supervisor.exits import Exit
from tests.support.batches import make_batch
from tests.support.broker import BrokerProcess
from tests.support.kafka import KafkaSocket, fetch_body, produce_body

pytestmark = pytest.mark.processes

WAIT_S = 30.0
MIB = 1 << 20
MEMORY_BYTES_MAX = 256 * MIB
GARBAGE = {
    "noise": bytes(range(256)) * 300,
    "a length beyond what is taken": struct.pack(">i", 2**31 - 1),
    "a negative length": struct.pack(">i", -1),
    "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an array that claims to be endless": struct.pack(">ihhihi", 14, 3, 4, 1, -1, 2**31 - 1),
    "an unknown api": struct.pack(">ihhih", 10, 999, 0, 1, -1),
}


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(gateway_memory_bytes_max=MEMORY_BYTES_MAX) as process:
        with odradek.Admin(process.bootstrap) as admin:
            admin.create_topic("events", partitions=1)
        yield process


@pytest.fixture
def address(broker: BrokerProcess) -> str:
    return str(broker.ready["kafka"])


@pytest.fixture
def gateway(broker: BrokerProcess) -> Iterator[psutil.Process]:
    """The gateway's process, which must be the same one behind the test."""
    process = broker.child("gateway 0")
    yield process
    assert broker.child("gateway 0").pid == process.pid, broker.log()


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"


def produce(client: KafkaSocket, batch: bytes) -> int:
    """The offset of a batch that was taken."""
    response = client.call(0, 7, produce_body({("events", 0): batch}))
    (part,) = response.responses[0].partition_responses
    assert part.error_code.value == 0
    return int(part.base_offset)


def fetch(client: KafkaSocket, offset: int) -> bytes:
    response = client.call(1, 12, fetch_body([("events", 0, offset)]))
    (part,) = response.responses[0].partitions
    assert part.error_code.value == 0
    return bytes(part.records)


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_ends_its_connection_and_no_other(address: str, gateway: psutil.Process, what: str) -> None:
    with KafkaSocket(address) as good, KafkaSocket(address) as bad:
        batch = make_batch(2, payload=what.encode())
        offset = produce(good, batch)
        bad.socket.sendall(GARBAGE[what])
        assert bad.is_closed()
        assert fetch(good, offset)[16:] == batch[16:]
        produce(good, batch)


def test_large_requests_that_never_end_are_bounded(address: str, gateway: psutil.Process) -> None:
    with KafkaSocket(address) as good:
        flood = [KafkaSocket(address) for _ in range(200)]
        for client in flood:
            try:
                client.socket.sendall(struct.pack(">i", 60 * MIB) + bytes(2 * MIB))
            except ConnectionError:
                continue
        produce(good, make_batch())
        assert gateway.memory_full_info().uss < MEMORY_BYTES_MAX
        for client in flood:
            client.socket.close()
        produce(good, make_batch())


def test_who_never_reads_is_bounded(address: str, gateway: psutil.Process) -> None:
    with KafkaSocket(address) as good:
        first = produce(good, make_batch(payload=bytes(900_000)))
        for _ in range(20):
            produce(good, make_batch(payload=bytes(900_000)))
        greedy = [KafkaSocket(address) for _ in range(20)]  # five times what the gateway may hold
        for client in greedy:
            body = fetch_body(
                [("events", 0, first)], max_bytes=50 * MIB, partition_max_bytes=50 * MIB, wait_ms=0
            )
            for _ in range(4):
                try:
                    client.send(1, 12, body)
                except ConnectionError:
                    break
        for _ in range(20):
            produce(good, make_batch())
        assert len(fetch(good, first)) > 900_000
        assert gateway.memory_full_info().uss < MEMORY_BYTES_MAX
        for client in greedy:
            client.socket.close()


def test_2000_idle_connections_and_one_that_works(address: str, gateway: psutil.Process) -> None:
    before = gateway.num_fds()  # some of an earlier test may still be on their way out
    idle = [KafkaSocket(address) for _ in range(2_000)]
    eventually(lambda: gateway.num_fds() >= 2_000)
    with KafkaSocket(address) as good:
        offset = produce(good, make_batch(payload=b"in the crowd"))
        assert b"in the crowd" in fetch(good, offset)
    for client in idle:
        client.socket.close()
    eventually(lambda: gateway.num_fds() <= before + 5)


def test_connections_cut_in_the_middle_leave_nothing_behind(address: str, gateway: psutil.Process) -> None:
    before = gateway.num_fds()
    for number in range(300):
        client = KafkaSocket(address)
        client.send(1, 12, fetch_body([("events", 0, 10**6 if number % 2 else 0)], wait_ms=20_000))
        if number % 3 == 0:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
    eventually(lambda: gateway.num_fds() <= before + 5)
    with KafkaSocket(address) as good:
        produce(good, make_batch())


# -- the gateway as a process --------------------------------------------------------------------------


def test_a_killed_gateway_comes_back_where_it_was(broker: BrokerProcess, address: str) -> None:
    with KafkaSocket(address) as client:
        offset = produce(client, make_batch(payload=b"before"))
    former = broker.child("gateway 0").pid
    os.kill(former, signal.SIGKILL)
    eventually(lambda: any("gateway 0" in each for each in broker.titles()) and _answers(address))
    assert broker.child("gateway 0").pid != former
    with KafkaSocket(address) as client:
        assert b"before" in fetch(client, offset)
    with odradek.Admin(broker.bootstrap) as admin:
        (status,) = [actor for actor in admin.status() if actor.role == "gateway"]
    assert (status.name, status.state, status.restarts) == ("gateway:0", "serving", 1)


def _answers(address: str) -> bool:
    try:
        with KafkaSocket(address) as client:
            return bool(client.call(18, 0, {}).api_keys)
    except ConnectionError:
        return False


def test_a_taken_port_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        broker = BrokerProcess(tmp_path / "data", kafka_port=other.getsockname()[1])
        broker.start(wait=False)
        assert broker.wait() == Exit.PORT_IN_USE
        assert "choose another port with --kafka-port" in broker.log()
        broker.close()


def test_a_broker_without_gateways_has_no_kafka_port(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", gateways=0) as broker:
        assert (broker.ready["kafka"], broker.ready["gateways"]) == (None, [])
        assert not any("gateway" in title for title in broker.titles())

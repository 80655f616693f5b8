"""The Kafka listener over real sockets: order, bounds, and strangers of every kind."""

from __future__ import annotations

import resource
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.actor import KafkaClosed, KafkaEnvelope, Message
from actors.effects import KafkaReply
from actors.kafka.registry import SERVED
from tests.support.batches import make_batch
from tests.support.clock import FakeClock
from tests.support.kafka import KafkaSocket, fetch_body, framed, produce_body, request_frame
from transport.kafka import server as server_module
from transport.kafka.connection import FRAME_S_MAX, IDLE_S_MAX, REQUESTS_IN_FLIGHT_MAX, UNREAD_S_MAX
from transport.kafka.server import (
    HELD_BACK_S_MAX,
    MEMORY_SHARE,
    SHARE_BYTES_MIN,
    KafkaListener,
    KafkaServer,
    KafkaServerOptions,
)

HEARTBEAT = 12
API_VERSIONS = 18
TURNS_MAX = 5_000
HEARTBEAT_BODY = {"group_id": "g", "generation_id": 1, "member_id": "m"}


class Rig:
    """A server that is turned by hand, and what it heard."""

    def __init__(self, **options: Any) -> None:
        listener = KafkaListener("PLAINTEXT", "127.0.0.1", 0)
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.server = KafkaServer(
            KafkaServerOptions((listener,), SERVED, **options), lambda *line: self.logged.append(line)
        )
        self.address = self.server.bind()["PLAINTEXT"]
        self.clock = FakeClock()
        self.heard: list[KafkaEnvelope] = []
        self.closed: list[bytes] = []

    def turn(self) -> None:
        for message in self.server.receive(self.clock.now()):
            self._note(message)
        for message in self.server.flush(self.clock.now()):
            self._note(message)

    def _note(self, message: Message) -> None:
        if isinstance(message, KafkaEnvelope):
            self.heard.append(message)
        elif isinstance(message, KafkaClosed):
            self.closed.append(message.identity)

    def until(self, condition: Callable[[], bool]) -> None:
        """Turn until it is so; the loopback needs a moment for what was sent."""
        for _ in range(TURNS_MAX):
            if condition():
                return
            self.turn()
        raise AssertionError(f"{len(self.heard)} requests, {len(self.closed)} ends, {self.logged}")

    def hear(self, count: int = 1) -> list[KafkaEnvelope]:
        """The next requests."""
        self.until(lambda: len(self.heard) >= count)
        heard, self.heard = self.heard[:count], self.heard[count:]
        return heard

    def answer(self, envelope: KafkaEnvelope, body: dict[str, Any] | None, *, closes: bool = False) -> None:
        reply = KafkaReply(envelope.sender, envelope.api_key, envelope.version, body, closes)
        self.server.reply(reply)

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps in which the server sweeps."""
        self.clock.advance(seconds)
        self.turn()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.server.close()


def heartbeat(correlation_id: int) -> bytes:
    return framed(request_frame(HEARTBEAT, 0, correlation_id, HEARTBEAT_BODY))


# -- requests and answers ------------------------------------------------------------------------------


def test_a_request_comes_with_who_sent_it_and_the_answer_goes_back(rig: Rig) -> None:
    with KafkaSocket(rig.address) as client:
        asked = client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        (envelope,) = rig.hear()
        assert (envelope.peer.host, envelope.peer.listener) == ("127.0.0.1", "PLAINTEXT")
        assert (envelope.client_id, envelope.request.group_id) == ("test", "g")
        rig.answer(envelope, {"error_code": 27})
        rig.turn()
        correlation_id, response = client.receive(HEARTBEAT, 0)
        assert (correlation_id, response.error_code.value) == (asked, 27)


def test_answers_leave_in_the_order_of_the_requests(rig: Rig) -> None:
    with KafkaSocket(rig.address) as client:
        for _ in range(5):
            client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        envelopes = rig.hear(5)
        for number in (4, 2, 0, 3):
            rig.answer(envelopes[number], {"error_code": number})
        rig.turn()
        assert client.receive(HEARTBEAT, 0)[0] == 1
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.receive_frame()
        client.socket.settimeout(10)
        rig.answer(envelopes[1], None)  # acks=0: its place is given up, nothing is sent
        rig.turn()
        assert [client.receive(HEARTBEAT, 0)[0] for _ in range(3)] == [3, 4, 5]


def test_a_pipeline_is_taken_in_portions(rig: Rig) -> None:
    requests = 3 * REQUESTS_IN_FLIGHT_MAX + 7
    with KafkaSocket(rig.address) as client:
        client.socket.sendall(b"".join(heartbeat(number) for number in range(requests)))
        envelopes = rig.hear(REQUESTS_IN_FLIGHT_MAX)
        for _ in range(20):
            rig.turn()
        assert rig.heard == []
        answered = 0
        while answered < requests:
            envelope = envelopes.pop(0) if envelopes else rig.hear()[0]
            rig.answer(envelope, {"error_code": 0})
            rig.turn()
            assert client.receive(HEARTBEAT, 0)[0] == answered
            answered += 1
        assert rig.server.deadline() > 0


@pytest.mark.parametrize("size_bytes", [1, 200_000, 3_000_000])
def test_a_request_of_any_size_in_any_pieces(rig: Rig, size_bytes: int) -> None:
    batch = make_batch(payload=bytes(range(256)) * (size_bytes // 256 + 1))
    frame = framed(request_frame(0, 7, 1, produce_body({("t", 0): batch})))
    with KafkaSocket(rig.address) as client:
        for start in range(0, len(frame), 65_536):
            client.socket.sendall(frame[start : start + 65_536])
            rig.turn()
        (envelope,) = rig.hear()
        assert envelope.request.topic_data[0].partition_data[0].records == batch


def test_a_large_answer_leaves_as_the_client_reads(rig: Rig) -> None:
    records = bytes(range(256)) * 40_000
    part = {
        "partition_index": 0, "error_code": 0, "high_watermark": 1, "log_start_offset": 0,
        "records": (records, records),
    }  # fmt: skip
    with KafkaSocket(rig.address) as client:
        client.socket.settimeout(0.01)
        client.send(1, 12, fetch_body([("t", 0, 0)]))
        rig.answer(rig.hear()[0], {"responses": [{"topic": "t", "partitions": [part]}]})
        received = bytearray()
        while len(received) < 2 * len(records):
            rig.turn()
            try:
                received += client.socket.recv(1 << 20)
            except TimeoutError:
                continue
        assert received.count(records) == 2


def test_the_connection_ends_behind_the_answer_that_says_so(rig: Rig) -> None:
    with KafkaSocket(rig.address) as client:
        client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        first, _ = rig.hear(2)
        rig.answer(first, {"error_code": 58}, closes=True)
        rig.until(lambda: bool(rig.closed))
        assert client.receive(HEARTBEAT, 0)[1].error_code.value == 58
        assert client.is_closed()


def test_a_handlers_fault_ends_its_connection_only(rig: Rig) -> None:
    with KafkaSocket(rig.address) as client, KafkaSocket(rig.address) as other:
        client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        other.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        for envelope in rig.hear(2):
            rig.answer(envelope, {} if not rig.closed and not rig.logged else {"error_code": 0})
        rig.turn()
        assert len(rig.closed) == 1
        assert "error_code" in str(rig.logged[0][1]["error"])
        ended = [each.is_closed() for each in (client, other) if _has_ended(each)]
        assert ended == [True]


def _has_ended(client: KafkaSocket) -> bool:
    client.socket.settimeout(0.2)
    try:
        return client.socket.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True


# -- bad input -----------------------------------------------------------------------------------------

BAD = {
    "a negative length": struct.pack(">i", -5),
    "a length beyond what is taken": struct.pack(">i", (64 << 20) + 1),
    "a length that nothing follows, too small": struct.pack(">i", 3) + b"abc",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(200),
    "an unknown api": framed(struct.pack(">hhi", 999, 0, 1) + b"\xff\xff"),
    "a version that is not served": framed(struct.pack(">hhi", 1, 17, 1) + b"\xff\xff"),
    "a transaction": framed(struct.pack(">hhi", 24, 0, 1) + b"\xff\xff"),
    "a client id longer than the request": framed(struct.pack(">hhih", 3, 0, 1, 1000) + b"abc"),
    "a body that ends in the middle": framed(request_frame(1, 12, 1, fetch_body([("t", 0, 0)]))[:-9]),
    "an array that claims to be endless": framed(struct.pack(">hhihi", 3, 4, 1, -1, 2**31 - 1)),
    "noise": framed(bytes(range(3, 256))),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_ends_its_connection_and_no_other(rig: Rig, what: str) -> None:
    with KafkaSocket(rig.address) as good, KafkaSocket(rig.address) as bad:
        bad.socket.sendall(BAD[what])
        rig.until(lambda: bool(rig.closed))
        assert bad.is_closed()
        assert rig.heard == []
        assert rig.logged[0][0] == "a Kafka client sent what cannot be read"
        good.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        rig.answer(rig.hear()[0], {"error_code": 0})
        rig.turn()
        good.receive(HEARTBEAT, 0)


def test_a_client_that_goes_is_told_of(rig: Rig) -> None:
    with KafkaSocket(rig.address) as client:
        client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        (envelope,) = rig.hear()
    rig.until(lambda: rig.closed == [envelope.sender.identity])
    rig.answer(envelope, {"error_code": 0})  # nobody is there: nothing happens
    rig.turn()
    assert rig.server.connections == 0


def test_a_client_that_resets_while_it_is_not_read_does_not_spin(rig: Rig) -> None:
    client = KafkaSocket(rig.address)
    client.socket.sendall(b"".join(heartbeat(number) for number in range(REQUESTS_IN_FLIGHT_MAX)))
    rig.hear(REQUESTS_IN_FLIGHT_MAX)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()
    rig.until(lambda: len(rig.closed) == 1)
    assert rig.server.deadline() > 0


# -- time ----------------------------------------------------------------------------------------------


def test_half_a_request_has_its_time(rig: Rig) -> None:
    with KafkaSocket(rig.address) as client:
        client.socket.sendall(struct.pack(">i", 1_000) + b"half")
        rig.until(lambda: rig.server.connections == 1)
        for _ in range(50):
            rig.turn()
        rig.advance(FRAME_S_MAX - 1)
        assert rig.closed == []
        rig.advance(3)
        rig.until(lambda: len(rig.closed) == 1)
        assert rig.server.closed_by_reason["a request does not come to its end"] == 1
        assert client.is_closed()


def test_silence_has_its_time_unless_an_answer_is_due(rig: Rig) -> None:
    with KafkaSocket(rig.address), KafkaSocket(rig.address) as waiting:
        waiting.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        rig.hear()
        rig.until(lambda: rig.server.connections == 2)
        rig.advance(IDLE_S_MAX + 2)
        rig.until(lambda: len(rig.closed) == 1)
        assert rig.server.connections == 1
        assert rig.server.closed_by_reason["idle"] == 1


def fill(rig: Rig, client: KafkaSocket, size_bytes: int) -> None:
    """Give a client that does not read an answer of this size."""
    part = {
        "partition_index": 0, "error_code": 0, "high_watermark": 1, "log_start_offset": 0,
        "records": (bytes(size_bytes),),
    }  # fmt: skip
    client.send(1, 12, fetch_body([("t", 0, 0)]))
    rig.answer(rig.hear()[0], {"responses": [{"topic": "t", "partitions": [part]}]})
    rig.turn()


def test_who_does_not_read_is_not_read_and_then_gone(rig: Rig) -> None:
    with KafkaSocket(rig.address) as client, KafkaSocket(rig.address) as other:
        fill(rig, client, 16 << 20)
        client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        other.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        (heard,) = rig.hear()
        for _ in range(20):
            rig.turn()
        assert rig.heard == []
        rig.answer(heard, {"error_code": 0})
        rig.turn()
        other.receive(HEARTBEAT, 0)
        rig.advance(UNREAD_S_MAX + 2)
        rig.until(lambda: len(rig.closed) == 1)
        assert rig.server.closed_by_reason["responses are not read"] == 1


# -- bounds --------------------------------------------------------------------------------------------


def test_unread_answers_are_bounded_for_all_together(rig: Rig) -> None:
    clients = [KafkaSocket(rig.address) for _ in range(6)]
    for client in clients:
        fill(rig, client, 12 << 20)
    assert rig.server.closed_by_reason["too many bytes of responses are unread"] >= 1
    assert rig.server.connections * (12 << 20) <= SHARE_BYTES_MIN + (12 << 20)
    for client in clients:
        client.socket.close()


def test_who_hoards_unread_answers_goes_and_not_who_came_last() -> None:
    rig = Rig(memory_bytes_max=MEMORY_SHARE * (64 << 20))
    hoarder, slow, last = (KafkaSocket(rig.address) for _ in range(3))
    # The system takes some megabytes of each.
    fill(rig, hoarder, 60 << 20)
    fill(rig, slow, 8 << 20)
    assert not rig.closed
    fill(rig, last, 30 << 20)
    assert rig.server.closed_by_reason["too many bytes of responses are unread"] == 1
    assert hoarder.is_closed()
    assert rig.server.connections == 2
    for client in (hoarder, slow, last):
        client.socket.close()
    rig.server.close()


def test_requests_in_service_are_bounded_for_all_together(rig: Rig) -> None:
    batch = make_batch(payload=bytes(8 << 20))
    frame = framed(request_frame(0, 7, 1, produce_body({("t", 0): batch})))
    clients = [KafkaSocket(rig.address) for _ in range(14)]
    for client in clients:
        client.socket.setblocking(False)
    left = {client: memoryview(frame) for client in clients}
    for _ in range(TURNS_MAX):
        for client, rest in left.items():
            if len(rest):
                try:
                    left[client] = rest[client.socket.send(rest) :]
                except (BlockingIOError, ConnectionError):
                    continue
        rig.turn()
    # One share of requests in service, and what was under way when that was full.
    assert 1 <= len(rig.heard) <= 2 * SHARE_BYTES_MIN // (8 << 20) + 1
    for client in clients:
        client.socket.close()


def test_requests_that_wait_for_ever_hold_nobody_else_up_for_long(rig: Rig) -> None:
    """Joins and fetches may wait for hours; enough of them and nobody else would be read meanwhile."""
    batch = make_batch(payload=bytes(8 << 20))
    frame = framed(request_frame(0, 7, 1, produce_body({("t", 0): batch})))
    hoarders = [KafkaSocket(rig.address) for _ in range(SHARE_BYTES_MIN // (8 << 20))]
    for hoarder in hoarders:
        hoarder.socket.setblocking(False)
        rest = memoryview(frame)
        for _ in range(TURNS_MAX):
            if not rest:
                break
            try:
                rest = rest[hoarder.socket.send(rest) :]
            except BlockingIOError:
                rig.turn()
    rig.until(lambda: len(rig.heard) == len(hoarders))
    with KafkaSocket(rig.address) as other:
        other.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        for _ in range(20):
            rig.turn()
        assert len(rig.heard) == len(hoarders), "there is room for no more"
        for _ in range(int(HELD_BACK_S_MAX) + 3):
            rig.advance(1)
        assert 0 < len(rig.closed) < len(hoarders), "as few as make room"
        assert rig.server.closed_by_reason["requests that wait take too much room"] == len(rig.closed)
        heard = rig.hear(len(hoarders) + 1)[-1]
        rig.answer(heard, {"error_code": 0})
        rig.turn()
        assert other.receive(HEARTBEAT, 0)[1].error_code.value == 0
    for hoarder in hoarders:
        hoarder.socket.close()


def test_bytes_of_unfinished_requests_are_bounded_for_all_together(rig: Rig) -> None:
    clients = [KafkaSocket(rig.address) for _ in range(40)]
    for client in clients:
        client.socket.sendall(struct.pack(">i", 32 << 20) + bytes(1 << 20))
        for _ in range(8):
            rig.turn()
    rig.until(lambda: rig.server.closed_by_reason["too many bytes of requests that are not whole"] >= 1)
    assert rig.server.connections >= 8
    for client in clients:
        client.socket.close()


def test_connections_are_bounded() -> None:
    rig = Rig(connections_max=3)
    clients = [KafkaSocket(rig.address) for _ in range(5)]
    rig.until(lambda: rig.server.closed_by_reason["too many connections"] == 2)
    assert rig.server.connections == 3
    clients[0].socket.close()
    rig.until(lambda: rig.server.connections == 2)
    with KafkaSocket(rig.address) as late:
        late.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        rig.hear()
    for client in clients:
        client.socket.close()
    rig.server.close()


def test_without_descriptors_it_waits_and_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with KafkaSocket(rig.address) as first:
        rig.until(lambda: rig.server.connections == 1)
        second = KafkaSocket(rig.address)
        former = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = socket.socket()
        limit = lowest_free.fileno()
        lowest_free.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, former[1]))
        try:
            rig.until(lambda: bool(rig.logged))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, former)
        assert rig.logged[0][0] == "no more connections for now"
        first.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        rig.hear()
        rig.advance(server_module.ACCEPT_PAUSE_S + server_module.SWEEP_INTERVAL_S)
        rig.until(lambda: rig.server.connections == 2)
        second.socket.close()


def test_2000_idle_connections_cost_little_and_harm_nobody() -> None:
    rig = Rig()
    idle = []
    for _ in range(2_000):
        idle.append(KafkaSocket(rig.address))
        rig.turn()
    rig.until(lambda: rig.server.connections == 2_000)
    with KafkaSocket(rig.address) as client:
        client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        rig.answer(rig.hear()[0], {"error_code": 0})
        rig.turn()
        client.receive(HEARTBEAT, 0)
    for each in idle:
        each.socket.close()
    rig.until(lambda: rig.server.connections == 0)
    rig.server.close()


# -- the end -------------------------------------------------------------------------------------------


def test_a_port_in_use_says_so(rig: Rig) -> None:
    port = int(rig.address.rpartition(":")[2])
    second = KafkaServer(
        KafkaServerOptions((KafkaListener("PLAINTEXT", "127.0.0.1", port),), SERVED), lambda *line: None
    )
    with pytest.raises(OSError, match="in use"):
        second.bind()
    second.close()


def test_an_ipv6_listener() -> None:
    options = KafkaServerOptions((KafkaListener("PLAINTEXT", "::1", 0),), SERVED)
    made = KafkaServer(options, lambda *line: None)
    try:
        address = made.bind()["PLAINTEXT"]
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    assert address.startswith("[::1]:")
    made.close()

"""Host over real sockets in one process: what peers send, what they hear, and who else must not notice."""

from __future__ import annotations

import errno
import itertools
import json
import socket as plain_socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from actors.actor import Answer, Envelope, Message, Moment, Synced, Undeliverable
from actors.effects import Effect, Fail, Forward, Link, Log, Reply, Sync, Unlink
from actors.messages import ChildBeat, ChildFailed, ChildReady, Configure, Stop
from odradek.protocol.codec import Encoding, RequestDecoder, encode
from odradek.protocol.errors import InvalidConfig, KafkaStorageError
from odradek.protocol.messages import (
    FRAME_BYTES_MAX,
    AlterConfigs,
    Fetch,
    FetchReply,
    ListOffsets,
    ListOffsetsReply,
    Ping,
    PingReply,
    Produce,
    Status,
    StatusReply,
)
from transport.control import ControlServer, control_identity
from transport.host import TURN_BYTES_MAX, UNREAD, ActorFailedError, Host, HostOptions, Listener
from transport.outbox import PEER_BYTES_MAX

WAIT_MS = 30_000
NAME, INCARNATION = "router:0", 3
MIB = 1 << 20
ZEROES = bytes(2 * MIB)


class Echo:
    """Answers ping with its payload; passes list_offsets to the actor "next" and status to the supervisor;
    answers produce after a sync."""

    def __init__(self) -> None:
        self.tickets: dict[Any, Reply] = {}
        self.waiting: dict[int, Envelope] = {}
        self.configured: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.syncing = threading.Event()
        self.disk_fails = False
        self.fetched = 0
        self.fetched_by_turn: list[int] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.links: list[Effect] = []
        self.stopped = False

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        match message:
            case Envelope(request=Ping(), sender=sender, payload=payload):
                return (Reply(sender, PingReply(), [bytes(frame) for frame in payload]),)
            case Envelope(request=Configure(config=config)):
                self.configured.append(config)
                return (Log("configured", dict(config)), *self.links)
            case Envelope(request=Fetch(max_bytes=size_bytes), sender=sender):
                self.fetched += 1
                return (Reply(sender, FetchReply(), [memoryview(ZEROES)[:size_bytes]]),)
            case Envelope(request=Produce(), sender=sender):
                self.tickets[self] = Reply(sender, PingReply())
                return (Sync(self),)
            case Envelope(request=request):
                token = len(self.waiting) + 1
                self.waiting[token] = message
                address = "next" if isinstance(request, ListOffsets) else "supervisor"
                return (Forward(address, request, token, message.payload),)
            case Answer(token=token, reply=reply, payload=payload):
                return (Reply(self.waiting[token].sender, reply, payload),)
            case Undeliverable(token=token, error=error):
                return (Reply(self.waiting[token].sender, PingReply(error=error.wire())),)
            case Synced(ticket=ticket, error=None):
                return (self.tickets.pop(ticket),)
            case Synced(ticket=ticket, error=error):
                self.tickets.pop(ticket)
                return (Fail(KafkaStorageError(str(error))),)
        raise AssertionError(message)

    def run(self) -> None:
        self.syncing.set()
        assert self.gate.wait(WAIT_MS / 1000)
        if self.disk_fails:
            raise OSError(errno.EIO, "the disk is gone")

    def settle(self, now: Moment) -> Sequence[Effect]:
        assert self.goes_on.wait(WAIT_MS / 1000)
        self.fetched_by_turn.append(self.fetched)
        return ()

    def deadline(self) -> float | None:
        return None

    def stop(self, now: Moment) -> Sequence[Effect]:
        assert not self.tickets, "a sync was still out"
        self.stopped = True
        return ()


class Running:
    """A host in a thread of its own, its supervisor's end, and clients."""

    def __init__(self, directory: Path, memory_bytes_max: int = 0) -> None:
        self.directory = directory
        self.memory_bytes_max = memory_bytes_max
        self.actor = Echo()
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.control = ControlServer(f"ipc://{directory}/control")
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._bound = threading.Event()
        self.endpoints: dict[str, str] = {}
        self.failure: BaseException | None = None
        self._sockets: list[zmq.Socket[bytes]] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._bound.wait(WAIT_MS / 1000)
        self.hear(ChildReady)

    def _serve(self) -> None:
        options = HostOptions(
            NAME,
            INCARNATION,
            f"ipc://{self.directory}/control",
            (Listener("public", "tcp://127.0.0.1:0"), Listener("inner", f"ipc://{self.directory}/inner")),
            beat_interval_s=0.05,
            memory_bytes_max=self.memory_bytes_max,
        )
        self.host = host = Host(options, lambda event, fields: self.logged.append((event, fields)))
        try:
            self.endpoints = host.bind()
            self._bound.set()
            host.run(self.actor, ChildReady(name=NAME, incarnation=INCARNATION))
        except BaseException as error:
            self.failure = error
        finally:
            host.close()

    @property
    def dropped(self) -> Counter[str]:
        return self.host.dropped

    def socket(self, kind: int) -> zmq.Socket[bytes]:
        """A socket that is closed with everything else."""
        socket = self.context.socket(kind)
        self._sockets.append(socket)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVTIMEO, WAIT_MS)
        return socket

    def client(self, kind: int = zmq.DEALER, listener: str = "public") -> zmq.Socket[bytes]:
        socket = self.socket(kind)
        socket.connect(self.endpoints[listener])
        return socket

    def hear(self, kind: type, count: int = 1) -> list[Any]:
        """The next envelopes at the supervisor whose request is of this kind."""
        found: list[Any] = []
        for _ in range(1_000):
            envelopes, _ = self.control.wait(WAIT_MS / 1000)
            assert envelopes, f"no {kind.__name__} came"
            found += [envelope for envelope in envelopes if isinstance(envelope.request, kind)]
            if len(found) >= count:
                return found
        raise AssertionError(f"only beats and no {kind.__name__}")

    def tell(self, message: Any) -> None:
        assert self.control.tell(NAME, INCARNATION, message)

    def join(self) -> None:
        self._thread.join(WAIT_MS / 1000)
        assert not self._thread.is_alive()
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.actor.gate.set()
        if self._thread.is_alive():
            self.tell(Stop())
        for socket in self._sockets:
            socket.close()
        self.context.term()
        self._thread.join(WAIT_MS / 1000)
        self.control.close()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.close()


def ask(socket: zmq.Socket[bytes], header: bytes, *payload: bytes) -> list[bytes]:
    socket.send_multipart([header, *payload])
    return socket.recv_multipart()


def ping(request_id: Any = 1) -> bytes:
    return json.dumps({"api": "ping", "id": request_id}).encode()


# -- requests ----------------------------------------------------------------------------------------------

ENCODERS: list[Callable[[Any], bytes]] = [msgspec.json.encode, msgspec.msgpack.encode]


@pytest.mark.parametrize("encoder", ENCODERS, ids=["json", "msgpack"])
@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER], ids=["req", "dealer"])
@pytest.mark.parametrize("listener", ["public", "inner"])
def test_a_request_is_answered_in_its_own_way(
    running: Running, encoder: Callable[[Any], bytes], kind: int, listener: str
) -> None:
    header, *payload = ask(running.client(kind, listener), encoder({"api": "ping", "id": 7}), b"x", b"", b"y")
    decode = msgspec.json.decode if encoder is msgspec.json.encode else msgspec.msgpack.decode
    assert decode(header) == {"id": 7, "error": None}
    assert payload == [b"x", b"", b"y"]


def test_replies_find_the_client_that_asked(running: Running) -> None:
    clients = [running.client() for _ in range(5)]
    for number, client in enumerate(clients):
        for request in range(20):
            client.send_multipart([ping(request), b"%d" % number])
    for number, client in enumerate(clients):
        replies = [client.recv_multipart() for _ in range(20)]
        assert [json.loads(header)["id"] for header, _ in replies] == list(range(20))
        assert {payload for _, payload in replies} == {b"%d" % number}


def test_large_payloads_come_back_whole(running: Running) -> None:
    payload = bytes(range(256)) * 16_384
    assert ask(running.client(), ping(), payload)[1] == payload


@pytest.mark.parametrize(
    "frames",
    [[b""], [b"", b""], [b"garbage"], [b"{"], [b"\x81"], [b'{"api":"stop"}'], [b'{"api":"child_beat"}']],
)
def test_what_cannot_be_read_is_answered_and_the_connection_is_unharmed(
    running: Running, frames: list[bytes]
) -> None:
    client = running.client()
    client.send_multipart(frames)
    *_, header = client.recv_multipart()
    decode = msgspec.json.decode if header.startswith(b"{") else msgspec.msgpack.decode
    assert decode(header)["error"]["name"] == "INVALID_REQUEST"
    assert json.loads(ask(client, ping(2))[0]) == {"id": 2, "error": None}


def test_a_frame_that_is_too_large_drops_its_connection_and_no_other(running: Running) -> None:
    """The client reconnects by itself, so what shows is that its oversized request is never answered."""
    bystander, sinner = running.client(), running.client()
    ask(bystander, ping())
    events = sinner.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    sinner.send_multipart([ping("huge"), bytes(FRAME_BYTES_MAX + 1)])
    assert events.poll(WAIT_MS), "the connection was not dropped"
    sinner.disable_monitor()
    events.close()
    assert json.loads(ask(bystander, ping(2))[0])["id"] == 2
    assert json.loads(ask(running.client(), ping(3))[0])["id"] == 3


def test_peers_that_vanish_and_peers_that_speak_another_language(running: Running) -> None:
    for _ in range(20):
        client = running.client()
        client.send_multipart([ping(), bytes(1_000)])
        client.close(linger=0)
    host, port = running.endpoints["public"].removeprefix("tcp://").split(":")
    for greeting in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100):
        with plain_socket.create_connection((host, int(port))) as raw:
            raw.sendall(greeting)
    assert json.loads(ask(running.client(), ping())[0])["id"] == 1


# -- the disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the last sync had been slow: the next runs on the thread."""
    monkeypatch.setattr("transport.syncer.INLINE_SYNC_S_MAX", 0.0)


@pytest.mark.usefixtures("slow_disk")
def test_the_loop_serves_while_a_sync_runs(running: Running) -> None:
    running.actor.gate.clear()
    writer, other = running.client(), running.client()
    writer.send(encode(Produce(topic="t", id=1), Encoding.JSON))
    assert running.actor.syncing.wait(WAIT_MS / 1000)
    ask(other, ping())
    assert writer.poll(0) == 0
    running.actor.gate.set()
    assert json.loads(writer.recv())["id"] == 1


@pytest.mark.usefixtures("slow_disk")
def test_stop_waits_for_the_sync_that_is_out_and_still_beats(running: Running) -> None:
    running.actor.gate.clear()
    writer = running.client()
    writer.send(encode(Produce(topic="t", id=1), Encoding.JSON))
    assert running.actor.syncing.wait(WAIT_MS / 1000)
    running.tell(Stop())
    running.hear(ChildBeat, 5)
    assert not running.actor.stopped
    running.actor.gate.set()
    assert json.loads(writer.recv())["id"] == 1, "what was accepted is answered"
    running.join()
    assert running.actor.stopped


@pytest.mark.usefixtures("slow_disk")
def test_a_last_sync_that_fails_is_no_good_end(running: Running) -> None:
    running.actor.gate.clear()
    running.actor.disk_fails = True
    running.client().send(encode(Produce(topic="t", id=1), Encoding.JSON))
    assert running.actor.syncing.wait(WAIT_MS / 1000)
    running.tell(Stop())
    running.hear(ChildBeat, 5)  # it has heard, and waits for the sync
    running.actor.gate.set()
    with pytest.raises(ActorFailedError, match="the disk is gone"):
        running.join()
    running.failure = None
    assert running.actor.stopped


# -- what is kept in memory --------------------------------------------------------------------------------


def fetch(request_id: int, size_bytes: int) -> bytes:
    return encode(Fetch(topic="t", partition=0, offset=0, max_bytes=size_bytes, id=request_id), Encoding.JSON)


def outcomes(client: zmq.Socket[bytes], count: int) -> tuple[int, int]:
    """How many of the next replies brought a payload, and how many said that too much was unread."""
    served = refused = 0
    for _ in range(count):
        header, *payload = client.recv_multipart()
        error = json.loads(header)["error"]
        if error is None:
            assert payload
            served += 1
        else:
            assert (error["name"], error["retriable"], payload) == ("THROTTLING_QUOTA_EXCEEDED", True, [])
            refused += 1
    return served, refused


def deaf(running: Running) -> zmq.Socket[bytes]:
    """A client that keeps one reply, of those that it does not read."""
    socket = running.socket(zmq.DEALER)
    socket.set(zmq.RCVHWM, 1)
    socket.set(zmq.RCVBUF, 65_536)
    socket.connect(running.endpoints["public"])
    return socket


@pytest.mark.parametrize(("size_bytes", "count"), [(MIB, 1_200), (30_000, 5_000)])
def test_who_asks_and_does_not_read_is_refused_beyond_a_bound_and_served_once_it_reads(
    running: Running, size_bytes: int, count: int
) -> None:
    sinner, bystander = deaf(running), running.client()
    for number in range(count):
        sinner.send(fetch(number, size_bytes))
    sinner.send(ping(count))
    while running.actor.fetched < count:
        ask(bystander, ping())
    assert len(ask(bystander, fetch(1, MIB))) == 2, "others are served"
    served, refused = outcomes(sinner, count)
    assert refused
    # Beside the bound there is what the connection itself holds on its way.
    assert served * size_bytes < PEER_BYTES_MAX + 16 * MIB
    assert json.loads(sinner.recv())["id"] == count, "small replies are never refused"
    sinner.send(fetch(1, size_bytes))
    assert outcomes(sinner, 1) == (1, 0), "it has read everything"


def test_a_turn_ends_when_it_has_given_back_much(running: Running) -> None:
    client = running.client()
    assert json.loads(ask(client, ping())[0])["id"] == 1
    running.actor.goes_on.clear()
    count = 60
    for request_id in range(count):
        client.send(fetch(request_id, len(ZEROES)))
    running.actor.goes_on.set()
    outcomes(client, count)
    turns = [after - before for before, after in itertools.pairwise(running.actor.fetched_by_turn)]
    assert sum(turns) == count
    assert max(turns) <= TURN_BYTES_MAX // len(ZEROES)


def test_what_was_dropped_is_logged_once_for_each_kind(running: Running) -> None:
    sinner = deaf(running)
    for number in range(100):
        sinner.send(fetch(number, 2 * MIB))
    bystander = running.client()
    while not [fields for event, fields in running.logged if event == "replies dropped"]:
        ask(bystander, ping())
    (fields,) = (fields for event, fields in running.logged if event == "replies dropped")
    assert fields["why"] == UNREAD
    running.tell(Stop())
    running.join()
    counts = [int(str(fields["count"])) for event, fields in running.logged if event == "replies dropped"]
    assert sum(counts) == running.dropped[UNREAD], "the last ones are told at the end"
    assert len(counts) <= 2


def test_a_process_that_holds_too_much_memory_ends_and_says_so(tmp_path: Path) -> None:
    running = Running(tmp_path, memory_bytes_max=1)
    with pytest.raises(ActorFailedError, match=r"bytes of memory, more than 1$"):
        running.join()
    running.failure = None
    running.close()


# -- the supervisor and other actors -----------------------------------------------------------------------


def test_beats_come_from_the_loop_with_name_and_incarnation(running: Running) -> None:
    beat = running.hear(ChildBeat, 2)[0]
    assert (beat.request.name, beat.request.incarnation) == (NAME, INCARNATION)
    assert beat.sender.identity == control_identity(NAME, INCARNATION)


def test_the_supervisor_tells_and_is_asked(running: Running) -> None:
    running.tell(Configure(config={"a": 1}))
    client = running.client()
    client.send(encode(Status(id="s"), Encoding.JSON))
    (asked,) = running.hear(Status)
    assert running.control.reply(asked.sender, StatusReply(actors=[]))
    assert json.loads(client.recv()) == {"id": "s", "error": None, "actors": []}
    assert running.actor.configured == [{"a": 1}]
    assert ("configured", {"a": 1}) in running.logged


def test_what_cannot_be_passed_on_is_answered(running: Running) -> None:
    client = running.client()
    client.send(b'{"api":"alter_configs","topic":"t","id":1,"config":{"x":%d}}' % 2**70)
    assert json.loads(client.recv())["error"]["name"] == "INVALID_REQUEST"
    client.send(encode(ListOffsets(topic="t", partition=0, at="latest", id=2), Encoding.JSON))
    assert json.loads(client.recv())["error"]["name"] == "LEADER_NOT_AVAILABLE"
    assert AlterConfigs in {type(envelope.request) for envelope in running.actor.waiting.values()}


def test_two_hosts_link_to_link(running: Running, tmp_path: Path) -> None:
    inner = running.socket(zmq.ROUTER)
    inner.bind(f"ipc://{tmp_path}/next")
    running.actor.links = [Link("next", f"ipc://{tmp_path}/next")]
    running.tell(Configure(config={}))
    client = running.client()
    while not running.actor.configured:
        ask(client, ping())
    client.send_multipart([encode(ListOffsets(topic="t", partition=0, at=5, id="mine"), Encoding.JSON), b"p"])
    assert inner.poll(WAIT_MS)
    identity, header, payload = inner.recv_multipart()
    request, _ = RequestDecoder([ListOffsets]).decode(header)
    assert (request.at, payload) == (5, b"p")
    inner.send_multipart(
        [identity, encode(ListOffsetsReply(id=request.id, offset=9), Encoding.MSGPACK), b"q"]
    )
    header, payload = client.recv_multipart()
    assert (json.loads(header)["id"], json.loads(header)["offset"], payload) == ("mine", 9, b"q")
    running.actor.links = [Unlink("next")]
    running.tell(Configure(config={}))
    while len(running.actor.configured) < 2:
        ask(client, ping())
    client.send(encode(ListOffsets(topic="t", partition=0, at=5, id=2), Encoding.JSON))
    assert json.loads(client.recv())["error"]["name"] == "LEADER_NOT_AVAILABLE"


def test_the_supervisors_end_refuses_strangers_and_knows_who_is_not_there(running: Running) -> None:
    assert not running.control.tell(NAME, INCARNATION + 1, Stop())
    stranger = running.socket(zmq.DEALER)
    stranger.connect(f"ipc://{running.directory}/control")
    stranger.send_multipart([b"garbage"])
    while not stranger.poll(10):
        running.control.wait(0.01)
    assert json.loads(stranger.recv())["error"]["name"] == "INVALID_REQUEST"


def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    control = ControlServer(f"ipc://{tmp_path}/control")
    host = Host(HostOptions("a", 1, f"ipc://{tmp_path}/control"), lambda event, fields: None)
    host.fail(InvalidConfig("no"))
    failed: list[Any] = []
    for _ in range(1_000):
        failed += [item for item in control.wait(0.01)[0] if isinstance(item.request, ChildFailed)]
        if failed:
            break
    assert failed[0].request.error == InvalidConfig("no").wire()
    host.close()
    control.close()

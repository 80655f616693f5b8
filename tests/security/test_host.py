"""A host behind CURVE, in this process: what its actor hears, and what it never does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zmq

from actors.actor import Envelope, Message, Moment
from actors.effects import Effect, Reply
from actors.messages import Access, ChildReady, Stop
from odradek.protocol.messages import PingReply
from tests.security.door import OUTSIDE_S, knocking
from transport import host as hosts
from transport import sockets
from transport.control import ControlServer
from transport.host import Host, HostOptions, Listener
from transport.keys import KeyPair, new_key_pair

SERVER, ALICE, STRANGER = new_key_pair(), new_key_pair(), new_key_pair()
WAIT_MS = 30_000
NAME, INCARNATION = "router:0", 1
PING = b'{"api": "ping"}'
ALICE_ALLOWED = Access(version=1, enforced=False, principals={ALICE.public: "User:alice"})


class Listening:
    """An actor that answers whatever it hears, and remembers from whom."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.told: list[Access] = []

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        assert isinstance(message, Envelope)
        if isinstance(message.request, Access):
            self.told.append(message.request)
            return ()
        self.heard.append((message.principal, message.host))
        return (Reply(message.sender, PingReply()),)

    def settle(self, now: Moment) -> Sequence[Effect]:
        return ()

    def deadline(self) -> float | None:
        return None

    def stop(self, now: Moment) -> Sequence[Effect]:
        return ()


class Running:
    """A host in a thread, and the supervisor's end of its control link."""

    def __init__(self, directory: Path) -> None:
        self.actor = Listening()
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.control = ControlServer(f"ipc://{directory}/control")
        options = HostOptions(
            NAME,
            INCARNATION,
            f"ipc://{directory}/control",
            (Listener("public", "tcp://127.0.0.1:0"), Listener("inner", f"ipc://{directory}/inner")),
            beat_interval_s=0.05,
            keys=SERVER,
            access=ALICE_ALLOWED,
        )
        self.host = Host(options, lambda event, fields: self.logged.append((event, fields)))
        self.endpoints = self.host.bind()
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        try:
            self.host.run(self.actor, ChildReady(name=NAME, incarnation=INCARNATION))
        finally:
            self.host.close()

    def tell(self, message: Access | Stop) -> None:
        for _ in range(100):
            if self.control.tell(NAME, INCARNATION, message):
                return
            self.control.wait(0.05)
        raise AssertionError("the host never reached its supervisor")

    def close(self) -> None:
        self.tell(Stop())
        self._thread.join(WAIT_MS / 1000)
        assert not self._thread.is_alive()
        self.control.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.close()


def answer_to(
    running: Running, pair: KeyPair | None, wait_ms: int = WAIT_MS, listener: str = "public"
) -> str | None:
    """What a client with that pair hears to a ping: the error's name, "" for none; None for silence."""
    with knocking(SERVER.public, pair) as client:
        client.connect(running.endpoints[listener])
        client.send(PING)
        if not client.poll(wait_ms):
            return None
        error = json.loads(client.recv())["error"]
        return str(error["name"]) if error else ""


OUTSIDE_MS = int(OUTSIDE_S * 1000)


def test_the_actor_hears_who_asks_and_from_where(running: Running) -> None:
    assert answer_to(running, ALICE) == ""
    assert running.actor.heard == [("User:alice", "127.0.0.1")]


@pytest.mark.parametrize("pair", [STRANGER, None], ids=["unknown key", "no key"])
def test_the_actor_never_hears_of_others(running: Running, pair: KeyPair | None) -> None:
    assert answer_to(running, pair, OUTSIDE_MS) is None
    assert running.actor.heard == []


def test_those_who_were_refused_are_told_to_the_log(running: Running) -> None:
    assert answer_to(running, STRANGER, OUTSIDE_MS) is None
    while not running.logged:
        running.control.wait(0.05)
    assert running.logged == [
        ("connections refused", {"level": "warning", "why": "unknown key", "count": 1}),
    ]


def test_inner_sockets_need_no_key_because_their_directory_is_private(running: Running) -> None:
    assert answer_to(running, None, listener="inner") == ""
    assert running.actor.heard == [("User:ANONYMOUS", "")]


def test_the_supervisors_news_change_the_door_and_reach_the_actor(running: Running) -> None:
    with knocking(SERVER.public, ALICE) as client:
        client.connect(running.endpoints["public"])
        client.send(PING)
        assert client.poll(WAIT_MS)
        client.recv()
        running.tell(Access(version=2, enforced=False, principals={STRANGER.public: "User:new"}))
        while not running.actor.told:
            running.control.wait(0.05)
        client.send(PING)
        assert client.poll(WAIT_MS)
        assert json.loads(client.recv())["error"]["message"] == hosts.REVOKED
    assert answer_to(running, STRANGER) == ""
    assert answer_to(running, ALICE, OUTSIDE_MS) is None
    assert running.actor.heard == [("User:alice", "127.0.0.1"), ("User:new", "127.0.0.1")]


def test_when_the_doorkeeper_is_dead_nobody_comes_in(tmp_path: Path) -> None:
    running = Running(tmp_path)
    doorkeeper = running.host._doorkeeper
    assert doorkeeper is not None
    running.host._poller.unregister(doorkeeper.socket)
    doorkeeper.socket.close(0)
    running.start()
    try:
        assert answer_to(running, ALICE, OUTSIDE_MS) is None
        assert answer_to(running, STRANGER, OUTSIDE_MS) is None
        assert running.actor.heard == []
    finally:
        running.close()


def test_a_socket_that_forgot_to_demand_keys_lets_nobody_be_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second lock: libzmq lets everybody in, and the host still hears nobody."""
    monkeypatch.setattr(sockets, "_demand_curve", lambda _socket, _keys: None)
    running = Running(tmp_path)
    running.start()
    try:
        assert answer_to(running, None, OUTSIDE_MS) is None
        assert running.actor.heard == []
    finally:
        running.close()


def test_the_door_needs_a_libzmq_that_has_curve() -> None:
    assert zmq.has("curve")
    assert zmq.zmq_version_info() >= (4, 3, 5)

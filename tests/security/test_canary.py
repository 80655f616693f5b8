"""Row 22: nothing that came from a socket is ever unpickled. A canary in every field never sings."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from odradek.protocol.messages import APIS
from tests.security.canary import CAUGHT, PROJECT, canaries, infected, infected_frames, requests
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient

TOPIC = "aviary"
"""No request of the conformance tests names it: what is deleted, or made, is another one."""
PATIENCE_MS = 40_000
BROKER_FRAMES_STEP = 7
"""Of all frames, each so-manyth goes to a real broker: a prime, so that every request has its turn."""


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return tmp_path / "song"


def test_a_canary_sings_when_it_is_loaded(song: Path) -> None:
    for canary in canaries(song)[:2]:
        pickle.loads(canary)
        assert song.read_text() == "sang"
        song.unlink()
    pickle.loads(canaries(song)[2]).close()
    assert song.exists()


def test_every_request_is_infected_in_every_field(song: Path) -> None:
    assert {header["api"] for header in requests()} == set(APIS)
    header = {"api": "x", "topics": [{"name": "a", "config": {"b": 1}}]}
    assert len(list(infected(header, b"c"))) == 6
    assert list(infected({"api": "x"}, "c")) == [{"api": "c"}, {"api": "x", "c": "c"}]


def run_program(song: Path, *, loads: bool) -> subprocess.CompletedProcess[str]:
    saboteur = (
        "import pickle, odradek.protocol.codec as codec;"
        "decode = codec.RequestDecoder.decode;"
        "codec.RequestDecoder.decode = lambda self, frame: (pickle.loads(frame), None) "
        "if bytes(frame[:1]) == bytes([128]) else decode(self, frame);"
    )
    program = (
        f"import sys; from pathlib import Path; {saboteur if loads else ''}"
        f"from tests.security.canary import main; sys.exit(main(Path({str(song)!r})))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False
    )


def test_no_code_is_loaded_while_messages_are_read_and_decided_upon(song: Path) -> None:
    result = run_program(song, loads=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 1_000
    assert not song.exists()


def test_the_hook_catches_a_decoder_that_unpickles(song: Path) -> None:
    """The protection switched off: such a decoder is caught."""
    result = run_program(song, loads=True)
    assert result.returncode == CAUGHT or song.exists(), result.stdout + result.stderr


# -- a real broker -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess() as started:
        with RawClient(started.bootstrap) as client:
            client.call("create_topics", topics=[{"name": TOPIC, "partitions": 1}]).ok()
        yield started


def endpoints(broker: BrokerProcess) -> dict[str, str]:
    """Every socket of the broker that somebody could send to."""
    with RawClient(broker.bootstrap) as client:
        (topic,) = client.call("metadata", topics=[TOPIC])["topics"]
    directory = Path(topic["partitions"][0]["endpoints"][0].removeprefix("ipc://")).parent
    found = {entry.name: f"ipc://{entry}" for entry in directory.iterdir() if entry.is_socket()}
    assert "control" in found
    assert any(name.split(".")[-1].startswith("inner-") for name in found)
    return {"router": broker.bootstrap, **found}


@pytest.mark.processes
def test_no_socket_of_a_broker_wakes_the_canary(broker: BrokerProcess, song: Path) -> None:
    partition = broker.child(f"partition {TOPIC}-0").pid
    frames = list(infected_frames(song))[::BROKER_FRAMES_STEP]
    assert len(frames) > 100
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        for endpoint in endpoints(broker).values():
            socket = context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
            socket.connect(endpoint)
            for header, payload in frames:
                socket.send_multipart([header, payload])
            socket.send(b'{"api": "ping", "id": "the last"}')
            while b'"the last"' not in socket.recv_multipart()[0]:
                pass
            socket.close()
    finally:
        context.destroy(linger=0)
    with RawClient(broker.bootstrap) as client:
        client.call("produce", b"alive", topic=TOPIC, partition=0).ok()
    assert not song.exists()
    assert broker.child(f"partition {TOPIC}-0").pid == partition
    assert broker.events("crashed") == []


# -- requests that are not for clients -------------------------------------------------------------------

INNER = (
    {"api": "stop"},
    {"api": "routes", "version": 99, "cluster_id": "x", "routers": [], "coordinator": None, "topics": []},
    {"api": "access", "version": 99, "enforced": False, "super_users": ["User:ANONYMOUS"]},
    {"api": "configure", "config": {"retention.ms": 1}},
    {"api": "child_beat", "name": "router:0", "incarnation": 1},
    {"api": "child_ready", "name": "router:0", "incarnation": 1},
    {"api": "child_failed", "name": "router:0", "incarnation": 1, "error": {}},
    {"api": "watch", "topic": TOPIC, "partition": 0, "offset": 0, "max_wait_ms": 0},
)
"""What the broker's processes say to each other."""


@pytest.mark.processes
@pytest.mark.parametrize("request_", INNER, ids=lambda request: str(request["api"]))
def test_what_processes_say_to_each_other_is_unknown_to_clients(
    broker: BrokerProcess, request_: dict[str, object]
) -> None:
    pids = {title: broker.child(title.removeprefix("odradek: ")).pid for title in broker.titles()}
    with RawClient(broker.bootstrap) as client:
        (topic,) = client.call("metadata", topics=[TOPIC])["topics"]
        direct = topic["partitions"][0]["endpoints"][0]
    for endpoint in (broker.bootstrap, direct):
        with RawClient(endpoint) as client:
            client.send_frames(msgspec.json.encode({"id": 7, **request_}))
            reply = client.receive()
            assert reply["error"]["name"] == "INVALID_REQUEST"
            assert "unknown api" in reply.message
    assert {title: broker.child(title.removeprefix("odradek: ")).pid for title in pids} == pids


@pytest.mark.processes
def test_a_stranger_at_the_control_socket_cannot_speak_for_a_child(broker: BrokerProcess) -> None:
    """Only the broker's own user can get there; what it says of processes that do not run is not heard."""
    control = endpoints(broker)["control"]
    socket = Path(control.removeprefix("ipc://"))
    assert (socket.stat().st_mode | socket.parent.stat().st_mode) & 0o077 == 0
    pids = {title: broker.child(title.removeprefix("odradek: ")).pid for title in broker.titles()}
    with RawClient(control) as client:
        for name, incarnation in (("router:0", 10_000), (f"partition:{TOPIC}-0", 0), ("nobody", 1)):
            for api in ("child_failed", "child_ready", "child_beat"):
                error = {"code": -1, "name": "X", "message": "forged", "retriable": False}
                header = {"api": api, "name": name, "incarnation": incarnation, "error": error}
                client.send_frames(msgspec.json.encode(header))
        for request in INNER[:4]:
            client.send_frames(msgspec.json.encode({"id": 1, **request}))
            assert client.receive()["error"]["name"] == "INVALID_REQUEST"
    assert {title: broker.child(title.removeprefix("odradek: ")).pid for title in pids} == pids
    with RawClient(broker.bootstrap) as client:
        client.call("produce", b"alive", topic=TOPIC, partition=0).ok()

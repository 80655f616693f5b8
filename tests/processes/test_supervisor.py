"""Real processes: the supervisor as users start it, and what it survives."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import zmq

from supervisor.exits import Exit
from supervisor.rundirectory import run_directory_path
from tests.support.broker import BrokerProcess, wait_gone

pytestmark = pytest.mark.processes
PATIENCE_S = 30.0
REPLY_TIMEOUT_MS = 40_000


class Client:
    """One DEALER that asks in JSON."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.connect(broker.bootstrap)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()

    def ask(self, api: str, *payload: bytes, **fields: object) -> dict[str, Any]:
        self._socket.send_multipart([json.dumps({"api": api, "id": 1, **fields}).encode(), *payload])
        assert self._socket.poll(REPLY_TIMEOUT_MS), f"no reply to {api}"
        reply: dict[str, Any] = json.loads(self._socket.recv_multipart()[0])
        return reply

    def status(self) -> dict[str, dict[str, Any]]:
        return {actor["name"]: actor for actor in self.ask("status")["actors"]}

    def produce(self, value: bytes, topic: str = "events", partition: int = 0) -> int:
        """The offset of an acknowledged record; asks again while the partition starts."""
        replies: list[dict[str, Any]] = []

        def acknowledged() -> bool:
            replies.append(self.ask("produce", value, topic=topic, partition=partition))
            error = replies[-1]["error"]
            assert error is None or error["retriable"], error
            return error is None

        eventually(acknowledged)
        return int(replies[-1]["offset"])


def eventually(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Waits for something that another process does."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {condition}"
        threading.Event().wait(0.02)


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess() as running:
        yield running


def create(client: Client, name: str = "events", partitions: int = 2) -> None:
    reply = client.ask("create_topics", topics=[{"name": name, "partitions": partitions}])
    assert [topic["error"] for topic in reply["topics"]] == [None], reply


# -- start and stop ------------------------------------------------------------------------------------


def test_the_ready_file_tells_where_and_sigterm_ends_in_order(broker: BrokerProcess) -> None:
    ready = broker.ready
    assert ready["pid"] == broker.pid
    assert ready["router"].startswith("tcp://127.0.0.1:")
    assert ready["kafka"].startswith("127.0.0.1:")
    assert (ready["gateways"], ready["http"]) == ([ready["kafka"]], None)
    with Client(broker) as client:
        create(client)
        assert client.produce(b"kept") == 0
    tree = broker.tree()
    began_s = time.monotonic()
    assert broker.stop() == Exit.OK
    assert time.monotonic() - began_s < 20
    assert wait_gone(tree, PATIENCE_S) == []
    assert not broker.ready_file.exists()
    with Client(broker.start()) as client:
        assert client.produce(b"next") == 1


def test_status_and_ps_name_every_process(broker: BrokerProcess) -> None:
    with Client(broker) as client:
        create(client)
        status = client.status()
    partitions = ["partition:events-0", "partition:events-1"]
    assert list(status) == ["supervisor", "coordinator", "router:0", "gateway:0", *partitions]
    assert status["supervisor"]["pid"] == broker.pid
    for actor in status.values():
        assert actor["state"] == "serving"
        assert actor["restarts"] == 0
        assert actor["pss_bytes"] > 1_000_000
        assert actor["cpu_percent"] >= 0
        assert actor["uptime_s"] > 0
    assert broker.titles() == [
        "odradek: coordinator",
        "odradek: gateway 0",
        "odradek: partition events-0",
        "odradek: partition events-1",
        "odradek: router 0",
    ]
    assert broker.child("partition events-1").pid == status["partition:events-1"]["pid"]


def test_sockets_and_data_are_private(broker: BrokerProcess) -> None:
    with Client(broker) as client:
        create(client, partitions=1)
        topic = client.ask("metadata")["topics"][0]
    path = Path(topic["partitions"][0]["endpoints"][0].removeprefix("ipc://"))
    assert len(str(path)) < 108
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    sockets = [entry for entry in path.parent.iterdir() if entry.is_socket()]
    assert path in sockets
    assert path.parent / "control" in sockets
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in sockets} == {0o600}
    assert stat.S_IMODE(broker.data.stat().st_mode) == 0o700
    files = [entry for entry in broker.data.rglob("*") if not entry.is_symlink()]
    assert len(files) > 3
    assert {entry.name for entry in files if entry.stat().st_mode & 0o077} == set()


def test_a_second_start_is_refused_before_it_touches_anything(broker: BrokerProcess, tmp_path: Path) -> None:
    with Client(broker) as client:
        create(client)
        link = tmp_path / "link"
        link.symlink_to(broker.data)
        for path in (broker.data, link):
            second = BrokerProcess(path)
            second.start(wait=False)
            assert second.wait() == Exit.LOCKED
            assert f"another broker (process {broker.pid}) runs on the data directory" in second.log()
            assert second.log().count("\n") == 1
            second.close()
        assert client.produce(b"alive") == 0
        assert client.status()["router:0"]["restarts"] == 0


def test_of_twenty_racing_starts_exactly_one_runs(tmp_path: Path) -> None:
    racers = [BrokerProcess(tmp_path / "data") for _ in range(20)]
    try:
        for racer in racers:
            racer.start(wait=False)
        eventually(lambda: sum(not racer.running for racer in racers) == 19, 90)
        (winner,) = [racer for racer in racers if racer.running]
        winner.wait_ready()
        assert [racer.wait() for racer in racers if racer is not winner] == [Exit.LOCKED] * 19
        with Client(winner) as client:
            create(client)
    finally:
        for racer in racers:
            racer.close()


def test_a_taken_port_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        broker = BrokerProcess(tmp_path / "data", port=other.getsockname()[1])
        broker.start(wait=False)
        assert broker.wait() == Exit.PORT_IN_USE
        assert "another program listens on 127.0.0.1 port" in broker.log()
        assert [entry.name for entry in broker.data.iterdir()] == ["odradek.lock"], "nothing else was made"
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        assert not run_directory_path(broker.data.resolve(), os.geteuid(), runtime).exists()
        broker.close()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--port", "x"], Exit.SETTINGS, "port is 'x' (from flag --port)"),
        (["--host", "0.0.0.0"], Exit.SETTINGS, "other machines can reach"),
        (["--nonsense"], Exit.USAGE, "unrecognized arguments: --nonsense"),
        (["--ready-file", "none/ready", "--data", "."], Exit.SETTINGS, "the ready file none/ready cannot"),
        (["--data", "/proc/none"], Exit.DATA, "the data directory /proc/none cannot be used"),
        (["--help"], Exit.OK, "example:\n  odradek supervisor"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, arguments: list[str], code: Exit, sentence: str) -> None:
    command = [sys.executable, "-m", "supervisor", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE_S)
    assert result.returncode == code, result.stderr
    assert sentence in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert {entry.name for entry in tmp_path.iterdir()} <= {"odradek.lock", "catalog.json"}


def test_a_damaged_catalogue_stops_the_start_and_nothing_is_changed(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        with Client(broker) as client:
            create(client)
        broker.stop()
        path = broker.data / "catalog.json"
        path.write_bytes(path.read_bytes().replace(b'"events"', b'"evenst"'))
        before = sorted(entry.name for entry in broker.data.iterdir())
        broker.start(wait=False)
        assert broker.wait() == Exit.DATA
        assert f"the catalogue {path} cannot be used: its checksum does not match" in broker.log()
        assert sorted(entry.name for entry in broker.data.iterdir()) == before


def test_the_commands_of_the_distribution_start_the_same_broker(tmp_path: Path) -> None:
    for command in (["odradek-supervisor"], [sys.executable, "-c", COMMAND]):
        program = str(Path(sys.executable).with_name(command[0])) if len(command) == 1 else command[0]
        result = subprocess.run(
            [program, *command[1:], "--port", "x"], capture_output=True, text=True, cwd=tmp_path
        )
        assert result.returncode == Exit.SETTINGS, result.stderr
        assert "port is 'x'" in result.stderr


COMMAND = (
    "import sys; from supervisor.command import supervisor; assert supervisor.help; supervisor(sys.argv[1:])"
)


# -- death ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["partition events-0", "router 0", "coordinator"])
def test_a_killed_child_is_replaced_and_nothing_acknowledged_is_lost(
    broker: BrokerProcess, title: str
) -> None:
    name = title.replace(" ", ":")
    with Client(broker) as client:
        create(client)
        assert client.produce(b"before") == 0
        victim = broker.child(title)
        victim.kill()
        eventually(lambda: victim.pid not in [process.pid for process in broker.tree()])
    with Client(broker) as client:  # at the same endpoint
        eventually(lambda: client.status()[name]["state"] == "serving")
        status = client.status()[name]
        assert (status["restarts"], status["pid"] != victim.pid) == (1, True)
        assert client.produce(b"after") == 1
        assert {actor["restarts"] for other, actor in client.status().items() if other != name} == {0}


@pytest.mark.parametrize("title", ["partition events-0", "router 0"])
def test_a_stopped_child_is_killed_reaped_and_then_replaced(title: str) -> None:
    with BrokerProcess(heartbeat_interval_s=0.2, heartbeat_timeout_s=4) as broker:
        with Client(broker) as client:
            create(client)
        victim = broker.child(title)
        victim.suspend()
        eventually(lambda: len(served(broker, title)) == 2)
        assert victim.pid not in psutil.pids()
        with Client(broker) as client:
            assert client.produce(b"after") == 0
        killing, ended = broker.events("killing"), broker.events("process ended")
        assert [(event["pid"], "silent" in event["reason"]) for event in killing] == [(victim.pid, True)]
        assert [(event["pid"], event["exit_code"]) for event in ended] == [(victim.pid, -signal.SIGKILL)]
        order = [event["event"] for event in broker.events() if event.get("name") == name_of(title)]
        assert order[-3:] == ["killing", "process ended", "serving"]


def test_a_router_that_keeps_dying_keeps_coming_back() -> None:
    with BrokerProcess(restarts_max=1, restart_delay_max_s=0.1) as broker:
        with Client(broker) as client:
            create(client)
        for deaths in range(1, 5):
            broker.child("router 0").kill()
            eventually(lambda deaths=deaths: len(served(broker, "router 0")) == 1 + deaths)  # type: ignore[misc]
        with Client(broker) as client:
            assert client.produce(b"after") == 0
        assert broker.stop() == Exit.OK


def served(broker: BrokerProcess, title: str) -> list[dict[str, Any]]:
    return [event for event in broker.events("serving") if event["name"] == name_of(title)]


def name_of(title: str) -> str:
    return title.replace(" ", ":", 1)


def test_a_suspended_broker_kills_nobody_when_it_wakes() -> None:
    with BrokerProcess(heartbeat_interval_s=0.1, heartbeat_timeout_s=3) as broker:
        with Client(broker) as client:
            create(client)
        tree = [psutil.Process(broker.pid), *broker.tree()]
        for process in tree:
            process.suspend()
        threading.Event().wait(4.5)
        for process in reversed(tree):
            process.resume()
        with Client(broker) as client:
            assert client.produce(b"after") == 0
            assert {actor["restarts"] for actor in client.status().values()} == {0}


def test_kill_of_the_supervisor_leaves_no_orphan(broker: BrokerProcess) -> None:
    with Client(broker) as client:
        create(client)
        client.produce(b"kept")
    tree = broker.tree()
    assert len(tree) == 6
    broker.kill()
    assert wait_gone(tree, PATIENCE_S) == []
    with Client(broker.start()) as client:
        assert client.produce(b"next") == 1


def test_a_stopped_orphan_is_ended_by_the_next_supervisor(broker: BrokerProcess) -> None:
    with Client(broker) as client:
        create(client)
        client.produce(b"kept")
    orphan = broker.child("partition events-0")
    orphan.suspend()
    broker.kill()
    assert orphan.is_running()
    with Client(broker.start()) as client:
        assert client.produce(b"next") == 1
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    (event,) = broker.events("processes of a former broker were ended")
    assert orphan.pid in event["pids"]


def test_a_killed_fork_server_stops_nobody(broker: BrokerProcess) -> None:
    with Client(broker) as client:
        create(client)
        (server,) = psutil.Process(broker.pid).children()
        victim = broker.child("partition events-0")
        server.kill()
        assert client.produce(b"still here") == 0
        victim.kill()
        assert client.produce(b"with a new fork server") == 1
        assert client.status()["partition:events-0"]["restarts"] == 1
        assert client.status()["partition:events-1"]["restarts"] == 0
    assert broker.stop() == Exit.OK


def test_a_partition_that_cannot_start_is_given_up_and_the_rest_serves() -> None:
    with BrokerProcess(boot_failures_max=1) as broker:
        with Client(broker) as client:
            create(client)
        broker.stop()
        metadata = broker.data / "events-0" / "partition.metadata"
        metadata.write_text(metadata.read_text().replace("topic_id: ", "topic_id: x"))
        with Client(broker.start()) as client:
            assert client.produce(b"fine", partition=1) == 0
            row = client.status()["partition:events-0"]
            assert row["state"] == "failed"
            assert "2 times in a row; the last time: " in row["reason"]
            command = [sys.executable, "-m", "odradek.cli", "status", "--bootstrap", broker.bootstrap]
            shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S).stdout
            assert shown.splitlines()[0].split()[-1] == "Reason"
            assert row["reason"] in shown
            error = client.ask("produce", b"lost", topic="events", partition=0)["error"]
            assert error["name"] == "KAFKA_STORAGE_ERROR"
            assert "partition:events-0 was given up" in error["message"]


def test_a_hung_child_does_not_keep_a_stop_from_ending_in_time() -> None:
    with BrokerProcess(stop_timeout_s=2) as broker:
        with Client(broker) as client:
            create(client)
        tree = broker.tree()
        broker.child("partition events-0").suspend()
        assert broker.stop(30) == Exit.FORCED
        assert wait_gone(tree, PATIENCE_S) == []


# -- topics --------------------------------------------------------------------------------------------


def test_topics_are_made_grown_altered_and_deleted_and_survive_kills(broker: BrokerProcess) -> None:
    with Client(broker) as client:
        create(client, "kept", 1)
        create(client, "gone", 2)
        assert client.ask("create_partitions", topic="kept", partitions=3)["error"] is None
        assert client.ask("alter_configs", topic="kept", config={"segment.bytes": 65536})["error"] is None
        assert client.produce(b"third", "kept", 2) == 0
        deleted = client.ask("delete_topics", names=["gone", "never"])["topics"]
        assert [topic["error"] and topic["error"]["name"] for topic in deleted] == [
            None,
            "UNKNOWN_TOPIC_OR_PARTITION",
        ]
        eventually(lambda: not list(broker.data.glob("gone-*")))
    broker.kill()
    with Client(broker.start()) as client:
        topics = client.ask("metadata")["topics"]
        assert [(topic["name"], len(topic["partitions"])) for topic in topics] == [("kept", 3)]
        config = client.ask("describe_configs", topic="kept")["config"]
        assert config["segment.bytes"]["value"] == 65536
        assert client.produce(b"fourth", "kept", 2) == 1
        create(client, "gone", 1)
        assert client.produce(b"first", "gone", 0) == 0


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_deleted_topic_leaves_no_sockets(broker: BrokerProcess, is_killed: bool) -> None:
    with Client(broker) as client:
        create(client, "kept", 1)
        topic = client.ask("metadata")["topics"][0]
        run = Path(topic["partitions"][0]["endpoints"][0].removeprefix("ipc://")).parent
        before = sorted(run.iterdir())
        create(client, "gone", 2)
        assert len(list(run.iterdir())) == len(before) + 4
        if is_killed:
            broker.child("partition gone-1").kill()
            eventually(lambda: client.status()["partition:gone-1"]["restarts"] == 1)
        assert client.ask("delete_topics", names=["gone"])["topics"][0]["error"] is None
        eventually(lambda: sorted(run.iterdir()) == before)
        assert client.produce(b"reachable", "kept") == 0


def test_directories_that_the_catalogue_does_not_know_are_set_aside(broker: BrokerProcess) -> None:
    broker.stop()
    stray = broker.data / "unknown-7"
    stray.mkdir()
    (stray / "00000000000000000000.log").write_bytes(b"somebody's records")
    leftover = broker.data / "old-0.0123abcd-delete"
    leftover.mkdir()
    broker.start()
    (aside,) = broker.data.glob("unknown-7.*-stray")
    assert (aside / "00000000000000000000.log").read_bytes() == b"somebody's records"
    eventually(lambda: not leftover.exists())


def test_the_environment_and_a_file_are_settings_too(tmp_path: Path) -> None:
    config = tmp_path / "odradek.toml"
    config.write_text("default_partitions = 3\nrouters = 2\n")
    environment = {"ODRADEK_DEFAULT_PARTITIONS": "4"}
    with BrokerProcess(config=config, environment=environment) as broker, Client(broker) as client:
        assert len(broker.ready["routers"]) == 2
        assert client.ask("create_topics", topics=[{"name": "events"}])["error"] is None
        assert len(client.ask("metadata")["topics"][0]["partitions"]) == 4
        assert os.path.lexists(broker.data / "events-3")


class QuietBroker(BrokerProcess):
    """Started without --log-json."""

    def command(self) -> list[str]:
        return [word for word in super().command() if word != "--log-json"]


def test_a_log_that_no_terminal_shows_is_json_in_every_process_and_names_unknown_variables() -> None:
    with QuietBroker(environment={"ODRADEK_PROT": "1"}) as broker:
        with Client(broker) as client:
            create(client)
        broker.child("partition events-0").kill()
        eventually(lambda: len(served(broker, "partition events-0")) == 2)
        broker.stop()
        lines = broker.log_file.read_text().splitlines()
        assert len(lines) > 8
        assert all(isinstance(json.loads(line), dict) for line in lines)
        (ignored,) = broker.events("setting ignored")
        assert "(from environment ODRADEK_PROT); did you mean port?" in ignored["reason"]

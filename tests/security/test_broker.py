"""A real broker that demands keys, from outside: the SDK, the command, and clients with nothing of ours."""

from __future__ import annotations

import json
import os
import socket as plain_socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import zmq

from odradek import Admin, Consumer, Curve, Producer
from odradek.protocol.errors import (
    ClusterAuthorizationFailed,
    GroupAuthorizationFailed,
    InvalidConfig,
    SaslAuthenticationFailed,
    TopicAuthorizationFailed,
)
from supervisor.clientkeys import ClientKey
from supervisor.exits import Exit
from supervisor.keydirectory import KeyDirectory
from tests.support.broker import BrokerProcess
from tests.support.rawclient import RawClient
from transport.keys import KeyPair, new_key_pair

pytestmark = pytest.mark.processes

ODRADEK = Path(sys.executable).parent / "odradek"
PATIENCE_S = 40.0
SILENT_PEERS = 100
TOPIC = "logs-web"


@dataclass
class Secured:
    """A broker that demands keys, and the keys of its clients."""

    broker: BrokerProcess
    directory: KeyDirectory
    server: KeyPair
    pairs: dict[str, KeyPair] = field(default_factory=dict)

    def allow(self, name: str, **roles: object) -> None:
        pair = self.pairs.setdefault(name, new_key_pair())
        with self.directory.changing() as clients:
            client = ClientKey(name=name, public_key=pair.public, **roles)  # type: ignore[arg-type]  # roles
            self.directory.save_clients(clients.with_client(client))

    def revoke(self, name: str) -> None:
        with self.directory.changing() as clients:
            self.directory.save_clients(clients.without(name))

    def keys(self, name: str) -> Curve:
        pair = self.pairs.setdefault(name, new_key_pair())
        return Curve(self.server.public, pair.public, pair.secret)

    def admin(self, name: str) -> Admin:
        return Admin(self.broker.bootstrap, security=self.keys(name))

    def send(self, name: str, topic: str = TOPIC) -> int:
        with Producer(self.broker.bootstrap, security=self.keys(name)) as producer:
            return producer.send(topic, b"hello").result(PATIENCE_S).offset

    def key_file(self, directory: Path, name: str) -> Path:
        keys = self.keys(name)
        path = directory / f"{name}.key"
        names = ("server_key", "public_key", "secret_key")
        path.write_text(json.dumps({key: getattr(keys, key) for key in names}))
        path.chmod(0o600)
        return path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    data = tmp_path_factory.mktemp("secured") / "data"
    directory = KeyDirectory(data)
    server, _ = directory.make_server()
    made = Secured(BrokerProcess(data, security_curve="required"), directory, server)
    made.allow("root", admin=True)
    made.allow("writer", produce=["logs-*"])
    made.allow("reader", consume=["logs-*"])
    with made.broker:
        with made.admin("root") as admin:
            admin.create_topic(TOPIC, 1)
            admin.create_topic("secrets", 1)
        yield made


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        threading.Event().wait(0.05)


def outcome(call: Callable[[], object]) -> type[Exception] | None:
    try:
        call()
    except Exception as error:
        return type(error)
    return None


# -- the SDK -----------------------------------------------------------------------------------------


def test_each_client_does_its_work(secured: Secured) -> None:
    offset = secured.send("writer")
    with Consumer(
        secured.broker.bootstrap,
        group="reader",
        topics=[TOPIC],
        idle_timeout_s=PATIENCE_S,
        security=secured.keys("reader"),
    ) as consumer:
        record = next(record for record in consumer if record.offset == offset)
    assert record.value == b"hello"
    with secured.admin("root") as admin:
        assert [topic for topic in admin.list_topics() if topic in (TOPIC, "secrets")] == [TOPIC, "secrets"]
        assert len(admin.status()) > 3


def test_each_client_is_kept_from_what_is_not_its_own(secured: Secured) -> None:
    with pytest.raises(TopicAuthorizationFailed, match="User:writer may not describe topic 'secrets'"):
        secured.send("writer", "secrets")
    with pytest.raises(ClusterAuthorizationFailed, match="may not idempotent write"):
        secured.send("reader")
    with secured.admin("writer") as admin:
        with pytest.raises(TopicAuthorizationFailed):
            admin.delete_topics([TOPIC])
        with pytest.raises(ClusterAuthorizationFailed):
            admin.status()
        assert admin.list_topics() == [TOPIC]
    with (
        pytest.raises(GroupAuthorizationFailed),
        Consumer(
            secured.broker.bootstrap,
            group="somebody-elses",
            topics=[TOPIC],
            idle_timeout_s=PATIENCE_S,
            security=secured.keys("reader"),
        ) as consumer,
    ):
        next(iter(consumer))


def test_an_unknown_key_is_told_so_at_once(secured: Secured) -> None:
    started_s = time.monotonic()
    with pytest.raises(SaslAuthenticationFailed, match="does not let in this key") as caught:
        secured.send("stranger")
    assert secured.pairs["stranger"].public in str(caught.value)
    assert secured.pairs["stranger"].secret not in str(caught.value)
    assert time.monotonic() - started_s < PATIENCE_S / 2


def test_no_key_is_told_what_to_do(secured: Secured) -> None:
    with (
        pytest.raises(SaslAuthenticationFailed, match="demands a CURVE key"),
        Producer(secured.broker.bootstrap) as producer,
    ):
        producer.send(TOPIC, b"hello").result(PATIENCE_S)


def test_a_wrong_server_key_is_told_within_the_time_for_connecting(secured: Secured) -> None:
    own = secured.pairs["writer"]
    wrong = Curve(new_key_pair().public, own.public, own.secret)
    with (
        pytest.raises(SaslAuthenticationFailed, match="broke the handshake off"),
        Producer(secured.broker.bootstrap, security=wrong, connect_timeout_ms=3_000) as producer,
    ):
        producer.send(TOPIC, b"hello").result(PATIENCE_S)


def test_keys_for_a_broker_that_demands_none_are_told_so() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    plain = context.socket(zmq.ROUTER)
    port = plain.bind_to_random_port("tcp://127.0.0.1")
    pair = new_key_pair()
    try:
        with (
            pytest.raises(SaslAuthenticationFailed, match="does not speak CURVE"),
            Admin(f"127.0.0.1:{port}", security=Curve(pair.public, pair.public, pair.secret)) as admin,
        ):
            admin.ping()
    finally:
        plain.close(0)
        context.term()


def test_a_stranger_who_is_refused_can_come_in_later_with_the_same_client(secured: Secured) -> None:
    with secured.admin("late") as admin:
        assert outcome(admin.ping) is SaslAuthenticationFailed
        secured.allow("late", produce=["logs-late"])
        eventually(lambda: outcome(admin.ping) is None)


def test_a_revoked_key_is_refused_on_the_connection_it_has(secured: Secured) -> None:
    secured.allow("leaver", produce=[TOPIC])
    eventually(lambda: outcome(lambda: secured.send("leaver")) is None)
    with Producer(secured.broker.bootstrap, security=secured.keys("leaver")) as producer:
        producer.send(TOPIC, b"one").result(PATIENCE_S)
        secured.revoke("leaver")

        def is_refused() -> bool:
            return (
                outcome(lambda: producer.send(TOPIC, b"two").result(PATIENCE_S)) is SaslAuthenticationFailed
            )

        eventually(is_refused)
    with pytest.raises(SaslAuthenticationFailed, match="does not let in this key"):
        secured.send("leaver")


def test_roles_change_while_the_broker_runs(secured: Secured) -> None:
    secured.allow("changing", produce=["tmp"])
    eventually(lambda: outcome(lambda: secured.send("changing")) is TopicAuthorizationFailed)
    secured.allow("changing", produce=["tmp", TOPIC])
    eventually(lambda: outcome(lambda: secured.send("changing")) is None)


def test_a_list_that_cannot_be_read_changes_nothing_and_is_told(secured: Secured) -> None:
    good = secured.directory.clients_file.read_bytes()
    try:
        secured.directory.clients_file.write_bytes(good[:-10])
        eventually(lambda: bool(secured.broker.events("keys not taken")))
        secured.send("writer")
    finally:
        secured.directory.clients_file.write_bytes(good)
    eventually(lambda: outcome(lambda: secured.send("writer")) is None)


def test_those_who_were_kept_out_are_in_the_log_and_no_secret_is(secured: Secured) -> None:
    outcome(lambda: secured.send("knocking"))
    eventually(lambda: any(e["why"] == "unknown key" for e in secured.broker.events("connections refused")))
    log = secured.broker.log_file.read_text()
    for pair in (secured.server, *secured.pairs.values()):
        assert pair.secret not in log


def test_a_router_that_was_killed_comes_back_behind_the_same_door(secured: Secured) -> None:
    router = secured.broker.child("router 0")
    router.kill()
    eventually(lambda: outcome(lambda: secured.send("writer")) is None)
    assert secured.broker.child("router 0").pid != router.pid
    assert outcome(lambda: secured.send("stranger")) is SaslAuthenticationFailed


# -- the command -------------------------------------------------------------------------------------


def command(*words: str, keys: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ODRADEK_")}
    if keys is not None:
        environment["ODRADEK_CURVE_FILE"] = str(keys)
    return subprocess.run(
        [ODRADEK, *words], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_the_command_takes_keys_from_the_environment_or_a_flag(secured: Secured, tmp_path: Path) -> None:
    root, stranger = secured.key_file(tmp_path, "root"), secured.key_file(tmp_path, "stranger")
    where = ("--bootstrap", secured.broker.bootstrap)
    by_variable = command("topic", "list", *where, keys=root)
    assert by_variable.returncode == 0, by_variable.stderr
    assert "secrets" in by_variable.stdout
    by_flag = command("--keys", str(root), "topic", "list", *where)
    assert by_flag.stdout == by_variable.stdout, by_flag.stderr
    for result in (command("topic", "list", *where), command("topic", "list", *where, keys=stranger)):
        assert result.returncode == 1, result.stderr
        assert "SASL_AUTHENTICATION_FAILED" in result.stderr
        assert "Traceback" not in result.stderr
    root.chmod(0o644)
    open_file = command("topic", "list", *where, keys=root)
    assert "chmod 600 it" in open_file.stderr
    assert open_file.returncode != 0


# -- starts ------------------------------------------------------------------------------------------


def start_refused(data: Path, **settings: str) -> tuple[int, str]:
    broker = BrokerProcess(data, **settings)  # type: ignore[arg-type]  # no port, no environment
    try:
        return broker.start(wait=False).wait(), broker.log()
    finally:
        broker.close()


def test_without_a_server_key_the_broker_does_not_start(tmp_path: Path) -> None:
    code, said = start_refused(tmp_path / "data", security_curve="required")
    assert code == Exit.SETTINGS, said
    assert f"`odradek keys server --data {tmp_path / 'data'}`" in said


def test_a_server_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    directory = KeyDirectory(tmp_path / "data")
    directory.make_server()
    directory.server_file.chmod(0o640)
    code, said = start_refused(tmp_path / "data", security_curve="required")
    assert code == Exit.NOT_PRIVATE, said
    assert "chmod go-rwx it" in said


def test_an_address_that_others_reach_is_refused_without_keys(tmp_path: Path) -> None:
    code, said = start_refused(tmp_path / "data", host="0.0.0.0")
    assert code == Exit.SETTINGS, said
    assert "--security-curve required" in said
    assert not (tmp_path / "data").exists()


# -- clients with nothing of ours ----------------------------------------------------------------------


def test_a_raw_client_with_a_key_speaks_the_same_protocol(secured: Secured) -> None:
    with raw(secured, "root") as client:
        assert client.call("ping").code is None
        (topic,) = client.call("metadata", topics=[TOPIC])["topics"]
        assert topic["partitions"][0]["endpoints"] == []


def raw(secured: Secured, name: str) -> RawClient:
    keys = secured.keys(name)
    return RawClient(secured.broker.bootstrap, curve=(keys.server_key, keys.public_key, keys.secret_key))


def test_a_key_needs_its_whole_set(tmp_path: Path) -> None:
    pair = new_key_pair()
    with pytest.raises(InvalidConfig, match="not of one pair"):
        Curve(pair.public, pair.public, new_key_pair().secret)
    with pytest.raises(InvalidConfig, match="server_key is not a key"):
        Curve("short", pair.public, pair.secret)
    assert pair.secret not in repr(Curve(pair.public, pair.public, pair.secret))
    assert Curve.from_environment({}) is None
    with pytest.raises(InvalidConfig, match="ODRADEK_CURVE_PUBLIC_KEY and ODRADEK_CURVE_SECRET_KEY must be"):
        Curve.from_environment({"ODRADEK_CURVE_SERVER_KEY": pair.public})
    whole = {
        "ODRADEK_CURVE_SERVER_KEY": pair.public,
        "ODRADEK_CURVE_PUBLIC_KEY": pair.public,
        "ODRADEK_CURVE_SECRET_KEY": pair.secret,
    }
    assert Curve.from_environment(whole) == Curve(pair.public, pair.public, pair.secret)
    path = tmp_path / "a.key"
    with pytest.raises(InvalidConfig, match="cannot be read"):
        Curve.from_file(path)
    path.write_text(json.dumps({"public_key": pair.public, "secret_key": pair.secret}))
    path.chmod(0o600)
    with pytest.raises(InvalidConfig, match="has no server_key"):
        Curve.from_file(path)
    assert Curve.from_file(path, pair.public).server_key == pair.public
    for content in ("[]", "{", '{"server_key": 5, "public_key": 1, "secret_key": null}'):
        path.write_text(content)
        with pytest.raises(InvalidConfig, match=str(path)):
            Curve.from_file(path)


def is_cut_off(peer: plain_socket.socket) -> bool:
    """Whether the other end closes the connection in time."""
    peer.settimeout(PATIENCE_S)
    try:
        while peer.recv(4_096):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def test_strangers_who_only_connect_keep_nobody_out_and_are_cut_off(secured: Secured) -> None:
    parts = urlsplit(secured.broker.bootstrap)
    assert parts.hostname is not None
    silent = [plain_socket.create_connection((parts.hostname, parts.port)) for _ in range(SILENT_PEERS)]
    try:
        silent[0].sendall(b"\xff" + b"\0" * 7 + b"\x01\x7f\x03\x00" + b"not a mechanism")
        secured.send("writer")
        assert all(is_cut_off(peer) for peer in silent)
    finally:
        for peer in silent:
            peer.close()
    secured.send("writer")

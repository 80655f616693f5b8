"""The keys on disk, the list of clients, what their roles mean, and `odradek keys`."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from odradek import Curve
from odradek.protocol.access import check_acl
from supervisor.clientkeys import CLIENTS_MAX, PATTERNS_MAX, ClientKey, ClientList
from supervisor.keydirectory import (
    FILE_BYTES_MAX,
    LOOK_INTERVAL_S,
    KeyDirectory,
    KeysUnusable,
    KeyWatch,
    open_keyring,
)
from supervisor.keyscommand import keys
from supervisor.privacy import NotPrivate
from transport.keys import new_key_pair

PAIR = new_key_pair()
ALICE = ClientKey(name="alice", public_key=PAIR.public, produce=["logs-*"])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def directory(tmp_path: Path) -> KeyDirectory:
    return KeyDirectory(tmp_path / "data")


def put(directory: KeyDirectory, *clients: ClientKey) -> None:
    with directory.changing():
        directory.save_clients(ClientList(clients=list(clients)))


# -- the server's pair -------------------------------------------------------------------------------


def test_the_servers_keys_are_made_once_and_nobody_else_may_read_them(directory: KeyDirectory) -> None:
    former = os.umask(0)
    try:
        pair, is_new = directory.make_server()
    finally:
        os.umask(former)
    assert is_new
    assert pair.is_pair()
    assert mode(directory.path) == 0o700
    assert mode(directory.server_file) == 0o600
    assert directory.make_server() == (pair, False)
    assert directory.load_server() == pair


def test_where_there_is_no_pair_the_command_that_makes_one_is_named(directory: KeyDirectory) -> None:
    with pytest.raises(KeysUnusable, match="`odradek keys server --data"):
        directory.load_server()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"public_key": 1}', "\0", "{" * 10_000])
def test_a_damaged_pair_is_no_pair(directory: KeyDirectory, content: str) -> None:
    directory.make_server()
    directory.server_file.write_text(content)
    with pytest.raises(KeysUnusable, match=r"server\.key"):
        directory.load_server()


def test_keys_of_two_pairs_are_no_pair(directory: KeyDirectory) -> None:
    pair, _ = directory.make_server()
    document = {"public_key": pair.public, "secret_key": PAIR.secret}
    directory.server_file.write_text(json.dumps(document))
    with pytest.raises(KeysUnusable, match="holds no pair of keys"):
        directory.load_server()


@pytest.mark.parametrize("open_mode", [0o640, 0o604, 0o660])
def test_keys_that_others_may_read_are_not_taken(directory: KeyDirectory, open_mode: int) -> None:
    directory.make_server()
    directory.server_file.chmod(open_mode)
    with pytest.raises(NotPrivate, match="file of the server's keys"):
        directory.load_server()
    directory.server_file.chmod(0o600)
    directory.path.chmod(0o711)
    with pytest.raises(NotPrivate, match="directory of keys"):
        directory.load_server()


# -- the list ----------------------------------------------------------------------------------------


def test_without_a_list_nobody_comes_in(directory: KeyDirectory) -> None:
    directory.make_server()
    assert directory.load_clients() == ClientList()
    assert open_keyring(directory.path.parent).watch.clients.principals() == {}


def test_a_list_is_read_as_it_was_written(directory: KeyDirectory) -> None:
    put(directory, ALICE)
    assert directory.load_clients() == ClientList(clients=[ALICE])
    assert mode(directory.clients_file) == 0o600
    assert [entry.name for entry in directory.path.iterdir()] == ["clients.json"]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"clients": [{"name": "a"}]}, "public_key"),
        ({"clients": [{"name": "a", "public_key": PAIR.public, "rolls": []}]}, "rolls"),
        ({"clients": [{"name": "a", "public_key": "short"}]}, "is not a key of 40"),
        ({"clients": [{"name": "*", "public_key": PAIR.public}]}, "means something in rules"),
        ({"clients": [{"name": "ANONYMOUS", "public_key": PAIR.public}]}, "means something in rules"),
        ({"clients": [{"name": "a", "public_key": PAIR.public, "produce": [""]}]}, "neither a name"),
        ({"clients": [{"name": "a", "public_key": PAIR.public, "consume": ["a*b"]}]}, "neither a name"),
        ({"clients": [{"name": "a", "public_key": PAIR.public, "admin": "yes"}]}, "bool"),
        (
            {"clients": [{"name": "a", "public_key": PAIR.public, "produce": ["t"] * (PATTERNS_MAX + 1)}]},
            "patterns",
        ),
        ({"format": 2, "clients": []}, "its format is 2"),
        ([], "object"),
    ],
)
def test_a_list_that_says_something_else_is_refused_whole(
    directory: KeyDirectory, document: object, sentence: str
) -> None:
    put(directory, ALICE)
    directory.clients_file.write_text(json.dumps(document))
    with pytest.raises(KeysUnusable, match=sentence):
        directory.load_clients()


def test_two_clients_with_one_name_or_one_key_are_refused() -> None:
    other = ClientKey(name="bob", public_key=PAIR.public)
    assert ClientList(clients=[ALICE, other]).problem() == f"two clients have the public key {PAIR.public!r}"
    namesake = ClientKey(name="alice", public_key=new_key_pair().public)
    assert ClientList(clients=[ALICE, namesake]).problem() == "two clients have the name 'alice'"


def test_a_list_has_a_bound(directory: KeyDirectory) -> None:
    assert "are allowed" in str(ClientList(clients=[ALICE] * (CLIENTS_MAX + 1)).problem())
    put(directory, ALICE)
    with directory.clients_file.open("ab") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(KeysUnusable, match="is larger than"):
        directory.load_clients()


def test_a_list_that_others_may_write_is_not_taken(directory: KeyDirectory) -> None:
    put(directory, ALICE)
    directory.clients_file.chmod(0o622)
    with pytest.raises(NotPrivate, match="list of client keys"):
        directory.load_clients()


def test_two_who_change_the_list_take_turns(directory: KeyDirectory) -> None:
    directory.make_server()

    def add(number: int) -> None:
        with directory.changing() as clients:
            client = ClientKey(name=f"client-{number}", public_key=new_key_pair().public)
            directory.save_clients(clients.with_client(client))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(directory.load_clients().clients) == 8


def test_a_change_is_noticed_and_looked_for_only_so_often(directory: KeyDirectory) -> None:
    put(directory, ALICE)
    watch = KeyWatch(directory)
    assert watch.clients.principals() == {PAIR.public: "User:alice"}
    assert watch.look(10.0) is None
    put(directory)
    assert watch.look(10.0 + LOOK_INTERVAL_S / 2) is None
    assert watch.look(10.0 + LOOK_INTERVAL_S) == ClientList()
    assert watch.look(10.0 + 2 * LOOK_INTERVAL_S) is None
    directory.clients_file.unlink()
    put(directory, ALICE)
    directory.clients_file.write_text("{")
    with pytest.raises(KeysUnusable):
        watch.look(20.0)
    assert watch.clients == ClientList()
    assert watch.look(30.0) is None, "the same damage is told once"


# -- roles -------------------------------------------------------------------------------------------


def test_roles_are_short_for_rules_that_are_valid() -> None:
    everything = ClientKey(
        name="all",
        public_key=PAIR.public,
        admin=True,
        produce=["a", "b-*", "*"],
        consume=["c", "d-*", "*"],
        groups=["g", "h-*", "*"],
    )
    rules = [str(check_acl(acl)) for acl in everything.acls()]
    assert len(rules) == 13
    assert all(rule.startswith("allow User:all to ") for rule in rules)
    assert "allow User:all to write topic 'b-' and what begins so" in rules
    assert "allow User:all to read group '*'" in rules


def test_a_reader_has_groups_of_its_own_unless_it_is_given_others() -> None:
    reader = ClientKey(name="reader", public_key=PAIR.public, consume=["t"])
    assert [str(acl) for acl in reader.acls()] == [
        "allow User:reader to read topic 't'",
        "allow User:reader to read group 'reader'",
        "allow User:reader to read group 'reader-' and what begins so",
    ]
    given = ClientKey(name="reader", public_key=PAIR.public, consume=["t"], groups=["g"])
    assert [str(acl) for acl in given.acls()][1:] == ["allow User:reader to read group 'g'"]
    assert list(ClientKey(name="idle", public_key=PAIR.public, groups=["g"]).acls()) == []


# -- the command -------------------------------------------------------------------------------------


def test_from_no_keys_to_a_client_that_is_let_in_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        assert keys(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out.strip()

    server = run("server")
    assert run("server") == server
    public = run("client", "alice", "--server-key", server)
    assert mode(tmp_path / "alice.key") == 0o600
    curve = Curve.from_file("alice.key")
    assert (curve.server_key, curve.public_key) == (server, public)
    assert run("list") == ""
    said = run("allow", "alice", "--public-key", public, "--produce", "logs-*", "--consume", "logs-*")
    assert said == "alice: produce logs-*; consume logs-*"
    assert run("list") == f"alice  {public}  produce logs-*; consume logs-*"
    assert run("allow", "alice", "--admin") == "alice: admin"
    assert json.loads(run("list", "--json")) == [
        {"name": "alice", "public_key": public, "admin": True, "produce": [], "consume": [], "groups": []}
    ]
    assert run("revoke", "alice") == "alice: no longer let in"
    assert run("list") == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("allow", "alice", "--admin"), "there is no client 'alice' yet: give its --public-key"),
        (("allow", "alice", "--public-key", PAIR.public), "say what it may do"),
        (("allow", "alice", "--public-key", "x", "--admin"), "is not a key of 40 characters"),
        (("allow", "a*", "--public-key", PAIR.public, "--produce", "a**"), "neither a name"),
        (("allow", "ANONYMOUS", "--public-key", PAIR.public, "--admin"), "means something in rules"),
        (("revoke", "alice"), "there is no client 'alice'"),
        (("client", "ANONYMOUS"), "means something in rules"),
        (("client", "alice", "--server-key", "x"), "--server-key is not a public key"),
        (("client", "alice", "--out", "no/such/place"), "no/such/place: No such file or directory"),
    ],
)
def test_what_the_command_cannot_do_it_says(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert keys(list(words)) == 1
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.out == ""


def test_a_secret_key_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "alice.key"
    assert keys(["client", "alice", "--out", str(path)]) == 0
    before = path.read_bytes()
    assert keys(["client", "alice", "--out", str(path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_file_of_keys_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "alice.key").symlink_to(tmp_path / "elsewhere")
    assert keys(["client", "alice", "--out", str(tmp_path / "alice.key")]) == 1
    assert not (tmp_path / "elsewhere").exists()

"""`odradek acl` and `odradek users` against a real broker, and what their help and their errors say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from odradek.cli import users
from odradek.cli.exits import BadInput
from odradek.protocol.access import ScramCredential
from odradek.protocol.errors import UnacceptableCredential
from odradek.protocol.scram import is_password
from tests.clients.test_cli_broker import Shell
from tests.support.broker import BrokerProcess

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(gateways=0) as broker:
        yield broker


@pytest.fixture
def shell(broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(broker, monkeypatch)


# -- rules ---------------------------------------------------------------------------------------------


def test_the_life_of_a_rule(shell: Shell) -> None:
    words = ("acl", "add", "-p", "till", "-o", "write", "--topic", "sales-", "--prefixed")
    done = shell.run(*words)
    assert b"added: allow User:till to write topic 'sales-' and what begins so" in done.stderr
    assert b"note: the broker does not ask the rules" in done.stderr
    (rule,) = shell.json("acl", "list", "--principal", "till")
    assert rule == {
        "principal": "User:till",
        "operation": "write",
        "resource_type": "topic",
        "resource_name": "sales-",
        "pattern_type": "prefixed",
        "permission": "allow",
        "host": "*",
    }
    assert shell.json("acl", "list", "--topic", "sales-2026") == [rule]
    assert shell.json("acl", "list", "--topic", "purchases") == []
    table = shell.run("acl", "list").stdout.decode()
    assert table.splitlines()[1].split() == [
        "allow",
        "User:till",
        "*",
        "write",
        "topic",
        "prefixed",
        "sales-",
    ]
    done = shell.run("acl", "remove", "--principal", "till", "--topic", "sales-")
    assert b"removed: allow User:till to write" in done.stderr
    assert shell.json("acl", "list") == []


def test_several_at_once_and_none_removed_by_accident(shell: Shell) -> None:
    shell.run("acl", "add", "-p", "a", "-p", "b", "-o", "read", "-o", "describe", "--group", "g", "--deny")
    rules = shell.json("acl", "list", "--group", "g")
    assert {(rule["principal"], rule["operation"], rule["permission"]) for rule in rules} == {
        (f"User:{name}", operation, "deny") for name in "ab" for operation in ("read", "describe")
    }
    done = shell.run("acl", "remove", "-p", "a", code=1)
    assert b"would go: deny User:a to read group 'g'" in done.stderr
    assert b"2 rules; nothing was removed" in done.stderr
    assert len(shell.json("acl", "list")) == 4
    shell.run("acl", "remove", "-p", "a", "-p", "b", "--yes")
    assert shell.json("acl", "list") == []
    done = shell.run("acl", "remove", "-p", "a", code=1)
    assert b"there is no such rule" in done.stderr


def test_rules_about_the_cluster_and_from_a_host(shell: Shell) -> None:
    shell.run("acl", "add", "-p", "*", "-o", "idempotent-write", "--cluster", "--host", "10.0.0.1")
    (rule,) = shell.json("acl", "list", "--cluster")
    assert (rule["principal"], rule["resource_name"], rule["host"]) == ("User:*", "kafka-cluster", "10.0.0.1")
    shell.run("acl", "remove", "--cluster")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["add", "-o", "read", "--topic", "t"], "say who"),
        (["add", "-p", "a", "--topic", "t"], "may do what"),
        (["add", "-p", "a", "-o", "read"], "say to what"),
        (["add", "-p", "a", "-o", "fly", "--topic", "t"], "'fly' is not an operation; there are all, alter"),
        (["add", "-p", "a", "-o", "write", "--group", "g"], "nobody can write a group"),
        (["add", "-p", "a", "-o", "read", "--topic", "t", "--host", "here"], "must be an IP address"),
        (["add", "-p", "a", "-o", "read", "--topic", "*", "--prefixed"], "use a literal '*'"),
        (["remove"], "say which rules"),
    ],
)
def test_rules_that_cannot_be_say_why(shell: Shell, words: list[str], why: str) -> None:
    assert why in shell.run("acl", *words, code=2).stderr.decode()


def test_rules_that_are_asked_shut_the_command_out_too() -> None:
    """Native clients of this machine have no name: a broker whose rules are asked needs one for them."""
    with (
        BrokerProcess(gateways=0, authorization="acls") as broker,
        pytest.MonkeyPatch.context() as patch,
    ):
        shell = Shell(broker, patch)
        done = shell.run("acl", "add", "-p", "a", "-o", "read", "--topic", "t", code=1)
        assert b"CLUSTER_AUTHORIZATION_FAILED" in done.stderr and b"User:ANONYMOUS" in done.stderr


# -- users -----------------------------------------------------------------------------------------------


def test_the_life_of_a_user(shell: Shell) -> None:
    done = shell.run("users", "add", "till", "--password-stdin", "--iterations", "4096", stdin=b"secret\n")
    assert done.stderr == b"user till can log in as User:till\n"
    assert b"secret" not in done.stdout + done.stderr
    (user,) = shell.json("users", "list")
    assert user["name"] == "till"
    assert {each["mechanism"]: each["iterations"] for each in user["mechanisms"]} == {
        "SCRAM-SHA-256": 4096,
        "SCRAM-SHA-512": 4096,
    }
    assert shell.run("users", "list").stdout.split()[3:] == [
        b"till",
        b"SCRAM-SHA-256,",
        b"SCRAM-SHA-512",
        b"4096",
    ]
    shell.run("users", "remove", "till")
    assert shell.json("users", "list") == []
    assert b"RESOURCE_NOT_FOUND" in shell.run("users", "remove", "till", code=1).stderr


def test_what_the_broker_keeps_is_made_of_the_password_and_is_not_it(
    shell: Shell, broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.run("users", "add", "ada", "--password-stdin", stdin="pässword with spaces \n".encode())
    kept = (broker.data / "access.json").read_bytes()
    assert b"ssword" not in kept
    import msgspec  # noqa: PLC0415  # only here

    users_kept: Any = msgspec.json.decode(kept)["access"]["users"]
    (ada,) = (user for user in users_kept if user["name"] == "ada")
    for fields in ada["credentials"]:
        credential = msgspec.convert(fields, ScramCredential)
        assert is_password(credential, "pässword with spaces ".encode())
        assert not is_password(credential, b"another")


def test_a_password_is_typed_twice(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["one", "two"])
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(answers))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(BadInput, match="not the same"):
        users._typed_password("till")


@pytest.mark.parametrize(
    ("words", "stdin", "code", "why"),
    [
        (["till"], b"", 2, "--password-stdin"),
        (["till", "--password-stdin"], b"\n", 2, "no password came on stdin"),
        (["*", "--password-stdin"], b"x\n", 1, UnacceptableCredential.name),
        (["till", "--password-stdin", "--iterations", "10"], b"x\n", 2, "4096"),
    ],
)
def test_users_that_cannot_be_say_why(
    shell: Shell, words: list[str], stdin: bytes, code: int, why: str
) -> None:
    assert why in shell.run("users", "add", *words, stdin=stdin, code=code).stderr.decode()

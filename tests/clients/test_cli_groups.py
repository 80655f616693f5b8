"""`odradek group` against a real broker: lists, descriptions, resets, and members that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from odradek import Admin, Consumer, Producer, TopicPartition
from odradek.protocol.errors import InvalidRegularExpression
from tests.clients.test_cli_broker import Shell
from tests.support.broker import BrokerProcess

pytestmark = pytest.mark.processes

WAIT_S = 40.0
FIRST_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(auto_create_topics=False) as broker:
        yield broker


@pytest.fixture
def shell(broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(broker, monkeypatch)


def filled(broker: BrokerProcess, shell: Shell, topic: str, partitions: int = 2, records: int = 10) -> str:
    """A topic whose records lie one second apart, the first at FIRST_MS."""
    shell.topic(topic, partitions)
    with Producer(broker.bootstrap) as producer:
        for partition in range(partitions):
            for number in range(records):
                at_ms = FIRST_MS + number * 1000
                producer.send(topic, b"%d" % number, partition=partition, timestamp=at_ms)
        producer.flush(WAIT_S)
    return topic


def commit(broker: BrokerProcess, group: str, offsets: dict[tuple[str, int], int]) -> None:
    with Admin(broker.bootstrap) as admin:
        admin.alter_group_offsets(group, {TopicPartition(*key): at for key, at in offsets.items()})


def committed(broker: BrokerProcess, group: str) -> dict[tuple[str, int], int]:
    with Admin(broker.bootstrap) as admin:
        return {(key.topic, key.partition): at for key, at in admin.list_group_offsets(group).items()}


def joined(broker: BrokerProcess, **options: Any) -> Consumer:
    """A member that holds partitions."""
    consumer = Consumer(broker.bootstrap, **options)
    for _ in range(400):
        consumer.poll(0.05)
        if consumer.assignment():
            return consumer
    raise AssertionError("no partition was assigned")


def moves(document: list[dict[str, Any]]) -> list[tuple[str, int, int | None, int]]:
    return [(move["topic"], move["partition"], move["from_offset"], move["to_offset"]) for move in document]


# -- reset -----------------------------------------------------------------------------------------


def test_a_reset_to_each_goal(broker: BrokerProcess, shell: Shell) -> None:
    topic = filled(broker, shell, "goals")
    with Admin(broker.bootstrap) as admin:
        admin.delete_records(topic, 0, 2)
    at = datetime.fromtimestamp((FIRST_MS + 6500) / 1000, UTC).isoformat()
    # Each line begins where the one before it ended.
    for words, expected in (
        (("--to-latest",), (10, 10)),
        (("--to-earliest",), (2, 0)),
        (("--to-offset", "5"), (5, 5)),
        (("--shift-by", "3"), (8, 8)),
        (("--shift-by", "-4"), (4, 4)),
        (("--to-datetime", at), (7, 7)),
        (("--to-datetime", "1s"), (10, 10)),
    ):
        before = committed(broker, "goals")
        done = shell.json("group", "reset", "goals", "--topic", topic, *words)
        assert moves(done) == [
            (topic, number, before.get((topic, number)), expected[number]) for number in (0, 1)
        ], words
        assert committed(broker, "goals") == {(topic, 0): expected[0], (topic, 1): expected[1]}, words


def test_the_consumer_goes_on_at_the_new_place(broker: BrokerProcess, shell: Shell) -> None:
    topic = filled(broker, shell, "again", partitions=1)
    assert len(shell.lines("consume", topic, "--group", "again")) == 10
    done = shell.run("group", "reset", "again", "--all-topics", "--shift-by", "-3")
    assert done.stderr == b"group again reset: 1 partition\n"
    assert shell.lines("consume", topic, "--group", "again") == [b"7", b"8", b"9"]


def test_a_dry_run_prints_the_plan_and_changes_nothing(broker: BrokerProcess, shell: Shell) -> None:
    topic = filled(broker, shell, "dry")
    commit(broker, "dry", {(topic, 0): 4})
    done = shell.run("group", "reset", "dry", "--topic", topic, "--to-earliest", "--dry-run")
    head, *rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert head == ["Topic", "Partition", "From", "To"]
    assert rows == [[topic, "0", "4", "0"], [topic, "1", "-", "0"]]
    assert b"nothing was changed" in done.stderr
    assert committed(broker, "dry") == {(topic, 0): 4}


def test_a_scope_is_topics_partitions_or_all_that_is_committed(broker: BrokerProcess, shell: Shell) -> None:
    one, two = filled(broker, shell, "scope-1", 3), filled(broker, shell, "scope-2", 2)

    def chosen(*words: str) -> list[tuple[str, int]]:
        done = shell.json("group", "reset", "scope", *words, "--to-latest", "--dry-run")
        return [(move["topic"], move["partition"]) for move in done]

    assert chosen("--topic", f"{one}:2", "--topic", f"{one}:0") == [(one, 0), (one, 2)]
    assert chosen("-t", f"{one}:1", "-t", two) == [(one, 1), (two, 0), (two, 1)]
    assert chosen("-t", f"{two}:1", "-t", two) == [(two, 0), (two, 1)]
    commit(broker, "scope", {(two, 1): 3, (one, 0): 1})
    assert chosen("--all-topics") == [(one, 0), (two, 1)]


def test_offsets_outside_of_the_log_are_kept_inside_and_said(broker: BrokerProcess, shell: Shell) -> None:
    topic = filled(broker, shell, "outside", partitions=1)
    done = shell.run("group", "reset", "outside", "--topic", topic, "--to-offset", "99")
    assert b"offset 99 is outside of the log; 10 is the nearest in it" in done.stderr
    (move,) = shell.json("group", "reset", "outside", "--topic", topic, "--shift-by", "-11")
    assert (move["to_offset"], move["wanted"]) == (0, -1)
    assert committed(broker, "outside") == {(topic, 0): 0}


def test_a_group_with_members_is_not_reset(broker: BrokerProcess, shell: Shell) -> None:
    topic = filled(broker, shell, "busy")
    with joined(broker, group="busy", topics=[topic], enable_auto_commit=False) as consumer:
        consumer.commit({TopicPartition(topic, 0): 6})
        refused = shell.run("group", "reset", "busy", "--all-topics", "--to-earliest", code=1)
        planned = shell.run("group", "reset", "busy", "--all-topics", "--to-earliest", "--dry-run")
        assert committed(broker, "busy") == {(topic, 0): 6}
    assert refused.stdout == b""
    assert refused.stderr.startswith(b"odradek: group busy has 1 member, which would go on")
    assert refused.stderr.count(b"\n") == 1
    assert b"stop them first" in refused.stderr
    assert b"would be refused now" in planned.stderr
    shell.run("group", "reset", "busy", "--all-topics", "--to-earliest")
    assert committed(broker, "busy") == {(topic, 0): 0}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to-earliest"], b"--all-topics"),
        (["--all-topics", "--topic", "x", "--to-earliest"], b"--all-topics"),
        (["--topic", "x"], b"exactly one of"),
        (["--topic", "x", "--to-earliest", "--to-latest"], b"exactly one of"),
        (["--topic", "x", "--to-offset", "0", "--shift-by", "0"], b"exactly one of"),
        (["--topic", "x", "--to-offset", "-1"], b"at least 0"),
        (["--topic", "x", "--to-datetime", "yesterday"], b"not a time"),
        (["--topic", "x", "--to-offset", "ten"], b"valid integer"),
    ],
)
def test_a_wrong_command_line_is_exit_2(shell: Shell, words: list[str], says: bytes) -> None:
    done = shell.run("group", "reset", "wrong", *words, code=2)
    assert says in done.stderr
    assert done.stdout == b""


def test_what_cannot_be_reset_is_exit_1_and_changes_nothing(broker: BrokerProcess, shell: Shell) -> None:
    topic = filled(broker, shell, "cannot")
    commit(broker, "cannot", {(topic, 0): 4})
    for words, says in (
        (["--topic", "nowhere", "--to-latest"], b"UNKNOWN_TOPIC_OR_PARTITION (3)"),
        (["--topic", f"{topic}:7", "--to-latest"], b"partitions 0 to 1, not 7"),
        (["--topic", topic, "--shift-by", "1"], b"cannot:1 has no committed offset"),
    ):
        assert says in shell.run("group", "reset", "cannot", *words, code=1).stderr
    nobody = shell.run("group", "reset", "nobody", "--all-topics", "--to-latest", code=1)
    assert b"GROUP_ID_NOT_FOUND (69)" in nobody.stderr
    assert committed(broker, "cannot") == {(topic, 0): 4}


def test_help_has_examples(shell: Shell) -> None:
    for name in ("list", "describe", "reset", "delete"):
        assert f"odradek group {name}" in shell.run("group", name, "--help").stdout.decode(), name
    shown = shell.run("group", "reset", "--help").stdout.decode()
    assert "--all-topics --to-earliest --dry-run" in shown


# -- describe --------------------------------------------------------------------------------------


def test_a_description_has_lag_owner_client_and_the_last_commit(broker: BrokerProcess, shell: Shell) -> None:
    topic = filled(broker, shell, "shown")
    with joined(
        broker, group="shown", topics=[topic], client_id="host-7", enable_auto_commit=False
    ) as consumer:
        consumer.commit({TopicPartition(topic, 0): 6})
        described = shell.json("group", "describe", "shown")
        shown = shell.run("group", "describe", "shown").stdout.decode()
    (member,) = described["members"]
    rows = {row["partition"]: row for row in described["offsets"]}
    assert (described["type"], member["client_id"], member["host"]) == ("consumer", "host-7", "127.0.0.1")
    assert (rows[0]["offset"], rows[0]["end_offset"], rows[0]["lag"]) == (6, 10, 4)
    assert rows[0]["member_id"] == rows[1]["member_id"] == member["member_id"]
    assert rows[0]["committed_at_ms"] > FIRST_MS
    assert rows[1]["committed_at_ms"] is None
    lines = [line.split() for line in shown.splitlines()]
    assert ["Lag", "4"] in lines
    owner = member["member_id"][:12]
    (first,) = [line for line in lines if line[:2] == [topic, "0"]]
    (second,) = [line for line in lines if line[:2] == [topic, "1"]]
    assert (first[2:5], first[6:]) == (["6", "10", "4"], ["ago", owner, "host-7"])
    assert second[2:] == ["-", "10", "-", "-", owner, "host-7"]


def test_a_pattern_takes_in_topics_that_come_later(broker: BrokerProcess, shell: Shell) -> None:
    filled(broker, shell, "pattern-1", 1, 1)
    filled(broker, shell, "other-1", 1, 1)
    with joined(broker, group="pattern", topics_pattern=r"pattern-\d+") as consumer:
        assert consumer.assignment() == {TopicPartition("pattern-1", 0)}
        filled(broker, shell, "pattern-2", 1, 1)
        for _ in range(400):
            consumer.poll(0.05)
            if len(consumer.assignment()) == 2:
                break
        assert consumer.assignment() == {TopicPartition("pattern-1", 0), TopicPartition("pattern-2", 0)}
        assert rb"/pattern-\d+/" in shell.run("group", "describe", "pattern").stdout
    with (
        Consumer(broker.bootstrap, group="pattern", topics_pattern="(") as wrong,
        pytest.raises(InvalidRegularExpression),
    ):
        wrong.poll(WAIT_S)


def test_a_list_shows_state_type_and_members(broker: BrokerProcess, shell: Shell) -> None:
    topic = filled(broker, shell, "listed", 1, 1)
    commit(broker, "listed-empty", {(topic, 0): 1})
    with joined(broker, group="listed", topics=[topic]):
        rows = [line.split() for line in shell.run("group", "list").stdout.decode().splitlines()]
        in_use = shell.run("group", "delete", "listed", code=1)
    assert rows[0] == ["Group", "State", "Type", "Members"]
    assert ["listed", "STABLE", "consumer", "1"] in [[row[0], row[1].upper(), *row[2:]] for row in rows[1:]]
    assert ["listed-empty", "EMPTY", "0"] in [[row[0], row[1].upper(), row[-1]] for row in rows[1:]]
    assert b"NON_EMPTY_GROUP (68)" in in_use.stderr

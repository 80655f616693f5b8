"""The `odradek` command against a real broker: what people and programs get to see."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from odradek.cli.__main__ import main
from tests.support.broker import BrokerProcess

pytestmark = pytest.mark.processes

TIMEOUT_S = 60


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(auto_create_topics=False) as broker:
        yield broker


@dataclass(frozen=True)
class Done:
    """What a command wrote."""

    stdout: bytes
    stderr: bytes


class Shell:
    """Runs the command with the broker in its environment: in this process, or started as people do."""

    def __init__(self, broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("ODRADEK_BOOTSTRAP", broker.bootstrap)

    def run(self, *words: str, stdin: bytes = b"", code: int = 0) -> Done:
        """Run it to its end, here: a new interpreter for each would take most of the time."""
        streams = [io.TextIOWrapper(io.BytesIO(content)) for content in (stdin, b"", b"")]
        with self._monkeypatch.context() as patch:
            for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, stream)
            try:
                found = main(words)
            except SystemExit as end:
                found = int(end.code or 0)
        out, err = (self._content(stream) for stream in streams[1:])
        assert found == code, (words, found, err.decode())
        return Done(out, err)

    @staticmethod
    def _content(stream: io.TextIOWrapper) -> bytes:
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        return stream.buffer.getvalue()

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def lines(self, *words: str) -> list[bytes]:
        return self.run(*words).stdout.splitlines()

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "odradek.cli", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def topic(self, name: str, partitions: int = 1) -> str:
        self.run("topic", "create", name, "--partitions", str(partitions))
        return name


@pytest.fixture
def shell(broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(broker, monkeypatch)


# -- topics ----------------------------------------------------------------------------------------


def test_the_life_of_a_topic(shell: Shell) -> None:
    shell.run("topic", "create", "life", "--partitions", "2", "--config", "segment.bytes=1000000")
    shell.run("topic", "alter", "life", "--config", "max.message.bytes=5000", "--partitions", "3")

    (listed,) = [topic for topic in shell.json("topic", "list") if topic["name"] == "life"]
    (described,) = shell.json("topic", "describe", "life")
    shown = shell.run("topic", "describe", "life").stdout.decode()
    shell.run("topic", "alter", "life", "--reset", "max.message.bytes")
    (reset,) = shell.json("topic", "describe", "life")
    shell.run("topic", "delete", "life", "--yes")

    assert len(listed["partitions"]) == 3
    assert [part["partition"] for part in described["partitions"]] == [0, 1, 2]
    assert [(part["start_offset"], part["end_offset"]) for part in described["partitions"]] == [(0, 0)] * 3
    assert described["config"]["segment.bytes"]["value"] == 1_000_000
    assert described["config"]["max.message.bytes"]["value"] == 5000
    assert (
        described["config"]["max.message.bytes"]["default"] == reset["config"]["max.message.bytes"]["value"]
    )
    assert "segment.bytes" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "life" not in {topic["name"] for topic in shell.json("topic", "list")}


def test_errors_of_the_broker_are_one_line_with_kafkas_name(shell: Shell) -> None:
    shell.topic("twice")

    again = shell.run("topic", "create", "twice", code=1)
    unknown = shell.run("topic", "describe", "nowhere", code=1)
    bad_name = shell.run("topic", "create", "a/b", code=1)
    bad_setting = shell.run("topic", "alter", "twice", "--config", "colour=red", code=1)
    gone = shell.run("topic", "delete", "nowhere", "--yes", code=1)

    for done, name in (
        (again, b"TOPIC_ALREADY_EXISTS (36)"),
        (unknown, b"UNKNOWN_TOPIC_OR_PARTITION (3)"),
        (bad_name, b"INVALID_TOPIC_EXCEPTION (17)"),
        (bad_setting, b"INVALID_CONFIG (40)"),
        (gone, b"UNKNOWN_TOPIC_OR_PARTITION (3)"),
    ):
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == 1, done.stderr
        assert done.stderr.startswith(b"odradek: " + name), done.stderr
    shell.run("topic", "create", "twice", "--if-not-exists")


def test_a_list_is_a_table_for_people(shell: Shell) -> None:
    shell.topic("tabled", 2)

    head, *rows = shell.run("topic", "list").stdout.decode().splitlines()

    assert head.split() == ["Topic", "Partitions", "State"]
    assert ["tabled", "2", "serving"] in [row.split() for row in rows]


# -- produce and consume ---------------------------------------------------------------------------


def test_lines_go_in_and_come_out_in_order(shell: Shell) -> None:
    topic = shell.topic("lines")
    lines = [b"line %d" % number for number in range(3000)]

    done = shell.run("produce", topic, stdin=b"\n".join(lines))

    assert b"3,000 of 3,000 records" in done.stderr
    assert shell.lines("consume", topic) == lines
    assert shell.lines("consume", topic, "--offset", "2995") == lines[2995:]
    assert shell.lines("consume", topic, "--offset=-2") == lines[-2:]
    assert shell.lines("consume", topic, "--max", "7") == lines[:7]
    assert shell.lines("consume", topic, "--offset", "end") == []
    assert shell.lines("consume", topic, "--since", "1h") == lines
    assert shell.lines("consume", topic, "--since", "2100-01-01") == []


def test_keys_headers_and_partitions(shell: Shell) -> None:
    topic = shell.topic("keyed", 4)
    stdin = b"a:1\nb:2\na:3\nc:NULL\n"

    shell.run("produce", topic, "-K", ":", "--null-marker", "NULL", "-H", "source=test", stdin=stdin)
    shell.run("produce", topic, "--partition", "2", stdin=b"direct\n")
    records = [json.loads(line) for line in shell.lines("consume", topic, "--json")]
    only = shell.lines("consume", topic, "--partition", "2", "--show-key", "-K", "=", "--show-offset")

    by_key = {key: [r for r in records if r["key"] == key] for key in ("a", "b", "c", None)}
    assert [record["value"] for record in by_key["a"]] == ["1", "3"]
    assert len({record["partition"] for record in by_key["a"]}) == 1
    assert [record["value"] for record in by_key["c"]] == [None]
    assert by_key["a"][0]["headers"] == [["source", "test"]]
    assert (by_key[None][0]["partition"], by_key[None][0]["value"]) == (2, "direct")
    assert only[-1].endswith(b"=null=direct")


def test_json_copies_records_byte_for_byte(shell: Shell, tmp_path: Path) -> None:
    source, copy = shell.topic("source"), shell.topic("copy")
    blob = tmp_path / "blob"
    blob.write_bytes(bytes(range(256)) + b"\n\n")
    shell.run("produce", source, str(blob), "--whole-files", "--compression", "zstd")
    shell.run("produce", source, "--json", stdin=b'{"key":{"base64":"/w=="},"value":"x","timestamp":17}\n')

    written = shell.run("consume", source, "--json").stdout
    shell.run("produce", copy, "--json", stdin=written)

    def content(lines: bytes) -> list[Any]:
        return [{k: v for k, v in json.loads(line).items() if k != "topic"} for line in lines.splitlines()]

    assert content(shell.run("consume", copy, "--json").stdout) == content(written)
    assert shell.run("consume", copy, "--max", "1").stdout == blob.read_bytes() + b"\n"
    assert content(written)[1]["timestamp"] == 17


def test_a_bad_line_ends_it_and_the_lines_before_are_in(shell: Shell) -> None:
    topic = shell.topic("badline")

    done = shell.run("produce", topic, "-K", ":", stdin=b"a:1\nnonsense\nb:2\n", code=2)

    assert b"1 of 1 records" in done.stderr
    assert b"stdin, line 2: no key" in done.stderr
    assert shell.lines("consume", topic) == [b"1"]


def test_a_record_that_is_refused_is_loud(shell: Shell) -> None:
    topic = shell.topic("small")
    shell.run("topic", "alter", topic, "--config", "max.message.bytes=1000")

    done = shell.run("produce", topic, stdin=b"x" * 5000 + b"\n", code=1)
    unknown = shell.run("produce", "nowhere", stdin=b"x\n", code=1)
    no_file = shell.run("produce", topic, "/nonexistent", code=2)

    assert b"MESSAGE_TOO_LARGE" in done.stderr
    assert b"0 of " in done.stderr
    assert b"UNKNOWN_TOPIC_OR_PARTITION" in unknown.stderr
    assert b"/nonexistent: No such file" in no_file.stderr


def test_an_unknown_partition_is_refused(shell: Shell) -> None:
    topic = shell.topic("one")

    done = shell.run("consume", topic, "--partition", "5", code=1)

    assert b"has partitions 0 to 0, not 5" in done.stderr


def test_follow_shows_what_comes_and_ends_with_130(shell: Shell) -> None:
    topic = shell.topic("followed")
    follower = shell.start("consume", topic, "--follow", "--from-beginning")
    assert follower.stdout is not None

    shell.run("produce", topic, stdin=b"one\n")
    first = follower.stdout.readline()
    shell.run("produce", topic, stdin=b"two\n")
    second = follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=TIMEOUT_S)

    assert (first, second, out, err) == (b"one\n", b"two\n", b"", b"")
    assert follower.returncode == 130


def test_a_line_leaves_before_stdin_ends(shell: Shell) -> None:
    topic = shell.topic("typed")
    producer = shell.start("produce", topic)
    follower = shell.start("consume", topic, "--follow", "--from-beginning")
    assert producer.stdin is not None
    assert follower.stdout is not None

    producer.stdin.write(b"typed by hand\n")
    producer.stdin.flush()

    assert follower.stdout.readline() == b"typed by hand\n"
    follower.terminate()
    follower.communicate(timeout=TIMEOUT_S)
    assert follower.returncode == 143
    _, err = producer.communicate(timeout=TIMEOUT_S)
    assert (producer.returncode, err.count(b"1 of 1 records")) == (0, 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_producer_that_is_told_to_end_says_what_was_acknowledged(
    shell: Shell, number: int, code: int
) -> None:
    topic = shell.topic(f"ended-{code}")
    producer = shell.start("produce", topic)
    follower = shell.start("consume", topic, "--follow", "--from-beginning")
    assert producer.stdin is not None
    assert follower.stdout is not None
    producer.stdin.write(b"one\n")
    producer.stdin.flush()
    assert follower.stdout.readline() == b"one\n"

    producer.send_signal(number)
    assert producer.wait(TIMEOUT_S) == code  # stdin is still open
    _, err = producer.communicate(timeout=TIMEOUT_S)

    assert err.count(b"1 of 1 records (3 B) acknowledged by") == 1, err
    assert b"Traceback" not in err
    follower.terminate()
    follower.communicate(timeout=TIMEOUT_S)


def test_a_reader_that_goes_away_ends_consume_quietly(shell: Shell) -> None:
    topic = shell.topic("piped")
    shell.run("produce", topic, stdin=b"some line of text\n" * 20_000)

    consumer = shell.start("consume", topic)
    assert consumer.stdout is not None
    assert consumer.stderr is not None
    assert consumer.stdout.readline() == b"some line of text\n"
    consumer.stdout.close()

    assert consumer.wait(TIMEOUT_S) == 141
    assert consumer.stderr.read() == b""
    consumer.communicate(timeout=TIMEOUT_S)


# -- groups ----------------------------------------------------------------------------------------


def test_a_group_goes_on_where_it_stopped(shell: Shell) -> None:
    topic = shell.topic("grouped", 2)
    shell.run("produce", topic, "--partition", "0", stdin=b"1\n2\n3\n4\n5\n")

    first = shell.lines("consume", topic, "--group", "readers", "--max", "2")
    second = shell.lines("consume", topic, "--group", "readers")
    third = shell.lines("consume", topic, "--group", "readers")
    described = shell.json("group", "describe", "readers")
    shown = shell.run("group", "describe", "readers").stdout.decode()
    listed = shell.json("group", "list")

    assert (first, second, third) == ([b"1", b"2"], [b"3", b"4", b"5"], [])
    (at,) = [entry for entry in described["offsets"] if entry["partition"] == 0]
    assert (at["topic"], at["offset"], at["lag"]) == (topic, 5, 0)
    assert described["members"] == []
    assert "readers" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "readers" in {group["group"] for group in listed}
    assert b"readers" in shell.run("group", "list").stdout
    shell.run("group", "delete", "readers")
    assert "readers" not in {group["group"] for group in shell.json("group", "list")}


def test_an_unknown_group_is_an_error(shell: Shell) -> None:
    assert b"GROUP_ID_NOT_FOUND (69)" in shell.run("group", "describe", "nobody", code=1).stderr


def test_what_no_reader_took_is_not_committed(shell: Shell) -> None:
    """The pipe breaks in the middle: the group's next member gets what was not written."""
    topic = shell.topic("halves")
    lines = b"".join(b"%07d\n" % number for number in range(40_000))
    shell.run("produce", topic, stdin=lines)

    consumer = shell.start("consume", topic, "--group", "halves")
    assert consumer.stdout is not None
    taken = consumer.stdout.read(8 * 1000)
    consumer.stdout.close()
    consumer.communicate(timeout=TIMEOUT_S)
    rest = shell.lines("consume", topic, "--group", "halves")

    assert consumer.returncode == 141
    assert taken == lines[:8000]
    assert rest
    assert rest[-1] == b"0039999"
    first = int(rest[0])
    assert rest == [b"%07d" % number for number in range(first, 40_000)], "nothing is skipped"


# -- status ----------------------------------------------------------------------------------------


def test_status_shows_the_tree(shell: Shell, broker: BrokerProcess) -> None:
    shell.topic("watched", 2)

    actors = {actor["name"]: actor for actor in shell.json("status")}
    shown = shell.run("status").stdout.decode().splitlines()

    assert {
        "supervisor",
        "router:0",
        "coordinator",
        "partition:watched-0",
        "partition:watched-1",
    } <= actors.keys()
    assert actors["supervisor"]["pid"] == broker.pid
    assert shown[0].split() == ["Name", "PID", "State", "Restarts", "Uptime", "PSS", "CPU"]
    assert shown[1].split()[:2] == ["supervisor", str(broker.pid)]
    assert max(map(len, shown)) <= 80

"""Kafka's own ``kafka-consumer-groups``: it lists, describes, resets and deletes groups of both kinds."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import pytest

import odradek
from tests.support.broker import BrokerProcess
from tests.support.kafka_dump import NoKafka, kafka_classpath
from tests.support.kafkamembers import ConfluentMember, wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here"),
]
POM = Path(__file__).resolve().parent / "tools" / "pom.xml"
MAIN_CLASS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
TOOL_TIMEOUT_S = 120
RECORDS = 60
Tool = Callable[..., str]


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(group_initial_rebalance_delay_s=0.1) as process:
        with odradek.Admin(process.bootstrap) as admin:
            admin.create_topic("events", 3)
        producer = confluent_kafka.Producer({"bootstrap.servers": process.ready["kafka"]})
        for number in range(RECORDS):
            producer.produce("events", str(number).encode(), partition=number % 3)
        assert producer.flush(30) == 0
        yield process


@pytest.fixture(scope="module")
def tool(broker: BrokerProcess) -> Tool:
    """Runs the tool, and gives what it printed."""
    try:
        classpath = kafka_classpath(pom=POM)
    except NoKafka as why:
        pytest.skip(str(why))

    def run(*words: str, code: int = 0) -> str:
        java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", classpath, MAIN_CLASS]
        done = subprocess.run(
            [*java, "--bootstrap-server", str(broker.ready["kafka"]), *words],
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def rows(printed: str) -> list[list[str]]:
    """The lines of a table, in words, without its head."""
    return sorted(line.split() for line in printed.splitlines() if line and not line.startswith("GROUP"))


def test_it_shows_and_changes_groups_of_both_kinds(broker: BrokerProcess, tool: Tool) -> None:
    member = ConfluentMember(str(broker.ready["kafka"]), "classic", ["events"])
    try:
        wait_until(lambda: len(member.values) == RECORDS, "all is read")
        with odradek.Consumer(broker.bootstrap, group="native", topics=["events"]) as consumer:
            next(iter(consumer))
            consumer.commit()
            assert rows(tool("--list", "--type")) == [["classic", "Classic"], ["native", "Consumer"]]
            assert rows(tool("--list", "--state")) == [["classic", "Stable"], ["native", "Stable"]]
            described = rows(tool("--describe", "--group", "native"))
            assert sum(int(row[3]) for row in described) == 1
            assert {row[2] for row in described} == {"0", "1", "2"}
        described = rows(tool("--describe", "--group", "classic"))
        assert [row[:6] for row in described] == [
            ["classic", "events", str(number), "20", "20", "0"] for number in range(3)
        ]
        assert {(row[7], row[8]) for row in described} == {("/127.0.0.1", "confluent")}
        assert "events:0,1,2" in tool("--describe", "--group", "classic", "--members", "--verbose")
        refused = tool("--delete", "--group", "classic")
        assert "could not be deleted" in refused or "GroupNotEmptyException" in refused
    finally:
        member.end()
    reset = ("--reset-offsets", "--group", "classic", "--topic", "events", "--to-earliest", "--execute")
    assert [row[2:] for row in rows(tool(*reset))] == [[str(number), "0"] for number in range(3)]
    tool("--delete-offsets", "--group", "classic", "--topic", "events:1")
    assert [row[2:6] for row in rows(tool("--describe", "--group", "classic")) if row[0] == "classic"] == [
        ["0", "0", "20", "20"],
        ["2", "0", "20", "20"],
    ]
    assert "successful" in tool("--delete", "--group", "classic")
    assert [row[0] for row in rows(tool("--list", "--type"))] == ["native"]

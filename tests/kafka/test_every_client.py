"""The same scenarios with every client: each codec, offsets, administration, a partition that is killed.

Each client is a program in ``members`` that does one thing and says what it saw; both protocols look at
the same topic. Groups of all of them are in test_group_clients.py, librdkafka's part in test_clients.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import odradek
from tests.support.broker import BrokerProcess
from tests.support.kafka_dump import NoKafka, kafka_classpath
from tests.support.kafkamembers import MEMBERS, NoKafkaJs, java_classes, kafkajs_modules, need
from tests.support.rawclient import RawClient
from tests.support.victims import eventually, serving_child

pytestmark = pytest.mark.processes

PROGRAM_TIMEOUT_S = 100.0
RECORDS = 200
STREAMED = 3_000
KILL_AFTER = 1_000
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
"""By name, the bits of a batch's attributes."""
CLIENTS = ("kafka-python", "aiokafka", "kafkajs", "java", "kcat")
OWN_CODECS = {"kafkajs": ("none", "gzip")}
"""Of clients that need plug-ins for the others."""
IDEMPOTENT = ("aiokafka", "kafka-python", "kafkajs", "java", "kcat")


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess() as process:
        yield process


@pytest.fixture
def topic(request: pytest.FixtureRequest, broker: BrokerProcess) -> str:
    """A name of its own for each test, with one partition."""
    name = "".join(each if each.isalnum() else "-" for each in request.node.name)[:200]
    with odradek.Admin(broker.bootstrap) as admin:
        admin.create_topic(name, 1)
    return name


class Program:
    """One client, as a command line for each mode."""

    def __init__(self, client: str, bootstrap: str) -> None:
        self._client, self._bootstrap = client, bootstrap
        try:
            self._environment = self._prepare()
        except (NoKafka, NoKafkaJs) as missing:
            pytest.skip(str(missing))

    def _prepare(self) -> dict[str, str]:
        if self._client == "java":
            need("java")
        if self._client == "kafkajs":
            return {**os.environ, "NODE_PATH": str(kafkajs_modules())}
        if self._client == "kcat" and shutil.which("kcat") is None:
            pytest.skip("kcat is not installed (apt-get install kcat)")
        return dict(os.environ)

    def _command(self, mode: str, topic: str, words: Sequence[object]) -> list[str]:
        given = [mode, self._bootstrap, topic, *map(str, words)]
        match self._client:
            case "java":
                classpath = f"{java_classes()}:{kafka_classpath()}"
                return ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", classpath, "Client", *given]
            case "kafkajs":
                return ["node", str(MEMBERS / "client.js"), *given]
            case "kcat":
                return self._kcat(mode, topic, [str(word) for word in words])
        return [sys.executable, str(MEMBERS / "client.py"), self._client, *given]

    def _kcat(self, mode: str, topic: str, words: list[str]) -> list[str]:
        kcat = ["kcat", "-b", self._bootstrap, "-q", "-X", "socket.timeout.ms=10000"]
        if mode == "produce":
            codec, idempotent = words
            once = ["-X", f"enable.idempotence={'true' if idempotent == '1' else 'false'}"]
            return [*kcat, "-P", "-t", topic, "-p", "0", "-z", codec, "-X", "linger.ms=5", *once]
        if mode == "read":
            return [*kcat, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-c", words[0], "-f", "%s\n"]
        raise ValueError(f"kcat has no {mode}")

    def start(self, mode: str, topic: str, *words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command(mode, topic, words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def run(self, mode: str, topic: str, *words: object, lines: Sequence[str] = ()) -> list[str]:
        """The lines that it says."""
        said = "".join(f"{line}\n" for line in lines)
        with self.start(mode, topic, *words) as process:
            try:
                output, errors = process.communicate(said, PROGRAM_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, errors[-3000:]
        return output.splitlines()


@pytest.fixture
def program(request: pytest.FixtureRequest, broker: BrokerProcess) -> Program:
    return Program(request.param, str(broker.ready["kafka"]))


def numbered(count: int) -> list[str]:
    return [f"{number:06d} some words that compress, some words that compress" for number in range(count)]


def stored(broker: BrokerProcess, topic: str) -> list[str]:
    """What the native protocol reads."""
    with RawClient(broker.bootstrap) as client:
        return [(record.value or b"").decode() for record in client.records(topic)]


def codecs_of(broker: BrokerProcess, topic: str) -> set[int]:
    """The codec bits of every batch in the partition's file."""
    data = b"".join(path.read_bytes() for path in sorted(Path(broker.data, f"{topic}-0").glob("*.log")))
    found = set()
    position = 0
    while position < len(data):
        found.add(int.from_bytes(data[position + 21 : position + 23], "big") & 7)
        position += 12 + int.from_bytes(data[position + 8 : position + 12], "big")
    return found


CASES = [(client, codec) for client in CLIENTS for codec in OWN_CODECS.get(client, tuple(CODECS))]


@pytest.mark.parametrize(("program", "codec"), CASES, indirect=["program"])
def test_each_codec_both_ways_and_by_both_protocols(
    program: Program, codec: str, broker: BrokerProcess, topic: str
) -> None:
    program.run("produce", topic, codec, 0, lines=numbered(RECORDS))
    found = codecs_of(broker, topic)
    assert CODECS[codec] in found
    assert found <= {CODECS[codec], 0}, "a batch that would become longer may stay as it is"
    assert stored(broker, topic) == numbered(RECORDS)
    with odradek.Producer(broker.bootstrap) as producer:
        producer.send(topic, b"and a native one").result(PROGRAM_TIMEOUT_S)
    assert program.run("read", topic, RECORDS + 1) == [*numbered(RECORDS), "and a native one"]


@pytest.mark.parametrize("program", IDEMPOTENT, indirect=True)
def test_an_idempotent_producer_survives_a_killed_partition(
    program: Program, broker: BrokerProcess, topic: str
) -> None:
    """Once, in order, though the process of its partition ends in the middle."""
    values = numbered(STREAMED)
    with program.start("produce", topic, "none", 1) as process:
        try:
            assert process.stdin is not None
            process.stdin.write("".join(f"{value}\n" for value in values[:KILL_AFTER]))
            process.stdin.flush()
            wait_for_records(broker, topic, KILL_AFTER // 4)
            serving_child(broker, f"partition {topic}-0").kill()
            _, errors = process.communicate(
                "".join(f"{value}\n" for value in values[KILL_AFTER:]), PROGRAM_TIMEOUT_S
            )
        finally:
            process.kill()
    assert process.returncode == 0, errors[-3000:]
    assert stored(broker, topic) == values


def wait_for_records(broker: BrokerProcess, topic: str, count: int) -> None:
    with odradek.Admin(broker.bootstrap) as admin:
        eventually(lambda: admin.list_offsets(topic)[0] >= count, PROGRAM_TIMEOUT_S)


@pytest.mark.parametrize("program", [each for each in CLIENTS if each != "kcat"], indirect=True)
def test_offsets_by_place_and_time(program: Program, broker: BrokerProcess, topic: str) -> None:
    with odradek.Producer(broker.bootstrap) as producer:
        for number in range(10):
            producer.send(topic, b"x", timestamp=1_000_000 + 100 * number)
        producer.flush()
    with odradek.Admin(broker.bootstrap) as admin:
        admin.delete_records(topic, 0, 2)
    assert program.run("offsets", topic, 1_000_450) == ["2 10 5"]


@pytest.mark.parametrize("program", [each for each in CLIENTS if each != "kcat"], indirect=True)
def test_a_topic_is_made_grown_and_deleted(program: Program, broker: BrokerProcess, topic: str) -> None:
    made = f"{topic}-made"
    assert program.run("admin", made) == ["created 3", "grown 5", "deleted True"]
    with odradek.Admin(broker.bootstrap) as admin:
        assert made not in admin.list_topics()


def test_kcat_finds_an_offset_by_time(broker: BrokerProcess, topic: str) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed (apt-get install kcat)")
    with odradek.Producer(broker.bootstrap) as producer:
        for number in range(10):
            producer.send(topic, b"x", timestamp=1_000_000 + 100 * number)
        producer.flush()
    asked = ["kcat", "-b", str(broker.ready["kafka"]), "-Q", "-t", f"{topic}:0:1000450"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S, check=True)
    assert said.stdout.split()[-1] == "5"


def test_kcats_share_a_group_and_one_leaves(broker: BrokerProcess, topic: str, tmp_path: Path) -> None:
    """A rebalance in the middle: two read, then one reads on alone."""
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed (apt-get install kcat)")
    group = f"group-of-{topic}"
    settings = ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"]
    command = ["kcat", "-b", str(broker.ready["kafka"]), "-q", "-u", *settings, "-G", group, topic]
    files = [tmp_path / "first", tmp_path / "second"]

    def read() -> set[str]:
        return {line for file in files if file.exists() for line in file.read_text().splitlines()}

    def has_members(count: int) -> bool:
        described = admin.describe_group(group)
        return described.state == "Stable" and len(described.members or ()) == count

    with odradek.Admin(broker.bootstrap) as admin, odradek.Producer(broker.bootstrap) as producer:
        admin.create_partitions(topic, 4)
        running = []
        try:
            for count, file in enumerate(files, start=1):
                with file.open("wb") as out:
                    running.append(subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL))
                eventually(lambda: any(each.group == group for each in admin.list_groups()))
                eventually(lambda count=count: has_members(count), PROGRAM_TIMEOUT_S)  # type: ignore[misc]
            for number in range(RECORDS):
                producer.send(topic, f"{number:06d}".encode(), partition=number % 4)
            producer.flush()
            eventually(lambda: len(read()) == RECORDS, PROGRAM_TIMEOUT_S)
            assert all(file.read_text() for file in files), "both had a part"
            running[0].terminate()
            eventually(lambda: has_members(1), PROGRAM_TIMEOUT_S)
            for number in range(RECORDS, 2 * RECORDS):
                producer.send(topic, f"{number:06d}".encode(), partition=number % 4)
            producer.flush()
            eventually(lambda: len(read()) == 2 * RECORDS, PROGRAM_TIMEOUT_S)
        finally:
            for process in running:
                process.kill()
                process.wait()

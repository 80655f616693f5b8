"""Consumers of real Kafka clients, each on a thread of its own: what they hold, and what they were given.

One kind of object for confluent-kafka, kafka-python and aiokafka, so that one group can have all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka

from tests.support.fetched import once
from tests.support.kafka_dump import NoKafka, kafka_classpath

MEMBERS = Path(__file__).resolve().parent.parent / "kafka" / "members"
KAFKAJS_VERSION = "2.2.4"
NPM_TIMEOUT_S = 120
JAVAC_TIMEOUT_S = 60
SESSION_MS = 6_000
"""The shortest that the coordinator takes, as Kafka's."""
POLL_S = 0.1
END_TIMEOUT_S = 40.0
WAIT_TIMEOUT_S = 50.0

Place = tuple[str, int]


def wait_until(met: Callable[[], bool], what: str, timeout_s: float = WAIT_TIMEOUT_S) -> None:
    """Returns as soon as ``met`` is; fails with ``what`` where it takes too long."""
    deadline_s = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s:g} s"
        threading.Event().wait(0.02)


class GroupMember(ABC):
    """A consumer that reads and commits until it is told to end."""

    def __init__(
        self, bootstrap: str, group: str, topics: list[str], session_ms: int = SESSION_MS, **options: Any
    ) -> None:
        self.bootstrap, self.group, self.topics, self.options = bootstrap, group, topics, options
        self.session_ms = session_ms
        self.held: frozenset[Place] = frozenset()
        self.delivered: list[tuple[Place, int, bytes]] = []
        """Partition, offset and value of every record, in the order in which they came."""
        self.gained = 0
        """How many times it was told of partitions."""
        self.failure: BaseException | None = None
        self._ending = threading.Event()
        self._leaves = True
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        try:
            self.live()
        except BaseException as failure:  # the test looks at it
            self.failure = failure
        finally:
            self.held = frozenset()

    @abstractmethod
    def live(self) -> None:
        """Read until ``is_ending``."""

    @property
    def is_ending(self) -> bool:
        return self._ending.is_set()

    def note(self, topic: str, partition: int, offset: int, value: bytes | None) -> None:
        self.delivered.append(((topic, partition), offset, value or b""))

    def tell_end(self) -> None:
        """Leave; ``end`` waits for it."""
        self._ending.set()

    def end(self) -> None:
        """Leave the group in order, and be done."""
        self._ending.set()
        self._thread.join(END_TIMEOUT_S)
        assert not self._thread.is_alive(), f"{type(self).__name__} does not end"
        if self.failure is not None:
            raise self.failure

    @property
    def values(self) -> set[bytes]:
        """What it was given."""
        return {value for _, _, value in self.delivered}


class ConfluentMember(GroupMember):
    """librdkafka."""

    def live(self) -> None:
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": self.session_ms,
                "heartbeat.interval.ms": 500,
                "enable.auto.commit": False,
                "client.id": "confluent",
                **self.options,
            }
        )
        cooperative = self.options.get("partition.assignment.strategy") == "cooperative-sticky"

        def gain(_: Any, partitions: list[Any]) -> None:
            found = frozenset((each.topic, each.partition) for each in partitions)
            self.held = self.held | found if cooperative else found
            self.gained += 1

        def lose(_: Any, partitions: list[Any]) -> None:
            self.held -= {(each.topic, each.partition) for each in partitions}

        consumer.subscribe(self.topics, on_assign=gain, on_revoke=lose, on_lost=lose)
        try:
            while not self.is_ending:
                self._read(consumer)
        finally:
            consumer.close()

    def _read(self, consumer: Any) -> None:
        message = consumer.poll(POLL_S)
        if message is None:
            return
        if message.error() is not None:
            if message.error().retriable() or message.error().code() < 0:
                return
            raise confluent_kafka.KafkaException(message.error())
        self.note(message.topic(), message.partition(), message.offset(), message.value())
        try:
            consumer.commit(message, asynchronous=False)
        except confluent_kafka.KafkaException:
            return  # a rebalance, or a broker that is just starting again: read once more, by somebody


class KafkaPythonMember(GroupMember):
    """kafka-python."""

    def live(self) -> None:
        from kafka import ConsumerRebalanceListener, KafkaConsumer  # noqa: PLC0415
        from kafka.errors import KafkaError  # noqa: PLC0415

        member = self

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            def on_partitions_revoked(self, revoked: Any) -> None:
                member.held = frozenset()

            def on_partitions_assigned(self, assigned: Any) -> None:
                member.held = frozenset((each.topic, each.partition) for each in assigned)
                member.gained += 1

        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=self.group,
            auto_offset_reset="earliest",
            session_timeout_ms=self.session_ms,
            heartbeat_interval_ms=500,
            enable_auto_commit=False,
            client_id="kafka-python",
            **self.options,
        )
        consumer.subscribe(self.topics, listener=Listener())
        try:
            while not self.is_ending:
                for records in consumer.poll(timeout_ms=int(POLL_S * 1000)).values():
                    for record in records:
                        self.note(record.topic, record.partition, record.offset, record.value)
                try:
                    consumer.commit()
                except KafkaError:
                    continue  # a rebalance: what was read is read once more, by somebody
        finally:
            consumer.close()


class AiokafkaMember(GroupMember):
    """aiokafka."""

    def live(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener  # noqa: PLC0415
        from aiokafka.errors import KafkaError  # noqa: PLC0415

        member = self

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            async def on_partitions_revoked(self, revoked: Any) -> None:
                member.held = frozenset()

            async def on_partitions_assigned(self, assigned: Any) -> None:
                member.held = frozenset((each.topic, each.partition) for each in assigned)
                member.gained += 1

        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=self.group,
            auto_offset_reset="earliest",
            session_timeout_ms=self.session_ms,
            heartbeat_interval_ms=500,
            enable_auto_commit=False,
            client_id="aiokafka",
            **self.options,
        )
        consumer.subscribe(self.topics, listener=Listener())
        await consumer.start()
        try:
            while not self.is_ending:
                found = await consumer.getmany(timeout_ms=int(POLL_S * 1000))
                for records in found.values():
                    for record in records:
                        self.note(record.topic, record.partition, record.offset, record.value)
                try:
                    if found:
                        await consumer.commit()
                except KafkaError:
                    continue  # as above
        finally:
            await consumer.stop()


class ProcessMember(GroupMember):
    """A client of another language: a process that says a line for everything that happens to it."""

    @abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """How it is started, and what is added to its environment."""

    def live(self) -> None:
        command, added = self.command()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **added},
        )
        with process:
            ender = threading.Thread(target=self._close_input, args=(process,), daemon=True)
            ender.start()
            assert process.stdout is not None
            for line in process.stdout:
                self._hear(line.split())
            said = process.stderr.read() if process.stderr is not None else ""
            self._ending.set()
            ender.join()
        assert process.returncode == 0, said[-2000:]

    def _close_input(self, process: subprocess.Popen[str]) -> None:
        self._ending.wait()
        assert process.stdin is not None
        process.stdin.close()

    def _hear(self, words: list[str]) -> None:
        if words[:1] == ["record"]:
            topic, number = _place(words[1])
            self.note(topic, number, int(words[2]), words[3].encode())
            return
        places = frozenset(_place(word) for word in words[1:])
        match words[:1]:
            case ["lost"]:
                self.held -= places
            case ["gained"]:
                self.held |= places
                self.gained += 1
            case ["all"]:
                self.held = places
                self.gained += 1


def _place(word: str) -> Place:
    topic, _, number = word.rpartition(":")
    return topic, int(number)


class JavaMember(ProcessMember):
    """Apache Kafka's own client."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        instance = self.options.get("group_instance_id", "")
        assignor = self.options.get("assignor", "CooperativeStickyAssignor")
        classpath = f"{java_classes()}:{kafka_classpath()}"
        words = [self.bootstrap, self.group, self.topics[0], instance, assignor, str(self.session_ms)]
        return ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", classpath, "GroupMember", *words], {}


class KafkaJsMember(ProcessMember):
    """KafkaJS."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        words = [self.bootstrap, self.group, self.topics[0]]
        return ["node", str(MEMBERS / "group_member.js"), *words], {"NODE_PATH": str(kafkajs_modules())}


@once
def java_classes() -> Path:
    """Where the programs in Java are compiled. Raises NoKafka where they cannot be."""
    sources = sorted(MEMBERS.glob("*.java"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    kept = Path.home() / ".cache" / f"odradek-java-members-{digest}"
    if not all((kept / f"{source.stem}.class").is_file() for source in sources):
        command = ["javac", "-cp", kafka_classpath(), "-d", str(kept), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=JAVAC_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise NoKafka(f"javac says: {done.stderr[:200]}")
    return kept


class NoKafkaJs(Exception):
    """KafkaJS cannot be had here; the message says why."""


@once
def kafkajs_modules() -> Path:
    """Where KafkaJS is, fetched by npm where it is not there. Raises NoKafkaJs."""
    kept = Path.home() / ".cache" / f"odradek-kafkajs-{KAFKAJS_VERSION}"
    modules = kept / "node_modules"
    if (modules / "kafkajs" / "package.json").is_file():
        return modules
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise NoKafkaJs("KafkaJS needs `node` and `npm`, and they are not both installed here")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(kept), f"kafkajs@{KAFKAJS_VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NPM_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise NoKafkaJs(f"npm did not fetch KafkaJS within {NPM_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise NoKafkaJs(f"npm could not fetch KafkaJS: {done.stderr.strip()[-200:]}")
    return modules


KINDS: dict[str, type[GroupMember]] = {
    "confluent": ConfluentMember,
    "kafka-python": KafkaPythonMember,
    "aiokafka": AiokafkaMember,
}
"""The clients in Python, which are always there."""
FOREIGN_KINDS: dict[str, type[GroupMember]] = {"java": JavaMember, "kafkajs": KafkaJsMember}
"""Those that another language's tools fetch; see ``need``."""


def need(kind: str) -> type[GroupMember]:
    """A kind of member, fetched where it is not there. Raises NoKafka or NoKafkaJs."""
    if kind == "java":
        missing = [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]
        if missing:
            raise NoKafka(f"the Java client needs {', '.join(missing)}, which is not installed here")
        java_classes()
    if kind == "kafkajs":
        kafkajs_modules()
    return {**KINDS, **FOREIGN_KINDS}[kind]

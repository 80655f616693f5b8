"""Apache Kafka: KRaft, one node, from Maven Central, started without its shell scripts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.peers.peer import Facts, Peer, PeerUnavailable, Running, accepts, free_port
from loadtest.workload import Target
from tests.support.kafka_dump import POM, NoKafka, kafka_classpath

HEAP = "1g"
"""Kafka's own start script gives it so much."""
FORMAT_S_MAX = 60.0
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.delete.delay.ms=1000
{flush}
"""


class RunningKafka(Running):
    """``kafka.Kafka`` with the flags of Kafka's own start script."""

    def __init__(self, data: Path, classpath: str, flush: str) -> None:
        super().__init__(data)
        self._classpath = classpath
        self._flush = flush
        self._port, self._controller = free_port(), free_port()

    def start(self) -> None:
        """As Running. The first start of a data directory formats it."""
        self.data.mkdir(parents=True, exist_ok=True)
        properties = self.data / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                port=self._port, controller=self._controller, data=self.data, flush=self._flush
            )
        )
        if not (self.data / "log").exists():
            self._format(properties)
        self.spawn([*self._java(), f"-Xmx{HEAP}", f"-Xms{HEAP}", "kafka.Kafka", str(properties)])
        self.wait_until(lambda: accepts(self._port))

    def _java(self) -> list[str]:
        logging = self.data / "log4j2.yaml"
        logging.write_text(_LOGGING)
        collector = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
        return ["java", *collector, f"-Dlog4j2.configurationFile={logging}", "-cp", self._classpath]

    def _format(self, properties: Path) -> None:
        command = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
        subprocess.run([*self._java(), *command], check=True, capture_output=True, timeout=FORMAT_S_MAX)

    def target(self) -> Target:
        """As Running."""
        return Target(address=f"127.0.0.1:{self._port}", client="kafka")


_LOGGING = """\
Configuration:
  Appenders:
    Console: {name: STDOUT, PatternLayout: {pattern: "%d %p %m%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: STDOUT}}
"""


class Kafka(Peer):
    """By default it leaves writing to the operating system; ``every_message`` makes it sync each batch."""

    client = "kafka"
    start_and_stop_s = 7.0

    def __init__(self, *, every_message: bool = False) -> None:
        self.main = not every_message
        self._flush = "log.flush.interval.messages=1" if every_message else ""
        self._classpath = ""
        self.facts = Facts(
            name="Kafka, flush.messages=1" if every_message else "Kafka",
            version="4.1.0",
            durability=(
                "fsync before the acknowledgement" if every_message else "page cache: no sync (its default)"
            ),
            client="confluent-kafka (Python, librdkafka), acks=all, idempotent",
            batch="up to 1 MB, linger 0 ms",
            limit="consuming: confluent-kafka makes an object of each message",
            source=f"Maven Central by {POM.name}: org.apache.kafka:kafka_2.13",
        )

    def prepare(self) -> None:
        """As Peer."""
        if shutil.which("java") is None:
            raise PeerUnavailable("Kafka needs Java 17: apt-get install openjdk-17-jre-headless maven")
        try:
            self._classpath = kafka_classpath()
        except NoKafka as missing:
            raise PeerUnavailable(str(missing)) from missing

    def running(self, data: Path) -> Running:
        """As Peer."""
        return RunningKafka(data, self._classpath, self._flush)

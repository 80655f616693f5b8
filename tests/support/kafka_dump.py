"""Kafka's own ``kafka-dump-log``, run on files of this broker: Java and Maven fetch and start it.

Maven keeps what it fetches under ``~/.m2``; the class path is kept there, too, under a name made of the
pom, so that only the first run asks the network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.fetched import once

POM = Path(__file__).resolve().parent.parent / "kafka" / "pom.xml"
MAIN_CLASS = "kafka.tools.DumpLogSegments"
FETCH_TIMEOUT_S = 300
RUN_TIMEOUT_S = 100
_BATCH = re.compile(r"baseOffset: ")
_RECORD = re.compile(
    r"\| offset: (?P<offset>\d+) CreateTime: (?P<timestamp>-?\d+) keySize: (?P<key_size>-?\d+) "
    r"valueSize: (?P<value_size>-?\d+)(?: sequence: (?P<sequence>-?\d+))? headerKeys: \[(?P<headers>[^]]*)\]"
    r"(?: key: (?P<key>\S+))?(?: payload: (?P<payload>.*))?"
)
_PAIR = re.compile(r"(\w+): (\S+)")


class NoKafka(Exception):
    """Kafka's tool cannot be had here; the message says why."""


@dataclass(frozen=True)
class KafkaRecord:
    """A record as Kafka reads it; ``sequence`` is None where Kafka prints none."""

    offset: int
    timestamp: int
    sequence: int | None
    key: str | None
    value: str | None
    headers: tuple[str, ...]


@dataclass
class KafkaBatch:
    """A batch as Kafka prints it: its words, such as ``isvalid``, and its records."""

    file: str
    words: dict[str, str]
    records: list[KafkaRecord] = field(default_factory=list)


class KafkaDumpLog:
    """The tool. Raises NoKafka where Java, Maven or the network is missing."""

    def __init__(self) -> None:
        java, maven = shutil.which("java"), shutil.which("mvn")
        if java is None or maven is None:
            raise NoKafka("kafka-dump-log needs `java` and `mvn`, and they are not both installed here")
        self._java = java
        self._classpath = kafka_classpath(maven)

    def run(self, *arguments: str) -> str:
        """What it prints on both streams. Raises AssertionError where it fails."""
        done = subprocess.run(
            [self._java, "-Xmx256m", "-cp", self._classpath, MAIN_CLASS, *arguments],
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        return printed

    def batches(self, files: Sequence[Path]) -> tuple[list[KafkaBatch], str]:
        """Every batch with its records, and all that was printed."""
        printed = self.run("--deep-iteration", "--print-data-log", "--files", _joined(files))
        return _parse(printed), printed

    def insane_indexes(self, files: Sequence[Path]) -> set[Path]:
        """The index files that do not pass the check of a starting Kafka broker."""
        printed = self.run("--index-sanity-check", "--files", _joined(files))
        return {path for path in files if f"{path} passed sanity check." not in printed}

    def index_complaints(self, files: Sequence[Path]) -> list[str]:
        """What it says about entries that do not fit the log beside them."""
        printed = self.run("--verify-index-only", "--files", _joined(files))
        return [
            line
            for line in printed.splitlines()
            if line and not line.startswith(("Dumping ", "SLF4J: ")) and "passed sanity check" not in line
        ]


def _joined(files: Sequence[Path]) -> str:
    assert files
    return ",".join(map(str, files))


@once
def kafka_classpath(maven: str = "mvn", pom: Path = POM) -> str:
    """Kafka and all that it needs, fetched by Maven where it is not there. Raises NoKafka."""
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    kept = Path.home() / ".m2" / f"odradek-kafka-dump-log-{digest}.classpath"
    if not _usable(kept):
        kept.parent.mkdir(exist_ok=True)
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:build-classpath"]
        try:
            done = subprocess.run(
                [*command, f"-Dmdep.outputFile={kept}"],
                capture_output=True,
                text=True,
                timeout=FETCH_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            raise NoKafka(f"{maven} is not installed here") from None
        except subprocess.TimeoutExpired:
            raise NoKafka(f"Maven did not fetch Kafka within {FETCH_TIMEOUT_S} s") from None
        if done.returncode != 0 or not _usable(kept):
            lines = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            raise NoKafka(f"Maven could not fetch Kafka: {lines[0]}")
    return kept.read_text().strip()


def _usable(kept: Path) -> bool:
    """Whether every file of the class path that was kept is still there."""
    if not kept.exists():
        return False
    jars = kept.read_text().strip().split(":")
    return all(Path(jar).is_file() for jar in jars)


def _parse(printed: str) -> list[KafkaBatch]:
    batches: list[KafkaBatch] = []
    file = ""
    for line in printed.splitlines():
        record = _RECORD.fullmatch(line)
        if line.startswith("Dumping "):
            file = Path(line.removeprefix("Dumping ")).name
        elif _BATCH.match(line):
            batches.append(KafkaBatch(file, dict(_PAIR.findall(line))))
        elif record is not None:
            batches[-1].records.append(_record(record))
    return batches


def _record(found: re.Match[str]) -> KafkaRecord:
    sequence = found["sequence"]
    return KafkaRecord(
        offset=int(found["offset"]),
        timestamp=int(found["timestamp"]),
        sequence=int(sequence) if sequence is not None else None,
        key=found["key"],
        value=found["payload"],
        headers=tuple(found["headers"].split(",")) if found["headers"] else (),
    )

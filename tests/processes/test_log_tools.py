"""`odradek log` on the data directory of a real broker: while it runs, and after it was killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from inspection.files import ReadOnlyFiles
from inspection.places import PartitionPlace
from inspection.verify import verify
from odradek.admin import Admin
from odradek.consumer import Consumer
from odradek.producer import Producer
from tests.support.broker import BrokerProcess

pytestmark = pytest.mark.processes

LOOKS = 40
WAIT_S = 30.0
PROJECT = Path(__file__).resolve().parent.parent.parent


def run(*words: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    """`odradek log`, as a process of its own: exit code, JSON lines, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "inspection", *words, "--json"], capture_output=True, timeout=60, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


@contextmanager
def writing(broker: BrokerProcess, topic: str) -> Iterator[None]:
    """Somebody writes to the topic all the while."""
    stop = threading.Event()

    def write() -> None:
        with Producer(broker.bootstrap) as producer:
            number = 0
            while not stop.is_set():
                producer.send(topic, "x" * 200)
                number += 1
                if number % 20 == 0:
                    producer.flush()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_broker_that_is_written_to_is_sound_whenever_one_looks() -> None:
    with BrokerProcess() as broker:
        with Admin(broker.bootstrap) as admin:
            admin.create_topic(
                "t", partitions=1, config={"segment.bytes": 50_000, "index.interval.bytes": 512}
            )
        files, place, ends = ReadOnlyFiles(), PartitionPlace(broker.data / "t-0"), []
        with writing(broker, "t"):
            for _ in range(LOOKS):
                verdict = verify(files, place)
                assert [item for item in verdict.findings if item.severity == "damage"] == []
                ends.append(verdict.end_offset)
        assert ends == sorted(ends)
        code, _, message = run("verify", broker.data, "--repair")
        assert code == 1
        assert "a broker runs on" in message
        broker.kill()
        code, verdicts, message = run("verify", broker.data)
        assert code == 0, message
        code, repaired, message = run("verify", broker.data, "--repair")
        assert code == 0, message
        assert {item["partition"] for item in repaired} == {"t-0", "__consumer_offsets-0"}
        [durable] = [each["durable_offset"] for each in verdicts if each["partition"] == "t-0"]
        [after] = [each["verdict"] for each in repaired if each["partition"] == "t-0"]
        assert durable <= after["end_offset"]
        broker.start()
        with Consumer(
            broker.bootstrap, topics=["t"], auto_offset_reset="earliest", idle_timeout_s=WAIT_S
        ) as consumer:
            offsets = [record.offset for record in islice(consumer, after["end_offset"])]
            assert consumer.poll(0.5) == []
        assert offsets == list(range(after["end_offset"]))


def test_committed_offsets_can_be_read_in_the_coordinators_log() -> None:
    with BrokerProcess() as broker:
        with Producer(broker.bootstrap) as producer:
            producer.send_many("t", ["a", "b", "c"])
            producer.flush()
        with Consumer(
            broker.bootstrap,
            group="billing",
            topics=["t"],
            auto_offset_reset="earliest",
            idle_timeout_s=WAIT_S,
        ) as consumer:
            assert len(list(islice(consumer, 3))) == 3
            consumer.commit()
        code, items, _ = run("dump", broker.data / "__consumer_offsets-0", "--records")
        assert code == 0
        decoded = [item["decoded"] for item in items if item["type"] == "record"]
        assert all(decoded)
        assert any("billing" in key and "t" in key and value for key, value in decoded)


def test_the_command_joins_odradek_by_its_entry_point() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    module, name = project["entry-points"]["odradek.commands"]["log"].split(":")
    command = getattr(import_module(module), name)
    assert command.help
    with pytest.raises(SystemExit) as end:
        command(["--help"])
    assert end.value.code == 0

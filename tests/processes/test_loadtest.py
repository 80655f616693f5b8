"""The load test as people run it: real clients, a real broker, every acknowledged record read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from odradek import Admin
from tests.support.broker import BrokerProcess

pytestmark = pytest.mark.processes
TIMEOUT_S = 100
STALL_S = 1.5


def _loadtest(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def _result(*arguments: str) -> Any:
    done = _loadtest(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_steady_rate_on_a_broker_of_its_own(tmp_path: Path) -> None:
    report = tmp_path / "out.html"
    result = _result(
        *("--rate", "400", "--duration", "2", "--producers", "2", "--consumers", "2", "--partitions", "4"),
        *("--keys", "zipf", "--size", "64", "--report", str(report)),
    )
    assert result["sent"] == result["produce"]["records"] == result["consume"]["records"] == 800
    assert (result["lost"], result["out_of_order"], result["produce"]["failed"]) == (0, 0, 0)
    assert 0 < result["produce"]["latency_ms"]["p50"] <= result["produce"]["latency_ms"]["max"]
    assert any(actor["name"].startswith("partition:loadtest-") for actor in result["actors"])
    assert report.read_text().count("<svg") == 4


def test_full_speed_and_a_sweep_leave_no_topic_behind() -> None:
    with BrokerProcess() as broker:
        bootstrap = broker.ready["router"]
        found = _result("--bootstrap", bootstrap, "--duration", "0.5", "--sweep", "partitions=1,2")
        assert [run["value"] for run in found] == ["1", "2"]
        for run in found:
            side = run["result"]
            assert side["produce"]["records"] == side["consume"]["records"] == side["sent"] > 0
            assert (side["lost"], side["out_of_order"]) == (0, 0)
        listed = subprocess.run(
            [sys.executable, "-m", "odradek.cli", "topic", "list", "--bootstrap", bootstrap, "--json"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        assert "loadtest-" not in listed.stdout


def test_reading_what_was_written_before() -> None:
    with BrokerProcess() as broker:
        arguments = ("--bootstrap", broker.ready["router"], "--duration", "0.5", "--partitions", "2")
        result = _result(*arguments, "--consumers", "2", "--read-after")
    assert result["lost"] == 0 and result["consume"]["records"] == result["sent"] > 0
    assert result["consume"]["latency_ms"]["p50"] > result["produce"]["latency_ms"]["p50"]
    busy = [moment for moment in result["moments"] if moment["produced_per_s"] and moment["consumed_per_s"]]
    assert len(busy) <= 1  # only the moment in which one ended and the other began


def test_a_stall_of_the_broker_shows_in_every_record_that_was_due_meanwhile() -> None:
    """Open loop: the records that were due while nothing moved are late, though they left only afterwards."""
    with BrokerProcess(heartbeat_timeout_s=60) as broker:
        bootstrap = broker.ready["router"]
        arguments = ("--bootstrap", bootstrap, "--rate", "100", "--duration", "8", "--batch", "1", "--json")
        command = [sys.executable, "-m", "loadtest", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            _stall_while_it_flows(bootstrap)
            output, _ = running.communicate(timeout=TIMEOUT_S)
        result = json.loads(output)
    assert (result["sent"], result["lost"]) == (800, 0)
    for side in ("produce", "consume"):
        assert result[side]["latency_ms"]["max"] >= 900 * STALL_S
        assert result[side]["latency_ms"]["p90"] >= 100 * STALL_S


def _stall_while_it_flows(bootstrap: str) -> None:
    """Stop the partition's process for STALL_S once its topic has records."""
    with Admin(bootstrap) as admin:
        _wait_until_it_flows(admin)
        pid = next(actor.pid for actor in admin.status() if actor.name.startswith("partition:loadtest-"))
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        threading.Event().wait(STALL_S)
        os.kill(pid, signal.SIGCONT)


def _wait_until_it_flows(admin: Admin) -> None:
    """Returns when the load's topic has records."""
    give_up_at = time.monotonic() + TIMEOUT_S
    while time.monotonic() < give_up_at:
        topics = [name for name in admin.list_topics() if name.startswith("loadtest-")]
        if any(offset > 0 for topic in topics for offset in admin.list_offsets(topic).values()):
            return
        threading.Event().wait(0.05)
    raise AssertionError("no record came")


def test_ctrl_c_ends_the_load_and_shows_what_was_measured(tmp_path: Path) -> None:
    report = tmp_path / "out.html"
    with BrokerProcess() as broker:
        bootstrap = broker.ready["router"]
        arguments = ("--bootstrap", bootstrap, "--rate", "500", "--duration", "600", "--json")
        command = [sys.executable, "-m", "loadtest", *arguments, "--report", str(report)]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running,
            Admin(bootstrap) as admin,
        ):
            _wait_until_it_flows(admin)
            running.send_signal(signal.SIGINT)
            output, said = running.communicate(timeout=TIMEOUT_S)
        assert running.returncode == 130, said
        result = json.loads(output)
        assert result["interrupted"] and "Ctrl-C again" in said
        assert result["produce"]["records"] == result["consume"]["records"] == result["sent"] > 0
        assert result["sent"] < 500 * TIMEOUT_S and result["lost"] == 0
        assert "interrupted" in report.read_text()
        with Admin(bootstrap) as admin:
            assert not [name for name in admin.list_topics() if name.startswith("loadtest-")]


def test_a_kafka_broker_is_driven_with_the_same_report() -> None:
    """Our own gateway stands for any."""
    with BrokerProcess() as broker:
        result = _result(
            *("--kafka", str(broker.ready["kafka"]), "--watch-pid", str(broker.pid), "--duration", "2"),
            *("--rate", "400", "--partitions", "2", "--consumers", "2", "--compression", "lz4"),
        )
    assert result["sent"] == result["produce"]["records"] == result["consume"]["records"] == 800
    assert (result["lost"], result["out_of_order"], result["interrupted"]) == (0, 0, False)
    assert any("gateway 0" in actor["name"] and actor["pss_bytes_max"] > 0 for actor in result["actors"])


def test_what_cannot_be_done_is_said_in_one_line() -> None:
    for arguments, story in (
        (("--consumers", "2"), "as many partitions as consumers"),
        (("--bootstrap", "tcp://127.0.0.1:9", "--duration", "1"), "127.0.0.1:9"),
        (("--sweep", "colour=1,2"), "--sweep knows"),
        (("--sweep", "partitions"), "--sweep partitions=1,2,4,8"),
        (("--size", "5"), "--size is 24 to"),
        (("--report", "/nowhere/at/all.html"), "there is no directory /nowhere/at"),
        (("--report", "/"), "name a file"),
        (("--directory", "/nowhere"), "is no directory"),
        (("--watch-pid", "4194303", "--duration", "1"), "there is no such process"),
        (("--kafka", "127.0.0.1:9"), "no Kafka broker answers at 127.0.0.1:9"),
    ):
        done = _loadtest(*arguments)
        assert done.returncode == 2 and story in done.stderr and "Traceback" not in done.stderr, done.stderr

"""A run: a real broker under load and faults, then peace, final polls, a look into the files, the verdict."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odradek import Admin, Consumer, OdradekError, TopicPartition
from tests.support.broker import BrokerProcess
from tests.support.checker.anomalies import Promises
from tests.support.checker.history import FINAL, Journal, read_histories
from tests.support.checker.judging import Verdict, judge
from tests.support.ports import lasting_ports
from tests.support.rawclient import decode_batches
from tests.torture.client import key_of, seen_as
from tests.torture.nemesis import Nemesis
from tests.torture.options import GATEWAYS_MAX, GROUP, KAFKA_GROUP, TOPIC, TortureOptions
from tests.torture.workers import Workers

TURN_S = 0.1
SEGMENT_BYTES = 256 * 1024
SETTLE_S = 60.0
"""After the last fault everything serves again within this time, or the run has failed."""
FINAL_POLL_S = 20.0
BROKER = {
    "heartbeat_interval_s": 0.3,
    "heartbeat_timeout_s": 2.0,
    "group_session_timeout_s": 2.0,
    "group_heartbeat_interval_s": 0.3,
    "restarts_max": 1000,
    "restart_delay_max_s": 0.5,
    "retention_check_interval_s": 2.0,
}


class NotServing(AssertionError):
    """The faults are over, and the broker still does not do what it should."""


@dataclass(frozen=True, slots=True)
class Result:
    """``directory`` is where the history is, None where it was not kept."""

    verdict: Verdict
    seconds: float
    orphan_s_max: float
    directory: Path | None

    def report(self) -> str:
        """For people."""
        lines = [self.verdict.report(), f"  seconds: {self.seconds:.0f}"]
        lines.append(f"  longest life of an orphan: {self.orphan_s_max:.2f} s")
        if self.directory is not None:
            lines.append(f"history: {self.directory} (python -m tests.support.checker {self.directory})")
        return "\n".join(lines)


Observer = Callable[[BrokerProcess, Workers], None]


def torture(options: TortureOptions, observe: Observer | None = None) -> Result:
    """One run. The history is kept where the verdict is bad, the run fails, or ``keep`` says so.

    ``observe`` is called at every turn. Raises BrokerFailed, WorkerFailed or NotServing.
    """
    directory = options.keep or Path(tempfile.mkdtemp(prefix="odradek-torture-"))
    directory.mkdir(parents=True, exist_ok=True)
    if list(directory.glob("*.jsonl")):
        raise ValueError(f"{directory} has a history already; give an empty directory")
    try:
        result = _run(options, directory, observe)
    except BaseException as error:
        error.add_note(f"seed {options.seed}; the history is in {directory}")
        raise
    if result.verdict.is_valid and options.keep is None:
        shutil.rmtree(directory)
        return Result(result.verdict, result.seconds, result.orphan_s_max, None)
    return result


def _run(options: TortureOptions, directory: Path, observe: Observer | None) -> Result:
    began_s = time.monotonic()
    journal = Journal(directory, "nemesis")
    ports = lasting_ports(1 + GATEWAYS_MAX)  # so that clients find a broker again
    settings: dict[str, Any] = {**BROKER, "gateways": options.gateways, "kafka_port": ports[1]}
    kafka = ",".join(f"127.0.0.1:{port}" for port in ports[1 : 1 + options.gateways])
    with BrokerProcess(directory / "data", port=ports[0], **settings) as broker:
        _create_topic(broker, options)
        with Workers(options, broker.bootstrap, kafka, directory) as workers:
            workers.start_all()
            workers.wait_at_work()
            nemesis = Nemesis(options, broker, workers, journal)
            _suffer(options, broker, workers, nemesis, observe)
            broker.restart()
            for role in options.clients:
                workers.finish(role)
        final = Journal(directory, FINAL)
        _read_everything(broker, options, final)
        broker.stop()
        _look_into_the_files(broker.data, options, Journal(directory, "files"))
    verdict = judge(read_histories(directory), Promises(kept=options.retention_bytes is None))
    return Result(verdict, time.monotonic() - began_s, nemesis.orphan_s_max, directory)


def _suffer(
    options: TortureOptions,
    broker: BrokerProcess,
    workers: Workers,
    nemesis: Nemesis,
    observe: Observer | None,
) -> None:
    end_s = time.monotonic() + options.seconds
    strike_s = time.monotonic() + nemesis.wait_s()
    while (now_s := time.monotonic()) < end_s and workers.producing and not nemesis.is_done:
        workers.check()
        if not broker.running:
            raise NotServing(f"the broker ended by itself\n{broker.log()}")
        if now_s >= strike_s and nemesis.has_faults:
            nemesis.strike()
            strike_s = time.monotonic() + nemesis.wait_s()
        if observe is not None:
            observe(broker, workers)
        threading.Event().wait(TURN_S)


def _create_topic(broker: BrokerProcess, options: TortureOptions) -> None:
    config: dict[str, object] = {"segment.bytes": SEGMENT_BYTES, "file.delete.delay.ms": 0}
    config["retention.ms"] = -1
    config["retention.bytes"] = -1 if options.retention_bytes is None else options.retention_bytes
    with Admin(broker.bootstrap) as admin:
        admin.create_topic(TOPIC, options.partitions, config)


def _read_everything(broker: BrokerProcess, options: TortureOptions, journal: Journal) -> None:
    """The final polls, and the group's committed offsets."""
    deadline_s = time.monotonic() + SETTLE_S
    while not _try_to_read_everything(broker, options, journal):
        if time.monotonic() > deadline_s:
            raise NotServing(
                f"not everything can be read {SETTLE_S:g} s after the last fault\n{broker.log()}"
            )
    groups = {GROUP: options.members, KAFKA_GROUP: options.kafka_members}
    for op, group in enumerate((group for group, members in groups.items() if members), start=1):
        _look_at_offsets(broker, options, journal, op, group)


def _look_at_offsets(
    broker: BrokerProcess, options: TortureOptions, journal: Journal, op: int, group: str
) -> None:
    with Admin(broker.bootstrap) as admin:
        journal.note("invoke", "fetch_commit", op=op, group=group)
        found = {key_of(key.partition): offset for key, offset in admin.list_group_offsets(group).items()}
        positions = {key_of(number): found.get(key_of(number), -1) for number in range(options.partitions)}
        journal.note("ok", "fetch_commit", op=op, group=group, positions=positions)


def _try_to_read_everything(broker: BrokerProcess, options: TortureOptions, journal: Journal) -> bool:
    keys = [TopicPartition(TOPIC, number) for number in range(options.partitions)]
    with Consumer(broker.bootstrap, fetch_wait_ms_max=200) as consumer:
        try:
            consumer.assign(keys)
            journal.note("invoke", "ends", op=2)
            starts, ends = consumer.beginning_offsets(*keys), consumer.end_offsets(*keys)
            told = {key_of(key.partition): offset for key, offset in ends.items()}
            begun = {key_of(key.partition): offset for key, offset in starts.items()}
            journal.note("ok", "ends", op=2, starts=begun, ends=told)
            consumer.seek_to_beginning(*keys)
            journal.note("ok", "assign", positions=begun)
            deadline_s = time.monotonic() + FINAL_POLL_S
            while any(consumer.position(key) < ends[key] for key in keys):
                found = consumer.poll(0.5, 5_000)
                if found:
                    records = [seen_as(key_of(each.partition), each.offset, each.value) for each in found]
                    journal.note("ok", "poll", records=records)
                    deadline_s = time.monotonic() + FINAL_POLL_S
                elif time.monotonic() > deadline_s:
                    break  # what is missing then, the checker will name
            journal.note("ok", "poll", ends=told)
        except OdradekError as error:
            if not error.retriable:
                raise
            return False
    return True


def _look_into_the_files(data: Path, options: TortureOptions, journal: Journal) -> None:
    """What the segment files of the stopped broker hold, read with nothing of the broker's own code."""
    for number in range(options.partitions):
        key = key_of(number)
        records = []
        for path in sorted((data / f"{TOPIC}-{number}").glob("*.log")):
            for batch in decode_batches(path.read_bytes()):
                records += [
                    seen_as(key, batch.base_offset + index, record.value)
                    for index, record in enumerate(batch.records)
                ]
        journal.note("ok", "stored", records=records, positions={key: 0})

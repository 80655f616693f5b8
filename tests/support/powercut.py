"""Power cuts: a real broker on a file system of its own, whose disk stops at a random moment.

    unshare --mount --pid --fork --kill-child --mount-proc \\
        python -m tests.support.powercut DIRECTORY CYCLES SEED [--preload LIBRARY]

An ext4 file system in a file (in DIRECTORY, best on tmpfs) holds the broker's data. One cycle: the broker
starts, everything that was ever acknowledged or read is looked for, clients load it, and at a random
moment EXT4_IOC_SHUTDOWN drops whatever the file system has not yet put on the disk, as a loss of power
does; then all processes are killed and the file system is mounted again. In every second cycle a
partition's process is killed shortly before the cut.

The one fdatasync that is under way as the ioctl comes may return 0 though its data is dropped, never an
earlier one: a bare loop of pwrite and fdatasync met that in 16 of 150 cuts (Linux 6.18). So of what was
acknowledged after the cut began the last batch of each writer may be missing, and nothing else.

In namespaces of its own nothing can be left behind: with its first process all others end, with those the
mount, and with the mount the loop device. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.support.broker import BrokerFailed, BrokerProcess, wait_gone
from tests.support.ledger import Figures, Ledger
from tests.support.load import Load
from tests.support.rawclient import RawClient

EXT4_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_WITHOUT_FLUSH = struct.pack("I", 2)
IMAGE_BYTES = 256 << 20
CYCLES_PER_TOPIC = 20
RECORDS_BEFORE_CUT_MAX = 400
DELAY_BEFORE_CUT_S_MAX = 0.05
LOAD_AFTER_CUT_S = 0.1
REQUEST_TIMEOUT_MS = 400
PARTITIONS = 2
END_S = 20.0
TOPIC_CONFIG = {"segment_bytes": 65_536}
"""Small segments, so that cuts meet rolls too."""


@dataclass(slots=True)
class Stage:
    """The file system, the broker on it, and what its clients were told."""

    directory: Path
    preload: str | None
    broker: BrokerProcess = field(init=False)
    cuts: int = 0

    @property
    def mount_point(self) -> Path:
        return self.directory / "mount"

    def build(self) -> None:
        image = self.directory / "image"
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        self.mount_point.mkdir()
        environment = {"LD_PRELOAD": self.preload} if self.preload else {}
        self.broker = BrokerProcess(
            self.mount_point / "data", environment=environment, disk_free_bytes_min=0, stop_timeout_s=4
        )

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.directory / "image", self.mount_point], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.mount_point], check=True)

    def cut_power(self) -> None:
        """From here on no byte reaches the disk; all processes are left alive."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, SHUTDOWN_WITHOUT_FLUSH)
        finally:
            os.close(descriptor)
        self.cuts += 1

    def kill_everything(self) -> None:
        processes = [psutil.Process(self.broker.pid), *self.broker.tree()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.broker.wait()
        left = wait_gone(processes, END_S)
        assert not left, f"processes that do not end: {left}"

    def make_topic(self, name: str) -> None:
        """A topic with a first record in each partition, on the disk even where fsync is switched off."""
        with RawClient(self.broker.bootstrap) as client:
            client.create(name, PARTITIONS, **TOPIC_CONFIG)
        os.sync()


def run(stage: Stage, cycles: int, seed: int) -> Figures:
    """All cycles; the sum of their figures. Raises AssertionError at the first broken promise."""
    dice = random.Random(seed)
    total, ledger, topic = Figures(), Ledger(), ""
    stage.mount()
    stage.broker.start()
    for cycle in range(cycles):
        if cycle % CYCLES_PER_TOPIC == 0:
            _add(total, ledger.figures)
            ledger, topic = Ledger(), f"events-of-{cycle}"
            stage.make_topic(topic)
        _load_and_cut(stage, topic, ledger, cycle, dice)
        stage.kill_everything()
        stage.unmount()
        stage.mount()
        stage.broker.start()
        _load(stage, topic, ledger, cycle).judge(after_power_cut=True)
    stage.broker.stop()
    stage.unmount()
    _add(total, ledger.figures)
    return total


def _load_and_cut(stage: Stage, topic: str, ledger: Ledger, cycle: int, dice: random.Random) -> None:
    with _load(stage, topic, ledger, cycle) as load:
        load.wait_for(dice.randint(1, RECORDS_BEFORE_CUT_MAX))
        if cycle % 2:
            stage.broker.child(f"partition {topic}-{dice.randrange(PARTITIONS)}").kill()
        threading.Event().wait(dice.uniform(0, DELAY_BEFORE_CUT_S_MAX))
        ledger.power_goes()
        stage.cut_power()
        # What the broker acknowledges now is on no disk.
        threading.Event().wait(LOAD_AFTER_CUT_S)
        load.end_soon()


def _load(stage: Stage, topic: str, ledger: Ledger, cycle: int) -> Load:
    return Load(
        lambda: stage.broker.bootstrap,
        topic,
        PARTITIONS,
        seed=cycle,
        name=f"c{cycle}w",
        ledger=ledger,
        timeout_ms=REQUEST_TIMEOUT_MS,
    )


def _add(total: Figures, more: Figures) -> None:
    total.acknowledged += more.acknowledged
    total.read += more.read
    total.unknown += more.unknown
    total.retries += more.retries
    total.forgiven += more.forgiven


def main() -> int:
    """Runs the stage that the command line asks for."""
    parser = argparse.ArgumentParser(prog="tests.support.powercut")
    parser.add_argument("directory", type=Path)
    parser.add_argument("cycles", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--preload", help="a library that the broker is started with")
    words = parser.parse_args()
    stage = Stage(words.directory, words.preload)
    stage.build()
    began_s = time.monotonic()
    broken = None
    try:
        total = run(stage, words.cycles, words.seed)
    except (AssertionError, BrokerFailed) as error:
        total, broken = Figures(), f"after cut {stage.cuts}: {error}\n{stage.broker.log()}"
    finally:
        if stage.broker.running:
            stage.kill_everything()
    report = {
        "cuts": stage.cuts,
        "seconds": round(time.monotonic() - began_s, 1),
        "acknowledged": total.acknowledged,
        "read": total.read,
        "unknown": total.unknown,
        "forgiven": total.forgiven,
        "broken": broken,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""A client process under torture: ``python -m tests.torture.worker ROLE NAME BOOTSTRAP DIRECTORY [options]``.

It writes the history of what it did and saw, and ends in order when it is told to by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from tests.torture.client import Sender, Worker
from tests.torture.kafkaworker import KafkaMember, KafkaReader, KafkaSender
from tests.torture.nativeworker import NativeMember, NativeReader, NativeSender

ROLES: dict[str, type[Worker]] = {
    "producer": NativeSender,
    "reader": NativeReader,
    "member": NativeMember,
    "kafka-producer": KafkaSender,
    "kafka-reader": KafkaReader,
    "kafka-member": KafkaMember,
}


def main() -> None:
    """Lives until SIGTERM, or until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("name")
    parser.add_argument("bootstrap")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=Sender.rate)
    parser.add_argument("--records-max", type=int, default=Sender.records_max)
    given = parser.parse_args()
    worker = ROLES[given.role](given.name, given.bootstrap, given.directory, given.partitions, given.seed)
    if isinstance(worker, Sender):
        worker.rate, worker.records_max = given.rate, given.records_max
    signal.signal(signal.SIGTERM, lambda *_: worker.ending.set())
    if os.getppid() == 1:
        return  # whoever started this is gone already
    worker.run()
    worker.journal.close()


if __name__ == "__main__":
    main()

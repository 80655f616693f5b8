"""A worker: one consumer process of the demo's group, `python -m demo.worker`.

It reads flights, adds them up, and reports to the demo on stdout (see `demo/reports.py`). When its stdin
ends, because the demo says so or is gone, it commits, leaves the group, and writes its last report.
"""

from __future__ import annotations

import argparse
import select
import sys
import time
from collections.abc import Sequence

from demo.reports import Assigned, Finished, Progress, Report, report_line
from demo.tally import Evidence, FlightTally, position_of
from odradek.consumer import Consumer, Record

POLL_TIMEOUT_S = 0.1
POLL_RECORDS_MAX = 5000
REPORT_INTERVAL_S = 0.2


class Worker:
    """One consumer with its tally and its evidence."""

    def __init__(self, consumer: Consumer, flights: int) -> None:
        self._consumer = consumer
        self._tally = FlightTally()
        self._evidence = Evidence(flights)
        self._owned: list[int] = []
        self._report_at = 0.0
        self._reported = 0

    def run(self) -> None:
        """Read until stdin ends."""
        while not _stdin_ended():
            records = self._consumer.poll(POLL_TIMEOUT_S, POLL_RECORDS_MAX)
            self._count(records)
            self._report_assignment()
            self._report_progress()
        self._consumer.commit()

    def finish(self) -> None:
        """The last report, after the consumer has left the group."""
        _report(Finished.of(self._tally, self._evidence))

    def _count(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.value is None or record.key is None:
                raise ValueError(f"no flight at offset {record.offset} of partition {record.partition}")
            self._tally.add(record.value)
            position = position_of(record.headers)
            self._evidence.add(record.partition, record.offset, record.key.decode(), position)

    def _report_assignment(self) -> None:
        owned = sorted(partition.partition for partition in self._consumer.assignment())
        if owned != self._owned:
            self._owned = owned
            _report(Assigned(owned))

    def _report_progress(self) -> None:
        now = time.monotonic()
        if now >= self._report_at and self._tally.records > self._reported:
            self._report_at = now + REPORT_INTERVAL_S
            self._reported = self._tally.records
            _report(Progress(self._tally, self._evidence.next_offsets()))


def _report(report: Report) -> None:
    sys.stdout.buffer.write(report_line(report))
    sys.stdout.buffer.flush()


def _stdin_ended() -> bool:
    """Nothing is ever written to stdin: that it can be read means that it ended."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main() -> int:
    """Work as the arguments say; started by the demo, not by people."""
    parser = argparse.ArgumentParser(prog="python -m demo.worker", description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--flights", required=True, type=int)
    options = parser.parse_args()
    with Consumer(
        options.bootstrap, group=options.group, topics=[options.topic], auto_offset_reset="earliest"
    ) as consumer:
        worker = Worker(consumer, options.flights)
        worker.run()
    worker.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())

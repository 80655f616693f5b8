"""Consuming: the loop of one consumer process."""

from __future__ import annotations

import struct
import time
from typing import Final

from loadtest.clients import Polled, client_module
from loadtest.latencies import Tally
from loadtest.link import Link, Reporter
from loadtest.stamps import read_stamp
from loadtest.words import Interval, Ready
from loadtest.workload import Order

POLL_S: Final = 0.1
LOOKED_AT_PER_POLL_MAX: Final = 256
"""Of a poll with more records only every n-th is looked into, and stands for n: reading each of a million
records a second would make the tester the slowest part of what it measures."""


class Observations:
    """How late records came, and whether any came before one that was sent earlier."""

    def __init__(self, measured_from_ns: int = 0) -> None:
        self._measured_from_ns = measured_from_ns
        self._tally = Tally()
        self._records = 0
        self._warm_up_records = 0
        self._out_of_order = 0
        self._last_ns = 0
        self._last: dict[tuple[int, int], int] = {}

    def note(self, records: Polled, now_ns: int) -> None:
        """Some records (partition, value) that came now."""
        step = max(1, len(records) // LOOKED_AT_PER_POLL_MAX)
        for position in range(0, len(records), step):
            partition, value = records[position]
            try:
                stamp = read_stamp(value)
            except (struct.error, TypeError):
                raise ValueError(
                    f"partition {partition} holds a record that no load test wrote; use a topic of its own"
                ) from None
            count = min(step, len(records) - position)
            if stamp.due_ns < self._measured_from_ns:
                self._warm_up_records += count
            else:
                self._records += count
                self._last_ns = now_ns
                self._tally.note((now_ns - stamp.due_ns) // 1000, count)
            place = (partition, stamp.producer)
            if self._last.get(place, -1) > stamp.number:
                self._out_of_order += 1
            self._last[place] = stamp.number

    def take(self) -> Interval:
        """What came since the last call."""
        found = Interval(
            records=self._records,
            warm_up_records=self._warm_up_records,
            out_of_order=self._out_of_order,
            histogram=self._tally.take(),
            last_ns=self._last_ns,
        )
        self._records = self._warm_up_records = self._out_of_order = self._last_ns = 0
        return found


def consume(order: Order, link: Link) -> None:
    """Connect, wait for the word, read until told that everything is read."""
    partitions = order.workload.partitions_of(order.index)
    client = client_module(order.target).ClientConsumer(order.target, partitions)
    link.say(Ready())
    start_ns = link.wait_for_go()
    if start_ns is None:
        return
    measured_from_ns = order.workload.measured_from_ns(start_ns)
    if order.workload.read_after:
        # Who reads after the load is timed from this moment, and all that is read counts.
        measured_from_ns = 0
        time.sleep(max(0.0, (start_ns - time.monotonic_ns()) / 1e9))
    observations = Observations(measured_from_ns)
    reporter = Reporter(link, observations.take)
    while not link.ended.is_set():
        records = client.poll(POLL_S)
        if records:
            observations.note(records, time.monotonic_ns())
        reporter.tick()
    client.close()
    reporter.finish()

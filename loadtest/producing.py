"""Producing: the loop of one producer process."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from loadtest.clients import ProducerClient, Settled, client_module
from loadtest.keys import key_stream
from loadtest.latencies import Tally
from loadtest.link import Link, Reporter
from loadtest.schedule import Schedule
from loadtest.stamps import STAMP, fillers
from loadtest.words import Interval, Ready
from loadtest.workload import Order, Workload

SLEEP_S_MAX: Final = 0.1
"""No longer, so that reports go on while nothing is due."""


class Acknowledgements:
    """What was acknowledged since the last report; callbacks come from the client's own thread."""

    def __init__(self, measured_from_ns: int = 0) -> None:
        self._measured_from_ns = measured_from_ns
        self._lock = threading.Lock()
        self._tally = Tally()
        self._records = 0
        self._warm_up_records = 0
        self._failed = 0
        self._last_ns = 0

    def expect(self, due_ns: int) -> Settled:
        """The callback for records that should have been sent at ``due_ns``."""

        def settled(count: int, acknowledged: bool) -> None:
            now_ns = time.monotonic_ns()
            with self._lock:
                if not acknowledged:
                    self._failed += count
                elif due_ns < self._measured_from_ns:
                    self._warm_up_records += count
                else:
                    self._records += count
                    self._tally.note((now_ns - due_ns) // 1000, count)
                    self._last_ns = now_ns

        return settled

    def take(self) -> Interval:
        """What came since the last call."""
        with self._lock:
            found = Interval(
                records=self._records,
                warm_up_records=self._warm_up_records,
                failed=self._failed,
                histogram=self._tally.take(),
                last_ns=self._last_ns,
            )
            self._records = self._warm_up_records = self._failed = self._last_ns = 0
        return found


class Values:
    """Makes the values of one producer."""

    def __init__(self, producer: int, value_bytes: int) -> None:
        self._producer = producer
        self._fillers = fillers(value_bytes)
        self.made = 0

    def at(self, schedule: Schedule, count: int) -> list[bytes]:
        """The next ones of a schedule, each with its own time."""
        pack, producer, rest = STAMP.pack, self._producer, itertools.cycle(self._fillers)
        numbers = range(self.made, self.made + count)
        self.made += count
        return [pack(schedule.due_ns(number), producer, number) + next(rest) for number in numbers]

    def now(self, due_ns: int, count: int) -> list[bytes]:
        """So many for this moment; they share a stamp, because making one costs as much as sending."""
        stamp = STAMP.pack(due_ns, self._producer, self.made)
        self.made += count
        return [stamp + filler for filler in itertools.islice(itertools.cycle(self._fillers), count)]


def produce(order: Order, link: Link) -> None:
    """Connect, wait for the word, send what the workload says, wait for the acknowledgements."""
    workload = order.workload
    client = client_module(order.target).ClientProducer(order.target, workload)
    keys = key_stream(workload, order.index)
    values = Values(order.index, workload.value_bytes)
    link.say(Ready())
    start_ns = link.wait_for_go()
    if start_ns is None:
        return
    acknowledgements = Acknowledgements(workload.measured_from_ns(start_ns))
    reporter = Reporter(link, acknowledgements.take)
    sending = _Sending(client, acknowledgements, keys, reporter)
    while time.monotonic_ns() < start_ns:
        _sleep_until(start_ns)
    if workload.rate is None:
        _at_full_speed(workload, values, sending, link, start_ns)
    else:
        schedule = Schedule.of(workload.rate, workload.producers, order.index, start_ns, workload.load_s)
        _on_schedule(schedule, workload.batch_records, values, sending, link)
    client.finish()
    reporter.finish(sent=values.made)


class _Sending:
    """What both loops do with some values."""

    def __init__(
        self,
        client: ProducerClient,
        acknowledgements: Acknowledgements,
        keys: Iterator[bytes] | None,
        reporter: Reporter,
    ) -> None:
        self._client = client
        self._acknowledgements = acknowledgements
        self._keys = keys
        self.reporter = reporter

    def send(self, values: Sequence[bytes], due_ns: int) -> None:
        keys = None if self._keys is None else list(itertools.islice(self._keys, len(values)))
        self._client.send(values, keys, self._acknowledgements.expect(due_ns))
        self.reporter.tick()


def _at_full_speed(workload: Workload, values: Values, sending: _Sending, link: Link, start_ns: int) -> None:
    end_ns = start_ns + int(workload.load_s * 1e9)
    while (now_ns := time.monotonic_ns()) < end_ns and not link.ended.is_set():
        sending.send(values.now(now_ns, workload.batch_records), now_ns)


def _on_schedule(
    schedule: Schedule, batch_records: int, values: Values, sending: _Sending, link: Link
) -> None:
    while values.made < schedule.count and not link.ended.is_set():
        due = schedule.due_count(time.monotonic_ns()) - values.made
        if due <= 0:
            _sleep_until(schedule.due_ns(values.made))
            sending.reporter.tick()
            continue
        first_due_ns = schedule.due_ns(values.made)
        sending.send(values.at(schedule, min(due, batch_records)), first_due_ns)


def _sleep_until(at_ns: int) -> None:
    left_s = (at_ns - time.monotonic_ns()) / 1e9
    if left_s > 0:
        time.sleep(min(left_s, SLEEP_S_MAX))

"""The flow: a broker, a topic, a producer and a group of consumer processes; from flights to verdict.

Flights are sent in the order of their scheduled departure, each with its position in that order. Consumers
hold all partitions before the first flight is sent, so what is measured is the flow and not the start.
"""

from __future__ import annotations

import itertools
import secrets
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from crew.broker import OwnBroker
from demo.display import Display, Snapshot, new_display
from demo.flights import FLIGHT_COUNT, Flight, load_flights
from demo.report import Timing, print_answer, print_checks, print_throughput
from demo.tally import POSITION_HEADER
from demo.verdict import Received, Sent, judge
from demo.workers import Workers
from odradek.admin import Admin
from odradek.delivery import Delivery
from odradek.producer import Producer

TOPIC = "flights"
TOPICS_TRIED_MAX = 1000
CHUNK_FLIGHTS = 2000
"""So many flights are sent between two looks at the consumers' reports."""
PUMP_TIMEOUT_S = 0.1
ASSIGN_TIMEOUT_S = 60.0
STALL_TIMEOUT_S = 60.0
DELIVERY_TIMEOUT_S = 120.0


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to run. `data` None: a temporary directory; `bootstrap` set: a broker that runs already."""

    flights: int
    partitions: int
    consumers: int
    data: Path | None = None
    bootstrap: str | None = None


class Demo:
    """One run of the demo; prints as it goes."""

    def __init__(self, options: DemoOptions) -> None:
        self._options = options
        self._display: Display = new_display()

    def run(self) -> bool:
        """From nothing to the verdict; returns whether everything is right. Leaves no process behind."""
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="odradek-demo-")))
            bootstrap = stack.enter_context(self._broker(work))
            return self._flow(bootstrap, work)

    @contextmanager
    def _broker(self, work: Path) -> Iterator[str]:
        if self._options.bootstrap is not None:
            yield self._options.bootstrap
            return
        with OwnBroker(self._options.data or work / "data", work) as broker:
            started_at = time.monotonic()
            bootstrap = broker.start()
            self._display.stage(f"Broker ready at {bootstrap} in {time.monotonic() - started_at:.1f} s.")
            yield bootstrap

    def _flow(self, bootstrap: str, work: Path) -> bool:
        options = self._options
        with Admin(bootstrap) as admin, ExitStack() as stack:
            topic = create_topic(admin, options.partitions)
            self._display.stage(
                f"Topic {topic}, {options.partitions} partitions; {options.consumers} consumers in one group."
            )
            group = f"demo-{secrets.token_hex(4)}"
            workers = Workers(work)
            stack.callback(workers.kill)
            stack.callback(self._display.close)
            workers.start(
                options.consumers,
                [
                    "--bootstrap",
                    bootstrap,
                    "--topic",
                    topic,
                    "--group",
                    group,
                    "--flights",
                    str(options.flights),
                ],
            )
            passage = Passage(workers, self._display, load(options.flights), options.partitions)
            passage.wait_for_consumers()
            sent, timing = passage.run(bootstrap, topic)
            workers.finish()
            self._display.close()
            return self._conclude(admin, group, workers, sent, timing)

    def _conclude(self, admin: Admin, group: str, workers: Workers, sent: Sent, timing: Timing) -> bool:
        tally = workers.tally
        received = Received(tally, workers.runs(), workers.seen(sent.flights), committed(admin, group))
        checks = judge(sent, received)
        print_answer(tally)
        print_throughput(sent.flights, sent.value_bytes, timing, self._options.consumers)
        print_checks(checks)
        return all(check.passed for check in checks)


class Passage:
    """The flights on their way: sent by this process, read by the workers, shown on the display."""

    def __init__(
        self, workers: Workers, display: Display, flights: Sequence[Flight], partitions: int
    ) -> None:
        self._workers = workers
        self._display = display
        self._flights = flights
        self._partitions = partitions
        self._acknowledged = 0
        self._ends: dict[int, int] = {}
        self._unacknowledged: deque[Delivery] = deque()
        self._value_bytes = 0
        self._value_crc_sum = 0

    def wait_for_consumers(self) -> None:
        """Until the group has given every partition to somebody. Raises DemoError after ASSIGN_TIMEOUT_S."""
        give_up_at = time.monotonic() + ASSIGN_TIMEOUT_S
        while not self._settled():
            if time.monotonic() > give_up_at:
                raise DemoError(
                    f"after {ASSIGN_TIMEOUT_S:.0f} s the consumers hold {self._workers.assignments}, "
                    f"not all of {self._partitions} partitions"
                )
            self._workers.pump(PUMP_TIMEOUT_S)

    def _settled(self) -> bool:
        """Every partition is held once, and by as many consumers as can have one."""
        held = [partitions for partitions in self._workers.assignments.values() if partitions]
        consumers = min(self._partitions, len(self._workers.assignments))
        return len(held) == consumers and sorted(itertools.chain(*held)) == list(range(self._partitions))

    def run(self, bootstrap: str, topic: str) -> tuple[Sent, Timing]:
        """Send all flights and wait until the consumers have read them."""
        with Producer(bootstrap) as producer:
            started_at = time.monotonic()
            for start in range(0, len(self._flights), CHUNK_FLIGHTS):
                self._send(producer, topic, start)
                self._workers.pump(0)
                self._take_acknowledged(wait=False)
                self._show()
            producer.flush()
            self._take_acknowledged(wait=True)
            in_s = time.monotonic() - started_at
        self._wait_until_read()
        timing = Timing(in_s, time.monotonic() - started_at)
        sent = Sent(
            len(self._flights), self._acknowledged, self._value_bytes, self._value_crc_sum, dict(self._ends)
        )
        return sent, timing

    def _send(self, producer: Producer, topic: str, start: int) -> None:
        for position, flight in enumerate(self._flights[start : start + CHUNK_FLIGHTS], start):
            value = flight.to_json()
            self._value_bytes += len(value)
            self._value_crc_sum += zlib.crc32(value)
            delivery = producer.send(
                topic,
                value,
                key=flight.key,
                headers=[(POSITION_HEADER, b"%d" % position)],
                timestamp=int(flight.scheduled_departure.timestamp() * 1000),
            )
            self._unacknowledged.append(delivery)

    def _take_acknowledged(self, *, wait: bool) -> None:
        """Note where each acknowledged flight is. Raises the broker's error for one that was refused."""
        waiting = self._unacknowledged
        while waiting and (wait or waiting[0].done()):
            metadata = waiting.popleft().result(DELIVERY_TIMEOUT_S)
            self._acknowledged += 1
            self._ends[metadata.partition] = max(metadata.offset + 1, self._ends.get(metadata.partition, 0))

    def _wait_until_read(self) -> None:
        read, moved_at = -1, time.monotonic()
        while any(self._workers.next_offsets().get(p, 0) < end for p, end in self._ends.items()):
            if self._workers.records != read:
                read, moved_at = self._workers.records, time.monotonic()
            elif time.monotonic() - moved_at > STALL_TIMEOUT_S:
                raise DemoError(
                    f"nothing was read for {STALL_TIMEOUT_S:.0f} s: {read:,} of {len(self._flights):,} "
                    f"flights came out; the consumers are at {self._workers.next_offsets()} of {self._ends}"
                )
            self._workers.pump(PUMP_TIMEOUT_S)
            self._show()
        self._show()

    def _show(self) -> None:
        self._display.update(
            Snapshot(len(self._flights), self._acknowledged, self._workers.records, self._workers.tally)
        )


def load(count: int) -> list[Flight]:
    """The first flights of the year by scheduled departure; flights of one minute in the data's order."""
    flights = sorted(load_flights(), key=lambda flight: flight.scheduled_departure)
    assert len(flights) == FLIGHT_COUNT, "load_flights checks its file"
    return flights[:count]


def create_topic(admin: Admin, partitions: int) -> str:
    """A new topic: `flights`, or `flights-2` and so on where a former run left one."""
    taken = set(admin.list_topics())
    names = (TOPIC if number == 1 else f"{TOPIC}-{number}" for number in range(1, TOPICS_TRIED_MAX))
    name = next((name for name in names if name not in taken), None)
    if name is None:
        raise DemoError(
            f"the broker has {TOPICS_TRIED_MAX} topics of former runs; `odradek topic delete` deletes them"
        )
    # The flights are of 2013: by the default of retention.ms they would all be too old to keep.
    admin.create_topic(name, partitions, {"retention.ms": -1})
    return name


def committed(admin: Admin, group: str) -> Mapping[int, int]:
    """By partition, the offset that the group has committed."""
    return {partition.partition: offset for partition, offset in admin.list_group_offsets(group).items()}

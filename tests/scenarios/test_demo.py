"""The demo: its verdict sees each kind of wrong, and the real thing ends with everything right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from demo.flights import Flight, load_flights
from demo.flow import load
from demo.reports import Assigned, Finished, Progress, read_report, report_line
from demo.tally import Evidence, FlightTally, RecordError, merged, position_of
from demo.verdict import Check, Received, Sent, add_up_seen, judge
from tests.support.broker import BrokerProcess

PARTITIONS = 2


def some_flights(count: int) -> list[Flight]:
    return [flight for flight, _ in zip(load_flights(), range(count), strict=False)]


FLIGHTS = some_flights(60)


class Scene:
    """Flights laid out over partitions by aircraft, and consumers that read them as a test says."""

    def __init__(self, flights: Sequence[Flight] = FLIGHTS) -> None:
        self.flights = flights
        self.log: list[list[int]] = [[] for _ in range(PARTITIONS)]
        for position, flight in enumerate(flights):
            self.log[zlib.crc32(flight.key) % PARTITIONS].append(position)
        self.tally = FlightTally()
        self.consumers = [Evidence(len(flights)), Evidence(len(flights))]

    def read(self, consumer: int, partition: int, first: int = 0, end: int | None = None) -> None:
        """A consumer reads offsets first <= offset < end of a partition."""
        for offset, position in list(enumerate(self.log[partition]))[first:end]:
            flight = self.flights[position]
            self.tally.add(flight.to_json())
            self.consumers[consumer].add(partition, offset, flight.key.decode(), position)

    def sent(self) -> Sent:
        values = [flight.to_json() for flight in self.flights]
        return Sent(
            flights=len(values),
            acknowledged=len(values),
            value_bytes=sum(map(len, values)),
            value_crc_sum=sum(map(zlib.crc32, values)),
            ends={partition: len(positions) for partition, positions in enumerate(self.log)},
        )

    def received(self) -> Received:
        seen = add_up_seen([bytes(consumer.seen) for consumer in self.consumers], len(self.flights))
        runs = [run for consumer in self.consumers for run in consumer.runs]
        return Received(self.tally, runs, seen, self.sent().ends)


def wrong(checks: Sequence[Check]) -> list[str]:
    return [check.question.split(",")[0] for check in checks if not check.passed]


ONCE = "flights came out"
CONTENT = "their bytes came out as they went in"
OFFSETS = "every offset of every partition was read once"
ORDER = "every aircraft's flights came in order"
COMMITTED = "the group committed all it read"


def test_two_consumers_that_read_all_are_right() -> None:
    scene = Scene()
    scene.read(0, 0)
    scene.read(1, 1)

    checks = judge(scene.sent(), scene.received())

    assert wrong(checks) == []
    assert [check.found for check in checks[:2]] == ["60 in", "60 out"]


def test_a_partition_that_changes_hands_is_right() -> None:
    scene = Scene()
    scene.read(0, 0, end=10)
    scene.read(0, 1)
    scene.read(1, 0, first=10)

    assert wrong(judge(scene.sent(), scene.received())) == []


def test_a_lost_flight_is_seen() -> None:
    scene = Scene()
    scene.read(0, 0)
    scene.read(1, 1, end=-1)

    assert wrong(judge(scene.sent(), scene.received())) == [ONCE, CONTENT, OFFSETS]


def test_a_gap_is_seen() -> None:
    scene = Scene()
    scene.read(0, 0, end=5)
    scene.read(0, 0, first=6)
    scene.read(1, 1)

    assert wrong(judge(scene.sent(), scene.received())) == [ONCE, CONTENT, OFFSETS]


def test_flights_read_again_after_a_change_of_hands_are_seen() -> None:
    scene = Scene()
    scene.read(0, 0, end=10)
    scene.read(0, 1)
    scene.read(1, 0, first=8)

    checks = judge(scene.sent(), scene.received())

    assert wrong(checks)[:3] == [ONCE, CONTENT, OFFSETS]
    assert "0 missing, 2 more than once" in checks[1].found


def test_a_flight_that_was_appended_twice_is_seen() -> None:
    scene = Scene()
    scene.log[0].insert(3, scene.log[0][3])
    scene.read(0, 0)
    scene.read(1, 1)

    assert wrong(judge(scene.sent(), scene.received())) == [ONCE, CONTENT, ORDER]


def test_one_lost_and_one_doubled_do_not_cancel_out() -> None:
    scene = Scene()
    scene.log[0][4] = scene.log[0][3]
    scene.read(0, 0)
    scene.read(1, 1)

    assert ONCE in wrong(judge(scene.sent(), scene.received()))


def swap_flights_of_one_aircraft(scene: Scene) -> None:
    first, second = next(
        (i, j)
        for positions in scene.log
        for i, one in enumerate(positions)
        for j, other in enumerate(positions)
        if i < j and scene.flights[one].key == scene.flights[other].key and positions is scene.log[0]
    )
    scene.log[0][first], scene.log[0][second] = scene.log[0][second], scene.log[0][first]


@pytest.mark.parametrize("handover", [None, 1, 20, 200])
def test_flights_of_one_aircraft_that_swapped_places_are_seen(handover: int | None) -> None:
    scene = Scene(some_flights(800))
    swap_flights_of_one_aircraft(scene)
    scene.read(0, 0, end=handover)
    if handover is not None:
        scene.read(1, 0, first=handover)
    scene.read(1, 1)

    assert wrong(judge(scene.sent(), scene.received())) == [ORDER]


def test_an_aircraft_in_two_partitions_is_seen() -> None:
    scene = Scene(some_flights(800))
    key = next(
        flight.key
        for flight in scene.flights
        if sum(scene.flights[position].key == flight.key for position in scene.log[0]) > 1
    )
    stray = [p for p in scene.log[0] if scene.flights[p].key == key][-1]
    scene.log[0].remove(stray)
    scene.log[1].append(stray)
    scene.read(0, 0)
    scene.read(1, 1)

    assert wrong(judge(scene.sent(), scene.received())) == [ORDER]


def test_a_changed_value_is_seen() -> None:
    scene = Scene()
    scene.read(0, 0)
    scene.read(1, 1)
    received = scene.received()
    received.tally.value_crc_sum += 1

    assert wrong(judge(scene.sent(), received)) == [CONTENT]


def test_an_uncommitted_record_is_seen() -> None:
    scene = Scene()
    scene.read(0, 0)
    scene.read(1, 1)
    ends = scene.sent().ends

    checks = judge(scene.sent(), replace(scene.received(), committed={0: ends[0], 1: ends[1] - 1}))

    assert wrong(checks) == [COMMITTED]
    assert checks[-1].found == "1 behind in partition 1"


def test_an_unacknowledged_flight_is_seen() -> None:
    scene = Scene()
    scene.read(0, 0)
    scene.read(1, 1)

    checks = judge(replace(scene.sent(), acknowledged=59), scene.received())

    assert not checks[0].passed
    assert checks[0].found == "1 of 60 not acknowledged"


def test_tallies_merge_to_what_one_consumer_would_have_counted() -> None:
    whole, parts = FlightTally(), [FlightTally(), FlightTally(), FlightTally()]
    for position, flight in enumerate(FLIGHTS):
        whole.add(flight.to_json())
        parts[position % 3].add(flight.to_json())

    assert merged(parts) == whole
    assert whole.carriers["UA"].flights == sum(flight.carrier == "UA" for flight in FLIGHTS)


def test_the_year_tallies_to_what_is_known_of_it() -> None:
    tally = FlightTally()
    for flight in load(336_776):
        tally.add(flight.to_json())

    assert tally.records == 336_776
    assert tally.carriers["F9"].arrival_delay_mean_min == pytest.approx(21.92, abs=0.005)
    assert tally.carriers["AS"].arrival_delay_mean_min == pytest.approx(-9.93, abs=0.005)
    assert tally.carriers["EV"].departure_delay_mean_min == pytest.approx(19.96, abs=0.005)
    assert tally.routes["JFK-LAX"].flights == 11_262
    assert sum(delays.cancelled for delays in tally.carriers.values()) == 8_255


def test_reports_travel_as_lines() -> None:
    scene = Scene()
    scene.read(0, 0)
    finished = Finished.of(scene.tally, scene.consumers[0])

    for report in (Assigned([1, 2]), Progress(scene.tally, {3: 7}), finished):
        line = report_line(report)
        assert line.count(b"\n") == 1
        assert read_report(line) == report
    assert finished.seen_counts() == bytes(scene.consumers[0].seen)


def test_records_of_somebody_else_are_refused() -> None:
    with pytest.raises(RecordError, match="is not a flight"):
        FlightTally().add(b"hello")
    with pytest.raises(RecordError, match="position"):
        position_of([("other", b"1"), ("position", b"x")])
    with pytest.raises(RecordError, match="outside 0 to 4"):
        Evidence(5).add(0, 0, "N1", 5)


# -- the real thing --------------------------------------------------------------------------------

TIMEOUT_S = 110


def run_demo(*words: str, module: str = "demo", **extra: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words], capture_output=True, text=True, timeout=TIMEOUT_S, **extra
    )


def test_the_help_shows_how_to_call_it() -> None:
    done = run_demo("demo", "--help", module="odradek.cli")

    assert done.returncode == 0
    assert "usage: odradek demo" in done.stdout
    assert "odradek demo --flights 20000" in done.stdout


@pytest.mark.parametrize(
    "words", [["--flights", "0"], ["--flights", "x"], ["--data", "d", "--bootstrap", "b"]]
)
def test_wrong_arguments_end_with_2(words: list[str]) -> None:
    assert run_demo(*words).returncode == 2


@pytest.mark.processes
def test_a_few_thousand_flights_go_in_and_come_out(tmp_path: Path) -> None:
    """In a temporary directory, with a hostile one as the current: nothing of it is imported or left."""
    (tmp_path / "supervisor.py").write_text("raise SystemExit('not the broker')")
    (tmp_path / "odradek.toml").write_text("port = 'nonsense'")
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    done = run_demo(
        "demo",
        "--flights",
        "5000",
        module="odradek.cli",
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary), "ODRADEK_PORT": "nonsense"},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "5,000 in" in done.stdout
    assert "5,000 out" in done.stdout
    assert "WRONG" not in done.stdout
    assert "JFK-LAX" in done.stdout
    assert "JetBlue Airways" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(temporary.iterdir()) == []


@pytest.mark.processes
def test_a_broker_that_runs_is_used_and_its_topics_are_left_alone() -> None:
    with BrokerProcess() as broker:
        first = run_demo("--flights", "2000", "--bootstrap", broker.bootstrap, "--consumers", "2")
        second = run_demo("--flights", "1000", "--bootstrap", broker.bootstrap, "--partitions", "3")

        assert first.returncode == 0, first.stdout + first.stderr
        assert second.returncode == 0, second.stdout + second.stderr
        assert "Topic flights, 8 partitions; 2 consumers" in first.stdout
        assert "Topic flights-2, 3 partitions; 3 consumers" in second.stdout
        assert broker.running


@pytest.mark.processes
def test_a_consumer_that_dies_is_told_and_everything_is_stopped() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if " out " in line:
            break
    tree = psutil.Process(demo.pid).children(recursive=True)
    victim = next(process for process in tree if "demo.worker" in process.cmdline())
    victim.kill()
    _, err = demo.communicate(timeout=TIMEOUT_S)

    assert demo.returncode == 1
    assert "ended with code -9" in err
    assert psutil.wait_procs(tree, timeout=30)[1] == []


@pytest.mark.processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: int, code: int) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if " out " in line:
            break
    tree = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(number)
    _, err = demo.communicate(timeout=TIMEOUT_S)

    assert demo.returncode == code, err
    assert "Traceback" not in err
    assert psutil.wait_procs(tree, timeout=30)[1] == []
    assert list(tmp_path.iterdir()) == []

"""The comparison with other brokers: a peer that fails hides nobody, and the page says what was found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.peers import page, session
from bench.peers.acknowledging import FellBehindError, Patience, insist
from bench.peers.bars import Bar, Panel, chart
from bench.peers.event_loop import EventLoop, Inbox, Outbox
from bench.peers.findings import Failure, Figure, Findings, Value, merged, read
from bench.peers.goals import GOALS, Goal
from bench.peers.life import in_turns
from bench.peers.peer import Facts, Peer, Running
from bench.peers.session import Recorder, Session
from bench.peers.window import Window
from bench.peers.workloads import CASES, LATENCY, P50, P99, PATIENCE_S, PRODUCE, THROUGHPUT, Case
from loadtest.clients import Settled
from loadtest.course import Course
from loadtest.result import Result, Side
from loadtest.watching import Watcher
from loadtest.workload import Target, Workload

RATE = Figure(THROUGHPUT[0].name, PRODUCE.name, PRODUCE.unit, True)


def _facts(name: str) -> Facts:
    return Facts(name, "1", "fsync", "a client", "none", "somewhere")


def _findings(**rates: list[float]) -> Findings:
    findings = Findings(machine={"cores": 2}, commands=["python -m bench.peers"])
    findings.facts = {peer: _facts(peer.capitalize()) for peer in rates}
    findings.values = [
        Value(RATE, peer, str(number), rate)
        for peer, values in rates.items()
        for number, rate in enumerate(values, 1)
    ]
    return findings


def test_a_ratio_is_the_median_of_ratios_inside_the_rounds() -> None:
    findings = _findings(odradek=[10.0, 40.0, 300.0], kafka=[10.0, 20.0, 100.0])
    assert findings.ratio(RATE, "odradek", "kafka") == 2.0
    assert findings.median(RATE, "odradek") == 40.0
    assert findings.ratio(RATE, "odradek", "redis") is None


def test_a_round_in_which_one_of_both_failed_is_in_no_ratio() -> None:
    findings = _findings(odradek=[10.0, 40.0], kafka=[10.0, 20.0])
    findings.values = [value for value in findings.values if (value.peer, value.round) != ("kafka", "1")]
    assert findings.ratio(RATE, "odradek", "kafka") == 2.0


def test_findings_come_back_from_their_file(tmp_path: Path) -> None:
    findings = _findings(odradek=[1.5])
    findings.failures = [Failure("a case", "odradek", "1", "no room")]
    findings.skipped = {"nats": "no Go"}
    findings.write(tmp_path / "new" / "results.json")
    assert read(tmp_path / "new" / "results.json") == findings


def test_rounds_of_merged_runs_stay_apart() -> None:
    first, second = _findings(odradek=[10.0], kafka=[10.0]), _findings(odradek=[90.0], kafka=[30.0])
    first.skipped, second.skipped = {"kafka": "was not here then"}, {"nats": "no Go"}
    whole = merged([first, second])
    assert whole.of(RATE, "odradek") == {"1.1": 10.0, "2.1": 90.0}
    assert whole.ratio(RATE, "odradek", "kafka") == 2.0
    assert whole.skipped == {"nats": "no Go"} and whole.rounds == 2


def test_a_page_names_ratios_failures_and_goals_and_its_plots_are_svg() -> None:
    findings = _findings(odradek=[300.0], kafka=[100.0], nats=[])
    findings.failures = [Failure(RATE.case, "nats", "1", "too slow | by far\nand more")]
    written = page.files(findings, Path("docs/benchmarks.md"))
    text = written[Path("docs/benchmarks.md")]
    assert "| Odradek | 300 (**3.00 x**) |" in text
    assert "| Kafka | 100 |" in text
    assert "| Nats | failed: too slow / by far |" in text
    assert "| produce, 100 B, 1 partition, 1 producer: to Kafka | at least 1.5 | 3 | yes |" in text
    assert "(benchmarks-produce.svg)" in text and "benchmarks-latency.svg" not in text
    plot = written[Path("docs/benchmarks-produce.svg")]
    assert ElementTree.fromstring(plot).tag.endswith("svg")


def test_a_spread_of_latencies_is_drawn_from_the_median_to_the_99th_percentile() -> None:
    findings = _findings(odradek=[1.0])
    slow = LATENCY[0]
    for measured, value in ((P50, 2.0), (P99, 40.0)):
        figure = Figure(slow.name, measured.name, measured.unit, measured.more_is_better)
        findings.values.append(Value(figure, "odradek", "1", value))
    plot = page.files(findings, Path("page.md"))[Path("page-latency.svg")]
    assert "2 to 40" in plot and plot.count("<circle") == 2


def test_a_peer_without_a_number_is_drawn_with_the_reason() -> None:
    drawn = chart([Panel("p", "s", [Bar("a<b", 0, None, note="failed"), Bar("c", 1, 0.0)])])
    assert "failed" in drawn and "a&lt;b" in drawn
    ElementTree.fromstring(drawn)


@pytest.mark.parametrize(
    ("at_least", "measured", "met"),
    [(True, 1.4, False), (True, 1.5, True), (False, 1.6, False), (False, 1.5, True)],
)
def test_a_goal_is_met_at_its_bound(at_least: bool, measured: float, met: bool) -> None:
    assert Goal("", RATE, 1.5, at_least).met(measured) is met


def test_every_goal_is_about_something_that_is_measured() -> None:
    known = {
        Figure(case.name, measured.name, measured.unit, measured.more_is_better)
        for case in CASES
        for measured in case.measured
    }
    life = {goal.figure for goal in GOALS} - known
    assert {figure.case for figure in life} <= {
        session.START,
        session.EIGHT_PARTITIONS.name,
        "1,000 partitions",
    }


class _Brokers:
    """Counts the starts of a peer that is none; ``alive`` says whether the last one lives."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.starts = 0
        self.alive = False


class _Start(Running):
    def __init__(self, data: Path, brokers: _Brokers) -> None:
        super().__init__(data)
        self._brokers = brokers

    @property
    def alive(self) -> bool:
        return self._brokers.alive

    def start(self) -> None:
        self._brokers.starts += 1
        self._brokers.alive = True

    def stop(self) -> None:
        self._brokers.alive = False

    def target(self) -> Target:
        return Target(address="nowhere")


class _Peer(Peer):
    client = "odradek"
    facts = _facts("None")

    def __init__(self, brokers: _Brokers) -> None:
        self._brokers = brokers

    def prepare(self) -> None:
        pass

    def running(self, data: Path) -> Running:
        return _Start(data, self._brokers)


def _result(workload: Workload, *, lost: int = 0) -> Result:
    side = Side(
        records=1,
        failed=0,
        seconds=1.0,
        records_per_s=7.0,
        megabytes_per_s=1.0,
        latency_ms={"p50": 1.0, "p99": 2.0},
        curve_ms=[],
        client_cpu_s=0.0,
    )
    return Result(
        target="",
        workload=workload,
        produce=side,
        consume=side,
        sent=1,
        lost=lost,
        out_of_order=0,
        moments=[],
        actors=[],
        notes=[],
    )


@contextmanager
def _measured_by(
    monkeypatch: pytest.MonkeyPatch, measure: Callable[[Workload], Result]
) -> Iterator[list[Workload]]:
    asked: list[Workload] = []

    def measure_and_note(_target: Target, workload: Workload) -> Result:
        asked.append(workload)
        return measure(workload)

    monkeypatch.setattr(session, "measure", measure_and_note)
    yield asked


def _run(brokers: _Brokers, findings: Findings, *, out_of_time: float | None = None) -> None:
    deadline = time.monotonic() + 1e6 if out_of_time is None else out_of_time
    recorder = Recorder(findings, "none", 1, lambda _line: None, deadline)
    Session(_Peer(brokers), brokers.directory, recorder, life=False).run(CASES)


def test_a_case_that_fails_is_a_failure_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    brokers, findings = _Brokers(tmp_path), Findings(machine={})

    def measure(workload: Workload) -> Result:
        if workload == CASES[1].workload:
            raise FellBehindError("too slow")
        return _result(workload, lost=3 if workload == CASES[2].workload else 0)

    with _measured_by(monkeypatch, measure):
        _run(brokers, findings)
    assert [(failure.case, failure.why) for failure in findings.failures] == [
        (CASES[1].name, "too slow"),
        (CASES[2].name, "lost 3, out of order 0, failed 0"),
    ]
    assert {value.figure.case for value in findings.values} == {case.name for case in (CASES[0], *CASES[3:])}
    assert brokers.starts == 1


def test_a_peer_that_dies_is_started_again_for_what_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    brokers, findings = _Brokers(tmp_path), Findings(machine={})

    def measure(workload: Workload) -> Result:
        if workload == CASES[1].workload:
            brokers.alive = False
            raise ConnectionError("gone")
        return _result(workload)

    with _measured_by(monkeypatch, measure):
        _run(brokers, findings)
    assert brokers.starts == 2
    assert [failure.case for failure in findings.failures] == [CASES[1].name]
    assert {value.figure.case for value in findings.values} == {
        case.name for case in CASES if case != CASES[1]
    }


def test_a_peer_that_does_not_get_through_its_warm_up_fails_every_case_and_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    brokers, findings = _Brokers(tmp_path), Findings(machine={})

    def measure(workload: Workload) -> Result:
        raise RuntimeError("no client")

    with _measured_by(monkeypatch, measure):
        _run(brokers, findings)
    assert [(failure.case, failure.why) for failure in findings.failures] == [
        (case.name, "no client") for case in CASES
    ]
    assert brokers.starts == 1 and not findings.values


def test_nothing_begins_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    brokers, findings = _Brokers(tmp_path), Findings(machine={})
    with _measured_by(monkeypatch, _result) as asked:
        _run(brokers, findings, out_of_time=0.0)
    assert brokers.starts == 0 and not asked
    assert {failure.case for failure in findings.failures} == {case.name for case in CASES}


def test_what_is_left_when_the_time_ends_is_a_failure_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    brokers, findings = _Brokers(tmp_path), Findings(machine={})
    recorder = Recorder(findings, "none", 1, lambda _line: None, time.monotonic() + 1e6)

    def measure(workload: Workload) -> Result:
        if workload == CASES[1].workload:
            recorder._out_of_time = 0.0
        return _result(workload)

    with _measured_by(monkeypatch, measure):
        Session(_Peer(brokers), brokers.directory, recorder, life=False).run(CASES)
    assert {value.figure.case for value in findings.values} == {CASES[0].name, CASES[1].name}
    assert [failure.case for failure in findings.failures] == [case.name for case in CASES[2:]]
    assert "time of the run" in findings.failures[0].why


def test_what_changes_by_and_by_does_not_tell_few_partitions_from_many() -> None:
    rates = iter((400.0, 300.0, 200.0, 100.0))
    assert in_turns(lambda: next(rates), lambda: next(rates)) == (250.0, 250.0)


def test_patience_ends_a_moment_after_the_load() -> None:
    patience = Patience(Workload(duration_s=2.0, warm_up_s=1.0))
    course, watcher = Course(100), Watcher(None)
    patience(course, watcher, 3.0 + PATIENCE_S)
    with pytest.raises(FellBehindError, match="too slow"):
        patience(course, watcher, 3.1 + PATIENCE_S)


def test_who_is_not_ready_is_asked_again() -> None:
    answers: list[float | Exception] = [ConnectionError("not yet"), 7.0]

    def ask() -> float:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert insist(ask) == 7.0 and not answers


def test_an_inbox_gives_what_came_from_the_loops_thread_in_order() -> None:
    loop, inbox = EventLoop(), Inbox()

    async def put() -> None:
        for number in range(5_000):
            inbox.put(number % 3, b"%d" % number)

    assert inbox.take(0.0) == []
    loop.run(put())
    taken = inbox.take(0.0)
    loop.close()
    assert [int(value) for _, value in taken] == list(range(5_000))
    assert inbox.take(0.0) == []


def test_a_case_has_one_name() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert all(isinstance(case, Case) and case.estimate_s > 0 for case in CASES)


def test_an_outbox_does_calls_in_order_and_partitions_take_turns() -> None:
    loop = EventLoop()
    done: list[tuple[int, list[bytes]]] = []
    settled: list[tuple[int, bool]] = []

    async def publish(partition: int, values: Sequence[bytes], settle: Settled) -> None:
        done.append((partition, list(values)))
        settle(len(values), True)

    outbox = Outbox(loop, 2, 3, publish)
    for number in range(50):
        outbox.send([b"%d" % number] * 2, lambda count, acknowledged: settled.append((count, acknowledged)))
    outbox.finish()
    loop.close()
    assert done == [(number % 2, [b"%d" % number] * 2) for number in range(50)]
    assert settled == [(2, True)] * 50


def test_who_publishes_after_a_failure_gets_it() -> None:
    loop = EventLoop()

    async def publish(_partition: int, _values: Sequence[bytes], _settle: Settled) -> None:
        raise ConnectionError("gone")

    outbox = Outbox(loop, 1, 1, publish)
    outbox.send([b"1"], lambda *_: None)
    with pytest.raises(ConnectionError, match="gone"):
        outbox.send([b"2"], lambda *_: None)
    with pytest.raises(ConnectionError, match="gone"):
        outbox.finish()
    loop.close()


def test_a_window_holds_back_until_there_is_room() -> None:
    window, entered = Window(10), threading.Event()
    leave = window.enter(8, lambda *_: None)

    def enter_too() -> None:
        window.enter(3, lambda *_: None)(3, True)
        entered.set()

    waiting = threading.Thread(target=enter_too)
    waiting.start()
    assert not entered.wait(0.1)
    leave(8, True)
    assert entered.wait(30)
    waiting.join()
    window.empty()


def test_a_call_larger_than_the_window_goes_alone() -> None:
    window = Window(10)
    leave = window.enter(25, lambda *_: None)
    leave(20, True)
    leave(5, False)
    window.empty()

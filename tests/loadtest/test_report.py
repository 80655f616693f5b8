"""What people see of a result: numbers that are right, and pages that are well formed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.course import Course
from loadtest.latencies import Tally
from loadtest.page import page, result_sections, sweep_sections
from loadtest.plots import Axis, Line, line_chart, short_number
from loadtest.report import side_rows, summary, sweep_rows, turned
from loadtest.result import Result, actor_uses
from loadtest.watching import Usage
from loadtest.words import Interval
from loadtest.workload import Workload


def _interval(records: int, latency_us: int) -> Interval:
    tally = Tally()
    tally.note(latency_us, records)
    return Interval(records=records, histogram=tally.take(), cpu_s=0.25)


def _result(lost: int = 0) -> Result:
    course = Course(value_bytes=100)
    course.add("producer", _interval(1_000, 2_000), 1.0)
    course.turn(1.0)
    course.add("producer", _interval(3_000, 8_000), 2.0)
    course.add("consumer", _interval(4_000 - lost, 9_000), 2.5)
    course.turn(2.5)
    samples = [[Usage(name="partition:<x>-0", cpu_percent=cpu, pss_bytes=9 << 20)] for cpu in (10.0, 30.0)]
    return Result(
        target="tcp://127.0.0.1:5559",
        workload=Workload(),
        produce=course.produce_side(),
        consume=course.consume_side(),
        sent=4_000,
        lost=lost,
        out_of_order=0,
        moments=course.moments,
        actors=actor_uses(samples, [1.0, 2.0]),
        notes=["a <note>"],
    )


def test_a_course_adds_up_what_the_clients_report() -> None:
    result = _result()
    assert result.produce.records == 4_000 and result.produce.records_per_s == pytest.approx(2_000)
    assert result.produce.megabytes_per_s == pytest.approx(0.2)
    assert result.produce.latency_ms["p50"] == pytest.approx(8, rel=0.01)
    assert result.produce.client_cpu_s == pytest.approx(0.5)
    first, second = result.moments
    assert (first.produced_per_s, first.consumed_per_s, first.lag_records) == (1_000, 0, 1_000)
    assert second.produced_per_s == pytest.approx(2_000) and second.lag_records == 0
    assert first.produce_p99_ms == pytest.approx(2, rel=0.01)
    assert second.end_to_end_p99_ms == pytest.approx(9, rel=0.01)


def test_a_result_is_sound_only_if_everything_came() -> None:
    assert _result().sound
    assert not _result(lost=1).sound
    assert not msgspec.structs.replace(_result(), out_of_order=1).sound


def test_actors_are_averaged_over_the_looks() -> None:
    use = _result().actors[0]
    assert (use.cpu_percent_mean, use.cpu_percent_max, use.cpu_percent) == (20.0, 30.0, [10.0, 30.0])


def test_a_result_is_plain_data() -> None:
    result = _result()
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result


def test_tables_say_what_was_found() -> None:
    produce, consume = side_rows(_result(lost=5))
    assert "4,000" in produce and "2k" in produce and "8 ms" in produce
    assert "3,995" in consume
    assert ("acknowledged and not read", "5") in summary(_result(lost=5))
    assert sweep_rows([("2", _result())])[0][0] == "2"
    assert ("workload", "1 producer, 1 consumer, 1 partition, 100 B, as fast as they can, 10 s") in summary(
        _result()
    )


def test_a_table_is_turned_for_a_terminal() -> None:
    titles, rows = turned(("", "records", "MB/s"), [("produce", "4", "1.0"), ("consume", "3", "0.9")])
    assert tuple(titles) == ("", "produce", "consume")
    assert [tuple(row) for row in rows] == [("records", "4", "3"), ("MB/s", "1.0", "0.9")]


def test_rates_count_until_the_last_record_whenever_it_is_heard_of() -> None:
    """Two clients: the one that was done first may be heard of last."""
    course = Course(value_bytes=100)
    course.add("producer", _interval(1_000, 10), 2.0)
    course.add("producer", _interval(1_000, 10), 1.0)
    assert course.produce_side().records_per_s == pytest.approx(1_000)


def _svgs(text: str) -> list[ElementTree.Element]:
    found = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    return [ElementTree.fromstring(svg) for svg in found]


def test_a_page_has_every_plot_and_needs_nothing_from_elsewhere() -> None:
    text = page("Load test", result_sections(_result()))
    assert len(_svgs(text)) == 4
    assert "partition:&lt;x&gt;-0" in text and "<x>" not in text and "a &lt;note&gt;" in text
    assert not re.search(r"(src|href)=|@import|url\(", text)


def test_a_page_of_a_sweep_draws_the_scaling() -> None:
    text = page("Sweep", sweep_sections("partitions", [("1", _result()), ("2", _result())]))
    assert len(_svgs(text)) == 9
    assert "partitions = 2" in text


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=30))
def test_every_point_is_inside_the_picture(points: list[tuple[float, float]]) -> None:
    svg = _svgs(line_chart([Line("a & b", points)], Axis("x"), Axis("y")))[0]
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    line = svg.find("polyline")
    assert line is not None
    for pair in line.attrib["points"].split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= width and 0 <= y <= height


def test_long_names_do_not_lie_over_each_other() -> None:
    names = [f"odradek: partition loadtest-26cf5e87-{number}:28803" for number in range(8)]
    svg = _svgs(line_chart([Line(name, [(1.0, 1.0)]) for name in names], Axis("x"), Axis("y")))[0]
    shown = [text for text in svg.iter("text") if (text.text or "") in names]
    assert len(shown) == 8
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for text in shown:
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        beside = [float(other.attrib["x"]) for other in shown if other.attrib["y"] == text.attrib["y"]]
        end = min((place for place in beside if place > x), default=width)
        assert x + 6 * len(text.text or "") < end and y < height


def test_time_begins_at_zero() -> None:
    svg = _svgs(line_chart([Line("a", [(1.0, 1.0), (3.0, 2.0)])], Axis("seconds"), Axis("y")))[0]
    assert "0" in [text.text for text in svg.iter("text") if text.attrib.get("text-anchor") == "middle"]


def test_a_plot_of_nothing_says_so() -> None:
    assert "no samples" in line_chart([Line("a", [])], Axis("x"), Axis("y"))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1_000, "1k"), (1_234_567, "1.23M"), (2.5e9, "2.5G")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short_number(value) == text


def test_the_warm_up_counts_for_the_soundness_of_a_run_and_for_no_rate() -> None:
    course = Course(value_bytes=100, warm_up_s=2.0)
    for role in ("producer", "consumer"):
        course.add(role, Interval(records=0, warm_up_records=600), 2.0)
        course.add(role, _interval(1_000, 3_000), 4.0)
    course.turn(4.0)
    assert (course.acknowledged, course.consumed) == (1_600, 1_600)
    for side in (course.produce_side(), course.consume_side()):
        assert side.records == 1_000 and side.seconds == pytest.approx(2.0)
        assert side.records_per_s == pytest.approx(500)
    assert course.moments[-1].produced_per_s == pytest.approx(400)

"""The event log: one line for each event, for people or for programs."""

from __future__ import annotations

import json
import os
import re

from supervisor.logs import LINE_BYTES_MAX, EventLog


def lines(*events: tuple[str, str, dict[str, object]], as_json: bool, level: str = "info") -> list[str]:
    read_fd, write_fd = os.pipe()
    log = EventLog("supervisor", level, json=as_json, descriptor=write_fd)
    for event in events:
        log.write(*event)
    os.close(write_fd)
    with os.fdopen(read_fd) as written:
        return written.read().splitlines()


def test_for_programs() -> None:
    (line,) = lines(("error", "failed", {"pid": 7, "why": "a\nb", "path": object}), as_json=True)
    document = json.loads(line)
    assert document.pop("time")
    assert document.pop("path") == repr(object)
    assert document == {"level": "error", "process": "supervisor", "event": "failed", "pid": 7, "why": "a\nb"}


def test_for_people() -> None:
    fields: dict[str, object] = {
        "pid": 7,
        "why": "it broke",
        "code": None,
        "names": ["a", "b"],
        "x": "a\nb",
        "trace": 'Trace "back":\n  a b',
        "odd": ["a\x7f b"],
    }
    (line,) = lines(("warning", "failed", fields), as_json=False)
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d\.\d{3} warning supervisor: failed pid=7 why="it broke" names=\["a","b"\] x="a\\nb" '
        r'trace="Trace \\"back\\":\\n  a b" odd=\["a\x7f b"\]',
        line,
    )


def test_less_important_events_are_left_out() -> None:
    events: list[tuple[str, str, dict[str, object]]] = [
        (level, level, {}) for level in ("debug", "info", "warning", "error")
    ]
    assert [json.loads(line)["event"] for line in lines(*events, as_json=True, level="warning")] == [
        "warning",
        "error",
    ]


def test_an_actor_may_name_the_level_of_its_event() -> None:
    read_fd, write_fd = os.pipe()
    log = EventLog("partition:a-0", "info", json=True, descriptor=write_fd)
    log("damaged", {"level": "error", "offset": 3})
    log("odd", {"level": "shout"})
    os.close(write_fd)
    with os.fdopen(read_fd) as written:
        found = [json.loads(line) for line in written]
    assert [(each["event"], each["level"]) for each in found] == [("damaged", "error"), ("odd", "info")]


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    EventLog("supervisor", "info", json=True, descriptor=write_fd).write("error", "lost", {})
    os.close(write_fd)


def test_a_line_is_bounded() -> None:
    (line,) = lines(("info", "long", {"text": "x" * 50_000}), as_json=False)
    assert len(line) == LINE_BYTES_MAX

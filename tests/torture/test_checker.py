"""The checker itself: each kind of broken promise, made by hand or by chance, is found and named."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.checker.anomalies import Promises
from tests.support.checker.history import FINAL, Event, Function, Journal, Kind, Record, read_histories
from tests.support.checker.judging import RULES, Verdict, judge
from tests.support.checker.operations import Operations

KEYS = ("t-0", "t-1")
PROJECT = Path(__file__).resolve().parents[2]


class Scribe:
    """Writes a history line by line; the clock ticks with each."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def line(self, proc: str, kind: Kind, f: Function, **fields: object) -> None:
        t_ns = len(self.events) + 1
        self.events.append(Event(t_ns, proc, kind, f, **fields))  # type: ignore[arg-type]

    def sent(self, proc: str, value: str, offset: int | None, *, op: int, kind: Kind = "ok") -> None:
        """A whole send; without an offset there is no outcome, or the one of ``kind``."""
        self.line(proc, "invoke", "send", op=op, records=[Record("t-0", -1, value)])
        if offset is not None or kind != "ok":
            records = [Record("t-0", -1 if offset is None else offset, value)]
            self.line(proc, kind, "send", op=op, records=records)

    def polled(self, proc: str, *places: tuple[int, str], **fields: object) -> None:
        records = [Record("t-0", offset, value) for offset, value in places]
        self.line(proc, "ok", "poll", records=records, **fields)

    def committed(self, proc: str, offset: int, *, op: int, generation: int = 1, kind: Kind = "ok") -> None:
        fields = {"op": op, "positions": {"t-0": offset}, "group": "g", "generation": generation}
        self.line(proc, "invoke", "commit", **fields)
        self.line(proc, kind, "commit", **fields)

    def fetched_commit(self, offset: int, op: int = 900) -> None:
        self.line("m", "invoke", "fetch_commit", op=op, group="g")
        self.line("m", "ok", "fetch_commit", op=op, group="g", positions={"t-0": offset})


def two_records() -> Scribe:
    """a at 0 and b at 1, both acknowledged."""
    scribe = Scribe()
    scribe.sent("p", "a", 0, op=1)
    scribe.sent("p", "b", 1, op=2)
    return scribe


def inconsistent_offsets(scribe: Scribe) -> None:
    scribe.polled("c", (0, "a"), (1, "a2"))


def duplicate(scribe: Scribe) -> None:
    scribe.polled("c", (0, "a"), (1, "b"), (2, "a"))


def phantom(scribe: Scribe) -> None:
    scribe.polled("c", (0, "a"), (1, "b"), (2, "nobody's"))


def misused_value(scribe: Scribe) -> None:
    scribe.sent("q", "a", 0, op=1)


def aborted_read(scribe: Scribe) -> None:
    scribe.sent("p", "c", None, op=3, kind="fail")
    scribe.polled("c", (0, "a"), (1, "b"), (2, "c"))


def lost_write(scribe: Scribe) -> None:
    scribe.polled("c", (1, "b"))


def unseen(scribe: Scribe) -> None:
    scribe.polled(FINAL, (0, "a"))


def nonmonotonic_poll(scribe: Scribe) -> None:
    scribe.polled("c", (0, "a"), (1, "b"))
    scribe.polled("c", (1, "b"))


def poll_skip(scribe: Scribe) -> None:
    scribe.sent("p", "c", 2, op=3)
    scribe.polled("c", (0, "a"))
    scribe.polled("c", (2, "c"))


def int_nonmonotonic_poll(scribe: Scribe) -> None:
    scribe.polled("c", (1, "b"), (0, "a"))


def int_poll_skip(scribe: Scribe) -> None:
    scribe.sent("p", "c", 2, op=3)
    scribe.polled("c", (0, "a"), (2, "c"))


def skip_at_an_assignment(scribe: Scribe) -> None:
    scribe.line("c", "ok", "assign", positions={"t-0": 0})
    scribe.polled("c", (1, "b"))


def nonmonotonic_send(scribe: Scribe) -> None:
    scribe.sent("p", "c", 5, op=3)
    scribe.sent("p", "d", 4, op=4)


def int_nonmonotonic_send(scribe: Scribe) -> None:
    scribe.line("p", "invoke", "send", op=3, records=[Record("t-0", -1, "c"), Record("t-0", -1, "d")])
    scribe.line("p", "ok", "send", op=3, records=[Record("t-0", 3, "c"), Record("t-0", 2, "d")])


def nonmonotonic_batches(scribe: Scribe) -> None:
    for op, value in enumerate(("c", "d"), start=3):
        scribe.line("p", "invoke", "send", op=op, records=[Record("t-0", -1, value)], atomic=True)
    scribe.polled("c", (0, "a"), (1, "b"), (2, "d"), (3, "c"))


def reversed_batch(scribe: Scribe) -> None:
    """Nobody was told where it stands."""
    records = [Record("t-0", -1, "c"), Record("t-0", -1, "d")]
    scribe.line("p", "invoke", "send", op=3, records=records, atomic=True)
    scribe.polled("c", (0, "a"), (1, "b"), (2, "d"), (3, "c"))


def torn_batch(scribe: Scribe) -> None:
    records = [Record("t-0", -1, "c"), Record("t-0", -1, "d")]
    scribe.line("p", "invoke", "send", op=3, records=records, atomic=True)
    scribe.sent("q", "e", 3, op=1)
    scribe.polled("c", (0, "a"), (1, "b"), (2, "c"), (3, "e"), (4, "d"))


def half_a_batch(scribe: Scribe) -> None:
    records = [Record("t-0", -1, "c"), Record("t-0", -1, "d")]
    scribe.line("p", "invoke", "send", op=3, records=records, atomic=True)
    scribe.polled("c", (0, "a"), (1, "b"), (3, "d"))


def commit_lost(scribe: Scribe) -> None:
    scribe.polled("m", (0, "a"), (1, "b"), group="g")
    scribe.committed("m", 1, op=1)
    scribe.committed("m", 2, op=2)
    scribe.fetched_commit(1)


def commit_vanished(scribe: Scribe) -> None:
    scribe.polled("m", (0, "a"), group="g")
    scribe.committed("m", 1, op=1)
    scribe.fetched_commit(-1)


def stale_commit(scribe: Scribe) -> None:
    scribe.polled("m", (0, "a"), (1, "b"), group="g")
    scribe.committed("new", 2, op=1, generation=7)
    scribe.committed("old", 1, op=1, generation=6)


def undelivered(scribe: Scribe) -> None:
    scribe.polled("m", (1, "b"), group="g")
    scribe.polled("other", (0, "a"), group="another")
    scribe.committed("m", 2, op=1)


def different_replies(scribe: Scribe) -> None:
    scribe.sent("p", "b", 7, op=9)


def changed_bytes(scribe: Scribe) -> None:
    scribe.line("c", "ok", "poll", records=[Record("t-0", 0, "a", 99)])


def gap(scribe: Scribe) -> None:
    scribe.sent("p", "c", 3, op=3)
    scribe.polled(FINAL, (0, "a"), (1, "b"), (3, "c"))


def cut_short(scribe: Scribe) -> None:
    scribe.polled(FINAL, (0, "a"), (1, "b"), ends={"t-0": 3})


def moved_start(scribe: Scribe) -> None:
    scribe.line("c", "ok", "ends", starts={"t-0": 1}, ends={"t-0": 2})


def stale_end(scribe: Scribe) -> None:
    scribe.line("c", "invoke", "ends", op=5)
    scribe.line("c", "ok", "ends", op=5, ends={"t-0": 1})


def end_before_what_was_read(scribe: Scribe) -> None:
    scribe.sent("p", "c", None, op=3)
    scribe.polled("c", (0, "a"), (1, "b"), (2, "c"))
    scribe.line("d", "ok", "ends", ends={"t-0": 2})


def refused_poll(scribe: Scribe) -> None:
    scribe.line("c", "fail", "poll", detail="CORRUPT_MESSAGE: offsets 0 to 1")


BAD: list[tuple[Callable[[Scribe], None], str]] = [
    (inconsistent_offsets, "inconsistent-offsets"),
    (duplicate, "duplicate"),
    (phantom, "phantom"),
    (misused_value, "misused-value"),
    (aborted_read, "G1a"),
    (lost_write, "lost-write"),
    (half_a_batch, "lost-write"),
    (unseen, "unseen"),
    (nonmonotonic_poll, "nonmonotonic-poll"),
    (poll_skip, "poll-skip"),
    (skip_at_an_assignment, "poll-skip"),
    (int_nonmonotonic_poll, "int-nonmonotonic-poll"),
    (int_poll_skip, "int-poll-skip"),
    (nonmonotonic_send, "nonmonotonic-send"),
    (int_nonmonotonic_send, "int-nonmonotonic-send"),
    (nonmonotonic_batches, "nonmonotonic-send"),
    (reversed_batch, "int-nonmonotonic-send"),
    (torn_batch, "int-send-skip"),
    (commit_lost, "C1-commit-lost"),
    (commit_vanished, "C1-commit-lost"),
    (stale_commit, "C2-stale-commit"),
    (undelivered, "C3-undelivered"),
    (different_replies, "C4-different-replies"),
    (changed_bytes, "C5-changed-bytes"),
    (gap, "C6-gap"),
    (cut_short, "C6-gap"),
    (moved_start, "start-moved"),
    (stale_end, "C7-stale-end"),
    (end_before_what_was_read, "C7-stale-end"),
    (refused_poll, "unreadable"),
]


@pytest.mark.parametrize(("spoil", "name"), BAD, ids=lambda item: getattr(item, "__name__", item))
def test_a_broken_promise_is_named(spoil: Callable[[Scribe], None], name: str) -> None:
    scribe = two_records()
    assert judge(scribe.events).is_valid
    spoil(scribe)
    verdict = judge(scribe.events)
    assert name in verdict.names(), verdict.report()
    assert not verdict.is_valid


def test_every_rule_has_a_bad_history() -> None:
    """A rule that finds nothing in any of them would be worth nothing."""
    for rule in RULES:
        found = 0
        for spoil, _ in BAD:
            scribe = two_records()
            spoil(scribe)
            found += len(list(rule(Operations(scribe.events), Promises())))
        assert found, rule.__name__


def test_what_is_allowed_is_not_named() -> None:
    scribe = two_records()
    scribe.sent("p", "unknown", None, op=3, kind="info")
    scribe.sent("p", "killed", None, op=4)
    scribe.sent("p", "c", 3, op=5)
    scribe.polled("c", (0, "a"), (1, "b"), (2, "unknown"), (3, "c"))
    scribe.line("c", "ok", "crash")
    scribe.polled("c", (0, "a"))
    scribe.line("c", "ok", "assign", positions={"t-0": 3})
    scribe.polled("c", (3, "c"))
    scribe.polled("m", (0, "a"), (1, "b"), (2, "unknown"), (3, "c"), group="g")
    scribe.polled("m", (1, "b"), group="g", rebalanced=["t-0"])
    scribe.committed("m", 3, op=1)
    scribe.committed("m", 1, op=2, kind="info")
    scribe.fetched_commit(1, op=901)
    scribe.fetched_commit(3, op=902)
    scribe.polled(FINAL, (0, "a"), (1, "b"), (2, "unknown"), (3, "c"), ends={"t-0": 4})
    verdict = judge(scribe.events)
    assert verdict.is_valid, verdict.report()
    assert verdict.counts["records acknowledged"] == 3
    assert verdict.counts["records unknown"] == 2
    assert verdict.counts["records lost"] == 0


def test_what_retention_took_is_not_lost() -> None:
    scribe = two_records()
    scribe.line("c", "ok", "ends", starts={"t-0": 1}, ends={"t-0": 2})
    scribe.polled(FINAL, (1, "b"))
    assert judge(scribe.events, Promises(kept=False)).is_valid
    assert judge(scribe.events).names() == {"start-moved"}


@pytest.mark.parametrize(("stored", "outcome"), [(True, "delivery bug"), (False, "data loss")])
def test_three_ways(stored: bool, outcome: str) -> None:
    scribe = two_records()
    scribe.polled(FINAL, (0, "a"))
    records = [Record("t-0", 0, "a"), Record("t-0", 1, "b")]
    found = records if stored else records[:1]
    scribe.line("files", "ok", "stored", records=found, positions={"t-0": 0})
    verdict = judge(scribe.events)
    assert verdict.outcome == outcome
    assert verdict.counts["records lost"] == 1


# -- by chance ----------------------------------------------------------------------------------------


def good_history(seed: int) -> list[Event]:
    """Producers, an assigned reader, a group and final polls on a log that keeps its promises."""
    dice = random.Random(seed)
    scribe = Scribe()
    logs: dict[str, list[str]] = {key: [] for key in KEYS}
    read = dict.fromkeys(KEYS, 0)
    member = dict.fromkeys(KEYS, 0)
    for op in range(1, 12):
        proc = f"p{dice.randint(1, 2)}"
        key = dice.choice(KEYS)
        values = [f"{proc}-{op}-{n}" for n in range(dice.randint(1, 3))]
        digests = [sum(map(ord, value)) for value in values]
        sent = [Record(key, -1, value, digest) for value, digest in zip(values, digests, strict=True)]
        scribe.line(proc, "invoke", "send", op=op, records=sent, atomic=True)
        first = len(logs[key])
        logs[key] += values
        placed = [msgspec.structs.replace(record, offset=first + n) for n, record in enumerate(sent)]
        if dice.random() < 0.8:
            scribe.line(proc, "ok", "send", op=op, records=placed)
        for who, places, group in (("reader", read, ""), ("member", member, "g")):
            seen = [
                Record(each, offset, value, sum(map(ord, value)))
                for each in KEYS
                for offset, value in enumerate(logs[each])
                if offset >= places[each]
            ][: dice.randint(0, 4)]
            if seen:
                scribe.line(who, "ok", "poll", records=seen, group=group)
                places.update({record.key: record.offset + 1 for record in seen})
        if op % 3 == 0:
            fields = {"op": op, "group": "g", "positions": dict(member), "generation": op}
            scribe.line("member", "invoke", "commit", **fields)
            scribe.line("member", "ok", "commit", **fields)
            scribe.line("member", "ok", "fetch_commit", group="g", positions=dict(member))
    ends = {key: len(log) for key, log in logs.items()}
    for key, log in logs.items():
        final = [Record(key, n, value, sum(map(ord, value))) for n, value in enumerate(log)]
        scribe.line(FINAL, "ok", "poll", records=final, ends={key: len(log)})
    scribe.line("reader", "ok", "ends", ends=ends)
    return scribe.events


Mutation = Callable[[list[Event], random.Random], bool]


def _pick(
    events: list[Event], dice: random.Random, *, proc: str = "", f: str = "poll", least: int = 1
) -> int:
    """The number of an event with enough records; -1 where there is none."""
    found = [
        number
        for number, event in enumerate(events)
        if event.f == f and event.type == "ok" and event.proc.startswith(proc) and len(event.records) >= least
    ]
    return dice.choice(found) if found else -1


def _with_records(events: list[Event], number: int, records: list[Record]) -> None:
    events[number] = msgspec.structs.replace(events[number], records=records)


def drop_a_record(events: list[Event], dice: random.Random) -> bool:
    """From every poll, in its place nothing."""
    victim = dice.choice([r for e in events if e.f == "send" and e.type == "ok" for r in e.records])
    for number, event in enumerate(events):
        if event.f == "poll":
            kept = [record for record in event.records if record.value != victim.value]
            _with_records(events, number, kept)
    return True


def duplicate_a_record(events: list[Event], dice: random.Random) -> bool:
    number = _pick(events, dice, proc=FINAL)
    records = events[number].records
    again = msgspec.structs.replace(dice.choice(records), offset=records[-1].offset + 1)
    _with_records(events, number, [*records, again])
    return True


def _may_stand_either_way(events: list[Event], first: Record, second: Record) -> bool:
    """Two processes sent them, each alone in its batch, and nobody was told where they stand."""
    sends = [event for event in events if event.f == "send"]
    both = [each for each in sends if {record.value for record in each.records} & {first.value, second.value}]
    alone = all(len(each.records) == 1 for each in both)
    told = any(each.type == "ok" for each in both)
    return alone and not told and len({each.proc for each in both}) == 2


def swap_two_values(events: list[Event], dice: random.Random) -> bool:
    number = _pick(events, dice, proc=FINAL, least=2)
    if number < 0:
        return False
    records = list(events[number].records)
    one, two = dice.sample(range(len(records)), 2)
    first, second = records[one], records[two]
    if _may_stand_either_way(events, first, second):
        return False
    records[one] = msgspec.structs.replace(second, offset=first.offset)
    records[two] = msgspec.structs.replace(first, offset=second.offset)
    _with_records(events, number, records)
    return True


def change_a_value(events: list[Event], dice: random.Random) -> bool:
    number = _pick(events, dice)
    records = list(events[number].records)
    place = dice.randrange(len(records))
    records[place] = msgspec.structs.replace(records[place], value="p1-changed")
    _with_records(events, number, records)
    return True


def change_bytes(events: list[Event], dice: random.Random) -> bool:
    number = _pick(events, dice)
    records = list(events[number].records)
    place = dice.randrange(len(records))
    records[place] = msgspec.structs.replace(records[place], digest=1)
    _with_records(events, number, records)
    return True


def fail_what_was_read(events: list[Event], dice: random.Random) -> bool:
    number = _pick(events, dice, f="send")
    events[number] = msgspec.structs.replace(events[number], type="fail")
    return True


def shift_an_acknowledgement(events: list[Event], dice: random.Random) -> bool:
    number = _pick(events, dice, f="send")
    records = [msgspec.structs.replace(record, offset=record.offset + 1) for record in events[number].records]
    _with_records(events, number, records)
    return True


def reverse_a_poll(events: list[Event], dice: random.Random) -> bool:
    number = _pick(events, dice, proc=FINAL, least=2)
    if number < 0:
        return False
    _with_records(events, number, events[number].records[::-1])
    return True


def repeat_a_poll(events: list[Event], dice: random.Random) -> bool:
    number = _pick(events, dice, proc="reader")
    events.append(msgspec.structs.replace(events[number], t_ns=10_000))
    return True


def forget_a_commit(events: list[Event], dice: random.Random) -> bool:
    looks = [n for n, event in enumerate(events) if event.f == "fetch_commit"]
    number = dice.choice(looks)
    moved = {key: offset for key, offset in events[number].positions.items() if offset > 0}
    if not moved:
        return False
    lost = dict.fromkeys(moved, -1)
    events[number] = msgspec.structs.replace(events[number], positions=lost)
    return True


def commit_what_was_not_delivered(events: list[Event], dice: random.Random) -> bool:
    ends = {
        event.records[0].key: len(event.records) for event in events if event.proc == FINAL and event.records
    }
    delivered: dict[str, int] = {}
    for event in events:
        if event.proc == "member" and event.f == "poll":
            delivered |= {record.key: record.offset + 1 for record in event.records}
    behind = [key for key, end in ends.items() if delivered.get(key, 0) < end]
    if not behind:
        return False
    fields = {"op": 500, "group": "g", "positions": {behind[0]: ends[behind[0]]}, "generation": 500}
    events.append(Event(10_000, "member", "invoke", "commit", **fields))  # type: ignore[arg-type]
    events.append(Event(10_001, "member", "ok", "commit", **fields))  # type: ignore[arg-type]
    return True


def tell_an_old_end(events: list[Event], dice: random.Random) -> bool:
    number = next(n for n, event in enumerate(events) if event.f == "ends")
    ends = {key: end - 1 for key, end in events[number].ends.items() if end > 0}
    events[number] = msgspec.structs.replace(events[number], ends=ends)
    return True


MUTATIONS: list[Mutation] = [
    drop_a_record,
    duplicate_a_record,
    swap_two_values,
    change_a_value,
    change_bytes,
    fail_what_was_read,
    shift_an_acknowledgement,
    reverse_a_poll,
    repeat_a_poll,
    forget_a_commit,
    commit_what_was_not_delivered,
    tell_an_old_end,
]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_good_history_is_valid(seed: int) -> None:
    verdict = judge(good_history(seed))
    assert verdict.is_valid, verdict.report()


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_mutation_of_a_good_history_is_flagged(mutate: Mutation, seed: int) -> None:
    events = good_history(seed)
    if mutate(events, random.Random(seed)):
        assert not judge(events).is_valid


# -- files --------------------------------------------------------------------------------------------


def write_down(events: list[Event], directory: Path) -> None:
    journals: dict[str, Journal] = {}
    for event in events:
        journals.setdefault(event.proc, Journal(directory, event.proc)).write(event)
    for journal in journals.values():
        journal.close()


def test_a_saved_history_gets_the_same_verdict(tmp_path: Path) -> None:
    events = good_history(7)
    write_down(events, tmp_path)
    assert read_histories(tmp_path) == events
    with (tmp_path / "p1.jsonl").open("ab") as torn:
        torn.write(b'{"t_ns":5,"proc":"p1","ty')
    assert verdict_of(tmp_path) == judge(events)


def verdict_of(directory: Path) -> Verdict:
    return judge(read_histories(directory))


@pytest.mark.parametrize("sound", [True, False])
def test_the_command_judges_a_saved_history(tmp_path: Path, sound: bool) -> None:
    scribe = two_records()
    if not sound:
        lost_write(scribe)
    write_down(scribe.events, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.checker", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (0 if sound else 1), done.stderr
    assert ("verdict: valid" if sound else "lost-write t-0: a was acknowledged at 0") in done.stdout


def test_the_checker_knows_nothing_of_the_broker() -> None:
    foreign = ("actors", "transport", "partitions", "supervisor", "odradek", "inspection")
    for path in (PROJECT / "tests" / "support" / "checker").glob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in foreign, path

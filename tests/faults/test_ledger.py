"""The judge of the fault tests finds each kind of broken promise, and nothing in a history that is well."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.ledger import Ledger

Log = dict[int, list[bytes]]


def history() -> tuple[Ledger, Log]:
    """Two writers, one partition each; the last record of the second was never acknowledged."""
    first = [b"w0-%d-x" % number for number in range(4)]
    second = [b"w1-%d-y" % number for number in range(3)]
    ledger = Ledger()
    ledger.note_sent(first + second)
    ledger.note_acknowledged(0, 0, first[:2], 0.1)
    ledger.note_acknowledged(0, 2, first[2:], 0.1)
    ledger.note_acknowledged(1, 0, second[:2], 0.1)
    ledger.note_read(0, 0, first[:3])
    ledger.note_commit(ledger.next_commit())
    ledger.next_commit()
    return ledger, {0: first, 1: second}


def test_a_good_history_passes_and_is_counted() -> None:
    ledger, kept = history()
    for offset in (1, 2):
        ledger.check_commit(offset)
    figures = ledger.judge(kept)
    assert (figures.acknowledged, figures.read, figures.unknown) == (6, 3, 1)


def test_what_nobody_acknowledged_may_be_missing() -> None:
    ledger, kept = history()
    kept[1].pop()
    ledger.judge(kept)


def lose_the_last(_: Ledger, kept: Log) -> None:
    kept[0].pop()


def lose_all(_: Ledger, kept: Log) -> None:
    kept[1].clear()


def lose_in_the_middle(_: Ledger, kept: Log) -> None:
    del kept[0][1]


def change_a_byte(_: Ledger, kept: Log) -> None:
    kept[0][3] = b"w0-3-z"


def write_twice(_: Ledger, kept: Log) -> None:
    kept[1].append(b"w1-2-y")


def invent(_: Ledger, kept: Log) -> None:
    kept[1].append(b"w1-3-y")


def swap(_: Ledger, kept: Log) -> None:
    kept[1][1], kept[1][2] = kept[1][2], kept[1][1]


def read_something_else(ledger: Ledger, _: Log) -> None:
    ledger.note_read(0, 1, [b"w0-9-x"])


def forget_the_commit(ledger: Ledger, _: Log) -> None:
    ledger.check_commit(0)


def commit_what_nobody_asked_for(ledger: Ledger, _: Log) -> None:
    ledger.check_commit(3)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lose_the_last, "LOST: acknowledged 0@3"),
        (lose_all, "LOST: acknowledged 1@0"),
        (lose_in_the_middle, "CHANGED: read 0@1"),
        (change_a_byte, "CHANGED: acknowledged 0@3"),
        (write_twice, "stands 2 times"),
        (invent, "was never sent"),
        (swap, "partition 1: w1-2 follows"),
        (read_something_else, "0@1 was w0-1, is w0-9"),
        (forget_the_commit, "LOST: the committed offset is 0"),
        (commit_what_nobody_asked_for, "the committed offset is 3"),
    ],
)
def test_each_broken_promise_is_found(harm: Callable[[Ledger, Log], None], sentence: str) -> None:
    ledger, kept = history()
    harm(ledger, kept)
    with pytest.raises(AssertionError, match=sentence):
        ledger.judge(kept)


def test_the_sync_under_way_at_the_cut_is_forgiven_and_nothing_else() -> None:
    ledger, kept = history()
    ledger.note_sent([b"w0-4-x", b"w0-5-x"])
    ledger.note_acknowledged(0, 4, [b"w0-4-x"], 0.1)
    ledger.power_goes()
    ledger.note_acknowledged(0, 5, [b"w0-5-x"], 0.1)
    ledger.note_read(0, 5, [b"w0-5-x"])
    kept[0].append(b"w0-4-x")
    assert ledger.forgive_last_sync(kept) == 1
    ledger.judge(kept)
    kept[0].pop()
    assert ledger.forgive_last_sync(kept) == 0
    with pytest.raises(AssertionError, match="LOST: acknowledged 0@4"):
        ledger.judge(kept)


def test_an_earlier_batch_of_the_same_writer_is_not_forgiven() -> None:
    ledger, kept = history()
    ledger.power_goes()
    ledger.note_sent([b"w0-4-x", b"w0-5-x"])
    ledger.note_acknowledged(0, 4, [b"w0-4-x"], 0.1)
    ledger.note_acknowledged(0, 5, [b"w0-5-x"], 0.1)
    assert ledger.forgive_last_sync(kept) == 1
    with pytest.raises(AssertionError, match="LOST: acknowledged 0@4"):
        ledger.judge(kept)

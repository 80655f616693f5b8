"""Deadlines by name: nothing is named too late, and nothing without end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.deadlines import Deadlines


def test_an_earlier_wish_counts_and_a_later_one_waits_for_its_turn() -> None:
    deadlines = Deadlines()
    deadlines.want("a", 5.0)
    deadlines.want("a", 3.0)
    deadlines.want("a", 9.0)
    deadlines.want("b", 4.0)
    deadlines.want("c", None)
    assert deadlines.first_s() == 3.0
    assert deadlines.take(2.9) == []
    assert deadlines.take(4.5) == ["a", "b"]
    assert deadlines.take(10.0) == [], "whoever wants to be called again says so"
    deadlines.want("a", 9.0)
    assert deadlines.take(10.0) == ["a"]
    assert deadlines.first_s() is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=30))
def test_everybody_is_named_no_later_than_wished(wishes: list[tuple[str, int]]) -> None:
    deadlines = Deadlines()
    for name, due_s in wishes:
        deadlines.want(name, float(due_s))
    earliest = {name: min(due for each, due in wishes if each == name) for name, _ in wishes}
    named: dict[str, int] = {}
    for now_s in range(21):
        first_s = deadlines.first_s()
        for name in deadlines.take(float(now_s)):
            assert name not in named
            named[name] = now_s
            assert first_s is not None
            assert first_s <= now_s
    assert named == earliest

"""What every assignor promises, and what each promises besides."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.assignment import (
    ASSIGNORS,
    PartitionSet,
    Targets,
    assign_range,
    assign_round_robin,
    assign_sticky,
    check_assignor,
)
from odradek.protocol.errors import UnsupportedAssignor

MEMBERS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)
COUNTS = st.dictionaries(st.sampled_from(["t1", "t2", "t3", "t4"]), st.integers(0, 9), max_size=4)


@st.composite
def mixed_subscriptions(draw: st.DrawFn) -> dict[str, list[str]]:
    """Each member subscribes to what it likes, to topics that do not exist too."""
    topics = st.lists(st.sampled_from(["t1", "t2", "t3", "t4", "missing"]), max_size=5, unique=True)
    return {member: draw(topics) for member in draw(MEMBERS)}


def alike(members: Iterable[str], topics: Iterable[str]) -> dict[str, list[str]]:
    return {member: list(topics) for member in members}


def sizes(targets: Targets) -> list[int]:
    return [len(target) for target in targets.values()]


def moved(before: Targets, after: Targets) -> int:
    """Partitions that a member held and does not hold any more."""
    return sum(len(before[member] - after.get(member, frozenset())) for member in before)


@pytest.mark.parametrize("name", sorted(ASSIGNORS))
@given(subscriptions=mixed_subscriptions(), counts=COUNTS, seed=st.randoms(use_true_random=False))
def test_every_partition_goes_to_one_subscriber(name, subscriptions, counts, seed) -> None:  # type: ignore[no-untyped-def]
    targets = ASSIGNORS[name](subscriptions, counts, {})
    assert targets.keys() == subscriptions.keys()
    given_out = [slot for target in targets.values() for slot in target]
    assert len(given_out) == len(set(given_out)), "a partition has two members"
    subscribed = {topic for topics in subscriptions.values() for topic in topics}
    assert set(given_out) == {(t, n) for t in subscribed for n in range(counts.get(t, 0))}
    for member, target in targets.items():
        assert {topic for topic, _ in target} <= set(subscriptions[member])
    shuffled = list(subscriptions.items())
    seed.shuffle(shuffled)
    assert ASSIGNORS[name](dict(shuffled), counts, {}) == targets, "the order of arguments matters"


@pytest.mark.parametrize("name", ["roundrobin", "sticky"])
@given(members=MEMBERS, counts=COUNTS)
def test_equal_subscriptions_differ_by_one_at_most(
    name: str, members: list[str], counts: dict[str, int]
) -> None:
    found = sizes(ASSIGNORS[name](alike(members, counts), counts, {}))
    assert max(found) - min(found) <= 1


@given(members=MEMBERS, counts=COUNTS)
def test_range_is_even_in_each_topic_and_keeps_neighbours(members: list[str], counts: dict[str, int]) -> None:
    targets = assign_range(alike(members, counts), counts, {})
    for topic in counts:
        found = [sorted(n for t, n in target if t == topic) for target in targets.values()]
        assert max(map(len, found)) - min(map(len, found)) <= 1
        for numbers in found:
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True


def test_range_gives_the_same_numbers_of_all_topics_to_one_member() -> None:
    targets = assign_range(alike("ab", ["t1", "t2"]), {"t1": 3, "t2": 3}, {})
    assert targets["a"] == {("t1", 0), ("t1", 1), ("t2", 0), ("t2", 1)}
    assert targets["b"] == {("t1", 2), ("t2", 2)}


@given(members=MEMBERS, partitions=st.integers(1, 12), topics=st.integers(2, 4))
def test_range_lines_up_topics_that_are_partitioned_alike(
    members: list[str], partitions: int, topics: int
) -> None:
    """Equal numbers of all of them meet at one member: what joins need."""
    names = [f"t{number}" for number in range(topics)]
    targets = assign_range(alike(members, names), dict.fromkeys(names, partitions), {})
    for target in targets.values():
        numbers = [{number for topic, number in target if topic == name} for name in names]
        assert all(each == numbers[0] for each in numbers)


def test_a_thousand_members_share_a_thousand_partitions() -> None:
    """Counted in what everyone gets; what it costs is in the benchmark."""
    members = [f"m{number}" for number in range(1000)]
    everything = frozenset(("t", number) for number in range(1000))
    for previous in ({}, {"m0": everything}, {"m999": everything, "gone": everything}):
        assert sizes(assign_sticky(alike(members, ["t"]), {"t": 1000}, previous)) == [1] * 1000


def test_round_robin_deals_and_skips_who_did_not_subscribe() -> None:
    targets = assign_round_robin({"a": ["t1"], "b": ["t1", "t2"]}, {"t1": 2, "t2": 2}, {})
    assert targets == {"a": {("t1", 0)}, "b": {("t1", 1), ("t2", 0), ("t2", 1)}}


@given(before=MEMBERS, after=MEMBERS, old=COUNTS, new=COUNTS)
def test_sticky_moves_no_more_than_balance_needs(
    before: list[str], after: list[str], old: dict[str, int], new: dict[str, int]
) -> None:
    """With equal subscriptions the smallest number of moves is known: what is above the ceiling must
    go, and what lies below the floor must come from somewhere that is not free."""
    first = assign_sticky(alike(before, old), old, {})
    second = assign_sticky(alike(after, new), new, first)
    assert max(sizes(second)) - min(sizes(second)) <= 1
    valid = {(topic, number) for topic, count in new.items() for number in range(count)}
    kept = {member: first.get(member, frozenset()) & valid for member in after}
    assert moved(kept, second) == fewest_moves(kept, len(valid))


def fewest_moves(kept: Targets, total: int) -> int:
    floor, ceiling = total // len(kept), -(-total // len(kept))
    surplus = sum(max(len(held) - ceiling, 0) for held in kept.values())
    deficit = sum(max(floor - len(held), 0) for held in kept.values())
    return max(surplus, deficit - (total - sum(map(len, kept.values()))))


@given(subscriptions=mixed_subscriptions(), counts=COUNTS)
def test_sticky_stays_when_nothing_changed(
    subscriptions: dict[str, list[str]], counts: dict[str, int]
) -> None:
    first = assign_sticky(subscriptions, counts, {})
    assert assign_sticky(subscriptions, counts, first) == first


@settings(max_examples=60)
@given(
    subscriptions=st.dictionaries(
        st.sampled_from("abc"),
        st.lists(st.sampled_from(["t1", "t2", "t3"]), max_size=3, unique=True),
        min_size=1,
    ),
    counts=st.dictionaries(st.sampled_from(["t1", "t2", "t3"]), st.integers(0, 2), max_size=3),
    previous=st.dictionaries(
        st.sampled_from("abcz"),
        st.frozensets(st.tuples(st.sampled_from(["t1", "t2", "t3"]), st.integers(0, 3)), max_size=4),
    ),
)
def test_sticky_is_as_even_as_the_subscriptions_allow(
    subscriptions: dict[str, list[str]], counts: dict[str, int], previous: dict[str, PartitionSet]
) -> None:
    """Against every assignment there is; whatever the previous one was, overlapping ones included."""
    found = assign_sticky(subscriptions, counts, previous)
    assert sum(size**2 for size in sizes(found)) == best_sum_of_squares(subscriptions, counts)


def best_sum_of_squares(subscriptions: dict[str, list[str]], counts: dict[str, int]) -> int:
    choices = [
        [member for member, topics in subscriptions.items() if topic in topics]
        for topic, count in counts.items()
        for _ in range(count)
    ]
    possible = [members for members in choices if members]
    return min(sum(takers.count(member) ** 2 for member in subscriptions) for takers in product(*possible))


def test_a_partition_claimed_twice_goes_to_one() -> None:
    claims: Targets = {"a": frozenset({("t", 0), ("t", 1)}), "b": frozenset({("t", 0), ("t", 1)})}
    targets = assign_sticky(alike("ab", ["t"]), {"t": 2}, claims)
    assert sizes(targets) == [1, 1]
    assert targets["a"] | targets["b"] == {("t", 0), ("t", 1)}


def test_an_unknown_assignor_is_named() -> None:
    assert check_assignor("sticky") == "sticky"
    with pytest.raises(UnsupportedAssignor, match="'fair' is unknown; known: range, round"):
        check_assignor("fair")

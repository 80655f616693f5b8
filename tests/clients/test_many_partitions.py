"""What the SDK does about topics with very many partitions: few connections, batches that stay large."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from odradek import connection
from odradek.accumulator import (
    STICKY_PARTITIONS,
    STICKY_ROUNDS,
    first_move,
    sticky_partition,
)
from odradek.connection import Network

WAIT_S = 30.0


def partitions_of(moves: range, partitions: int) -> Counter[int]:
    return Counter(sticky_partition(move, partitions) for move in moves)


@pytest.mark.parametrize("partitions", [1, 3, 8, 16])
def test_records_without_a_key_go_to_each_partition_of_a_small_topic_in_turn(partitions: int) -> None:
    assert first_move(partitions) == 0
    turns = [sticky_partition(move, partitions) for move in range(2 * partitions)]
    assert turns == [*range(partitions), *range(partitions)]


@pytest.mark.parametrize("partitions", [24, 200, 1_000])
def test_in_a_large_topic_they_stay_with_a_few_that_lie_far_apart(partitions: int) -> None:
    window = range(STICKY_PARTITIONS * STICKY_ROUNDS)
    used = partitions_of(window, partitions)
    assert set(used.values()) == {STICKY_ROUNDS}
    assert len(used) == STICKY_PARTITIONS
    neighbours = sorted(used)
    gaps = [after - before for before, after in itertools.pairwise(neighbours)]
    assert min(gaps) == partitions // STICKY_PARTITIONS


@pytest.mark.parametrize("partitions", [17, 24, 99, 1_000])
def test_in_the_long_run_none_is_left_out(partitions: int) -> None:
    windows = -(-partitions // STICKY_PARTITIONS)
    used = partitions_of(range(windows * STICKY_PARTITIONS * STICKY_ROUNDS), partitions)
    assert set(used) == set(range(partitions))
    assert max(used.values()) <= 2 * min(used.values())


def test_producers_begin_anywhere_in_a_large_topic() -> None:
    assert len({sticky_partition(first_move(1_000), 1_000) for _ in range(100)}) > 1


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network("test")
    yield made
    made.close()


def in_thread(network: Network, action: Any) -> Any:
    """What ``action`` returns, called in the I/O thread."""
    found: list[Any] = []
    done = threading.Event()

    def call() -> None:
        try:
            found.append(action())
        finally:
            done.set()

    network.call(call)
    assert done.wait(WAIT_S)
    return found[0]


def test_connections_are_bounded_and_idle_ones_make_room(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ENDPOINTS_MAX", 2)
    first, second, third = (f"ipc://{tmp_path}/{name}" for name in "abc")

    def fill() -> list[bool]:
        found = []
        for address in (first, second):
            found.append(network.has_room_for(address))
            network._endpoint(address)
        return [*found, network.has_room_for(first), network.has_room_for(third)]

    assert in_thread(network, fill) == [True, True, True, False]

    def much_later() -> tuple[bool, list[str]]:
        network._no_spare_until = 0.0
        network._endpoints[first].used_at -= 2 * connection.ENDPOINT_SPARE_S
        return network.has_room_for(third), sorted(network._endpoints)

    assert in_thread(network, much_later) == (True, [second])

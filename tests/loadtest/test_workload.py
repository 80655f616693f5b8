"""What a load test may be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.workload import SWEEPABLE, Workload, WorkloadError, swept


@pytest.mark.parametrize(
    ("change", "story"),
    [
        ({"producers": 0}, "--producers is 1 to"),
        ({"value_bytes": 23}, "--size is 24 to 1,048,576 bytes, not 23"),
        ({"duration_s": 0.0}, "--duration is 0.1 to 604,800 seconds, not 0.0"),
        ({"rate": 0.0}, "more than 0"),
        ({"rate": float("nan")}, "more than 0"),
        ({"rate": float("inf")}, "more than 0"),
        ({"consumers": 3, "partitions": 2}, "as many partitions as consumers"),
        ({"batch_records": 0}, "--batch is"),
        ({"key_count": 0}, "--key-count is"),
        ({"linger_ms": -1.0}, "--linger-ms is 0 to"),
        ({"warm_up_s": -1.0}, "--warm-up is 0 to"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint(change: dict[str, Any], story: str) -> None:
    with pytest.raises(WorkloadError, match=story):
        Workload(**change).check()


@pytest.mark.parametrize(("partitions", "consumers"), [(1, 1), (8, 3), (7, 7), (100, 16)])
def test_consumers_share_all_partitions(partitions: int, consumers: int) -> None:
    workload = Workload(partitions=partitions, consumers=consumers).check()
    shares = [workload.partitions_of(consumer) for consumer in range(consumers)]
    assert sorted(partition for share in shares for partition in share) == list(range(partitions))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("option", SWEEPABLE)
def test_a_sweep_varies_one_field(option: str) -> None:
    before = Workload(partitions=64)
    after = before.with_field(option, "32")
    assert getattr(after, SWEEPABLE[option]) == 32
    unchanged = [name for name in Workload.__struct_fields__ if name != SWEEPABLE[option]]
    assert [getattr(after, name) for name in unchanged] == [getattr(before, name) for name in unchanged]


def test_a_sweep_refuses_what_it_does_not_know_and_what_is_no_number() -> None:
    with pytest.raises(WorkloadError, match="knows partitions, producers"):
        Workload().with_field("acks", "1")
    with pytest.raises(WorkloadError, match="not a number"):
        Workload().with_field("partitions", "many")
    with pytest.raises(WorkloadError, match="partitions is 1 to"):
        Workload().with_field("partitions", "0")


@pytest.mark.parametrize("sweep", ["partitions", "partitions=", "partitions=,", "="])
def test_a_sweep_without_values_says_how_one_is_written(sweep: str) -> None:
    with pytest.raises(WorkloadError, match="--sweep partitions=1,2,4,8"):
        swept(Workload(), sweep)


def test_a_sweep_is_a_workload_for_each_value() -> None:
    found = swept(Workload(), "rate=100,max")
    assert [(name, workload.rate) for name, workload in found] == [("rate=100", 100.0), ("rate=max", None)]

"""What a load test may be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.workload import SWEEPABLE, Workload, WorkloadError


@pytest.mark.parametrize(
    ("change", "story"),
    [
        ({"producers": 0}, "producers is 1 to"),
        ({"value_bytes": 23}, "value_bytes is 24 to"),
        ({"duration_s": 0.0}, "duration_s is"),
        ({"rate": 0.0}, "more than 0"),
        ({"rate": float("nan")}, "more than 0"),
        ({"rate": float("inf")}, "more than 0"),
        ({"consumers": 3, "partitions": 2}, "as many partitions as consumers"),
        ({"batch_records": 0}, "batch_records is"),
        ({"key_count": 0}, "key_count is"),
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

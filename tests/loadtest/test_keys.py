"""Keys are drawn as the workload says."""

from __future__ import annotations

import itertools
from collections import Counter

from loadtest.keys import DRAWN, key_stream
from loadtest.workload import Workload


def _drawn(workload: Workload, producer: int = 0) -> Counter[bytes]:
    stream = key_stream(workload, producer)
    assert stream is not None
    return Counter(itertools.islice(stream, DRAWN))


def test_no_keys() -> None:
    assert key_stream(Workload(keys="none"), 0) is None


def test_uniform_keys_come_about_equally_often() -> None:
    counts = _drawn(Workload(keys="uniform", key_count=100))
    assert len(counts) == 100
    assert max(counts.values()) < 2 * min(counts.values())


def test_zipf_keys_come_by_their_rank() -> None:
    counts = _drawn(Workload(keys="zipf", key_count=1_000))
    assert 8 < counts[b"key-0"] / counts[b"key-9"] < 12.5
    assert counts.most_common(1)[0][0] == b"key-0"


def test_each_producer_draws_its_own_the_same_in_each_run() -> None:
    workload = Workload(keys="uniform", key_count=50)
    first = [list(itertools.islice(key_stream(workload, producer) or (), 20)) for producer in (0, 1, 0)]
    assert first[0] == first[2] != first[1]

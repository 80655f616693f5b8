"""A short run of the torture, and what judges a soak."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.checker.history import read_histories
from tests.support.tiers import in_tier
from tests.torture.options import KAFKA_GROUP, TortureOptions
from tests.torture.run import torture
from tests.torture.soak import SAMPLES_MIN, Sample, judge_samples, soak_options, theil_sen


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """``make torture`` is the long form."""
    options = TortureOptions(seconds=in_tier(8.0, 60.0), seed=11, keep=tmp_path / "history")
    result = torture(options)
    counts = result.verdict.counts
    assert result.verdict.is_valid, result.report()
    assert counts["records acknowledged"] > 100
    assert counts["records lost"] == 0
    assert counts["records in the files"] >= counts["records acknowledged"]
    assert counts["commits acknowledged"] > 0
    assert sum(count for name, count in counts.items() if name.startswith("fault: ")) >= 2
    took_part = {event.proc.rpartition("-")[0] for event in read_histories(tmp_path / "history")}
    assert took_part >= {"producer-0", "member-0", "kafka-producer-0", "kafka-member-0", "kafka-reader-0"}


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_nothing_is_lost_by_kafkas_clients_when_their_gateways_die(tmp_path: Path) -> None:
    """Both gateways, and what they talk to; so many faults, however long they take."""
    options = TortureOptions(
        seconds=60.0,
        seed=5,
        nemesis=("kill:gateway", "pause:gateway", "kill:partition", "kill:coordinator", "kill:kafka-member"),
        pause_s=(0.1, 1.0),
        producers=1,
        members=1,
        faults_max=8,
        keep=tmp_path / "history",
    )
    result = torture(options)
    counts = result.verdict.counts
    assert result.verdict.is_valid, result.report()
    assert counts["records lost"] == 0
    assert counts["fault: kill gateway"] >= 1
    events = read_histories(tmp_path / "history")
    settled = [event for event in events if event.f == "send" and event.type == "ok"]
    assert any(event.proc.startswith("kafka-producer") for event in settled)
    commits = [event for event in events if event.f == "commit" and event.group == KAFKA_GROUP]
    assert any(event.type == "ok" for event in commits)
    assert all(event.generation > 0 for event in commits if event.type == "invoke")


def test_options_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="'burn' is no fault; write kill, pause, restart"):
        TortureOptions(nemesis=("burn",))
    with pytest.raises(ValueError, match="'kill:king' is no fault"):
        TortureOptions(nemesis=("kill:king",))
    with pytest.raises(ValueError, match="seconds is 1 to 86400"):
        TortureOptions(seconds=0)
    assert TortureOptions(nemesis=("kill:router", "restart")).faults() == [
        ("kill", "router"),
        ("restart", "broker"),
    ]
    with pytest.raises(ValueError, match="kafka_members is 0 to 0, not 3"):
        TortureOptions(gateways=0, kafka_producers=0)
    assert ("kill", "gateway") not in TortureOptions(gateways=0, kafka_producers=0, kafka_members=0).faults()
    assert ("kill", "kafka-member") in TortureOptions().faults()
    assert soak_options(TortureOptions()).retention_bytes


def test_a_directory_with_a_history_is_not_mixed_with_another(tmp_path: Path) -> None:
    (tmp_path / "producer.jsonl").write_text("")
    with pytest.raises(ValueError, match="has a history already"):
        torture(TortureOptions(keep=tmp_path))


# -- the soak's judge ---------------------------------------------------------------------------------


def samples(count: int = 60) -> list[Sample]:
    """A broker that stays as it is, with noise."""
    dice = random.Random(1)
    return [
        Sample(
            at_s=number * 60.0,
            rss={"router 0": (30 << 20) + dice.randrange(200_000)},
            descriptors={"router 0": 30 + dice.randrange(4)},
            threads={"router 0": 5},
            started={"router 0": 1.0},
            zombies=0,
            segments=4,
            data_bytes=1_000_000,
            free_bytes=1 << 30,
        )
        for number in range(count)
    ]


def test_a_flat_broker_is_good() -> None:
    complaints, figures = judge_samples(samples())
    assert complaints == []
    assert "RSS at most 30" in figures["router 0"]


def test_what_is_not_flat_is_named() -> None:
    leaking = [
        replace(sample, rss={"router 0": sample.rss["router 0"] + number * 100_000})
        for number, sample in enumerate(samples())
    ]
    assert "router 0 gains 5" in judge_samples(leaking)[0][0]
    growing = [
        replace(sample, descriptors={"router 0": 30 + number // 3}) for number, sample in enumerate(samples())
    ]
    assert "descriptors grow" in judge_samples(growing)[0][0]
    threads = [
        replace(sample, threads={"router 0": 5 + number // 20}) for number, sample in enumerate(samples())
    ]
    assert "threads grow" in judge_samples(threads)[0][0]
    undead = [replace(sample, zombies=1) for sample in samples()]
    assert "zombies" in judge_samples(undead)[0][0]
    hoarding = [replace(sample, segments=100) for sample in samples()]
    assert "retention does not keep up" in judge_samples(hoarding)[0][0]
    assert "too few to judge" in judge_samples(samples(SAMPLES_MIN - 1))[0][0]


def test_a_restart_is_no_leak() -> None:
    """A fresh process has other memory; only the longest life is measured."""
    restarted = [
        replace(
            sample,
            rss={"router 0": sample.rss["router 0"] + (number // 40) * (20 << 20)},
            started={"router 0": float(number // 40)},
        )
        for number, sample in enumerate(samples())
    ]
    assert judge_samples(restarted)[0] == []


def test_theil_and_sen_are_blind_to_single_peaks() -> None:
    points = [(float(x), 2.0 * x) for x in range(20)]
    points[7] = (7.0, 1_000.0)
    assert theil_sen(points) == pytest.approx(2.0, abs=0.1)
    assert theil_sen([(1.0, 1.0)]) == 0.0

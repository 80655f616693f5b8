"""The tools on a compacted log: sparse and empty batches are sound, a missing one is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from partitions.log import Log
from tests.inspection.harness import NOW_MS, SETTINGS, Command, append, contents, open_log, segments
from tests.partitions.compacting import batch_of, records_of, state_of

COMPACT = replace(SETTINGS, compacts=True, min_cleanable_dirty_ratio=0.0)


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    return tmp_path / "events-0"


def fill(log: Log, rounds: int = 40, first: int = 0) -> None:
    """Batches of an idempotent producer in two codecs, over a few keys."""
    for number in range(first, first + rounds):
        pairs = [(b"k%d" % (n * number % 7), b"v" * 60) for n in range(3)]
        codec = "zstd" if number % 3 == 0 else "none"
        append(log, batch_of(pairs, sequence=3 * number, compression=codec))


def clean(log: Log) -> None:
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    under_way = True
    while under_way:
        list(cleaning.run())
        under_way = log.cleaning_done(cleaning, None)
    unlinking = log.take_unlinking()
    assert unlinking is not None
    list(unlinking.run())


def test_a_cleaned_log_is_sound_and_its_numbers_are_true(command: Command, partition: Path) -> None:
    log = open_log(partition, COMPACT)
    fill(log)
    before = state_of(records_of(log))
    clean(log)
    kept = records_of(log)
    assert state_of(kept) == before
    log.close()
    [verdict] = command("verify", partition, "--json").documents
    assert verdict["findings"] == []
    assert (verdict["start_offset"], verdict["end_offset"]) == (0, 120)
    assert verdict["records"] == len(kept)
    [numbers] = command("stat", partition, "--json").documents
    assert numbers["records"] == len(kept)
    assert numbers["sound"]
    assert numbers["indexes_ok"]
    items = command("dump", partition, "--records", "--json").documents
    assert [item["offset"] for item in items if item["type"] == "record"] == [item.offset for item in kept]
    sparse = [item for item in items if item["type"] == "batch" and item["record_count"] < 3]
    assert any(item["record_count"] == 0 for item in sparse)
    assert not [item for item in items if item["type"] == "damage"]


def test_times_are_those_of_the_records_not_of_what_the_broker_wrote_there(
    command: Command, partition: Path
) -> None:
    """A batch that bears the broker's time, and one with the time when its tombstones may go."""
    log = open_log(partition, replace(COMPACT, delete_retention_ms=5, log_append_time=True))
    append(log, batch_of([(b"stamped", b"v")], timestamp=1))
    log.reconfigure(replace(COMPACT, delete_retention_ms=5))
    fill(log, 10)
    append(log, batch_of([(b"gone", None)], timestamp=NOW_MS + 50))
    fill(log, 10, first=10)
    cleaning = log.plan_cleaning(NOW_MS - 1_000)
    assert cleaning is not None
    while list(cleaning.run()) is not None and log.cleaning_done(cleaning, None):
        pass
    log.close()
    batches = [item for item in command("dump", partition, "--json").documents if item["type"] == "batch"]
    assert [item["delete_horizon"] for item in batches if item["delete_horizon"]] == [NOW_MS - 995]
    [numbers] = command("stat", partition, "--json").documents
    assert NOW_MS <= numbers["timestamp_min"] <= numbers["timestamp_max"] == NOW_MS + 50
    out = command("dump", partition).out
    assert "1970" not in out
    assert "tombstones until 2023-11-14T22:13:19.005+00:00" in out


def test_a_batch_that_is_missing_from_a_cleaned_segment_is_damage(command: Command, partition: Path) -> None:
    log = open_log(partition, COMPACT)
    fill(log)
    clean(log)
    log.close()
    path = segments(partition)[-2]
    batches = command("dump", path, "--json").documents
    lost = batches[len(batches) // 2]
    content = path.read_bytes()
    path.write_bytes(content[: lost["position"]] + content[lost["position"] + lost["size"] :])
    (partition / "odradek-checkpoint").unlink()
    for index in (path.with_suffix(".index"), path.with_suffix(".timeindex")):
        index.unlink(missing_ok=True)
    [verdict] = command("verify", partition, "--json").documents
    damaged = [item for item in verdict["findings"] if item["severity"] == "damage"]
    assert [(item["kind"], item["first"], item["last"]) for item in damaged] == [
        ("offsets", lost["base_offset"], lost["last_offset"])
    ]


def test_repair_of_a_cleaned_log_that_is_sound_changes_nothing(command: Command, partition: Path) -> None:
    log = open_log(partition, COMPACT)
    fill(log)
    clean(log)
    log.close()
    before = contents(partition)
    assert command("verify", partition, "--repair").code == 0
    assert contents(partition) == before


def test_a_promised_swap_is_a_note_and_repair_or_a_start_finishes_it(
    command: Command, partition: Path
) -> None:
    log = open_log(partition, COMPACT)
    fill(log)
    cleaning = log.plan_cleaning(NOW_MS)
    assert cleaning is not None
    list(cleaning.run())
    log.close()
    ran = command("verify", partition, "--json")
    assert ran.code == 0
    notes = [item for item in ran.documents[0]["findings"] if item["file"] == "odradek-swap"]
    assert [item["severity"] for item in notes] == ["note"]
    log = open_log(partition, COMPACT)
    assert log.recovery.bytes_scanned == 0
    log.close()
    [verdict] = command("verify", partition, "--json").documents
    assert verdict["findings"] == []

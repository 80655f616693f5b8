"""`odradek log verify --repair`: the broker must be stopped; nothing is lost; twice is once."""

from __future__ import annotations

from pathlib import Path

import pytest

from odradek.protocol.errors import CorruptMessage
from partitions.files import OsFiles
from tests.inspection.harness import (
    TOPIC_ID,
    Command,
    batch_of,
    contents,
    fill,
    flip,
    kill,
    open_log,
    segments,
    write_catalog,
)


def test_a_sound_partition_is_left_as_it_is(command: Command, partition: Path) -> None:
    before = contents(partition)
    ran = command("verify", partition, "--repair")
    assert (ran.code, ran.err) == (0, "")
    assert "nothing to repair" in ran.out
    assert contents(partition) == before


def test_a_log_in_use_is_refused(command: Command, tmp_path: Path) -> None:
    directory = tmp_path / "events-0"
    log = open_log(directory)
    fill(log, 3)
    flip(segments(directory)[0], 80)
    before = contents(directory)
    ran = command("verify", directory, "--repair")
    assert ran.code == 1
    assert "stop it first" in ran.err
    assert contents(directory) == before
    log.close()


def test_a_running_broker_is_refused_though_the_partition_is_free(command: Command, partition: Path) -> None:
    flip(segments(partition)[0], 80)
    before = contents(partition)
    lock = OsFiles().lock(partition.parent / "odradek.lock")
    for path in (partition, partition.parent):
        ran = command("verify", path, "--repair")
        assert ran.code == 1
        assert "a broker runs on" in ran.err
    OsFiles().close(lock)
    assert contents(partition) == before


def test_damage_in_a_closed_segment_is_quarantined_and_the_rest_served(
    command: Command, partition: Path
) -> None:
    path = segments(partition)[1]
    batch = command("dump", path, "--json").documents[2]
    flip(path, batch["position"] + 80)
    first, last = batch["base_offset"], batch["last_offset"]
    ran = command("verify", partition, "--repair", "--json")
    assert ran.code == 1  # the damage is still there, and now it is known
    [done] = ran.documents
    assert any(f"quarantined offsets {first} to {last}" in action for action in done["actions"])
    assert [item["quarantined"] for item in done["verdict"]["findings"] if item["kind"] == "batch"] == [True]

    log = open_log(partition)
    assert (log.start_offset, log.end_offset) == (0, 90)
    with pytest.raises(CorruptMessage, match=f"offsets {first} to {last} "):
        log.read(first, 1000)
    assert log.read(last + 1, 1)
    log.close()


def test_repairing_again_changes_no_record(command: Command, partition: Path) -> None:
    flip(segments(partition)[1], 80)
    command("verify", partition, "--repair")
    logs = {path.name: path.read_bytes() for path in segments(partition)}
    [again] = command("verify", partition, "--repair", "--json").documents
    assert {path.name: path.read_bytes() for path in segments(partition)} == logs
    assert not any("quarantined" in action for action in again["actions"])


def test_a_torn_end_is_cut_and_kept(command: Command, partition: Path) -> None:
    path = segments(partition)[-1]
    sound, torn = path.read_bytes(), batch_of(90)[:-10]
    path.write_bytes(sound + torn)
    ran = command("verify", partition, "--repair", "--json")
    assert ran.code == 0
    [done] = ran.documents
    assert path.read_bytes() == sound
    [name] = done["aside"]
    assert (partition / name).read_bytes() == torn
    assert done["verdict"]["findings"] == []


def test_a_kept_end_keeps_its_last_zeros(command: Command, partition: Path) -> None:
    path = segments(partition)[-1]
    torn = b"\x07 no batch, and zeros \0\0\0\0"
    path.write_bytes(path.read_bytes() + torn)
    [done] = command("verify", partition, "--repair", "--json").documents
    assert (partition / done["aside"][0]).read_bytes() == torn


def test_batches_behind_a_hole_that_nobody_was_told_of_are_kept(command: Command, partition: Path) -> None:
    path = segments(partition)[-1]
    sound, later = path.read_bytes(), batch_of(93)
    hole_and_later = bytes(40) + (93).to_bytes(8, "big") + later[8:]
    path.write_bytes(sound + hole_and_later)
    ran = command("verify", partition, "--repair", "--json")
    assert ran.code == 0, ran.out
    assert path.read_bytes() == sound
    [name] = ran.documents[0]["aside"]
    assert (partition / name).read_bytes() == hole_and_later


@pytest.mark.parametrize("name", ["odradek-checkpoint", "leader-epoch-checkpoint", "log-start-offset"])
def test_a_small_file_that_cannot_be_read_is_set_aside(command: Command, partition: Path, name: str) -> None:
    (partition / name).write_bytes(b"\xff nonsense")
    ran = command("verify", partition, "--repair", "--json")
    assert ran.code == 0, ran.out
    [aside] = [each for each in ran.documents[0]["aside"] if each.endswith(name)]
    assert (partition / aside).read_bytes() == b"\xff nonsense"
    assert ran.documents[0]["verdict"]["records"] == 90


def test_wrong_indexes_are_built_anew(command: Command, partition: Path) -> None:
    write_catalog(partition, {"index.interval.bytes": 128})
    good = {path.name: path.read_bytes() for path in partition.glob("*index")}
    closed = segments(partition)[:-1]
    for path in closed:
        path.with_suffix(".index").write_bytes(b"\1" * 24)
    closed[0].with_suffix(".timeindex").unlink()
    flip(closed[1].with_suffix(".timeindex"), 3)
    ran = command("verify", partition, "--repair")
    assert ran.code == 0, ran.out
    for path in closed:
        for suffix in (".index", ".timeindex"):
            rebuilt = path.with_suffix(suffix)
            assert rebuilt.read_bytes() == good[rebuilt.name]


def test_after_a_kill_the_durable_records_stay(command: Command, tmp_path: Path) -> None:
    directory = tmp_path / "events-0"
    log = open_log(directory)
    fill(log, 12)
    kill(log, directory, tmp_path / "copy")
    last = segments(directory)[-1]
    last.write_bytes(last.read_bytes() + batch_of(36)[:50])
    assert command("verify", directory, "--repair").code == 0
    again = open_log(directory)
    assert again.end_offset == 36
    again.close()


def test_a_lost_identity_is_asked_for(command: Command, partition: Path) -> None:
    (partition / "partition.metadata").write_bytes(b"nonsense")
    before = contents(partition)
    ran = command("verify", partition, "--repair")
    assert ran.code == 1
    assert "--topic-id" in ran.err
    assert contents(partition) == before
    ran = command("verify", partition, "--repair", "--topic-id", TOPIC_ID)
    assert ran.code == 0, ran.out
    log = open_log(partition)
    assert log.end_offset == 90
    log.close()


def test_the_catalogue_knows_a_lost_identity(command: Command, partition: Path) -> None:
    write_catalog(partition, {})
    (partition / "partition.metadata").write_bytes(b"nonsense")
    assert command("verify", partition, "--repair").code == 0
    assert TOPIC_ID in (partition / "partition.metadata").read_text()


def test_nothing_that_was_there_is_gone(command: Command, partition: Path) -> None:
    """Whatever is broken at once, each byte of a segment is still somewhere afterwards."""
    middle, last = segments(partition)[1], segments(partition)[-1]
    flip(middle, 90)
    flip(last, 80)
    last.write_bytes(last.read_bytes() + batch_of(90) + b"\7rest")
    (partition / "00000000000000000003.log.deleted").write_bytes(b"deleted once, and not unlinked yet")
    (partition / "odradek-checkpoint").write_bytes(b"damaged")
    before = {path.name: path.read_bytes() for path in [*segments(partition), *partition.glob("*.deleted")]}
    command("verify", partition, "--repair")
    after = b"".join(contents(partition).values())
    for name, content in before.items():
        assert all(content[at : at + 16] in after for at in range(0, len(content) - 16, 16)), name


@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_lost_segment_is_quarantined_and_the_rest_served(
    command: Command, partition: Path, number: int
) -> None:
    bases = [*(int(path.stem) for path in segments(partition)), 90]
    at = number % (len(bases) - 1)
    segments(partition)[at].unlink()
    ran = command("verify", partition, "--repair", "--json")
    assert ran.code == 1
    damage = [item for item in ran.documents[0]["verdict"]["findings"] if item["severity"] == "damage"]
    assert [(item["first"], item["last"], item["quarantined"]) for item in damage] == [
        (bases[at], bases[at + 1] - 1, True)
    ]
    log = open_log(partition)
    assert (log.start_offset, log.end_offset) == (0, 90)
    with pytest.raises(CorruptMessage):
        log.read(bases[at], 1000)
    for first in bases[:-1]:
        assert first == bases[at] or log.read(first, 1)
    log.close()


def test_a_lost_durable_end_is_quarantined(command: Command, partition: Path) -> None:
    path = segments(partition)[-1]
    batch = command("dump", path, "--json").documents[0]
    path.write_bytes(path.read_bytes()[: batch["size"] + 20])
    ran = command("verify", partition, "--repair", "--json")
    assert ran.code == 1
    log = open_log(partition)
    assert log.end_offset == 90
    assert log.damages == ((batch["last_offset"] + 1, 89),)
    log.close()


def test_one_partition_that_cannot_be_repaired_keeps_none_from_it(command: Command, partition: Path) -> None:
    other = open_log(partition.parent / "another-0")
    other.close()
    (partition.parent / "another-0" / "partition.metadata").write_bytes(b"nonsense")
    flip(segments(partition)[0].with_suffix(".index"), 2)
    ran = command("verify", partition.parent, "--repair")
    assert ran.code == 1
    assert "another-0" in ran.err
    assert "built the indexes" in ran.out
    assert command("verify", partition).code == 0


def test_only_the_owner_may_repair(
    command: Command, partition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = partition.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    ran = command("verify", partition, "--repair")
    assert ran.code == 1
    assert "Run it as the owner" in ran.err

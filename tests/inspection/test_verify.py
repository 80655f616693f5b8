"""`odradek log verify` and `stat`: sound is sound, each damage is named, a log being written is sound."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from inspection.files import ReadOnlyFiles
from inspection.places import PartitionPlace
from inspection.verify import verify
from odradek.protocol.batch import check_batch
from partitions.settings import LogSettings
from tests.inspection.harness import (
    SETTINGS,
    Command,
    append,
    batch_of,
    contents,
    fill,
    flip,
    open_log,
    segments,
    write_catalog,
)


def findings(command: Command, path: Path, *words: str) -> list[dict[str, Any]]:
    """The damage that verify names; its exit code has to agree."""
    ran = command("verify", path, "--json", *words)
    found = [item for item in ran.documents[0]["findings"] if item["severity"] == "damage"]
    assert ran.code == (1 if found else 0)
    assert ran.documents[0]["sound"] is (not found)
    return found


def test_a_sound_partition(command: Command, partition: Path) -> None:
    ran = command("verify", partition, "--json")
    [verdict] = ran.documents
    assert ran.code == 0
    assert verdict["findings"] == []
    assert (verdict["records"], verdict["batches"]) == (90, 30)
    assert (verdict["start_offset"], verdict["durable_offset"], verdict["end_offset"]) == (0, 90, 90)
    assert verdict["bytes"] == sum(path.stat().st_size for path in segments(partition))


def test_any_flipped_bit_of_a_segment_is_found(command: Command, partition: Path) -> None:
    """Wherever it is, except in the leader epoch's bytes where the epochs' file must tell."""
    dice = random.Random(20130709)
    for _ in range(40):
        path = dice.choice(segments(partition))
        position = dice.randrange(path.stat().st_size)
        flip(path, position)
        assert findings(command, partition), f"byte {position} of {path.name}"
        flip(path, position)
    assert findings(command, partition) == []


def test_damage_names_file_position_and_offsets(command: Command, partition: Path) -> None:
    path = segments(partition)[1]
    batch = command("dump", path, "--json").documents[2]
    flip(path, batch["position"] + 70)
    [found] = findings(command, partition)
    assert (found["file"], found["kind"]) == (path.name, "batch")
    assert (found["position"], found["end_position"]) == (
        batch["position"],
        batch["position"] + batch["size"],
    )
    assert (found["first"], found["last"]) == (batch["base_offset"], batch["last_offset"])
    assert f"offsets {found['first']} to {found['last']}" in command("verify", partition).out


def test_a_missing_segment(command: Command, partition: Path) -> None:
    _, second, third, *_ = segments(partition)
    second.unlink()
    found = findings(command, partition)
    assert [(item["first"], item["last"]) for item in found if item["kind"] == "offsets"] == [
        (int(second.stem), int(third.stem) - 1)
    ]


def test_a_missing_last_segment(command: Command, partition: Path) -> None:
    last = segments(partition)[-1]
    last.unlink()
    [found] = findings(command, partition)
    assert (found["first"], found["last"]) == (int(last.stem), 89)


def test_a_segment_that_lost_its_durable_end(command: Command, partition: Path) -> None:
    path = segments(partition)[-1]
    first = command("dump", path, "--json").documents[0]
    path.write_bytes(path.read_bytes()[: first["size"]])
    found = findings(command, partition)
    assert any(item["first"] == first["last_offset"] + 1 and item["last"] == 89 for item in found)


def test_overlapping_segments(command: Command, partition: Path) -> None:
    first, second, *_ = segments(partition)
    shutil.copy(second, partition / f"{int(second.stem) - 3:020d}.log")
    assert any(item["kind"] in {"segment", "batch"} for item in findings(command, partition))
    assert first.exists()


@pytest.mark.parametrize(("suffix", "entry"), [(".index", ">ii"), (".timeindex", ">qi")])
def test_a_wrong_index_entry(command: Command, partition: Path, suffix: str, entry: str) -> None:
    path = segments(partition)[0].with_suffix(suffix)
    size = struct.calcsize(entry)
    content = path.read_bytes()
    first, second = struct.unpack_from(entry, content, size)
    path.write_bytes(content[:size] + struct.pack(entry, first, second + 1) + content[2 * size :])
    found = findings(command, partition)
    assert {(item["kind"], item["file"], item["position"]) for item in found} == {("index", path.name, size)}


def test_an_index_entry_with_another_offset(command: Command, partition: Path) -> None:
    path = segments(partition)[0].with_suffix(".index")
    offset, position = struct.unpack_from(">ii", path.read_bytes())
    path.write_bytes(struct.pack(">ii", offset - 1, position) + path.read_bytes()[8:])
    [found] = findings(command, partition)
    assert (found["kind"], found["position"], found["first"]) == ("index", 0, offset - 1)


def test_a_wrong_base_offset_costs_only_its_batch(command: Command, partition: Path) -> None:
    """The base offset is outside the checksum: what follows has to tell that it is wrong."""
    path = segments(partition)[1]
    batch = command("dump", path, "--json").documents[1]
    flip(path, batch["position"] + 5)  # 65,536 more or less
    [found] = findings(command, partition)
    assert (found["kind"], found["first"], found["last"]) == (
        "batch",
        batch["base_offset"],
        batch["last_offset"],
    )


@pytest.mark.parametrize("before_names", [True, False])
def test_segments_that_are_deleted_under_the_walk_are_no_damage(tmp_path: Path, before_names: bool) -> None:
    place = PartitionPlace(tmp_path / "events-0")
    log = open_log(place.directory)
    fill(log)
    files, third = ReadOnlyFiles(), segments(place.directory)[2]

    class Deleting(ReadOnlyFiles):
        """Retention runs after the start offset was read, just before or after the names are."""

        deleted = False

        def list_directory(self, path: Path) -> list[str]:
            names = super().list_directory(path)
            if self.deleted:
                return names
            self.deleted = True
            log.advance_start(int(third.stem))
            return super().list_directory(path) if before_names else names

    verdict = verify(Deleting(), place)
    assert [item for item in verdict.findings if item.severity == "damage"] == []
    assert verdict.start_offset == int(third.stem)
    log.close()
    assert verify(files, place).sound


@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_a_torn_index(command: Command, partition: Path, suffix: str) -> None:
    path = segments(partition)[0].with_suffix(suffix)
    path.write_bytes(path.read_bytes() + b"\0\0\0")
    [found] = findings(command, partition)
    assert (found["kind"], found["file"]) == ("index", path.name)


def test_missing_indexes_are_only_noted(command: Command, partition: Path) -> None:
    for path in [*partition.glob("*.index"), *partition.glob("*.timeindex")]:
        path.unlink()
    [verdict] = command("verify", partition, "--json").documents
    assert verdict["sound"]
    assert {item["kind"] for item in verdict["findings"]} == {"index"}


@pytest.mark.parametrize(
    "name", ["odradek-checkpoint", "leader-epoch-checkpoint", "partition.metadata", "log-start-offset"]
)
def test_a_small_file_that_cannot_be_read(command: Command, partition: Path, name: str) -> None:
    (partition / name).write_bytes(b"\xff nonsense")
    assert [item["file"] for item in findings(command, partition) if item["kind"] == "file"] == [name]


def test_epochs_that_contradict_the_batches(command: Command, partition: Path) -> None:
    (partition / "leader-epoch-checkpoint").write_text("0\n2\n0 0\n5 30\n")
    [found] = findings(command, partition)
    assert (found["kind"], found["first"]) == ("epoch", 30)


def test_a_log_of_another_topic(command: Command, partition: Path) -> None:
    write_catalog(partition, {})
    (partition / "partition.metadata").write_text("version: 0\ntopic_id: another\n")
    assert [item["kind"] for item in findings(command, partition)] == ["identity"]


def test_a_disk_that_cannot_read_is_damage(
    command: Command, partition: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = segments(partition)[1]
    pread, number = ReadOnlyFiles.pread, second.stat().st_ino

    def fail(files: ReadOnlyFiles, descriptor: int, size: int, position: int) -> bytes:
        if os.fstat(descriptor).st_ino == number:
            raise OSError(errno.EIO, "Input/output error")
        return pread(files, descriptor, size, position)

    monkeypatch.setattr(ReadOnlyFiles, "pread", fail)
    assert ("segment", second.name) in {(item["kind"], item["file"]) for item in findings(command, partition)}


def test_foreign_files_are_noted_and_left(command: Command, partition: Path) -> None:
    (partition / "notes.txt").write_text("mine")
    (partition / "00000000000000000007.index").write_bytes(b"")
    [verdict] = command("verify", partition, "--json").documents
    assert verdict["sound"]
    assert [item["file"] for item in verdict["findings"]] == ["notes.txt", "00000000000000000007.index"]


def test_a_torn_end_that_was_never_acknowledged_is_only_noted(command: Command, partition: Path) -> None:
    path = segments(partition)[-1]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + batch_of(90)[:70])
    [verdict] = command("verify", partition, "--json").documents
    assert verdict["sound"]
    [found] = verdict["findings"]
    assert (found["kind"], found["position"], found["first"]) == ("tail", size, 90)


def test_a_hole_behind_the_durable_end_ends_the_log_and_is_no_damage(
    command: Command, partition: Path
) -> None:
    """A power cut may leave later batches and not the first; none of them was acknowledged."""
    path = segments(partition)[-1]
    size = path.stat().st_size
    lost, later = batch_of(90), batch_of(93)
    placed = (93).to_bytes(8, "big") + later[8:]
    path.write_bytes(path.read_bytes() + bytes(len(lost)) + placed)
    [verdict] = command("verify", partition, "--json").documents
    assert verdict["sound"]
    assert verdict["end_offset"] == 90
    [found] = verdict["findings"]
    assert (found["kind"], found["position"]) == ("tail", size)


def test_gaps_are_damage_unless_kafka_has_compacted_the_files(command: Command, partition: Path) -> None:
    path = segments(partition)[0]
    _, second, third, *_ = command("dump", path, "--json").documents
    content = path.read_bytes()
    path.write_bytes(content[: second["position"]] + content[third["position"] :])
    for index in (path.with_suffix(".index"), path.with_suffix(".timeindex")):
        index.unlink()
    (partition / "odradek-checkpoint").unlink()
    assert [(item["kind"], item["first"], item["last"]) for item in findings(command, partition)] == [
        ("offsets", second["base_offset"], second["last_offset"])
    ]
    assert findings(command, partition, "--compacted") == []
    write_catalog(partition, {"cleanup.policy": "compact,delete"})
    assert len(findings(command, partition)) == 1, "our own compaction leaves none"


def test_a_log_that_is_being_written_is_sound_at_every_moment(tmp_path: Path) -> None:
    """Between any two steps of the writer: staged, written, synced, rolled, with space reserved ahead."""
    place = PartitionPlace(tmp_path / "events-0")
    log = open_log(place.directory, LogSettings(segment_bytes=2048, index_interval_bytes=128))
    files, seen = ReadOnlyFiles(), []

    def look() -> None:
        verdict = verify(files, place)
        assert [item for item in verdict.findings if item.kind != "index"] == []
        assert verdict.sound
        assert (verdict.durable_offset or 0) <= log.durable_offset <= verdict.end_offset
        seen.append(verdict.end_offset)

    for number in range(20):
        batch = batch_of(number * 3)
        log.append(batch, check_batch(batch), 0)
        look()
        log.write()
        look()
        ticket = log.sync_begin()
        assert ticket is not None
        ticket.run()
        look()
        log.sync_done(ticket, None)
        look()
    assert seen[-1] == 60
    log.close()
    look()


def test_nothing_is_locked_or_written(command: Command, tmp_path: Path) -> None:
    directory = tmp_path / "events-0"
    log = open_log(directory)
    fill(log, 8)
    before = contents(directory)
    assert command("verify", directory).code == 0
    assert command("stat", directory).code == 0
    assert contents(directory) == before
    append(log, batch_of(24, 24, producer_id=7))
    log.close()


def test_stat_in_numbers(command: Command, partition: Path) -> None:
    [stat] = command("stat", partition, "--json").documents
    assert (stat["records"], stat["batches"], stat["segments"]) == (90, 30, len(segments(partition)))
    assert stat["compressions"] == {"none": 30}
    assert stat["timestamp_max"] - stat["timestamp_min"] == 89
    assert (stat["checkpoint"], stat["witness"], stat["indexes_ok"]) == ("ok", "ok", True)
    assert stat["file_bytes"] > stat["bytes"]
    out = command("stat", partition).out
    assert "start 0, durable 90, end 90" in out


def test_stat_of_a_data_directory(command: Command, partition: Path) -> None:
    data = partition.parent
    log = open_log(data / "other-10", SETTINGS)
    log.close()
    (data / "gone-0.0123abcd-stray").mkdir()
    ran = command("stat", data, "--json")
    assert [stat["partition"] for stat in ran.documents] == ["events-0", "other-10"]
    assert "gone-0.0123abcd-stray: unknown to the catalogue" in command("stat", data).out
    assert [stat["partition"] for stat in command("stat", data, "--topic", "other", "--json").documents] == [
        "other-10"
    ]


@pytest.mark.parametrize("words", [["verify"], ["stat"], ["dump"]])
def test_a_path_that_is_no_log(command: Command, tmp_path: Path, words: list[str]) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        ran = command(*words, path)
        assert ran.code == 2
        assert str(path) in ran.err


def test_usage(command: Command, partition: Path) -> None:
    assert command("verify", segments(partition)[0]).code == 2
    assert command("dump", partition.parent).code == 2
    assert command("dump", partition, "--from-offset", "-1").code == 2
    assert command("stat", partition, "--topic", "nobody").code == 2
    assert command("verify", partition, "--topic-id", "x").code == 2
    assert command().code == 2


@pytest.mark.parametrize("words", [[], ["dump"], ["stat"], ["verify"]])
def test_every_help_shows_examples(command: Command, words: list[str]) -> None:
    ran = command(*words, "--help")
    assert ran.code == 0
    assert " ".join(["odradek", "log", *words]) in ran.out[ran.out.index("Examples:") :]

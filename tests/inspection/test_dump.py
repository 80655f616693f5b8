"""`odradek log dump`: what was appended is what it shows."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import pytest

from odradek.protocol.records import RecordToWrite, encode_batch
from tests.inspection.harness import NOW_MS, VALUE_BYTES, Command, append, batch_of, flip, open_log, segments


def test_batches_of_a_partition(command: Command, partition: Path) -> None:
    ran = command("dump", partition, "--json")
    assert ran.code == 0
    assert [(item["base_offset"], item["last_offset"]) for item in ran.documents] == [
        (first, first + 2) for first in range(0, 90, 3)
    ]
    assert {item["type"] for item in ran.documents} == {"batch"}
    assert len({item["segment"] for item in ran.documents}) == len(segments(partition)) > 2
    third = ran.documents[2]
    assert (third["producer_id"], third["producer_epoch"]) == (7, 0)
    assert (third["base_sequence"], third["last_sequence"]) == (6, 8)
    assert (third["base_timestamp"], third["max_timestamp"]) == (NOW_MS + 6, NOW_MS + 8)
    assert (third["compression"], third["crc_ok"], third["leader_epoch"]) == ("none", True, 0)


def test_records_in_a_range_are_exact(command: Command, partition: Path) -> None:
    ran = command("dump", partition, "--records", "--from-offset", "31", "--to-offset", "34", "--json")
    records = [item for item in ran.documents if item["type"] == "record"]
    assert [record["offset"] for record in records] == [31, 32, 33, 34]
    assert records[0] == {
        "type": "record",
        "offset": 31,
        "timestamp": NOW_MS + 31,
        "sequence": 31,
        "key": "k31",
        "value": "v" * VALUE_BYTES,
        "headers": [["h", "1"]],
        "decoded": None,
    }
    assert [item["base_offset"] for item in ran.documents if item["type"] == "batch"] == [30, 33]


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_records(command: Command, tmp_path: Path, compression: str) -> None:
    log = open_log(tmp_path / "events-0")
    append(log, batch_of(0, compression=compression))
    log.close()
    ran = command("dump", tmp_path / "events-0", "--records", "--json")
    batch, *records = ran.documents
    assert batch["compression"] == compression
    assert [record["value"] for record in records] == ["v" * VALUE_BYTES] * 3
    assert [record["sequence"] for record in records] == [-1, -1, -1]


def test_bytes_that_are_no_text_and_null(command: Command, tmp_path: Path) -> None:
    log = open_log(tmp_path / "events-0")
    append(log, encode_batch([RecordToWrite(NOW_MS, b"\xff\x00", None, [("h", None)])]))
    log.close()
    [record] = command("dump", tmp_path / "events-0", "--records", "--json").documents[1:]
    assert b64decode(record["key"]["base64"]) == b"\xff\x00"
    assert record["value"] is None
    assert record["headers"] == [["h", None]]
    assert "key base64:/wA= value null" in command("dump", tmp_path / "events-0", "--records").out


def test_nothing_in_a_record_steers_a_terminal(command: Command, tmp_path: Path) -> None:
    log = open_log(tmp_path / "events-0")
    append(log, encode_batch([RecordToWrite(NOW_MS, b"k", b"\x1b[2Jgone\nnext")]))
    log.close()
    out = command("dump", tmp_path / "events-0", "--records").out
    assert "\x1b" not in out
    assert "value \\x1b[2Jgone\\x0anext" in out


def test_one_segment_file(command: Command, partition: Path) -> None:
    second = segments(partition)[1]
    found = command("dump", second, "--json").documents
    assert found[0]["base_offset"] == int(second.stem)
    assert {item["segment"] for item in found} == {second.name}


def test_index_entries_are_absolute_and_name_batches(command: Command, partition: Path) -> None:
    second = segments(partition)[1]
    batches = command("dump", second, "--json").documents
    at = {item["position"]: item for item in batches}
    entries = command("dump", second.with_suffix(".index"), "--json").documents
    assert len(entries) > 2
    assert all(at[entry["position"]]["last_offset"] == entry["offset"] for entry in entries)
    times = command("dump", second.with_suffix(".timeindex"), "--json").documents
    assert times[-1] == {
        "type": "time-entry",
        "timestamp": batches[-1]["max_timestamp"],
        "offset": batches[-1]["last_offset"],
    }


def test_damage_is_shown_where_it_is_and_the_rest_too(command: Command, partition: Path) -> None:
    path = segments(partition)[1]
    batches = command("dump", path, "--json").documents
    broken = batches[1]
    flip(path, broken["position"] + 80)
    ran = command("dump", path, "--json")
    assert ran.code == 1
    shown = [item for item in ran.documents if item["type"] == "batch"]
    assert [item["crc_ok"] for item in shown] == [True, False] + [True] * (len(batches) - 2)
    [damage] = [item for item in ran.documents if item["type"] == "damage"]
    assert (damage["first"], damage["last"]) == (broken["base_offset"], broken["last_offset"])
    assert (damage["position"], damage["end_position"]) == (
        broken["position"],
        broken["position"] + broken["size"],
    )
    assert "checksum" in damage["why"]


def test_the_coordinators_log_is_readable(command: Command, tmp_path: Path) -> None:
    directory = tmp_path / "__consumer_offsets-0"
    log = open_log(directory)
    append(
        log,
        encode_batch(
            [
                RecordToWrite(NOW_MS, b'["offset","billing","events",0]', b'{"offset":42}'),
                RecordToWrite(NOW_MS, b'["offset","billing","events",1]', None),
            ]
        ),
    )
    log.close()
    _, first, second = command("dump", directory, "--records", "--json").documents
    assert first["decoded"] == [["offset", "billing", "events", 0], {"offset": 42}]
    assert second["decoded"] == [["offset", "billing", "events", 1], None]
    assert (
        'key ["offset","billing","events",0] value {"offset":42}'
        in command("dump", directory, "--records").out
    )


def test_dumping_changes_nothing(command: Command, partition: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in partition.iterdir()}
    command("dump", partition, "--records")
    assert {path: path.stat().st_mtime_ns for path in partition.iterdir()} == before

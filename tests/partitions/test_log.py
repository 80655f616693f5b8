"""The log in good days: offsets, reading, rolling, settings, timestamps, epochs, deleting."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from odradek.protocol.batch import check_batch, iterate_headers, read_header
from odradek.protocol.errors import (
    InvalidConfig,
    InvalidProducerEpoch,
    MessageTooLarge,
    OffsetOutOfRange,
    OutOfOrderSequenceNumber,
    UnknownProducerId,
)
from partitions import producers
from partitions.errors import LogForeign, LogLocked
from partitions.files import IOV_MAX, OsFiles
from partitions.log import Log
from partitions.settings import TOPIC_SETTINGS, LogSettings, check_config
from tests.partitions.harness import (
    DIRECTORY,
    NOW_MS,
    SMALL,
    TOPIC_ID,
    append,
    append_synced,
    open_log,
    read_all,
    signed,
    sync,
)
from tests.support.batches import idempotent, make_batch
from tests.support.simdisk import SimDisk


def test_bytes_on_disk_are_kafkas(tmp_path: Path) -> None:
    directory = tmp_path / "events-0"
    log = Log.open(
        directory, LogSettings(index_interval_bytes=0), files=OsFiles(), wall_ms=1, topic_id=TOPIC_ID
    )
    first, second = make_batch(3, timestamp=1000), make_batch(2, timestamp=900, payload=b"x" * 40)
    append_synced(log, first, second)
    log.close()
    stored = (directory / f"{0:020d}.log").read_bytes()
    assert stored == (
        struct.pack(">qii", 0, len(first) - 12, 0)
        + first[16:]
        + struct.pack(">qii", 3, len(second) - 12, 0)
        + second[16:]
    )
    assert (directory / f"{0:020d}.index").read_bytes() == struct.pack(">ii", 4, len(first))
    assert (directory / f"{0:020d}.timeindex").read_bytes() == struct.pack(">qi", 1000, 2)
    assert (directory / "leader-epoch-checkpoint").read_bytes() == b"0\n1\n0 0\n"
    assert (directory / "partition.metadata").read_bytes() == f"version: 0\ntopic_id: {TOPIC_ID}\n".encode()


def test_real_files_survive_reopening_and_space_is_given_back(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "events-0"
    settings = LogSettings(segment_bytes=4096)
    log = Log.open(directory, settings, files=OsFiles(), wall_ms=1, topic_id=TOPIC_ID)
    batches = [make_batch(payload=bytes([n]) * 500) for n in range(40)]
    for batch in batches:
        append_synced(log, batch)
    assert (directory / f"{log._state.segments[-1].base_offset:020d}.log").stat().st_size == 4096
    log.close()
    again = Log.open(directory, settings, files=OsFiles(), wall_ms=1, topic_id=TOPIC_ID)
    assert again.leader_epoch == 1
    assert list(read_all(again).batches.values()) == [signed(batch) for batch in batches]
    assert sum(path.stat().st_size for path in directory.glob("*.log")) == again.size_bytes
    again.close()


def test_a_second_process_is_refused_and_the_lock_ends_with_close(tmp_path: Path) -> None:
    def start() -> Log:
        return Log.open(tmp_path / "a-0", LogSettings(), files=OsFiles(), wall_ms=1, topic_id=TOPIC_ID)

    log = start()
    with pytest.raises(LogLocked, match="in use by another process"):
        start()
    log.close()
    start().close()


def test_a_directory_of_another_topic_is_refused() -> None:
    disk = SimDisk()
    open_log(disk).close()
    with pytest.raises(LogForeign, match="other"):
        Log.open(DIRECTORY, SMALL, files=disk, wall_ms=1, topic_id="other")
    open_log(disk).close()


def test_only_durable_batches_are_read() -> None:
    log = open_log(SimDisk())
    append(log, make_batch(2))
    assert (log.end_offset, log.durable_offset) == (2, 0)
    assert log.read(0, 100) == b"" == log.read(1, 100)
    log.write()
    assert log.read(0, 100) == b""
    ticket = log.sync_begin()
    assert ticket is not None
    append(log, make_batch(3))
    log.write()
    ticket.run()
    log.sync_done(ticket, None)
    assert (log.end_offset, log.durable_offset) == (5, 2)
    assert [header.base_offset for _, header in iterate_headers(log.read(0, 1000))] == [0]
    assert log.read(2, 1000) == b""
    sync(log)
    assert log.durable_offset == 5
    assert log.sync_begin() is None


def test_one_sync_at_a_time() -> None:
    log = open_log(SimDisk())
    append(log, make_batch())
    log.write()
    assert log.sync_begin() is not None
    with pytest.raises(RuntimeError, match="under way"):
        log.sync_begin()


@pytest.mark.parametrize("max_bytes", [1, 70, 200, 500, 1 << 20])
def test_every_offset_is_found_across_segments(max_bytes: int) -> None:
    log = open_log(SimDisk())
    batches: dict[int, bytes] = {}
    for number in range(60):
        batch = make_batch(number % 4 + 1, payload=bytes([number]) * (number * 7 % 200))
        [appended] = append_synced(log, batch)
        batches |= dict.fromkeys(range(appended.base_offset, appended.last_offset + 1), batch)
    assert log.segment_count > 3
    for offset, batch in reversed(batches.items()):
        content = log.read(offset, max_bytes)
        header = read_header(content)
        assert header.base_offset <= offset <= header.last_offset
        assert bytes(content[16 : header.size_bytes]) == signed(batch)
        for position, whole in iterate_headers(content):
            check_batch(content[position : position + whole.size_bytes])
    assert len(read_all(log, max_bytes).batches) == 60


def test_read_stops_below_max_offset() -> None:
    log = open_log(SimDisk())
    append_synced(log, make_batch(2), make_batch(2), make_batch(2))
    assert [header.base_offset for _, header in iterate_headers(log.read(0, 9999, max_offset=4))] == [0, 2]
    assert [header.base_offset for _, header in iterate_headers(log.read(0, 9999, max_offset=5))] == [0, 2]
    assert log.read(4, 9999, max_offset=5) == b""


def test_offsets_outside_the_log_name_both_ends() -> None:
    log = open_log(SimDisk())
    append_synced(log, make_batch(5))
    for offset in (-1, 6):
        with pytest.raises(OffsetOutOfRange, match=rf"offset {offset} .* 0 to 5"):
            log.read(offset, 100)
    assert log.read(5, 100) == b""


def test_sequential_reading_costs_one_read_each() -> None:
    disk = SimDisk()
    log = open_log(disk, LogSettings())
    for _ in range(100):
        append(log, make_batch(payload=b"x" * 500))
    sync(log)
    offset, disk.bytes_read = 0, 0
    while content := log.read(offset, 4096):
        *_, (_, header) = iterate_headers(content)
        offset = header.next_offset
    assert offset == 100
    assert disk.bytes_read < log.size_bytes * 1.2


def test_a_group_larger_than_one_system_call(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "a-0", LogSettings(), files=OsFiles(), wall_ms=1, topic_id=TOPIC_ID)
    batches = [make_batch(payload=str(n).encode()) for n in range(IOV_MAX + 3)]
    append_synced(log, *batches)
    assert list(read_all(log).batches.values()) == [signed(batch) for batch in batches]
    log.close()


def test_too_large_names_both_sizes() -> None:
    log = open_log(SimDisk(), LogSettings(max_message_bytes=100))
    exact = make_batch(payload=b"x" * 39)
    append(log, exact)
    with pytest.raises(MessageTooLarge, match=r"101 bytes.*max.message.bytes is 100"):
        append(log, make_batch(payload=b"x" * 40))
    assert log.end_offset == 1
    log.reconfigure(LogSettings(max_message_bytes=101))
    append(log, make_batch(payload=b"x" * 40))
    with pytest.raises(MessageTooLarge, match=r"segment.bytes is 2048"):
        append(open_log(SimDisk()), make_batch(payload=b"x" * 2000))


def test_segment_age_rolls_and_a_clock_that_goes_back_does_not() -> None:
    log = open_log(SimDisk(), LogSettings(segment_ms=1000))
    for wall_ms, segments in ((5000, 1), (6000, 1), (1000, 1), (6001, 2), (6500, 2)):
        append(log, make_batch(), wall_ms=wall_ms)
        sync(log)
        assert log.segment_count == segments


def test_jitter_rolls_each_segment_earlier_by_another_part_and_the_same_at_every_start() -> None:
    settings = LogSettings(segment_ms=1_000, segment_jitter_ms=400)
    paths = [DIRECTORY / f"{number:020d}.log" for number in range(200)]
    ages_ms = [settings.segment_age_ms_max(path) for path in paths]
    assert 600 <= min(ages_ms) < 650
    assert 950 < max(ages_ms) <= 1_000
    assert ages_ms == [settings.segment_age_ms_max(path) for path in paths]
    twin = DIRECTORY.with_name("another-1") / paths[0].name
    assert settings.segment_age_ms_max(twin) != ages_ms[0], "partitions do not roll together"
    assert LogSettings(segment_ms=10, segment_jitter_ms=1_000).segment_age_ms_max(paths[0]) >= 0
    age_ms = ages_ms[0]
    log = open_log(SimDisk(), settings)
    for wall_ms, segments in ((5_000, 1), (5_000 + age_ms, 1), (5_001 + age_ms, 2)):
        append(log, make_batch(), wall_ms=wall_ms)
        sync(log)
        assert log.segment_count == segments


def test_idle_partitions_take_no_disk_and_few_descriptors() -> None:
    disk = SimDisk()
    log = open_log(disk)
    assert len(disk.content(DIRECTORY / f"{0:020d}.log")) == 0
    assert len(disk.descriptors) == 3, "the lock, the active segment, the witness"
    for _ in range(300):
        append_synced(log, make_batch(payload=b"x" * 400))
    read_all(log)
    assert len(disk.descriptors) <= 3 + SMALL.open_files_max


def test_opening_a_log_of_many_segments_reads_no_more_than_one_of_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reads(batches: int) -> int:
        disk, count = SimDisk(), 0
        log = open_log(disk)
        for _ in range(batches):
            append_synced(log, make_batch(payload=b"x" * 400))
        segments = log.segment_count
        log.close()
        read = disk.pread

        def counted(descriptor: int, size: int, position: int) -> bytes:
            nonlocal count
            count += 1
            return read(descriptor, size, position)

        monkeypatch.setattr(disk, "pread", counted)
        log = open_log(disk)
        found = count
        assert log.segment_count == segments > batches // 5
        assert len(read_all(log).batches) == batches
        assert log.offset_for_timestamp(0) is not None
        return found

    assert reads(12) == reads(300)


def test_timestamps() -> None:
    log = open_log(SimDisk())
    assert log.offset_for_timestamp(0) is None
    assert log.offset_of_max_timestamp() is None
    stamps = [500, 100, 700, 650, 700, 900, 20] * 12
    offsets = [
        append_synced(log, make_batch(2, timestamp=ts, payload=b"x" * 50))[0].base_offset for ts in stamps
    ]
    for wanted in (0, 100, 101, 500, 501, 699, 700, 701, 900):
        first = next(number for number, ts in enumerate(stamps) if ts >= wanted)
        assert log.offset_for_timestamp(wanted) == (offsets[first], stamps[first])
    assert log.offset_for_timestamp(901) is None
    assert log.offset_of_max_timestamp() == (10, 900)
    append(log, make_batch(timestamp=5000))
    log.write()
    assert log.offset_for_timestamp(4000) is None
    assert log.offset_of_max_timestamp() == (10, 900)
    log.advance_start(13)
    assert log.offset_for_timestamp(0) == (13, 20) if 12 in offsets else True
    assert log.offset_of_max_timestamp() == (24, 900)


def test_leader_epochs_follow_kafkas_rules() -> None:
    disk = SimDisk()
    for count in (3, 0, 2):
        log = open_log(disk)
        append_synced(log, *[make_batch() for _ in range(count)])
        log.close()
    log = open_log(disk)
    assert log.leader_epoch == 3
    assert disk.content(DIRECTORY / "leader-epoch-checkpoint") == b"0\n3\n0 0\n2 3\n3 5\n"
    assert [log.epoch_end_offset(epoch) for epoch in (-1, 0, 1, 2, 3, 4)] == [
        (-1, -1),
        (0, 3),
        (0, 3),
        (2, 5),
        (3, 5),
        (-1, -1),
    ]
    assert [read_header(log.read(offset, 1)).leader_epoch for offset in range(5)] == [0, 0, 0, 2, 2]


def test_the_epoch_rises_even_when_all_small_files_are_gone() -> None:
    disk = SimDisk()
    log = open_log(disk)
    append_synced(log, make_batch())
    log.close()
    for name in ("leader-epoch-checkpoint", "odradek-checkpoint"):
        disk.remove(DIRECTORY / name)
    assert open_log(disk).leader_epoch == 1


def test_delete_records() -> None:
    disk = SimDisk()
    log = open_log(disk)
    for _ in range(30):
        append_synced(log, make_batch(payload=b"x" * 300))
    segments = log.segment_count
    with pytest.raises(OffsetOutOfRange, match="0 to 30"):
        log.advance_start(31)
    assert log.advance_start(17) == 17
    assert log.advance_start(5) == 17
    assert log.segment_count < segments
    assert min(name for name in disk.names[DIRECTORY] if name.endswith(".log")) > f"{0:020d}.log"
    assert not [name for name in disk.names[DIRECTORY] if name.endswith(".deleted")]
    with pytest.raises(OffsetOutOfRange, match="17 to 30"):
        log.read(16, 100)
    assert min(read_all(log).batches) == 17
    log.close()
    again = open_log(disk)
    assert (again.start_offset, again.end_offset) == (17, 30)
    assert again.recovery.quarantined == ()
    disk.remove(DIRECTORY / "log-start-offset")
    again.close()
    assert open_log(disk).start_offset == 17


def test_deleting_everything_keeps_the_offsets() -> None:
    disk = SimDisk()
    log = open_log(disk)
    append_synced(log, *[make_batch() for _ in range(5)])
    assert log.advance_start(5) == 5
    log.close()
    log = open_log(disk)
    assert (log.start_offset, log.end_offset) == (5, 5)
    assert append_synced(log, make_batch())[0].base_offset == 5


def test_producers() -> None:
    disk = SimDisk()
    log = open_log(disk)
    first = append_synced(log, *[idempotent(7, sequence, 2) for sequence in range(0, 14, 2)])
    for number in (2, 3, 4, 5, 6):
        again = append(log, idempotent(7, number * 2, 2))[0]
        assert again == first[number]._replace(duplicate=True)
    assert log.end_offset == 14
    for wrong in (2, 13, 15, 16):
        with pytest.raises(OutOfOrderSequenceNumber, match=rf"expected sequence 14, got {wrong}"):
            append(log, idempotent(7, wrong, 2))
    with pytest.raises(UnknownProducerId, match="producer 8 is unknown here and sends sequence 1"):
        append(log, idempotent(8, 1))
    with pytest.raises(OutOfOrderSequenceNumber, match="got 14"):
        append(log, idempotent(7, 14, epoch=1))
    append(log, idempotent(7, 0, epoch=1))
    with pytest.raises(InvalidProducerEpoch, match="epoch 1 has taken over"):
        append(log, idempotent(7, 14))
    sync(log)
    log.advance_start(1)
    with pytest.raises(UnknownProducerId):
        append(log, idempotent(8, 5))
    append(log, idempotent(8, 0), idempotent(8, 1))
    assert log.end_offset == 17


def test_sequences_wrap() -> None:
    log = open_log(SimDisk())
    append(log, idempotent(1, 0))
    log.write()
    state = log._producers.get(1)
    assert state is not None
    last = state.batches[0]._replace(base_sequence=2**31 - 2, last_sequence=2**31 - 2)
    log._producers.restore([(1, state._replace(batches=(last,)))])
    append(log, idempotent(1, 2**31 - 1, 3))
    append(log, idempotent(1, 2))
    assert log.end_offset == 5


def test_the_number_of_producers_is_bounded_and_idle_ones_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers, "PRODUCERS_KEPT", 1)
    disk = SimDisk()
    settings = LogSettings(producer_ids_max=3, producer_expiry_ms=1000)
    log = open_log(disk, settings)
    for producer in (1, 2, 3):
        append(log, idempotent(producer, 0))
    append(log, idempotent(1, 1), idempotent(4, 0))
    with pytest.raises(UnknownProducerId):
        append(log, idempotent(2, 1))
    append(log, idempotent(1, 2))
    log.close()
    assert len(open_log(disk, settings, wall_ms=NOW_MS + 1000)._producers) == 3
    disk.release()
    assert len(open_log(disk, settings, wall_ms=NOW_MS + 1001)._producers) == 1, "the latest stays"


def test_a_clock_that_jumps_makes_no_producer_forgotten() -> None:
    """Else the retry of a batch, sent before the jump and again after it, would be written twice."""
    disk = SimDisk()
    log = open_log(disk)
    append(log, idempotent(1, 0))
    log.close()
    later = open_log(disk, wall_ms=NOW_MS + 10 * 365 * 86_400_000)
    [again] = append(later, idempotent(1, 0))
    assert (again.base_offset, again.duplicate) == (0, True)


def test_settings_have_kafkas_names_and_explain_themselves() -> None:
    assert LogSettings.from_config({}) == LogSettings()
    assert LogSettings.from_config({"segment.bytes": "4096", "preallocate": "false", "segment.ms": None}) == (
        LogSettings(segment_bytes=4096, preallocate=False)
    )
    assert all(setting.doc.endswith(".") for setting in TOPIC_SETTINGS.values())
    assert check_config({name: setting.default for name, setting in TOPIC_SETTINGS.items()}) == {
        name: setting.default for name, setting in TOPIC_SETTINGS.items()
    }
    for config, words in (
        (
            {"segment.bytes": 1023},
            "segment.bytes is 1023; it must be a whole number of bytes from 1024 to 2147483647",
        ),
        ({"segment.ms": "soon"}, "segment.ms is 'soon'"),
        ({"segment.ms": True}, "segment.ms is True"),
        ({"preallocate": 1}, "preallocate is 1; it must be true or false"),
        ({"retention": 1}, "no topic setting 'retention'; known settings: cleanup.policy"),
    ):
        with pytest.raises(InvalidConfig, match=words):
            check_config(config)

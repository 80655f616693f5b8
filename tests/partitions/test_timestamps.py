"""Whose time records bear: the broker's stamp, its checksum, and that nothing else of a batch changes."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from odradek.protocol.batch import append_stamped, check_batch, read_header
from odradek.protocol.errors import InvalidConfig, MessageTooLarge
from odradek.protocol.records import RecordToWrite, decode_batch, encode_batch
from partitions.settings import LogSettings, check_config
from tests.partitions.harness import SMALL, append, append_synced, open_log, read_all, sync
from tests.support.batches import idempotent, make_batch
from tests.support.simdisk import SimDisk

STAMPED = replace(SMALL, log_append_time=True)
AT_MS = 1_800_000_000_000


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_the_brokers_time_is_every_records_and_the_rest_is_as_it_came(codec: str) -> None:
    records = [RecordToWrite(1_000 + n, b"k%d" % n, b"v" * n, [("h", b"x")]) for n in range(5)]
    batch = encode_batch(records, compression=codec)
    log = open_log(SimDisk(), STAMPED)
    [appended] = append(log, batch, wall_ms=AT_MS)
    sync(log)
    assert appended.timestamp == AT_MS
    stored = bytes(log.read(0, 1))
    header = check_batch(stored)
    assert (header.attributes & 8, header.max_timestamp, header.base_timestamp) == (8, AT_MS, 1_000)
    assert [(r.timestamp, r.key, r.value, r.headers) for r in decode_batch(stored)] == [
        (AT_MS, record.key, record.value, record.headers) for record in records
    ]
    assert stored[43:] == batch[43:]
    assert stored[23:35] == batch[23:35]
    assert log.offset_for_timestamp(AT_MS) == (0, AT_MS)
    assert log.offset_for_timestamp(AT_MS + 1) is None


def test_the_producers_time_is_kept_byte_for_byte() -> None:
    log = open_log(SimDisk())
    batch = make_batch(3, timestamp=77)
    append_synced(log, batch)
    assert bytes(log.read(0, 1))[16:] == batch[16:]


def test_who_claims_to_have_been_stamped_is_not_believed() -> None:
    batch = make_batch(2, timestamp=77)
    _, stamp = append_stamped(batch, read_header(batch), 99)
    claimed = batch[:16] + stamp + batch[43:]
    assert check_batch(claimed).attributes & 8
    log = open_log(SimDisk())
    append_synced(log, claimed)
    header = check_batch(bytes(log.read(0, 1)))
    assert (header.attributes & 8, header.max_timestamp) == (0, 99)


def test_a_retry_gets_the_first_stamp() -> None:
    disk = SimDisk()
    log = open_log(disk, STAMPED)
    append(log, idempotent(1, 0), wall_ms=AT_MS)
    sync(log)
    assert append(log, idempotent(1, 0), wall_ms=AT_MS + 5)[0] == (0, 0, AT_MS, True)
    log = open_log(disk.crash(1, keep="all"), STAMPED)
    assert append(log, idempotent(1, 0), wall_ms=AT_MS + 5)[0] == (0, 0, AT_MS, True)


def test_the_stamp_may_change_while_the_log_is_open() -> None:
    log = open_log(SimDisk())
    append_synced(log, make_batch(timestamp=5))
    log.reconfigure(STAMPED)
    append(log, make_batch(timestamp=5), wall_ms=AT_MS)
    sync(log)
    log.reconfigure(SMALL)
    append_synced(log, make_batch(timestamp=6))
    headers = [read_header(log.read(offset, 1)) for offset in range(3)]
    assert [(header.attributes & 8, header.max_timestamp) for header in headers] == [
        (0, 5),
        (8, AT_MS),
        (0, 6),
    ]
    assert not read_all(log).damaged


def test_attributes_with_the_sign_bit_survive_a_stamp() -> None:
    batch = bytearray(make_batch(timestamp=7))
    struct.pack_into(">h", batch, 21, -(2**15) | 1)
    header, stamp = append_stamped(bytes(batch), read_header(batch), 9)
    stored = bytes(batch[:16]) + stamp + bytes(batch[43:])
    assert check_batch(stored) == header
    assert header.attributes == -(2**15) | 1 | 8


def test_a_batch_too_large_is_refused_stamped_or_not() -> None:
    log = open_log(SimDisk(), replace(STAMPED, max_message_bytes=100))
    with pytest.raises(MessageTooLarge):
        append(log, make_batch(payload=b"x" * 100))


def test_settings() -> None:
    made = LogSettings.from_config({"message.timestamp.type": "LogAppendTime", "compression.type": "zstd"})
    assert (made.log_append_time, made.codec) == (True, "zstd")
    assert LogSettings.from_config({"compression.type": "uncompressed"}).codec == "none"
    assert LogSettings.from_config({"compression.type": "producer"}).codec is None
    for config, words in (
        ({"message.timestamp.type": "logappendtime"}, "must be one of CreateTime, LogAppendTime"),
        ({"compression.type": "none"}, "one of producer, uncompressed, gzip, snappy, lz4, zstd"),
        ({"flush.messages": 0}, "a whole number of messages, 1 or more"),
        ({"flush.ms": -1}, "from 0 to 86400000"),
    ):
        with pytest.raises(InvalidConfig, match=words):
            check_config(config)

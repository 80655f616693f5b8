"""A partition of a compacted topic asks for keys; readers pass over what is gone; passes come and go."""

from __future__ import annotations

from typing import Any, Literal

import crc32c
import pytest

from actors.actor import Worked
from actors.effects import Effect
from actors.maintenance import CLEANING_CHECK_S, CLOCK_HOLD_S
from actors.messages import Configure
from odradek.protocol.batch import DELETE_HORIZON_MASK, iterate_headers
from odradek.protocol.messages import DeleteRecords, Fetch, FetchReply, ListOffsets, ListOffsetsReply, Produce
from odradek.protocol.records import decode_batches
from partitions.cleaning import Cleaning
from partitions.settings import LogSettings
from tests.actors.test_maintenance import WALL_MS, Rig
from tests.partitions.compacting import Kept, batch_of, records_of
from tests.support.batches import make_batch
from tests.support.transcript import ask, only_reply, replies

CONFIG = {"cleanup.policy": "compact", "segment.bytes": 1500, "min.cleanable.dirty.ratio": 0}


def compacted(**settings: Any) -> Rig:
    return Rig(LogSettings.from_config(CONFIG | settings))


def produce(batch: bytes) -> Any:
    return ask(Produce(topic="events", partition=0, format="batch"), batch)


def fetch(offset: int, kind: Literal["records", "batch"] = "batch", **fields: Any) -> Any:
    return ask(Fetch(topic="events", partition=0, offset=offset, format=kind, **fields))


def fill(rig: Rig, count: int = 40) -> None:
    for number in range(count):
        rig.turn(produce(batch_of([(b"k%d" % (number % 4), b"v" * 80)], timestamp=WALL_MS + number)))


def compact(rig: Rig) -> None:
    """Until nothing is left to do."""
    rig.live(CLEANING_CHECK_S + 1)
    while rig.jobs:
        rig.work()


# -- produce


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_record_without_a_key_is_refused_where_the_policy_says_compact(codec: str) -> None:
    batch = batch_of([(b"k", b"v"), (None, b"v")], compression=codec)
    rig = compacted()
    [refused] = replies(rig.turn(produce(batch)))
    assert refused.reply.error is not None
    assert (refused.reply.error.code, refused.reply.error.retriable) == (87, False)
    assert "record 1 of the batch has no key" in (refused.reply.error.message or "")
    assert rig.log.end_offset == 0
    assert replies(rig.turn(produce(batch_of([(b"k", b"v")]))))[0].reply.error is None
    plain = Rig()
    assert replies(plain.turn(produce(batch)))[0].reply.error is None, "others need no keys"


def test_records_that_cannot_be_read_are_refused() -> None:
    [refused] = replies(compacted().turn(produce(make_batch(3, payload=b"?" * 30))))
    assert refused.reply.error is not None
    assert refused.reply.error.name == "CORRUPT_MESSAGE"


def test_the_mark_of_compaction_is_refused() -> None:
    batch = bytearray(batch_of([(b"k", b"v")]))
    batch[22] |= DELETE_HORIZON_MASK
    batch[17:21] = crc32c.crc32c(bytes(batch[21:])).to_bytes(4, "big")
    [refused] = replies(compacted().turn(produce(bytes(batch))))
    assert refused.reply.error is not None
    assert refused.reply.error.name == "INVALID_RECORD"


# -- deleting


def test_only_where_deleting_is_a_policy_records_are_deleted_by_hand() -> None:
    request = ask(DeleteRecords(topic="events", partition=0, before_offset=1))
    rig = compacted()
    fill(rig, 3)
    [refused] = replies(rig.turn(request))
    assert refused.reply.error is not None
    assert (refused.reply.error.name, rig.log.start_offset) == ("POLICY_VIOLATION", 0)
    rig.turn(ask(Configure(config=CONFIG | {"cleanup.policy": "compact,delete"})))
    [done] = replies(rig.turn(request))
    assert done.reply.error is None


# -- passes


def test_a_pass_is_planned_now_and_then_and_runs_away_from_the_loop() -> None:
    rig = compacted()
    rig.turn()
    fill(rig)
    before = records_of(rig.log)
    rig.live(CLEANING_CHECK_S - 1)
    assert rig.jobs == []
    rig.live(2)
    assert len(rig.jobs) == 1, "one job at a time"
    rig.work()
    assert len(records_of(rig.log)) < len(before)
    compact(rig)
    closed = [item for item in records_of(rig.log) if item.offset < rig.log._state.segments[-1].base_offset]
    assert len(closed) == 4
    [(_, fields)] = [item for item in rig.logged if item[0] == "compacted"]
    assert fields["records_removed"] == len(before) - len(records_of(rig.log))
    assert int(str(fields["bytes_after"])) < int(str(fields["bytes_before"]))
    rig.live(5 * CLEANING_CHECK_S)
    assert not [job for job in rig.jobs if isinstance(job, Cleaning)], "nothing is dirty"


def test_records_come_and_are_read_between_the_runs_of_a_pass() -> None:
    rig = compacted()
    rig.turn()
    fill(rig)
    rig.live(CLEANING_CHECK_S + 1)
    while rig.jobs:
        [done] = replies(rig.turn(produce(batch_of([(b"new", b"%d" % rig.log.end_offset)]))))
        assert done.reply.error is None
        [read] = replies(rig.turn(fetch(rig.log.durable_offset - 1)))
        assert [record.key for record in decode_batches(read.payload[0])] == [b"new"]
        rig.work()
    assert not [event for event, _ in rig.logged if event == "compaction failed"]


def test_the_files_of_a_pass_wait_for_their_delay_and_hold_up_no_later_pass() -> None:
    rig = compacted(**{"file.delete.delay.ms": 600_000})
    rig.turn()
    fill(rig)
    compact(rig)
    assert rig.names(".log.deleted")
    fill(rig)
    compact(rig)
    assert [event for event, _ in rig.logged] == ["compacted"] * 2
    rig.live(700)
    while rig.jobs:
        rig.work()
        rig.live(1)
    assert rig.names(".deleted") == []


def test_a_change_of_the_policy_ends_the_pass() -> None:
    rig = compacted()
    rig.turn()
    fill(rig)
    rig.live(CLEANING_CHECK_S + 1)
    rig.turn(ask(Configure(config={"cleanup.policy": "delete"})))
    rig.work()
    rig.live(CLEANING_CHECK_S * 2)
    assert rig.jobs == []
    assert rig.log._cleaner.busy == frozenset()
    rig.turn(ask(Configure(config=CONFIG)))
    compact(rig)
    assert "compacted" in [event for event, _ in rig.logged]


def test_a_pass_that_fails_is_said_and_tried_again() -> None:
    rig = compacted()
    rig.turn()
    fill(rig)
    rig.live(CLEANING_CHECK_S + 1)
    job = rig.jobs.pop()
    rig.turn(Worked(job, OSError(5, "Input/output error")))
    assert rig.logged == [("compaction failed", {"error": "[Errno 5] Input/output error"})]
    compact(rig)
    assert "compacted" in [event for event, _ in rig.logged]


def test_damage_ends_the_pass_and_is_said() -> None:
    rig = compacted()
    rig.turn()
    fill(rig)
    path = rig.log._state.segments[0].path
    content = bytearray(rig.disk.content(path))
    content[100] ^= 1
    rig.disk.damage(path, bytes(content))
    rig.live(CLEANING_CHECK_S + 1)
    rig.work()
    assert [event for event, _ in rig.logged] == ["compaction met damage and waits for its repair"]
    assert rig.log.damages == ((0, 0),)


@pytest.mark.parametrize("years", [-1, 1])
def test_a_clock_that_jumped_between_two_passes_is_noticed_before_a_compaction(years: int) -> None:
    """Passes of retention come seldom; by then compaction would have taken tombstones by the wrong time."""
    rig = compacted()
    rig.turn()
    fill(rig)
    rig.pass_time(1.0, jump_ms=years * 365 * 24 * 3_600_000)
    rig.live(2 * CLEANING_CHECK_S)
    assert rig.jobs == []
    assert [event for event, _ in rig.logged] == ["the time of day jumped"]
    rig.live(CLOCK_HOLD_S + CLEANING_CHECK_S)
    assert len(rig.jobs) == 1, "it goes on"


def test_a_clock_that_jumped_compacts_nothing_for_a_while() -> None:
    rig = compacted()
    rig.turn()
    fill(rig)
    rig.pass_time(10.0)
    rig.pass_time(300.0, jump_ms=3_600_000)
    rig.turn()
    rig.live(2 * CLEANING_CHECK_S)
    assert rig.jobs == []


# -- reading


def gone(rig: Rig) -> None:
    """Forty records, and of the closed ones only the last of each key is left."""
    rig.turn()
    fill(rig)
    compact(rig)


def test_a_fetch_of_a_removed_offset_brings_the_next_record_in_either_format() -> None:
    rig = compacted()
    gone(rig)
    kept = records_of(rig.log)
    for offset in range(rig.log.durable_offset):
        first = next(item.offset for item in kept if item.offset >= offset)
        for max_bytes in (1, 1 << 20):
            [batches] = replies(rig.turn(fetch(offset, max_bytes=max_bytes)))
            assert next(record.offset for record in decode_batches(batches.payload[0], offset)) == first
            [single] = replies(rig.turn(fetch(offset, "records", max_bytes=max_bytes)))
            assert isinstance(single.reply, FetchReply)
            assert single.reply.records
            assert single.reply.records[0].offset == first


def all_gone() -> Rig:
    """Every key was deleted, and the tombstones have gone, too: batches without a record up to the end."""
    rig = compacted(**{"delete.retention.ms": 0, "max.compaction.lag.ms": 1})
    rig.turn()
    for number in range(20):
        rig.turn(produce(batch_of([(b"k%d" % (number % 2), None if number > 15 else b"v" * 80)])))
    for _ in range(3):
        rig.live(400)
        rig.log._cleaner.cleaned_offset = 0  # else the last tombstones stay until something comes behind them
        while rig.jobs:
            rig.work()
    return rig


def test_where_no_record_is_left_a_reader_waits_and_then_goes_on_at_the_end() -> None:
    rig = all_gone()
    assert records_of(rig.log) == []
    start, end = 0, rig.log.durable_offset
    assert replies(rig.turn(fetch(start, max_wait_ms=500))) == [], "parked, not answered in a loop"
    rig.pass_time(0.6)
    [late] = replies(rig.turn())
    *_, (_, last) = iterate_headers(late.payload[0])
    assert last.next_offset == end
    assert replies(rig.turn(fetch(start, max_wait_ms=500))) == []
    effects: list[Effect] = rig.turn(produce(batch_of([(b"new", b"v")])))
    brought = [reply for reply in replies(effects) if isinstance(reply.reply, FetchReply)]
    assert [record.offset for record in decode_batches(brought[0].payload[0], start)] == [end]


def test_a_batch_that_claims_a_later_time_than_its_records_costs_no_decoding_of_all_that_follows() -> None:
    """Batches of an earlier time are passed over unread: here they could not be read at all."""
    rig = Rig(LogSettings())
    liar = bytearray(batch_of([(b"k", b"v")], timestamp=WALL_MS))
    liar[35:43] = (WALL_MS + 1_000).to_bytes(8, "big")
    liar[17:21] = crc32c.crc32c(liar[21:]).to_bytes(4, "big")
    garbled = make_batch(payload=b"\xff" * 40, timestamp=WALL_MS)
    late = batch_of([(b"k", b"v")], timestamp=WALL_MS + 500)
    rig.turn(*(produce(batch) for batch in (bytes(liar), garbled, garbled, late)))
    for at_ms, expected in ((WALL_MS + 400, 3), (WALL_MS + 700, -1)):
        asked = ask(ListOffsets(topic="events", partition=0, at=at_ms))
        assert only_reply(rig.turn(asked), ListOffsetsReply).offset == expected


def test_list_offsets_by_time_passes_over_what_is_gone() -> None:
    rig = compacted()
    gone(rig)
    kept: list[Kept] = records_of(rig.log)
    for number in range(40):
        reply = only_reply(
            rig.turn(ask(ListOffsets(topic="events", partition=0, at=WALL_MS + number))), ListOffsetsReply
        )
        first = next(item.offset for item in kept if item.offset >= number)
        assert (reply.offset, reply.timestamp) == (first, WALL_MS + first)
    latest = ask(ListOffsets(topic="events", partition=0, at="max_timestamp"))
    late = only_reply(rig.turn(latest), ListOffsetsReply)
    assert (late.offset, late.timestamp) == (39, WALL_MS + 39)

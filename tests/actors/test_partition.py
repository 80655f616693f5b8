"""PartitionActor over a real Log on a simulated disk: what it answers, and above all when."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from actors import parking, partition
from actors.actor import Answer, Envelope, Synced
from actors.effects import Effect, Fail, Reply
from actors.effects import Log as LogLine
from actors.messages import Configure
from actors.partition import PartitionActor
from odradek.protocol.batch import read_header
from odradek.protocol.messages import (
    REPLY_OF,
    DeleteRecords,
    DeleteRecordsReply,
    ErrorReply,
    Fetch,
    FetchReply,
    ListOffsets,
    ListOffsetsReply,
    Ping,
    PingReply,
    Produce,
    ProduceRecord,
    ProduceReply,
)
from odradek.protocol.records import RecordToWrite, encode_batch
from partitions.log import Log
from partitions.settings import LogSettings
from tests.support.batches import idempotent, make_batch
from tests.support.clock import FakeClock
from tests.support.simdisk import SimDisk
from tests.support.transcript import ask, error_name, only_reply, replies, said, sender, syncs

DIRECTORY = Path("/simulated/events-0")


class Rig:
    """One actor, its disk and its clock; a turn is what the host makes of an inbox."""

    def __init__(self, disk: SimDisk | None = None, **settings: Any) -> None:
        self.disk = disk or SimDisk()
        self.clock = FakeClock()
        self.log = Log.open(
            DIRECTORY,
            LogSettings(**settings),
            files=self.disk,
            wall_ms=self.clock.now().wall_ms,
            topic_id="id",
        )
        self.actor = PartitionActor("events", 0, self.log)
        self.ticket: Any = None

    def turn(self, *envelopes: Envelope) -> list[Effect]:
        effects: list[Effect] = []
        for envelope in envelopes:
            effects += self.actor.receive(envelope, self.clock.now())
        return effects + self.settle()

    def settle(self) -> list[Effect]:
        effects = list(self.actor.settle(self.clock.now()))
        for sync in syncs(effects):
            assert self.ticket is None, "one sync at a time"
            self.ticket = sync.ticket
        return effects

    def sync(self) -> list[Effect]:
        """The ticket that is out comes back."""
        ticket, self.ticket = self.ticket, None
        error = None
        try:
            ticket.run()
        except OSError as failed:
            error = failed
        return list(self.actor.receive(Synced(ticket, error), self.clock.now()))

    def keep(self, *batches: bytes) -> None:
        """Make batches durable without looking at what is said."""
        for batch in batches:
            self.turn(produce(batch))
            self.sync()


def produce(batch: bytes, acks: Any = "all", by: str = "client") -> Envelope:
    return ask(Produce(topic="events", partition=0, format="batch", acks=acks), batch, by=by)


def fetch(offset: int, by: str = "client", **fields: Any) -> Envelope:
    return ask(Fetch(topic="events", partition=0, offset=offset, format="batch", **fields), by=by)


def fetched(effects: Sequence[Effect]) -> tuple[FetchReply, bytes]:
    assert len(effects) == 1, effects
    effect = effects[0]
    assert isinstance(effect, Reply)
    assert isinstance(effect.reply, FetchReply)
    return effect.reply, b"".join(map(bytes, effect.payload))


# -- produce: what is durable when it is answered ----------------------------------------------------------


def test_acks_all_is_answered_after_its_sync_and_not_before() -> None:
    rig = Rig()
    effects = rig.turn(produce(make_batch(3)))
    assert replies(effects) == []
    assert len(syncs(effects)) == 1
    reply = only_reply(rig.sync(), ProduceReply)
    assert (reply.topic, reply.partition, reply.offset, reply.count) == ("events", 0, 0, 3)
    assert reply.error is None


def test_acks_1_is_answered_after_the_write_and_before_the_sync() -> None:
    rig = Rig()
    received = rig.actor.receive(produce(make_batch(), acks=1), rig.clock.now())
    assert list(received) == [], "nothing is written yet"
    assert said(rig.settle()) == [("client", "ok")]
    assert rig.log.durable_offset == 0
    assert rig.sync() == []


def test_acks_0_is_never_answered_and_yet_becomes_durable() -> None:
    rig = Rig()
    assert replies(rig.turn(produce(make_batch(), acks=0))) == []
    assert rig.sync() == []
    assert rig.log.durable_offset == 1


@pytest.mark.parametrize("bad", [b"", b"short", make_batch()[:-1] + b"\0"])
def test_acks_0_is_silent_about_errors_too(bad: bytes) -> None:
    assert Rig().turn(produce(bad, acks=0)) == []


def test_one_turn_is_one_write_and_one_sync_and_the_replies_keep_their_order() -> None:
    rig = Rig()
    rig.disk.trace.clear()
    effects = rig.turn(*(produce(make_batch(2), by=f"c{number}") for number in range(5)))
    assert rig.disk.trace.count("write") == 1
    assert len(syncs(effects)) == 1
    effects = rig.sync()
    assert said(effects) == [(f"c{number}", "ok") for number in range(5)]
    assert [cast(ProduceReply, item.reply).offset for item in replies(effects)] == [0, 2, 4, 6, 8]


def test_what_comes_while_a_sync_runs_waits_for_the_next_one() -> None:
    rig = Rig()
    rig.turn(produce(make_batch(), by="first"))
    effects = rig.turn(produce(make_batch(), by="second"))
    assert effects == [], "a sync is out; the next begins when it is back"
    assert said(rig.sync()) == [("first", "ok")]
    assert len(syncs(rig.settle())) == 1
    assert said(rig.sync()) == [("second", "ok")]


def test_an_idle_turn_does_nothing() -> None:
    rig = Rig()
    assert rig.settle() == []
    assert rig.actor.deadline() is None


def test_bytes_stand_in_the_log_as_they_came_but_for_offset_and_epoch() -> None:
    rig = Rig()
    batch = make_batch(2, payload=b"some payload")
    rig.keep(make_batch(), batch)
    _, stored = fetched(rig.turn(fetch(1)))
    assert stored[16:] == batch[16:]
    assert read_header(stored).base_offset == 1
    assert read_header(stored).leader_epoch == rig.log.leader_epoch


@pytest.mark.parametrize(
    ("batch", "name"),
    [
        (b"", "CORRUPT_MESSAGE"),
        (make_batch()[:40], "CORRUPT_MESSAGE"),
        (make_batch() + b"x", "CORRUPT_MESSAGE"),
        (make_batch()[:-1] + b"\xff", "CORRUPT_MESSAGE"),
        (idempotent(7, 5), "UNKNOWN_PRODUCER_ID"),
        (make_batch(payload=bytes(2_000)), "MESSAGE_TOO_LARGE"),
    ],
)
def test_a_bad_batch_is_refused_and_leaves_no_trace(batch: bytes, name: str) -> None:
    rig = Rig(max_message_bytes=1_000)
    assert error_name(rig.turn(produce(batch))) == name
    assert rig.log.end_offset == 0
    rig.turn(produce(make_batch()))
    assert only_reply(rig.sync(), ProduceReply).offset == 0


def test_a_batch_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    batch = make_batch(payload=bytes(500))
    assert error_name(Rig(max_message_bytes=len(batch) - 1).turn(produce(batch))) == "MESSAGE_TOO_LARGE"
    rig = Rig(max_message_bytes=len(batch))
    rig.turn(produce(batch))
    assert said(rig.sync()) == [("client", "ok")]


@pytest.mark.parametrize(
    "request_",
    [
        Produce(topic="events", partition=0, format="records"),
        Produce(topic="events", partition=0, records=[ProduceRecord()]),
    ],
)
def test_records_are_not_taken_here(request_: Produce) -> None:
    assert error_name(Rig().turn(ask(request_, b"value"))) == "INVALID_REQUEST"


@pytest.mark.parametrize("payload", [(), (make_batch(), make_batch())])
def test_a_batch_is_one_frame(payload: tuple[bytes, ...]) -> None:
    request = Produce(topic="events", partition=0, format="batch")
    assert error_name(Rig().turn(ask(request, *payload))) == "INVALID_REQUEST"


def test_a_bad_neighbour_in_the_same_turn_harms_nobody() -> None:
    rig = Rig()
    effects = rig.turn(produce(make_batch(), by="a"), produce(b"bad", by="b"), produce(make_batch(), by="c"))
    assert said(effects) == [("b", "CORRUPT_MESSAGE")]
    assert said(rig.sync()) == [("a", "ok"), ("c", "ok")]


# -- idempotence -------------------------------------------------------------------------------------------


def test_a_retry_of_a_durable_batch_is_answered_at_once_with_its_offset() -> None:
    rig = Rig()
    rig.keep(idempotent(7, 0, 2), idempotent(7, 2))
    reply = only_reply(rig.turn(produce(idempotent(7, 0, 2))), ProduceReply)
    assert (reply.offset, reply.count) == (0, 2)
    assert rig.log.end_offset == 3


def test_a_retry_of_a_batch_that_is_not_durable_yet_waits_for_the_sync() -> None:
    rig = Rig()
    rig.turn(produce(idempotent(7, 0), by="first"))
    assert rig.turn(produce(idempotent(7, 0), by="again")) == []
    effects = rig.sync()
    assert said(effects) == [("first", "ok"), ("again", "ok")]
    assert [cast(ProduceReply, item.reply).offset for item in replies(effects)] == [0, 0]
    assert rig.log.end_offset == 1


def test_a_retry_in_the_same_turn_is_one_copy() -> None:
    rig = Rig()
    rig.turn(produce(idempotent(7, 0), by="first"), produce(idempotent(7, 0), by="again"))
    assert said(rig.sync()) == [("first", "ok"), ("again", "ok")]
    assert rig.log.durable_offset == 1


def test_a_gap_in_the_sequence_is_refused() -> None:
    rig = Rig()
    rig.keep(idempotent(7, 0))
    assert error_name(rig.turn(produce(idempotent(7, 2)))) == "OUT_OF_ORDER_SEQUENCE_NUMBER"
    assert error_name(rig.turn(produce(idempotent(7, 0, epoch=-1)))) == "CORRUPT_MESSAGE"


def test_an_older_epoch_is_fenced() -> None:
    rig = Rig()
    rig.keep(idempotent(7, 0, epoch=1))
    assert error_name(rig.turn(produce(idempotent(7, 1, epoch=0)))) == "INVALID_PRODUCER_EPOCH"


# -- disks that fail ---------------------------------------------------------------------------------------


def test_a_full_disk_fails_the_whole_turn_and_the_next_one_goes_on_densely() -> None:
    rig = Rig(preallocate=False)
    rig.keep(make_batch())
    rig.disk.capacity = rig.disk.used() + 10
    effects = rig.turn(produce(make_batch(), by="a"), produce(make_batch(), acks=1, by="b"))
    assert said(effects) == [("a", "KAFKA_STORAGE_ERROR"), ("b", "KAFKA_STORAGE_ERROR")]
    assert rig.log.end_offset == 1
    rig.disk.capacity = None
    rig.turn(produce(make_batch()))
    assert only_reply(rig.sync(), ProduceReply).offset == 1


def test_after_a_failed_sync_nobody_is_told_that_it_worked_and_nothing_more_is_taken() -> None:
    rig = Rig()
    rig.keep(make_batch())
    rig.turn(produce(make_batch(), by="in the sync"))
    rig.turn(produce(make_batch(), by="written behind it"))
    rig.disk.sync_error = OSError(errno.EIO, "lost")
    *answers, last = rig.sync()
    assert said(answers) == [
        ("in the sync", "KAFKA_STORAGE_ERROR"),
        ("written behind it", "KAFKA_STORAGE_ERROR"),
    ]
    assert isinstance(last, Fail), "a successor must find out what the disk holds"
    rig.disk.sync_error = None
    rig.disk.trace.clear()
    assert error_name(rig.turn(produce(make_batch()))) == "KAFKA_STORAGE_ERROR"
    assert rig.settle() == []
    assert "sync" not in rig.disk.trace, "a failed fsync is final"
    assert rig.log.durable_offset == 1
    reply, stored = fetched(rig.turn(fetch(0)))
    assert reply.high_watermark == 1, "what was durable before is still served"
    assert read_header(stored).base_offset == 0


def test_a_write_that_breaks_the_log_answers_those_who_wait_for_a_sync_that_will_never_come() -> None:
    class BrokenDisk(SimDisk):
        broken = False

        def pwritev(self, descriptor: int, buffers: Sequence[Any], position: int) -> int:
            if self.broken:
                raise OSError(errno.EIO, "broken")
            return super().pwritev(descriptor, buffers, position)

    disk = BrokenDisk()
    rig = Rig(disk)
    rig.turn(produce(make_batch(), by="in the sync"))
    rig.turn(produce(make_batch(), by="written behind it"))
    disk.broken = True
    assert said(rig.turn(produce(make_batch(), by="refused"))) == [("refused", "KAFKA_STORAGE_ERROR")]
    *answers, last = rig.sync()
    assert said(answers) == [("in the sync", "ok"), ("written behind it", "KAFKA_STORAGE_ERROR")]
    assert isinstance(last, Fail)
    assert rig.settle() == []


def test_stop_after_a_failed_sync_does_not_sync_again() -> None:
    rig = Rig()
    rig.turn(produce(make_batch()))
    rig.disk.sync_error = OSError(errno.EIO, "lost")
    rig.sync()
    assert list(rig.actor.stop(rig.clock.now())) == []


# -- bounds ------------------------------------------------------------------------------------------------


def test_what_waits_for_the_disk_is_bounded_and_the_bound_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = make_batch()
    monkeypatch.setattr(partition, "UNSYNCED_BYTES_MAX", 2 * len(batch))
    rig = Rig()
    effects = rig.turn(*(produce(batch, by=name) for name in "abc"))
    assert said(effects) == [("c", "THROTTLING_QUOTA_EXCEEDED")]
    assert said(rig.sync()) == [("a", "ok"), ("b", "ok")]
    rig.turn(produce(batch), produce(batch))
    assert said(rig.sync()) == [("client", "ok")] * 2


@pytest.mark.parametrize("acks", ["all", 1])
def test_the_bound_is_given_back_after_a_full_disk_and_after_every_acks(
    monkeypatch: pytest.MonkeyPatch, acks: Any
) -> None:
    batch = make_batch()
    monkeypatch.setattr(partition, "UNSYNCED_BYTES_MAX", len(batch))
    rig = Rig(preallocate=False)
    rig.disk.capacity = rig.disk.used()
    assert error_name(rig.turn(produce(batch, acks))) == "KAFKA_STORAGE_ERROR"
    rig.disk.capacity = None
    for _ in range(3):
        effects = rig.turn(produce(batch, acks))
        assert said([*effects, *rig.sync()]) == [("client", "ok")]


def test_the_fetch_that_waited_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "PARKED_FETCHES_MAX", 2)
    rig = Rig()
    assert said(rig.turn(*(fetch(0, by=name) for name in "abc"))) == [("a", "ok")]
    assert said(rig.turn(produce(make_batch(), by="writer"))) == []
    assert sorted(said(rig.sync())) == [("b", "ok"), ("c", "ok"), ("writer", "ok")]


# -- fetch -------------------------------------------------------------------------------------------------


def test_fetch_returns_whole_batches_and_both_ends() -> None:
    rig = Rig()
    rig.keep(make_batch(2), make_batch(3))
    reply, stored = fetched(rig.turn(fetch(1)))
    assert (reply.high_watermark, reply.log_start_offset, reply.error) == (5, 0, None)
    assert read_header(stored).base_offset == 0, "the first batch may begin before the offset"


def test_at_least_one_batch_comes_however_small_max_bytes_is() -> None:
    rig = Rig()
    rig.keep(make_batch(payload=bytes(5_000)), make_batch())
    _, stored = fetched(rig.turn(fetch(0, max_bytes=0)))
    assert read_header(stored).size_bytes == len(stored)


def test_a_fetch_parks_until_an_append_is_durable() -> None:
    rig = Rig()
    assert rig.turn(fetch(0, by="reader")) == []
    assert said(rig.turn(produce(make_batch(), by="writer"))) == []
    effects = rig.sync()
    assert said(effects) == [("writer", "ok"), ("reader", "ok")]
    assert replies(effects)[1].payload
    assert rig.actor.deadline() is None, "its deadline went with it"


def test_what_is_written_and_not_durable_is_shown_to_nobody() -> None:
    rig = Rig()
    rig.turn(produce(make_batch(2), acks=1))
    assert rig.log.end_offset == 2
    for offset in (0, 1, 2):
        reply, stored = fetched(rig.turn(fetch(offset, max_wait_ms=0)))
        assert (reply.high_watermark, stored, reply.error) == (0, b"", None)


def test_a_fetch_between_the_durable_end_and_the_end_parks_and_is_released() -> None:
    rig = Rig()
    rig.turn(produce(make_batch(2), by="writer"))
    assert rig.turn(fetch(1, by="reader"), fetch(2, by="ahead")) == []
    assert said(rig.sync()) == [("writer", "ok"), ("reader", "ok")]
    rig.settle()
    rig.turn(produce(make_batch(), by="writer"))
    assert said(rig.sync()) == [("writer", "ok"), ("ahead", "ok")]


def test_a_parked_fetch_is_answered_empty_at_its_deadline_and_not_before() -> None:
    rig = Rig()
    rig.turn(fetch(0, max_wait_ms=500))
    deadline_s = rig.actor.deadline()
    assert deadline_s == rig.clock.now().monotonic_s + 0.5
    rig.clock.advance(0.499)
    assert rig.settle() == []
    rig.clock.advance_to(deadline_s)
    reply, stored = fetched(rig.settle())
    assert (reply.high_watermark, stored, reply.error) == (0, b"", None)
    assert rig.actor.deadline() is None
    assert rig.settle() == [], "once"


def test_deadlines_come_in_order_of_time_not_of_arrival() -> None:
    rig = Rig()
    rig.turn(fetch(0, by="slow", max_wait_ms=900), fetch(0, by="fast", max_wait_ms=100))
    rig.clock.advance(0.1)
    assert said(rig.settle()) == [("fast", "ok")]
    rig.clock.advance(0.8)
    assert said(rig.settle()) == [("slow", "ok")]


def test_min_bytes_parks_until_enough_is_there() -> None:
    rig = Rig()
    batch = make_batch()
    rig.keep(batch)
    assert rig.turn(fetch(0, by="reader", min_bytes=len(batch) + 1)) == []
    rig.turn(produce(batch, by="writer"))
    assert said(rig.sync()) == [("writer", "ok"), ("reader", "ok")]


def test_min_bytes_gives_what_there_is_at_the_deadline() -> None:
    rig = Rig()
    rig.keep(make_batch())
    rig.turn(fetch(0, min_bytes=10_000, max_wait_ms=100))
    rig.clock.advance(0.1)
    assert fetched(rig.settle())[1]


def test_who_does_not_wait_gets_what_there_is_though_it_is_less_than_min_bytes() -> None:
    rig = Rig()
    rig.keep(make_batch())
    assert fetched(rig.turn(fetch(0, min_bytes=10_000, max_wait_ms=0)))[1]


def test_min_bytes_of_max_bytes_does_not_wait_where_whole_batches_leave_a_rest() -> None:
    rig = Rig()
    rig.keep(*[make_batch()] * 10)
    size = len(make_batch()) * 5 // 2
    assert fetched(rig.turn(fetch(0, min_bytes=size, max_bytes=size)))[1]


def test_min_bytes_0_answers_at_once() -> None:
    rig = Rig()
    assert fetched(rig.turn(fetch(0, min_bytes=0)))[1] == b""
    rig.turn(produce(make_batch(), acks=1))
    assert fetched(rig.turn(fetch(1, min_bytes=0)))[1] == b""


@pytest.mark.parametrize("offset", [-1, 4, 2**40])
def test_an_offset_outside_the_log_gets_both_ends(offset: int) -> None:
    rig = Rig()
    rig.keep(make_batch(3))
    reply, _ = fetched(rig.turn(fetch(offset)))
    assert reply.error is not None
    assert reply.error.name == "OFFSET_OUT_OF_RANGE"
    assert "0 to 3" in reply.error.message
    assert (reply.log_start_offset, reply.high_watermark) == (0, 3)


def test_a_parked_fetch_whose_offset_was_deleted_meanwhile_is_told_at_its_deadline() -> None:
    rig = Rig()
    rig.keep(make_batch(3))
    rig.turn(fetch(1, by="reader", min_bytes=10_000, max_wait_ms=100))
    rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=2)))
    rig.clock.advance(0.1)
    assert said(rig.settle()) == [("reader", "OFFSET_OUT_OF_RANGE")]


# -- list offsets and delete records -----------------------------------------------------------------------


def list_offsets(rig: Rig, at: Any) -> tuple[int, int]:
    reply = only_reply(rig.turn(ask(ListOffsets(topic="events", partition=0, at=at))), ListOffsetsReply)
    assert reply.error is None
    assert isinstance(reply.offset, int)
    assert isinstance(reply.timestamp, int)
    return reply.offset, reply.timestamp


def test_list_offsets_of_an_empty_log() -> None:
    rig = Rig()
    assert list_offsets(rig, "earliest") == (0, -1)
    assert list_offsets(rig, "latest") == (0, -1)
    assert list_offsets(rig, "max_timestamp") == (-1, -1)
    assert list_offsets(rig, 0) == (-1, -1)


def test_list_offsets_by_time_is_exact_to_the_record() -> None:
    rig = Rig()
    rig.keep(
        encode_batch([RecordToWrite(time, None, b"v") for time in (10, 30, 20)]),
        encode_batch([RecordToWrite(time, None, b"v") for time in (40, 25)]),
    )
    assert [list_offsets(rig, at) for at in (0, 11, 30, 31, 40, 41)] == [
        (0, 10),
        (1, 30),
        (1, 30),
        (3, 40),
        (3, 40),
        (-1, -1),
    ]
    assert list_offsets(rig, "max_timestamp") == (3, 40)
    assert list_offsets(rig, "latest") == (5, -1)


def test_latest_is_the_durable_end() -> None:
    rig = Rig()
    rig.turn(produce(make_batch(), acks=1))
    assert list_offsets(rig, "latest") == (0, -1)
    assert list_offsets(rig, 0) == (-1, -1)


def test_records_that_cannot_be_decoded_give_an_error_and_no_crash() -> None:
    rig = Rig()
    rig.keep(make_batch(payload=b"\xff" * 30, timestamp=10))
    effects = rig.turn(ask(ListOffsets(topic="events", partition=0, at=5)))
    assert error_name(effects) == "CORRUPT_MESSAGE"


@pytest.mark.parametrize(("before", "start"), [(0, 0), (1, 1), (3, 3), (-1, 3)])
def test_delete_records_moves_the_start(before: int, start: int) -> None:
    rig = Rig()
    rig.keep(make_batch(3))
    effects = rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=before)))
    assert only_reply(effects, DeleteRecordsReply).log_start_offset == start
    assert list_offsets(rig, "earliest") == (start, -1)


def test_delete_records_never_goes_beyond_the_durable_end_and_never_back() -> None:
    rig = Rig()
    rig.keep(make_batch(3))
    rig.turn(produce(make_batch(), acks=1))
    beyond = ask(DeleteRecords(topic="events", partition=0, before_offset=4))
    assert error_name(rig.turn(beyond)) == "OFFSET_OUT_OF_RANGE"
    rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=2)))
    back = ask(DeleteRecords(topic="events", partition=0, before_offset=1))
    assert only_reply(rig.turn(back), DeleteRecordsReply).log_start_offset == 2


# -- the rest ----------------------------------------------------------------------------------------------


def test_ping() -> None:
    only_reply(Rig().turn(ask(Ping())), PingReply)


@pytest.mark.parametrize(("topic", "number"), [("events", 1), ("other", 0)])
def test_every_request_for_another_partition_is_refused(topic: str, number: int) -> None:
    for request in (
        Produce(topic=topic, partition=number, format="batch"),
        Fetch(topic=topic, partition=number, offset=0),
        ListOffsets(topic=topic, partition=number, at="latest"),
        DeleteRecords(topic=topic, partition=number, before_offset=0),
    ):
        assert said(Rig().turn(ask(request, make_batch()))) == [("client", "UNKNOWN_TOPIC_OR_PARTITION")]
    assert error_name(Rig().turn(ask(Produce(topic="events", format="batch"), make_batch()))) == (
        "UNKNOWN_TOPIC_OR_PARTITION"
    )


def test_every_request_that_is_not_for_a_partition_is_refused_by_name() -> None:
    served = {Produce, Fetch, ListOffsets, DeleteRecords, Ping}
    for kind in set(REPLY_OF) - served:
        fields: dict[str, Any] = dict.fromkeys(kind.__struct_fields__)
        request = kind(**fields)
        reply = only_reply(Rig().turn(ask(request)), ErrorReply)
        assert reply.error is not None
        assert reply.error.name == "INVALID_REQUEST"
        assert str(kind.__struct_config__.tag) in reply.error.message


def test_configure_takes_effect_at_once_and_answers_nobody() -> None:
    rig = Rig()
    batch = make_batch(payload=bytes(500))
    assert rig.turn(ask(Configure(config={"max.message.bytes": 100}))) == []
    assert error_name(rig.turn(produce(batch))) == "MESSAGE_TOO_LARGE"
    rig.turn(ask(Configure(config={})))
    rig.turn(produce(batch))
    assert said(rig.sync()) == [("client", "ok")]


def test_a_configuration_that_cannot_be_is_logged_and_changes_nothing() -> None:
    effects = Rig().turn(ask(Configure(config={"max.message.bytes": "many"})))
    assert [type(effect) for effect in effects] == [LogLine]


def test_an_answer_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError):
        Rig().actor.receive(Answer(1, PingReply()), FakeClock().now())


def test_stop_makes_durable_what_was_accepted_and_sends_readers_away() -> None:
    rig = Rig()
    rig.turn(fetch(0, by="reader", min_bytes=10_000))
    rig.actor.receive(produce(make_batch(), by="writer"), rig.clock.now())
    effects = list(rig.actor.stop(rig.clock.now()))
    assert said(effects) == [("writer", "ok"), ("reader", "LEADER_NOT_AVAILABLE")]
    assert rig.log.durable_offset == 1


def test_a_power_cut_behind_an_answer_loses_nothing_that_was_answered() -> None:
    rig = Rig()
    rig.turn(*(produce(make_batch(payload=bytes([number]) * 40), by=str(number)) for number in range(8)))
    assert len(replies(rig.sync())) == 8
    for seed in range(20):
        again = Rig(rig.disk.crash(seed, keep="none"))
        assert again.log.durable_offset == 8


def test_requests_name_their_sender_and_the_reply_goes_there() -> None:
    rig = Rig()
    effects = rig.turn(Envelope(sender("a", 17), Ping()))
    assert replies(effects)[0].to == sender("a", 17)

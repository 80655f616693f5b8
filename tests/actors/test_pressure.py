"""Disk pressure: what is refused, what goes on, and that the end of it is noticed."""

from __future__ import annotations

from odradek.protocol.errors import ERRORS
from odradek.protocol.messages import DeleteRecords, DeleteRecordsReply, ListOffsets, ListOffsetsReply, Reply
from partitions.settings import LogSettings
from tests.actors.test_maintenance import Rig, stamped_produce
from tests.actors.test_partition import fetch, fetched
from tests.support.transcript import ask, only_reply, said

LIMIT_BYTES = 100_000
SETTINGS = LogSettings(segment_bytes=1024, preallocate=False)


def pressed() -> Rig:
    """A partition with twelve records on a disk that is nearly full."""
    rig = Rig(SETTINGS, free_bytes_min=LIMIT_BYTES)
    rig.fill()
    rig.disk.capacity = rig.disk.used() + LIMIT_BYTES - 1
    rig.pass_time(1)
    return rig


def test_records_are_refused_with_a_retriable_error_that_says_what_to_do() -> None:
    rig = pressed()
    reply = only_reply(rig.turn(stamped_produce(rig)), Reply)
    assert reply.error is not None
    assert ERRORS[reply.error.code].retriable
    assert "disk_free_bytes_min keeps 100000 free" in (reply.error.message or "")
    assert rig.log.end_offset == 12
    assert rig.logged[-1][0] == "disk nearly full: records are refused"
    rig.turn(stamped_produce(rig))
    assert len(rig.logged) == 1, "said once"


def test_reading_and_deleting_go_on() -> None:
    rig = pressed()
    rig.turn(stamped_produce(rig))
    assert fetched(rig.turn(fetch(0, max_wait_ms=0)))[1]
    found = rig.turn(ask(ListOffsets(topic="events", partition=0, at="latest")))
    assert only_reply(found, ListOffsetsReply).offset == 12
    deleted = rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=7)))
    assert only_reply(deleted, DeleteRecordsReply).log_start_offset == 7


def test_deleted_files_give_their_space_back_at_once_and_writes_resume_with_dense_offsets() -> None:
    rig = pressed()
    rig.turn(stamped_produce(rig))
    rig.turn(ask(DeleteRecords(topic="events", partition=0, before_offset=12)))
    rig.turn()
    assert len(rig.jobs) == 1, "not after the delay"
    rig.work()
    rig.pass_time(1)
    assert said(rig.turn(stamped_produce(rig))) == [("client", "ok")]
    assert rig.log.end_offset == 13
    assert rig.logged[-1][0] == "disk has space again"


def test_a_burst_is_noticed_before_the_second_is_over() -> None:
    rig = Rig(LogSettings(preallocate=False), free_bytes_min=LIMIT_BYTES)
    rig.disk.capacity = 20 << 20
    answers = [said(rig.turn(stamped_produce(rig, size_bytes=1_000_000)))[0][1] for _ in range(30)]
    taken = answers.index("KAFKA_STORAGE_ERROR")
    assert 15 <= taken <= 20
    assert set(answers[:taken]) == {"ok"}


def test_a_write_that_found_no_space_is_not_tried_again_as_long_as_little_is_free() -> None:
    rig = Rig(LogSettings(preallocate=False), free_bytes_min=LIMIT_BYTES)
    assert said(rig.turn(stamped_produce(rig))) == [("client", "ok")]
    rig.disk.capacity = rig.disk.used()  # others were quick
    assert said(rig.turn(stamped_produce(rig))) == [("client", "KAFKA_STORAGE_ERROR")]
    rig.disk.capacity += LIMIT_BYTES - 1  # enough for the record, and kept for those who need it more
    assert said(rig.turn(stamped_produce(rig))) == [("client", "KAFKA_STORAGE_ERROR")]
    assert rig.log.end_offset == 1


def test_a_file_system_that_does_not_tell_is_not_watched() -> None:
    rig = Rig(SETTINGS, free_bytes_min=LIMIT_BYTES)

    def unknown(path: object) -> int:
        raise OSError(38, "Function not implemented")

    rig.disk.free_bytes = unknown  # type: ignore[method-assign]
    assert said(rig.turn(stamped_produce(rig))) == [("client", "ok")]

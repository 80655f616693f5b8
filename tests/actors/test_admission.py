"""Records whose time is too far from the broker's clock: refused alone, where the topic says so."""

from __future__ import annotations

from typing import Any

import pytest

from actors.admission import check_record
from actors.messages import Configure, TopicRoute
from odradek.protocol.errors import InvalidTimestamp
from odradek.protocol.records import RecordToWrite, encode_batch
from tests.actors.test_partition import Rig, produce
from tests.support.transcript import ask, replies, syncs

HOUR_MS = 3_600_000
BEFORE, AFTER = "message.timestamp.before.max.ms", "message.timestamp.after.max.ms"


def rig_of(**options: Any) -> tuple[Rig, int]:
    rig = Rig(**options)
    return rig, rig.clock.now().wall_ms


def batch_at(*timestamps: int, codec: str = "none") -> bytes:
    return encode_batch([RecordToWrite(at, b"k", b"v", []) for at in timestamps], compression=codec)


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
@pytest.mark.parametrize(
    ("bounds", "away_ms", "why"),
    [
        ({"timestamp_after_max_ms": HOUR_MS}, HOUR_MS + 1, "3600001 ms after the broker's clock"),
        ({"timestamp_before_max_ms": HOUR_MS}, -HOUR_MS - 1, "3600001 ms before the broker's clock"),
    ],
)
def test_one_record_too_far_away_refuses_its_batch(
    bounds: dict[str, int], away_ms: int, why: str, codec: str
) -> None:
    rig, now_ms = rig_of(**bounds)
    # In the middle: neither the first timestamp of the header nor, before the clock, the largest.
    [refused] = replies(rig.turn(produce(batch_at(now_ms, now_ms + away_ms, now_ms, codec=codec))))
    error = refused.reply.error
    assert error is not None
    assert (error.code, error.name, error.retriable) == (32, "INVALID_TIMESTAMP", False)
    assert why in (error.message or "")
    assert rig.log.end_offset == 0
    within = away_ms - (1 if away_ms > 0 else -1)
    assert syncs(rig.turn(produce(batch_at(now_ms, now_ms + within, codec=codec))))


def test_records_without_a_time_and_topics_that_stamp_are_not_asked() -> None:
    bounds = {"timestamp_before_max_ms": 0, "timestamp_after_max_ms": 0}
    rig, now_ms = rig_of(**bounds)
    assert syncs(rig.turn(produce(batch_at(-1))))
    stamping, now_ms = rig_of(**bounds, log_append_time=True)
    assert syncs(stamping.turn(produce(batch_at(now_ms + HOUR_MS))))
    unbounded, now_ms = rig_of()
    assert syncs(unbounded.turn(produce(batch_at(0, now_ms + 10 * HOUR_MS))))


def test_a_lone_record_is_refused_before_it_shares_a_batch() -> None:
    topic = TopicRoute(name="events", topic_id="1", config={AFTER: HOUR_MS})
    check_record(topic, None, 1_000 + HOUR_MS, wall_ms=1_000)
    with pytest.raises(InvalidTimestamp, match=r"message\.timestamp\.after\.max\.ms is 3600000"):
        check_record(topic, None, 1_001 + HOUR_MS, wall_ms=1_000)
    stamping = {BEFORE: HOUR_MS, "message.timestamp.type": "LogAppendTime"}
    check_record(TopicRoute(name="events", topic_id="1", config=stamping), None, 0, wall_ms=5 * HOUR_MS)


def test_bounds_come_into_force_without_a_restart() -> None:
    rig, now_ms = rig_of()
    early = batch_at(now_ms - HOUR_MS)
    assert syncs(rig.turn(produce(early)))
    rig.sync()
    rig.turn(ask(Configure(config={BEFORE: "60000"})))
    [refused] = replies(rig.turn(produce(early)))
    assert refused.reply.error is not None

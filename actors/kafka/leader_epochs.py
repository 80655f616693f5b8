"""OffsetForLeaderEpoch (23), versions 2 to 4: where the records of an epoch end.

A client that has read further than that knows that the log was cut behind it. 4: compact form.
"""

from __future__ import annotations

from actors.kafka.handling import Body
from actors.kafka.lookups import Found, Lookup, handler
from actors.messages import EpochEnd, EpochEndReply
from odradek.protocol.messages import Request


def _native(lookup: Lookup) -> Request:
    return EpochEnd(topic=lookup.topic, partition=lookup.partition, leader_epoch=lookup.asked.leader_epoch)


def _described(found: Found) -> Body:
    epoch = end_offset = -1
    if found.outcome is not None:
        reply = found.outcome.expect(EpochEndReply)
        assert isinstance(reply.leader_epoch, int)
        assert isinstance(reply.end_offset, int)
        epoch, end_offset = reply.leader_epoch, reply.end_offset
    return {
        "error_code": found.error_code,
        "partition": found.partition,
        "leader_epoch": epoch,
        "end_offset": end_offset,
    }


handle = handler("topic", "partition", _native, _described)
"""One end for each partition."""

"""ListOffsets (2), versions 1 to 7: a partition's start, its end, or its first record as late as a time.

2: the isolation level, which without transactions changes nothing. 4: leader epochs. 6: compact form.
7: the record with the largest timestamp (-3).
"""

from __future__ import annotations

from typing import Literal

from actors.kafka.handling import Body
from actors.kafka.lookups import Found, Lookup, handler
from odradek.protocol.errors import InvalidRequest
from odradek.protocol.messages import ListOffsets, ListOffsetsReply, Request

MAX_TIMESTAMP = -3
_PLACES: dict[int, Literal["latest", "earliest", "max_timestamp"]] = {
    -1: "latest",
    -2: "earliest",
    MAX_TIMESTAMP: "max_timestamp",
}


def _native(lookup: Lookup) -> Request:
    timestamp = lookup.asked.timestamp
    if timestamp < MAX_TIMESTAMP:
        raise InvalidRequest(f"no place in a log is called {timestamp}")
    return ListOffsets(topic=lookup.topic, partition=lookup.partition, at=_PLACES.get(timestamp, timestamp))


def _described(found: Found) -> Body:
    offset = timestamp = -1
    if found.outcome is not None:
        reply = found.outcome.expect(ListOffsetsReply)
        assert isinstance(reply.offset, int)
        assert isinstance(reply.timestamp, int)
        offset, timestamp = reply.offset, reply.timestamp
    return {
        "partition_index": found.partition,
        "error_code": found.error_code,
        "timestamp": timestamp,
        "offset": offset,
        "leader_epoch": found.leader_epoch if offset >= 0 else -1,
    }


handle = handler("name", "partition_index", _native, _described)
"""One offset for each partition."""

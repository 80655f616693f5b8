"""What one small batch costs a partition's loop in calls: at low rates it is what the process does."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from actors.effects import Reply
from actors.messages import ChildBeat
from actors.partition import PartitionActor
from odradek.protocol.codec import Encoding, encode, peek_reply
from odradek.protocol.messages import Fetch, Produce
from partitions.log import Log
from partitions.settings import LogSettings
from tests.support.batches import make_batch
from tests.support.calls import Calls
from tests.support.simdisk import SimDisk
from transport.clock import read_clock
from transport.control import ControlServer
from transport.host import Host, HostOptions, Listener

WAIT_MS = 30_000
BATCHES = 20
TURNS_MAX = 1_000
CALLS_MAX = 380
"""Of the way of one batch with its sync, its acknowledgement and the reader who waits for it. Each further
one costs a fifth of a microsecond in a warm process, more in a cold one."""


class CountingHost(Host):
    """Knows how many replies it has sent."""

    replies = 0

    def _reply(self, effect: Reply) -> None:
        self.replies += 1
        super()._reply(effect)


class Partition:
    """A partition's actor in its host, turned by hand."""

    def __init__(self, directory: Path) -> None:
        self.control = ControlServer(f"ipc://{directory}/control")
        options = HostOptions(
            "partition:events/0",
            1,
            f"ipc://{directory}/control",
            (Listener("direct", f"ipc://{directory}/direct"), Listener("inner", f"ipc://{directory}/inner")),
            beat_interval_s=3_600.0,
        )
        self.host = CountingHost(options, lambda *_: None)
        endpoints = self.host.bind()
        now = read_clock()
        log = Log.open(
            Path("/simulated/events-0"), LogSettings(), files=SimDisk(), wall_ms=now.wall_ms, topic_id="id"
        )
        self.actor = PartitionActor("events", 0, log)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.client = self.context.socket(zmq.DEALER)
        self.client.linger = 0
        self.client.rcvtimeo = WAIT_MS
        self.client.connect(endpoints["direct"])

    def turn_until_replied(self, replies: int) -> int:
        """The calls of the turns until so many replies have left."""
        calls = Calls()
        for _ in range(TURNS_MAX):
            if self.host.replies >= replies:
                break
            gc.disable()  # what it would call is not the batch's
            sys.setprofile(calls.note)
            try:
                self.host._turn(self.actor)
            finally:
                sys.setprofile(None)
                gc.enable()
        assert self.host.replies == replies
        return calls.count

    def close(self) -> None:
        self.client.close()
        self.context.term()
        self.host.close()
        self.control.close()


@pytest.fixture
def partition(tmp_path: Path) -> Iterator[Partition]:
    made = Partition(tmp_path)
    yield made
    made.close()


def _serve_one(partition: Partition, offset: int) -> int:
    """A reader waits at ``offset``, and a batch of one record is put there; the calls that this took."""
    before = partition.host.replies
    fetch = Fetch(topic="events", partition=0, offset=offset, max_wait_ms=WAIT_MS, format="batch")
    fetch.id = 2 * offset
    partition.client.send(encode(fetch, Encoding.MSGPACK))
    produce = Produce(topic="events", partition=0, format="batch")
    produce.id = 2 * offset + 1
    partition.client.send_multipart([encode(produce, Encoding.MSGPACK), make_batch(1, payload=bytes(100))])
    calls = partition.turn_until_replied(before + 2)
    for _ in range(2):
        header = partition.client.recv_multipart()[0]
        assert peek_reply(header).error is None, header
    return calls


def test_a_batch_and_its_reader_take_few_calls(partition: Partition) -> None:
    """The least of many: a disk that was slow once sends the next sync to a thread."""
    assert partition.control.wait(WAIT_MS / 1000)[0][0].request.__class__ is ChildBeat
    calls = [_serve_one(partition, offset) for offset in range(BATCHES)]
    assert 0 < min(calls) <= CALLS_MAX

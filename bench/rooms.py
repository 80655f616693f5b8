"""What a record costs in each room: every stage alone, in this process, without sockets between.

A stage is run in slices, and what counts is the quickest tenth of them: what the code costs where nobody
disturbs it. The disk is the one of ``--directory``. Without targets: it is for finding what costs, and
docs/performance.md says what was found.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import zmq
from aiokafka.record.default_records import DefaultRecordBatch

from actors.actor import Answer, Envelope, Moment, Synced
from actors.effects import Forward, Sender, Sync
from actors.messages import PartitionRoute, Routes, TopicRoute
from actors.partition import PartitionActor
from actors.router import RouterActor, RouterOptions
from bench.records import BATCH_BYTES_MAX, values
from bench.targets import Outcome, percentile
from odradek.batches import Batch, Clock, Run
from odradek.consumer import NO_HEADERS, Record
from odradek.protocol.batch import check_batch, iterate_headers
from odradek.protocol.codec import Encoding, RequestDecoder, encode, public_decoder
from odradek.protocol.messages import Fetch, Produce, ProduceReply, Request
from odradek.protocol.records import new_builder
from partitions.files import OsFiles
from partitions.log import Log
from partitions.settings import MIB, LogSettings
from transport.clock import read_clock
from transport.frames import read_request, reply_frames
from transport.multipart import receive, send

SLICES: Final = 20
QUICKEST_PERCENT: Final = 10
SMALL_PER_SLICE: Final = 300
LARGE_PER_SLICE: Final = 10
RECORDS_PER_SLICE: Final = 20_000
TOPIC: Final = "rooms"
DELIVERY_S: Final = 120.0
FREE_BYTES_MIN: Final = 1 << 20
"""So that the check of the free space is a part of what is measured."""
_SENDER: Final = Sender("direct", b"peer", False, Encoding.MSGPACK, 1)


@dataclass(frozen=True, slots=True)
class Stage:
    """``run`` does the work of ``units`` records, batches or messages."""

    room: str
    name: str
    unit: str
    units: int
    run: Callable[[], object]


def measure(directory: Path) -> Outcome:
    """Each stage; microseconds for one unit of it."""
    found: dict[str, object] = {}
    notes = [f"{'room':10} {'stage':52} {'µs':>9}  for"]
    for stage in _stages(directory):
        cost_us = percentile([_slice_s(stage) for _ in range(SLICES)], QUICKEST_PERCENT) / stage.units * 1e6
        found[f"{stage.room}: {stage.name}"] = cost_us
        notes.append(f"{stage.room:10} {stage.name:52} {cost_us:>9.3f}  {stage.unit}")
    return Outcome(numbers=found, notes=notes)


def _slice_s(stage: Stage) -> float:
    begun_s = time.perf_counter()
    stage.run()
    return time.perf_counter() - begun_s


def _stages(directory: Path) -> Iterator[Stage]:
    small, large = _batch(1), _batch(None)
    count = check_batch(large).record_count
    pool = list(islice(cycle(values()), RECORDS_PER_SLICE))
    yield Stage(
        "producer", "send(): one value into the open batch", "record", len(pool), partial(_send, pool)
    )
    yield Stage(
        "producer", "send_many(): values into batches", "record", len(pool), partial(_send_many, pool)
    )
    yield Stage("producer", "close a batch of one record", "batch", SMALL_PER_SLICE, _close_small)
    header = encode(_produce(), Encoding.MSGPACK)
    yield Stage("wire", "read a header", "message", SMALL_PER_SLICE, partial(_decode, header))
    yield from _wire(header, small)
    yield Stage("router", "pass on a batch and its answer", "batch", SMALL_PER_SLICE, partial(_route, small))
    yield Stage("router", "make single records one batch", "record", SMALL_PER_SLICE, partial(_gather, pool))
    yield from _partition(directory, small, large, count)
    yield from _disk(directory, small, large)
    yield Stage("consumer", "headers and checksums of a fetch", "record", count, partial(_open, large))
    yield Stage("consumer", "decode and hand out", "record", count, partial(_read, large))


def _batch(count: int | None) -> bytes:
    builder = new_builder(BATCH_BYTES_MAX)
    for index, value in enumerate(islice(cycle(values()), count)):
        if builder.append(index, 1_700_000_000_000, None, value, []) is None:
            break
    return bytes(builder.build())


# -- producer


def _open_batch(*, bulk: bool = False) -> Batch:
    return Batch(
        TOPIC, 0, threading.Lock(), bytes_max=BATCH_BYTES_MAX, compression="none",
        opened_at=0.0, deadline=DELIVERY_S, clock=Clock(), bulk=bulk,
    )  # fmt: skip


def _send(pool: list[bytes]) -> None:
    write = _open_batch().write
    for value in pool:
        try:
            write(value)
        except StopIteration:
            write = _open_batch().write


def _send_many(pool: list[bytes]) -> None:
    run = Run(values=pool, keys=None, position=0, headers=[], timestamp=None)
    while run.position < len(pool):
        span = _open_batch(bulk=True).put(run)
        assert span is not None
        run.position += span.count  # type: ignore[union-attr]


def _close_small() -> None:
    for _ in range(SMALL_PER_SLICE):
        batch = _open_batch()
        batch.write(b"v" * 100)
        batch.seal()
        assert batch.builder is not None
        batch.builder.set_producer_state(1, 0, 0)
        batch.builder.build()


# -- wire


def _produce() -> Produce:
    return Produce(topic=TOPIC, partition=0, format="batch", id=1, timeout_ms=10_000)


def _decode(header: bytes) -> None:
    decoder: RequestDecoder[Request] = public_decoder()
    for _ in range(SMALL_PER_SLICE):
        decoder.decode(header)


def _wire(header: bytes, small: bytes) -> Iterator[Stage]:
    """One message there and its reply back, in one thread: what the calls cost, without waking anybody."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    listener, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    listener.bind("inproc://rooms")
    client.connect("inproc://rooms")
    decoder: RequestDecoder[Request] = public_decoder()

    def there_and_back() -> None:
        for _ in range(SMALL_PER_SLICE):
            send(client, [header, small])
            envelope = read_request("direct", receive(listener), decoder)
            send(
                listener, reply_frames(envelope.sender, ProduceReply(topic=TOPIC, partition=0, offset=1), ())
            )
            receive(client)

    yield Stage("wire", "a request and its reply, both ends", "message", SMALL_PER_SLICE, there_and_back)
    context.destroy(linger=0)


# -- router


def _router() -> RouterActor:
    actor = RouterActor(RouterOptions(index=0, server="bench"))
    places = [PartitionRoute(partition=0, inner="ipc://inner", endpoints=[], leader_epoch=1)]
    config = {"max.message.bytes": BATCH_BYTES_MAX, "message.timestamp.type": "CreateTime"}
    topics = [TopicRoute(name=TOPIC, topic_id="t", config=config, partitions=places)]
    routes = Routes(version=1, cluster_id="c", routers=[], coordinator="ipc://coordinator", topics=topics)
    actor.receive(Envelope(_SENDER, routes), read_clock())
    return actor


def _route(small: bytes) -> None:
    actor = _router()
    for _ in range(SMALL_PER_SLICE):
        now = read_clock()
        effects = [*actor.receive(Envelope(_SENDER, _produce(), [small], 100), now), *actor.settle(now)]
        _answer(actor, effects, now)


def _gather(pool: list[bytes]) -> None:
    actor = _router()
    now = read_clock()
    for value in pool[:SMALL_PER_SLICE]:
        request = Produce(topic=TOPIC, partition=0, id=1)
        actor.receive(Envelope(_SENDER, request, [value], 100), now)
    _answer(actor, list(actor.settle(now)), now)


def _answer(actor: RouterActor, effects: Sequence[object], now: Moment) -> None:
    for effect in effects:
        if isinstance(effect, Forward):
            reply = ProduceReply(topic=TOPIC, partition=0, offset=1, count=1)
            actor.receive(Answer(effect.token, reply, ()), now)


# -- partition


def _partition(directory: Path, small: bytes, large: bytes, count: int) -> Iterator[Stage]:
    log = _log(directory / "rooms-partition")
    actor = PartitionActor(TOPIC, 0, log, 10.0, FREE_BYTES_MIN)

    def turn(batch: bytes, *, reader: bool) -> None:
        now = read_clock()
        if reader:
            fetch = Fetch(topic=TOPIC, partition=0, offset=log.end_offset, format="batch")
            actor.receive(Envelope(_SENDER, fetch, (), 100), now)
        actor.receive(Envelope(_SENDER, _produce(), [batch], 100), now)
        for effect in actor.settle(now):
            if isinstance(effect, Sync):
                # As if the disk had done it: what that takes is a stage of its own.
                actor.receive(Synced(effect.ticket), now)
        actor.deadline()

    def many(batch: bytes, times: int, *, reader: bool) -> None:
        for _ in range(times):
            turn(batch, reader=reader)

    for name, reader in (
        ("check, append, write, answer", False),
        ("the same, with a reader that waits", True),
    ):
        run = partial(many, small, SMALL_PER_SLICE, reader=reader)
        yield Stage("partition", f"{name}: one record", "batch", SMALL_PER_SLICE, run)
    run = partial(many, large, LARGE_PER_SLICE, reader=False)
    yield Stage("partition", "check, append, write, answer: 1 MB", "record", LARGE_PER_SLICE * count, run)
    log.close()


def _log(directory: Path) -> Log:
    return Log.open(
        directory,
        LogSettings(segment_bytes=512 * MIB),
        files=OsFiles(),
        wall_ms=1_700_000_000_000,
        topic_id="b",
    )


def _disk(directory: Path, small: bytes, large: bytes) -> Iterator[Stage]:
    """fdatasync of what was just written into space that was reserved, as the log does it."""
    descriptor = os.open(directory / "rooms-disk", os.O_CREAT | os.O_RDWR, 0o600)
    size = SLICES * max(SMALL_PER_SLICE * len(small), LARGE_PER_SLICE * len(large))
    os.posix_fallocate(descriptor, 0, size)
    position = 0

    def write_and_sync(batch: bytes, times: int) -> None:
        nonlocal position
        for _ in range(times):
            position += os.pwrite(descriptor, batch, position % (size - len(batch)))
            os.fdatasync(descriptor)

    few = SMALL_PER_SLICE // 10
    yield Stage("disk", "write and fdatasync: one record", "batch", few, partial(write_and_sync, small, few))
    run = partial(write_and_sync, large, LARGE_PER_SLICE)
    yield Stage("disk", "write and fdatasync: 1 MB", "batch", LARGE_PER_SLICE, run)
    os.close(descriptor)


# -- consumer


def _open(fetched: bytes) -> None:
    for position, header in iterate_headers(fetched):
        check_batch(memoryview(fetched)[position : position + header.size_bytes])


def _read(fetched: bytes) -> list[Record]:
    return [
        Record(TOPIC, 0, raw.offset, raw.timestamp, raw.key, raw.value, raw.headers or NO_HEADERS)
        for raw in DefaultRecordBatch(fetched)
    ]

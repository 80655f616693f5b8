"""FakeBroker: a broker in one thread and in memory, with faults that a test can script.

It keeps batches as they came, checks sequences as a partition does, and coordinates groups with one
simple rule: partitions go round the members, and a partition moves only when its old owner has let go.
It also notes every violation of a producer's promise that it sees.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, TypeAlias

import zmq

from odradek.protocol import messages as m
from odradek.protocol.batch import BatchHeader, check_batch, placed_prefix
from odradek.protocol.codec import BadRequest, encode, public_decoder
from odradek.protocol.errors import (
    FencedMemberEpoch,
    GroupIdNotFound,
    InvalidRequest,
    MessageTooLarge,
    OdradekError,
    OffsetOutOfRange,
    OutOfOrderSequenceNumber,
    StaleMemberEpoch,
    TopicAlreadyExists,
    UnknownMemberId,
    UnknownTopicOrPartition,
)
from odradek.protocol.records import DecodedRecord, decode_batch

REMEMBERED_BATCHES_MAX = 5
STEP_MS = 5


@dataclass
class Fault:
    """What happens to the next ``times`` requests of an api: answered with ``error``, or ``drop``ped.

    ``drop`` is "request" (as if it never came), "reply" (done, but not said), or None. ``delay_s`` holds
    the reply back.
    """

    api: str
    times: int = 1
    error: OdradekError | None = None
    drop: str | None = None
    delay_s: float = 0.0
    when: Callable[[m.Request], bool] = lambda _: True


@dataclass
class Partition:
    """One partition's log, kept as (header, batch bytes)."""

    start_offset: int = 0
    end_offset: int = 0
    batches: list[tuple[BatchHeader, bytes]] = field(default_factory=list)
    producers: dict[int, deque[tuple[int, int, int]]] = field(default_factory=dict)
    duplicates: int = 0
    out_of_order: int = 0

    def append(self, payload: bytes) -> int:
        header = check_batch(payload)
        if header.producer_id != -1:
            known = self._check_sequence(header)
            if known is not None:
                self.duplicates += 1
                return known
        base = self.end_offset
        stored = placed_prefix(header, base, 0) + payload[16:]
        self.batches.append((header._replace(base_offset=base), stored))
        self.end_offset = base + header.record_count
        return base

    def _check_sequence(self, header: BatchHeader) -> int | None:
        seen = self.producers.setdefault(header.producer_id, deque(maxlen=REMEMBERED_BATCHES_MAX))
        for first, last, offset in seen:
            if (first, last) == (header.base_sequence, header.last_sequence):
                return offset
        expected = (seen[-1][1] + 1) % 2**31 if seen else 0
        if header.base_sequence != expected:
            self.out_of_order += 1
            raise OutOfOrderSequenceNumber(f"expected sequence {expected}, got {header.base_sequence}")
        seen.append((header.base_sequence, header.last_sequence, self.end_offset))
        return None

    def read(self, offset: int, bytes_max: int) -> bytes:
        found: list[bytes] = []
        size = 0
        for header, stored in self.batches:
            if header.last_offset < offset:
                continue
            if found and size + len(stored) > bytes_max:
                break
            found.append(stored)
            size += len(stored)
        return b"".join(found)

    def records(self) -> list[DecodedRecord]:
        return [record for _, stored in self.batches for record in decode_batch(stored)]


@dataclass
class Member:
    member_id: str
    epoch: int
    topics: list[str]
    owned: set[tuple[str, int]] = field(default_factory=set)
    told: set[tuple[str, int]] | None = None


@dataclass
class Group:
    epoch: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    offsets: dict[tuple[str, int], tuple[int, str | None]] = field(default_factory=dict)


Handled: TypeAlias = tuple[m.Reply, Sequence[bytes]]


@dataclass
class _Parked:
    socket: zmq.Socket[bytes]
    identity: bytes
    encoding: Any
    request: Any
    until: float


class FakeBroker:
    """Serves one tcp endpoint as a router does, and where ``direct`` an ipc endpoint of its partitions."""

    def __init__(
        self, topics: dict[str, int] | None = None, *, direct: bool = False, port: int | None = None
    ) -> None:
        self.topics: dict[str, list[Partition]] = {}
        for name, count in (topics or {}).items():
            self.topics[name] = [Partition() for _ in range(count)]
        self.topic_ids: dict[str, str] = {}
        """Of those topics whose id is not their name."""
        self.groups: dict[str, Group] = {}
        self.faults: list[Fault] = []
        self.requests: list[m.Request] = []
        self.direct_requests = 0
        self.message_bytes_max = 1 << 30
        self.append_time: int | None = None
        self.auto_create = True
        self.leader_epoch = 1
        self.heartbeat_interval_ms = 20
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._producer_ids = itertools.count(1000)
        self._decoder = public_decoder()
        self._parked: list[_Parked] = []
        self._delayed: list[tuple[float, zmq.Socket[bytes], list[bytes]]] = []
        self._held: list[tuple[zmq.Socket[bytes], list[bytes]]] = []
        self.paused = False
        self._stop = threading.Event()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        if port is None:
            port = self._router.bind_to_random_port("tcp://127.0.0.1")
        else:
            self._router.bind(f"tcp://127.0.0.1:{port}")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._directory = tempfile.TemporaryDirectory(prefix="fake-") if direct else None
        self.direct_endpoints: list[str] = []
        self._direct: zmq.Socket[bytes] | None = None
        if self._directory is not None:
            self.direct_endpoints = [f"ipc://{Path(self._directory.name) / 'direct'}"]
            self._direct = self._context.socket(zmq.ROUTER)
            self._direct.linger = 0
            self._direct.bind(self.direct_endpoints[0])
        self._thread = threading.Thread(target=self._run, name="fake-broker")
        self._thread.start()

    # -- for tests -----------------------------------------------------------------------------

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._router.close()
        if self._direct is not None:
            self._direct.close()
        self._context.term()
        if self._directory is not None:
            self._directory.cleanup()

    def fail(self, api: str, times: int = 1, **what: Any) -> Fault:
        fault = Fault(api, times, **what)
        with self.lock:
            self.faults.append(fault)
        return fault

    def values(self, topic: str, partition: int | None = None) -> list[bytes | None]:
        with self.lock:
            partitions = self.topics[topic] if partition is None else [self.topics[topic][partition]]
            return [record.value for found in partitions for record in found.records()]

    def records(self, topic: str, partition: int = 0) -> list[DecodedRecord]:
        with self.lock:
            return self.topics[topic][partition].records()

    def seen(self, kind: type[m.Request]) -> list[Any]:
        with self.lock:
            return [request for request in self.requests if isinstance(request, kind)]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout_s), "the broker never came to this state"

    # -- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        poller = zmq.Poller()
        sockets = [socket for socket in (self._router, self._direct) if socket is not None]
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        while not self._stop.is_set():
            for socket, _ in poller.poll(STEP_MS):
                self._take(socket)
            with self.changed:
                self._release_late()
                self._serve_parked()
                self.changed.notify_all()

    def _take(self, socket: Any) -> None:
        while True:
            try:
                frames = socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            with self.changed:
                self._receive(socket, frames)
                self.changed.notify_all()

    def _receive(self, socket: zmq.Socket[bytes], frames: list[bytes]) -> None:
        if self.paused or self._held:
            # What came before and is held goes first: a broker takes a connection's requests in order.
            self._held.append((socket, frames))
            return
        identity, header, *payload = frames
        if socket is self._direct:
            self.direct_requests += 1
        try:
            request, encoding = self._decoder.decode(header)
        except BadRequest as bad:
            socket.send_multipart([identity, encode(m.failure(bad.error), bad.encoding)])
            return
        self.requests.append(request)
        fault = self._fault(request)
        if fault is not None and fault.drop == "request":
            return
        error = None if fault is None else fault.error
        reply, frames_out = self._answer(request, payload, error)
        if reply is None:
            self._parked.append(_Parked(socket, identity, encoding, request, self._patience(request)))
            return
        if (fault is not None and fault.drop == "reply") or getattr(request, "acks", None) == 0:
            return
        reply.id = request.id
        out = [identity, encode(reply, encoding), *frames_out]
        if fault is not None and fault.delay_s:
            self._delayed.append((monotonic() + fault.delay_s, socket, out))
        else:
            socket.send_multipart(out)

    def held(self, kind: type[m.Request]) -> int:
        """How many requests of a kind came since it was ``paused``."""
        return sum(isinstance(self._decoder.decode(frames[1])[0], kind) for _, frames in self._held)

    def resume(self) -> None:
        with self.changed:
            self.paused = False

    def _release_late(self) -> None:
        if not self.paused:
            held, self._held = self._held, []
            for socket, frames in held:
                self._receive(socket, frames)
        due = [late for late in self._delayed if late[0] <= monotonic()]
        self._delayed = [late for late in self._delayed if late[0] > monotonic()]
        for _, socket, out in due:
            socket.send_multipart(out)

    def _serve_parked(self) -> None:
        parked, self._parked = self._parked, []
        for waiting in parked:
            late = monotonic() >= waiting.until
            reply, frames = self._answer(waiting.request, [], None, late=late)
            if reply is None:
                self._parked.append(waiting)
                continue
            reply.id = waiting.request.id
            waiting.socket.send_multipart([waiting.identity, encode(reply, waiting.encoding), *frames])

    @staticmethod
    def _patience(request: Any) -> float:
        return monotonic() + float(request.max_wait_ms) / 1000

    def _fault(self, request: m.Request) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and m.api_name(type(request)) == fault.api and fault.when(request):
                fault.times -= 1
                return fault
        return None

    def _answer(
        self, request: Any, payload: list[bytes], error: OdradekError | None, *, late: bool = False
    ) -> tuple[Any, Sequence[bytes]]:
        try:
            if error is not None:
                raise error
            if isinstance(request, m.Fetch):
                return self._fetch(request, late=late)
            handler = getattr(self, "_" + m.api_name(type(request)), None)
            if handler is None:
                raise InvalidRequest(f"the fake has no {m.api_name(type(request))}")
            return handler(request, payload), ()
        except OffsetOutOfRange as problem:
            partition = self._partition(request.topic, request.partition)
            reply = m.FetchReply(
                error=problem.wire(),
                high_watermark=partition.end_offset,
                log_start_offset=partition.start_offset,
            )
            return reply, ()
        except OdradekError as problem:
            return m.failure(problem), ()

    def _partition(self, topic: str, partition: int) -> Partition:
        if topic not in self.topics or partition >= len(self.topics[topic]):
            raise UnknownTopicOrPartition(f"no {topic}-{partition}")
        return self.topics[topic][partition]

    # -- the requests --------------------------------------------------------------------------

    def _ping(self, request: m.Ping, _: list[bytes]) -> m.Reply:
        return m.PingReply()

    def _versions(self, request: m.Versions, _: list[bytes]) -> m.Reply:
        return m.VersionsReply(server="fake", protocol=1, apis={"ping": (1, 1)})

    def _metadata(self, request: m.Metadata, _: list[bytes]) -> m.Reply:
        names = list(self.topics) if request.topics is None else request.topics
        for name in names:
            if name not in self.topics and request.allow_auto_create and self.auto_create:
                self.topics[name] = [Partition()]
        return m.MetadataReply(
            cluster_id="fake", routers=[self.endpoint], topics=[self._describe(name) for name in names]
        )

    def _describe(self, name: str) -> m.TopicMetadata:
        if name not in self.topics:
            return m.TopicMetadata(name=name, error=UnknownTopicOrPartition(f"no topic {name}").wire())
        partitions = [
            m.PartitionMetadata(
                partition=number, leader_epoch=self.leader_epoch, endpoints=self.direct_endpoints
            )
            for number in range(len(self.topics[name]))
        ]
        return m.TopicMetadata(name=name, topic_id=self.topic_ids.get(name, name), partitions=partitions)

    def _create_topics(self, request: m.CreateTopics, _: list[bytes]) -> m.Reply:
        created = []
        for topic in request.topics:
            if topic.name in self.topics:
                created.append(m.CreatedTopic(name=topic.name, error=TopicAlreadyExists(topic.name).wire()))
                continue
            if not request.validate_only:
                self.topics[topic.name] = [Partition() for _ in range(topic.partitions or 1)]
            created.append(m.CreatedTopic(name=topic.name, topic_id=topic.name))
        return m.CreateTopicsReply(topics=created)

    def _delete_topics(self, request: m.DeleteTopics, _: list[bytes]) -> m.Reply:
        deleted = []
        for name in request.names:
            missing = self.topics.pop(name, None) is None
            error = UnknownTopicOrPartition(f"no topic {name}").wire() if missing else None
            deleted.append(m.DeletedTopic(name=name, error=error))
        return m.DeleteTopicsReply(topics=deleted)

    def _create_partitions(self, request: m.CreatePartitions, _: list[bytes]) -> m.Reply:
        partitions = self.topics[request.topic]
        partitions += [Partition() for _ in range(request.partitions - len(partitions))]
        return m.CreatePartitionsReply()

    def _describe_configs(self, request: m.DescribeConfigs, _: list[bytes]) -> m.Reply:
        return m.ConfigsReply(config={"retention.ms": m.ConfigValue(value=1, default=2, doc="time")})

    def _alter_configs(self, request: m.AlterConfigs, _: list[bytes]) -> m.Reply:
        config = {name: m.ConfigValue(value=v, default=2, doc="") for name, v in request.config.items()}
        return m.ConfigsReply(config=config)

    def _delete_records(self, request: m.DeleteRecords, _: list[bytes]) -> m.Reply:
        partition = self._partition(request.topic, request.partition)
        before = partition.end_offset if request.before_offset == -1 else request.before_offset
        partition.start_offset = max(partition.start_offset, before)
        return m.DeleteRecordsReply(log_start_offset=partition.start_offset)

    def _init_producer_id(self, request: m.InitProducerId, _: list[bytes]) -> m.Reply:
        return m.InitProducerIdReply(producer_id=next(self._producer_ids), producer_epoch=0)

    def _produce(self, request: m.Produce, payload: list[bytes]) -> m.Reply:
        assert request.partition is not None
        partition = self._partition(request.topic, request.partition)
        if len(payload[0]) > self.message_bytes_max:
            raise MessageTooLarge(f"{len(payload[0])} bytes, at most {self.message_bytes_max}")
        base = partition.append(payload[0])
        count = check_batch(payload[0]).record_count
        reply = m.ProduceReply(topic=request.topic, partition=request.partition, offset=base, count=count)
        if self.append_time is not None:
            reply.log_append_time = self.append_time
        return reply

    def _fetch(self, request: m.Fetch, *, late: bool) -> tuple[Any, Sequence[bytes]]:
        partition = self._partition(request.topic, request.partition)
        if not partition.start_offset <= request.offset <= partition.end_offset:
            raise OffsetOutOfRange(
                f"{request.offset} is outside {partition.start_offset} to {partition.end_offset}"
            )
        found = partition.read(request.offset, request.max_bytes)
        if not found and not late and request.max_wait_ms:
            return None, ()
        reply = m.FetchReply(
            topic=request.topic,
            partition=request.partition,
            high_watermark=partition.end_offset,
            log_start_offset=partition.start_offset,
        )
        # In two frames, so that a client that reads only the first is found out.
        return reply, [found[: len(found) // 2], found[len(found) // 2 :]] if found else []

    def _list_offsets(self, request: m.ListOffsets, _: list[bytes]) -> m.Reply:
        partition = self._partition(request.topic, request.partition)
        if request.at == "earliest":
            return m.ListOffsetsReply(offset=partition.start_offset, timestamp=-1)
        if request.at == "latest":
            return m.ListOffsetsReply(offset=partition.end_offset, timestamp=-1)
        for record in partition.records():
            if isinstance(request.at, int) and record.timestamp >= request.at:
                return m.ListOffsetsReply(offset=record.offset, timestamp=record.timestamp)
        return m.ListOffsetsReply(offset=-1, timestamp=-1)

    # -- groups --------------------------------------------------------------------------------

    def _group_heartbeat(self, request: m.GroupHeartbeat, _: list[bytes]) -> m.Reply:
        group = self.groups.setdefault(request.group, Group())
        assert request.member_id is not None
        member = group.members.get(request.member_id)
        if request.member_epoch < 0:
            if group.members.pop(request.member_id, None) is not None:
                group.epoch += 1
            return m.GroupHeartbeatReply(member_id=request.member_id, member_epoch=request.member_epoch)
        if request.member_epoch == 0:
            group.epoch += 1
            member = Member(request.member_id, group.epoch, request.topics or [])
            group.members[request.member_id] = member
        elif member is None:
            raise UnknownMemberId(request.member_id)
        elif request.member_epoch > member.epoch:
            raise FencedMemberEpoch(f"{request.member_epoch} is not {member.epoch}")
        assert member is not None
        if request.topics is not None:
            member.topics = request.topics
        if request.owned is not None:
            member.owned = {(owned.topic, number) for owned in request.owned for number in owned.partitions}
        return self._reconcile(group, member)

    def _reconcile(self, group: Group, member: Member) -> m.Reply:
        target = self._target(group)[member.member_id]
        others = {
            pair
            for other in group.members.values()
            if other is not member
            for pair in other.owned | (other.told or set())
        }
        may_have = target - others
        if member.owned <= target:
            member.epoch = group.epoch
        member.told = may_have
        names = sorted({name for name, _ in may_have})
        return m.GroupHeartbeatReply(
            member_id=member.member_id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=self.heartbeat_interval_ms,
            assignment=[
                m.TopicPartitions(topic=name, partitions=sorted(n for t, n in may_have if t == name))
                for name in names
            ],
        )

    def _target(self, group: Group) -> dict[str, set[tuple[str, int]]]:
        target: dict[str, set[tuple[str, int]]] = {name: set() for name in group.members}
        for topic in sorted({name for member in group.members.values() for name in member.topics}):
            wanting = sorted(name for name, member in group.members.items() if topic in member.topics)
            for number in range(len(self.topics.get(topic, ()))):
                target[wanting[number % len(wanting)]].add((topic, number))
        return target

    def _offset_commit(self, request: m.OffsetCommit, _: list[bytes]) -> m.Reply:
        group = self.groups.setdefault(request.group, Group())
        if request.member_id is None:
            if group.members:
                raise UnknownMemberId("the group has members")
        else:
            member = group.members.get(request.member_id)
            if member is None:
                raise UnknownMemberId(request.member_id)
            if request.member_epoch != member.epoch:
                raise StaleMemberEpoch(f"{request.member_epoch} is not {member.epoch}")
        results = []
        for offset in request.offsets:
            group.offsets[offset.topic, offset.partition] = (offset.offset, offset.metadata)
            results.append(m.CommittedOffsetResult(topic=offset.topic, partition=offset.partition))
        return m.OffsetCommitReply(offsets=results)

    def _offset_fetch(self, request: m.OffsetFetch, _: list[bytes]) -> m.Reply:
        group = self.groups.get(request.group, Group())
        wanted: list[tuple[str, int]] = []
        for item in request.topics or []:
            assert isinstance(item, m.TopicPartitions)
            wanted += [(item.topic, number) for number in item.partitions]
        if request.topics is None:
            wanted = sorted(group.offsets)
        found = []
        for topic, number in wanted:
            offset, metadata = group.offsets.get((topic, number), (-1, None))
            found.append(m.FetchedOffset(topic=topic, partition=number, offset=offset, metadata=metadata))
        return m.OffsetFetchReply(offsets=found)

    def _group_list(self, request: m.GroupList, _: list[bytes]) -> m.Reply:
        listed = [
            m.GroupListing(group=name, state="STABLE", members=len(group.members))
            for name, group in self.groups.items()
        ]
        return m.GroupListReply(groups=listed)

    def _group_describe(self, request: m.GroupDescribe, _: list[bytes]) -> m.Reply:
        if request.group not in self.groups:
            raise GroupIdNotFound(request.group)
        return m.GroupDescribeReply(
            group=request.group, state="STABLE", epoch=1, assignor="sticky", members=[], offsets=[]
        )

    def _group_delete(self, request: m.GroupDelete, _: list[bytes]) -> m.Reply:
        if self.groups.pop(request.group, None) is None:
            raise GroupIdNotFound(request.group)
        return m.GroupDeleteReply()

    def _status(self, request: m.Status, _: list[bytes]) -> m.Reply:
        actor = m.ActorStatus(
            name="coordinator",
            role="coordinator",
            pid=1,
            state="running",
            restarts=0,
            uptime_s=1.0,
            pss_bytes=None,
            cpu_percent=None,
        )
        return m.StatusReply(actors=[actor])

    @staticmethod
    def now_ms() -> int:
        return time_ns() // 1_000_000

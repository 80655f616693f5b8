"""The router actor: every request of the public protocol, sent to whoever decides it.

It keeps nothing that must outlive it. It reads headers only; payload frames pass as they came, but
for clients that send or read single records: those it makes batches of, or takes from batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.acks import acks_of, wants_no_reply
from actors.actor import Answer, Envelope, Lost, Message, Moment, Undeliverable
from actors.admission import check_record
from actors.demands import Authority, Rights
from actors.discovery import Discovery
from actors.effects import Effect, Forward, Reply, Sender
from actors.gathering import (
    Destination,
    Gatherer,
    ManyProgress,
    ManyReceipt,
    Place,
    Receipt,
    SilentReceipt,
    SingleReceipt,
)
from actors.lag import LagWaiter
from actors.messages import (
    COORDINATOR,
    SUPERVISOR,
    SUPERVISOR_REQUESTS,
    Access,
    Routes,
    TopicRoute,
)
from actors.pending import PendingTable, Waiter, lost_error
from actors.routing import RoutingTable
from actors.waiters import (
    RECORDS_REPLY_BYTES_MAX,
    FetchedRecords,
    NobodyWaits,
    PassOn,
    TopicCreated,
    VisibleGroups,
)
from actors.waiting import WaitingRoom
from odradek.protocol.batch import Buffer
from odradek.protocol.errors import (
    CoordinatorNotAvailable,
    InvalidRequest,
    LeaderNotAvailable,
    MessageTooLarge,
    OdradekError,
    ThrottlingQuotaExceeded,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import (
    APIS,
    INT64_MAX,
    INT64_MIN,
    PROTOCOL_VERSION,
    TIMEOUT_MS_DEFAULT,
    AlterConfigs,
    CreateTopics,
    DeleteRecords,
    Fetch,
    GroupDelete,
    GroupDescribe,
    GroupHeartbeat,
    GroupList,
    InitProducerId,
    ListOffsets,
    Metadata,
    NewTopic,
    OffsetCommit,
    OffsetFetch,
    Ping,
    PingReply,
    Produce,
    ProduceRecord,
    Request,
    Versions,
    VersionsReply,
    failure,
)
from odradek.protocol.names import check_group_name
from odradek.protocol.records import RecordToWrite

GRACE_S = 5.0
"""How much longer the router waits than the actor that it asked."""

_TO_COORDINATOR = (
    InitProducerId,
    GroupHeartbeat,
    OffsetCommit,
    OffsetFetch,
    GroupList,
    GroupDelete,
)
_WRITES = (Produce, OffsetCommit, DeleteRecords, GroupDelete)


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """``server`` is the name and version that ``versions`` tells.

    Where ``is_access_enforced`` a client may do nothing until the supervisor has said what it may.
    """

    index: int
    server: str
    auto_create_topics: bool = True
    default_partitions: int = 1
    is_access_enforced: bool = False
    access: Access | None = None


class RouterActor:
    """Decides where each request goes and what becomes of its answer."""

    def __init__(self, options: RouterOptions) -> None:
        self._options = options
        self._table = RoutingTable(options.index)
        self._pending = PendingTable()
        self._gatherer = Gatherer()
        self._waiting = WaitingRoom()
        self._authority = Authority(options.access, is_enforced=options.is_access_enforced)
        self._discovery = Discovery(self._table, auto_create_topics=options.auto_create_topics)
        self._now = Moment(0.0, 0)

    # -- Actor -----------------------------------------------------------------------------------------

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        """A request of a client, an answer of an actor, or news of the routing table."""
        self._now = now
        match message:
            case Envelope(request=Routes() as routes):
                return self._take_routes(routes)
            case Envelope(request=Access() as access):
                self._authority.take(access)
                return ()
            case Envelope():
                return self._receive_request(message)
            case Answer() | Undeliverable():
                return self._pending.deliver(message)
            case Lost(address=address):
                return self._pending.lose({address})
        raise TypeError(f"a router syncs nothing: {message!r}")

    def settle(self, now: Moment) -> Sequence[Effect]:
        """Send the batches that this turn's records make; end what has waited too long."""
        self._now = now
        effects = self._send_gathered()
        effects += self._pending.expire(now.monotonic_s)
        return effects

    def deadline(self) -> float | None:
        """When the next request has waited too long."""
        return self._pending.deadline()

    def stop(self, now: Moment) -> Sequence[Effect]:
        """Tell everybody who waits that this router ends."""
        effects: list[Effect] = []
        for pending in self._pending.clear():
            effects += pending.waiter.failed(lost_error(pending.address, writes=pending.writes))
        stopping = LeaderNotAvailable("the router is stopping")
        for name in self._waiting.topics:
            for envelope in self._waiting.leave(name):
                effects += _silent_or(envelope, stopping)
        return effects

    # -- routes ----------------------------------------------------------------------------------------

    def _take_routes(self, routes: Routes) -> Sequence[Effect]:
        effects, lost = self._table.replace(routes)
        effects += self._pending.lose(lost)
        for name in [name for name in self._waiting.topics if self._table.all_serve(name)]:
            effects += self._retry_waiting(name)
        return effects

    # -- requests --------------------------------------------------------------------------------------

    def _receive_request(self, envelope: Envelope) -> Sequence[Effect]:
        rights = self._authority.rights(envelope)
        try:
            if rights is not None:
                rights.check(envelope.request)
            return self._handle(envelope, rights)
        except UnknownTopicOrPartition as error:
            awaiting = self._await_topic(envelope, rights)
            return awaiting if awaiting is not None else _silent_or(envelope, error)
        except OdradekError as error:
            return _silent_or(envelope, error)

    def _handle(self, envelope: Envelope, rights: Rights | None) -> Sequence[Effect]:
        sender = envelope.sender
        match envelope.request:
            case Produce() as request:
                return self._produce(envelope, request)
            case Fetch() as request:
                return self._fetch(sender, request)
            case ListOffsets() | DeleteRecords() as request:
                address = self._table.served(request.topic, request.partition)
                return (self._forward(address, request, PassOn(sender)),)
            case Metadata() as request:
                return (Reply(sender, self._discovery.metadata(request, rights)),)
            case Ping():
                return (Reply(sender, PingReply()),)
            case Versions():
                apis = {name: api.versions for name, api in APIS.items()}
                reply = VersionsReply(server=self._options.server, protocol=PROTOCOL_VERSION, apis=apis)
                return (Reply(sender, reply),)
            case GroupHeartbeat() as request:
                request.client_host = envelope.host or None
                return (self._to_coordinator(request, PassOn(sender)),)
            case GroupDescribe() as request:
                return (self._describe_group(sender, request),)
            case GroupList() as request if rights is not None:
                return (self._to_coordinator(request, VisibleGroups(sender, rights)),)
        return (self._pass_on(sender, envelope.request),)

    def _pass_on(self, sender: Sender, request: Request) -> Forward:
        """Requests that others answer whole."""
        if isinstance(request, AlterConfigs):
            request.config = _portable(request.config)
        if isinstance(request, CreateTopics):
            for topic in request.topics:
                topic.config = _portable(topic.config)
        if isinstance(request, SUPERVISOR_REQUESTS):
            return self._forward(SUPERVISOR, request, PassOn(sender))
        if isinstance(request, _TO_COORDINATOR):
            return self._to_coordinator(request, PassOn(sender))
        raise InvalidRequest("this request is not for clients")

    def _forward(
        self,
        address: str,
        request: Request,
        waiter: Waiter,
        payload: Sequence[Buffer] = (),
        wait_ms: int | None = None,
    ) -> Forward:
        timeout_ms = request.timeout_ms if request.timeout_ms is not None else TIMEOUT_MS_DEFAULT
        wait_s = (timeout_ms if wait_ms is None else wait_ms) / 1000
        if address == SUPERVISOR or wait_ms is not None:
            wait_s += GRACE_S
        token = self._pending.add(
            waiter,
            address,
            self._now.monotonic_s + wait_s,
            writes=isinstance(request, _WRITES),
            size_bytes=sum(map(len, payload)),
        )
        return Forward(address, request, token, payload)

    def _to_coordinator(self, request: Request, waiter: Waiter) -> Forward:
        group = getattr(request, "group", None)
        if group is not None:
            check_group_name(group)
        if not self._table.coordinator_serves:
            raise CoordinatorNotAvailable("the coordinator is starting; try again")
        return self._forward(COORDINATOR, request, waiter)

    def _describe_group(self, sender: Sender, request: GroupDescribe) -> Effect:
        def ask_latest(topic: str, partition: int, waiter: Waiter) -> Forward:
            latest = ListOffsets(topic=topic, partition=partition, at="latest")
            return self._forward(self._table.served(topic, partition), latest, waiter)

        return self._to_coordinator(request, LagWaiter(sender, ask_latest))

    # -- produce ---------------------------------------------------------------------------------------

    def _produce(self, envelope: Envelope, request: Produce) -> Sequence[Effect]:
        topic = self._table.topic(request.topic)
        if request.format == "batch":
            return self._produce_batch(envelope, request, topic)
        if request.records is None:
            return self._produce_single(envelope, request, topic)
        return self._produce_many(envelope, request, request.records, topic)

    def _produce_batch(self, envelope: Envelope, request: Produce, topic: TopicRoute) -> Sequence[Effect]:
        if request.partition is None:
            raise InvalidRequest("format 'batch' needs a partition: the records inside stay where they are")
        if len(envelope.payload) != 1:
            raise InvalidRequest(f"format 'batch' has one payload frame, this has {len(envelope.payload)}")
        batch = envelope.payload[0]
        if len(batch) > (limit := _batch_bytes_max(topic)):
            raise MessageTooLarge(
                f"the batch has {len(batch)} bytes, max.message.bytes of {topic.name!r} is {limit}"
            )
        # What this turn gathered for the partition came before, so it goes before.
        gathered = self._send_gathered(Place(topic.name, request.partition))
        return [*gathered, self._forward_produce(request, batch, PassOn(envelope.sender))]

    def _send_gathered(self, place: Place | None = None) -> list[Effect]:
        """Send the batches that the gathered records make, of one place or of all."""
        effects: list[Effect] = []
        for batch, waiter in self._gatherer.flush(place):
            topic, partition, acks, timeout_ms = waiter.destination
            request = Produce(
                topic=topic, partition=partition, acks=acks, timeout_ms=timeout_ms, format="batch"
            )
            try:
                effects.append(self._forward_produce(request, batch, waiter))
            except OdradekError as error:
                effects += waiter.failed(error)
        return effects

    def _forward_produce(self, request: Produce, batch: Buffer, waiter: Waiter) -> Effect:
        assert request.partition is not None
        address = self._table.served(request.topic, request.partition)
        if wants_no_reply(request):
            # The client hears nothing, but the router must: what is on its way is bounded in bytes.
            request = Produce(topic=request.topic, partition=request.partition, acks=1, format="batch")
            return self._forward(address, request, NobodyWaits(), (batch,))
        return self._forward(address, request, waiter, (batch,))

    def _produce_single(self, envelope: Envelope, request: Produce, topic: TopicRoute) -> Sequence[Effect]:
        if len(envelope.payload) > 1:
            raise InvalidRequest(
                f"one record has one payload frame, or none for a null value; this has "
                f"{len(envelope.payload)}: name the records in 'records' to send many"
            )
        value = bytes(envelope.payload[0]) if envelope.payload else None
        described = ProduceRecord(key=request.key, headers=request.headers, timestamp=request.timestamp)
        acks = acks_of(request)
        receipt: Receipt = SingleReceipt(envelope.sender, topic.name) if acks else SilentReceipt()
        self._gather(self._destination(topic, request, described, value), topic, described, value, receipt)
        return ()

    def _produce_many(
        self,
        envelope: Envelope,
        request: Produce,
        records: Sequence[ProduceRecord],
        topic: TopicRoute,
    ) -> Sequence[Effect]:
        if len(records) != len(envelope.payload):
            raise InvalidRequest(
                f"'records' names {len(records)} records, {len(envelope.payload)} payload frames came; "
                "each record has one, a null value an empty one"
            )
        acks = acks_of(request)
        progress = ManyProgress(envelope.sender, topic.name, len(records) + 1, [(None, None)] * len(records))
        for index, (described, value) in enumerate(zip(records, envelope.payload, strict=True)):
            receipt: Receipt = ManyReceipt(progress, index) if acks else SilentReceipt()
            given = None if described.null else bytes(value)
            destination = self._destination(topic, request, described, given)
            try:
                self._gather(destination, topic, described, given, receipt)
            except OdradekError as error:
                receipt.failed(destination.partition, error)
        # The one too many is closed here, so that the reply cannot leave before every record was seen.
        done = progress.close_one() if acks else None
        return (done,) if done is not None else ()

    def _destination(
        self, topic: TopicRoute, request: Produce, described: ProduceRecord, value: bytes | None
    ) -> Destination:
        partition = request.partition
        if partition is None:
            partition = self._table.place(topic, described.key, len(value or b""))
        return Destination(topic.name, partition, acks_of(request), request.timeout_ms)

    def _gather(
        self,
        destination: Destination,
        topic: TopicRoute,
        described: ProduceRecord,
        value: bytes | None,
        receipt: Receipt,
    ) -> None:
        self._table.served(topic.name, destination.partition)
        timestamp = described.timestamp if described.timestamp is not None else self._now.wall_ms
        # The codec takes plain bytes only, no Blob.
        headers = [(name, None if given is None else bytes(given)) for name, given in described.headers]
        check_record(topic, described.key, timestamp, self._now.wall_ms)
        record = RecordToWrite(timestamp, described.key, value, headers)
        self._gatherer.add(destination, record, receipt, _batch_bytes_max(topic))

    # -- fetch and metadata ----------------------------------------------------------------------------

    def _fetch(self, sender: Sender, request: Fetch) -> Sequence[Effect]:
        address = self._table.served(request.topic, request.partition)
        waiter: Waiter = PassOn(sender)
        max_bytes = request.max_bytes
        if request.format == "records":
            waiter = FetchedRecords(sender, request.offset)
            max_bytes = min(max_bytes, RECORDS_REPLY_BYTES_MAX)
        wait_ms = request.max_wait_ms
        if request.timeout_ms is not None:
            wait_ms = min(wait_ms, request.timeout_ms)
        batches = Fetch(
            topic=request.topic,
            partition=request.partition,
            offset=request.offset,
            max_bytes=max_bytes,
            min_bytes=min(request.min_bytes, max_bytes),
            max_wait_ms=wait_ms,
            format="batch",
        )
        return (self._forward(address, batches, waiter, wait_ms=wait_ms),)

    # -- topics that do not exist yet ------------------------------------------------------------------

    def _await_topic(self, envelope: Envelope, rights: Rights | None) -> Sequence[Effect] | None:
        """Have the missing topic created and keep the request until it serves; None where nobody wants it."""
        name = self._discovery.missing_topic(envelope.request, rights)
        if name is None:
            return None
        try:
            if not self._waiting.admit(name, envelope):
                return ()
        except ThrottlingQuotaExceeded as error:
            return _silent_or(envelope, error)
        new = NewTopic(name=name, partitions=self._options.default_partitions)
        waiter = TopicCreated(lambda error: self._creation_ended(name, error))
        try:
            return (self._forward(SUPERVISOR, CreateTopics(topics=[new]), waiter),)
        except ThrottlingQuotaExceeded as error:
            return self._creation_ended(name, error)

    def _creation_ended(self, name: str, error: OdradekError | None) -> Sequence[Effect]:
        if error is None and name in self._table.topics:
            return self._retry_waiting(name)
        # The supervisor sends the routes before it answers; nothing waits for a word that may never come.
        refusal = error or LeaderNotAvailable(f"topic {name!r} was created and is not served yet; try again")
        return [effect for envelope in self._waiting.leave(name) for effect in _silent_or(envelope, refusal)]

    def _retry_waiting(self, name: str) -> Sequence[Effect]:
        effects: list[Effect] = []
        for envelope in self._waiting.leave(name):
            effects += self._receive_request(envelope)
        return effects


def _silent_or(envelope: Envelope, error: OdradekError) -> Sequence[Effect]:
    request = envelope.request
    if isinstance(request, Produce) and wants_no_reply(request):
        return ()
    return (Reply(envelope.sender, failure(error)),)


def _batch_bytes_max(topic: TopicRoute) -> int:
    return int(topic.config["max.message.bytes"])


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON can say and MessagePack cannot go on as text; who checks settings refuses them."""
    return {
        name: str(value) if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX else value
        for name, value in config.items()
    }

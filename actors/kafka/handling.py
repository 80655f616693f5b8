"""What a handler of a Kafka request is: a generator that asks actors and returns the body of the answer.

::

    def handle(request: Any, context: Context) -> Steps:
        context.routes.topic(name)                       # look: the routing table, the clock, who asks
        outcomes = yield (Ask(address, native, payload), ...)   # ask: all at once; resumed when all ended
        return {"throttle_time": 0, "topics": [...]}     # answer

Rule 1. ``request`` is kio's object of the version that was sent. Newer fields are missing in older ones:
        ``getattr(request, "rack_id", "")``. Times are ``timedelta``; see ``milliseconds``. Produce alone is
        read by hand, its time is ``timeout_ms``.
Rule 2. The answer is a ``Body``: dicts by kio's field names, lists, plain values. The codec writes what the
        version of the request knows, takes kio's default for what is missing, and ignores the rest. Times are
        numbers of milliseconds, error codes numbers, topic ids and other UUIDs 16 bytes. None: no reply.
Rule 3. An ask that failed is an outcome, never an exception. Native errors have Kafka's codes, so
        ``outcome.error_code`` is the answer's. What a handler cannot say in its answer, it raises as an
        ``OdradekError``: the gateway logs it and closes the connection, as with what cannot be read.
Rule 4. Nothing is kept between two requests, but in the ``Connection``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from actors.acls import EVERYTHING_ALLOWED, AclTable
from actors.actor import Moment
from actors.kafka.sasl import Logins
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from actors.routing import RoutingTable
from odradek.protocol.batch import Buffer
from odradek.protocol.errors import OdradekError, UnknownServerError
from odradek.protocol.messages import Reply, Request
from odradek.protocol.partitioning import partition_for_key

ASK_TIMEOUT_S = 30.0
"""How long an actor may take to answer, where the handler does not say."""
ANONYMOUS = "User:ANONYMOUS"

EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, not bound
"""Addresses that no client can connect to."""

Body = dict[str, Any]
ReplyT = TypeVar("ReplyT", bound=Reply)


class Ask(msgspec.Struct, frozen=True):
    """One native request to one actor: ``partition_address(...)``, COORDINATOR or SUPERVISOR."""

    address: str
    request: Request
    payload: Sequence[Buffer] = ()
    timeout_s: float = ASK_TIMEOUT_S


class Outcome(msgspec.Struct, frozen=True):
    """How an ask ended. ``error`` is the reply's own, or why there is no reply; a failed fetch has both."""

    reply: Reply | None = None
    payload: Sequence[Buffer] = ()
    error: OdradekError | None = None

    @property
    def error_code(self) -> int:
        """Kafka's number; 0 where all went well."""
        return self.error.code if self.error is not None else 0

    @property
    def error_message(self) -> str | None:
        """What happened, in words; None where all went well."""
        return self.error.message if self.error is not None else None

    def expect(self, kind: type[ReplyT]) -> ReplyT:
        """The reply of an ask that went well. Raises the ask's error, UnknownServerError for another kind."""
        if self.error is not None:
            raise self.error
        if not isinstance(self.reply, kind):
            raise UnknownServerError(f"{kind.__name__} was due, {type(self.reply).__name__} came")
        return self.reply


class Watched(NamedTuple):
    """A partition whose high watermark a handler waits for to pass ``offset``."""

    topic: str
    partition: int
    offset: int
    log_start_offset: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Resume, with no outcomes, at the first change of what is watched, or at ``until_s`` at the latest."""

    until_s: float
    watched: Sequence[Watched] = ()


Steps = Generator[Sequence[Ask] | Wait, Sequence[Outcome], Body | None]


class Broker(NamedTuple):
    """A gateway that serves, as clients know it."""

    node_id: int
    host: str
    port: int


@dataclass(slots=True)
class Connection:
    """What is known of one client's connection, for as long as it lasts."""

    client_host: str
    listener: str
    principal: str = ANONYMOUS
    authenticated: bool = True
    """False on a listener that demands SASL, until the client has proved who it is."""
    reached: str = ""
    """The address of ours that the client connected to."""
    authentication: Any = None
    """The SASL exchange under way."""
    closing: bool = False
    """A handler sets this to have the connection closed behind its answer."""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What a gateway is told at its start."""

    index: int
    auto_create_topics: bool = True
    default_partitions: int = 1
    server: str = ""
    is_access_enforced: bool = False
    """A client may do nothing until the supervisor has said what it may."""
    broker_config: Mapping[str, str] = field(default_factory=dict)
    """The broker's settings under Kafka's names, for DescribeConfigs."""
    log_directory: str = ""
    advertised_host: str = ""
    """Under which clients reach the gateways; none: the address that they listen on."""
    sasl_mechanisms: tuple[str, ...] = ()
    """By which clients must log in; none: nobody need."""
    new_nonce: Callable[[], str] = field(default=lambda: "")
    """Random text that no log-in has twice."""


class Quiet(Protocol):
    """What is known of partitions without asking them."""

    def quiet_at(self, place: tuple[str, int]) -> tuple[int, int] | None:
        """(high watermark, log start offset) of a partition of which we would hear if that had moved."""


class Context(msgspec.Struct, eq=False):
    """What a handler may look at. ``now`` and ``routes`` are always those of the present step."""

    api_key: int
    version: int
    client_id: str
    connection: Connection
    routes: RoutingTable
    options: GatewayOptions
    now: Moment
    authorizer: AclTable = EVERYTHING_ALLOWED
    watches: Quiet | None = None
    logins: Logins | None = None
    """Whom a client that logs in is checked against."""

    @property
    def principal(self) -> str:
        """``User:<name>``."""
        return self.connection.principal

    @property
    def client_host(self) -> str:
        """The client's address, without its port."""
        return self.connection.client_host

    @property
    def brokers(self) -> list[Broker]:
        """The gateways that serve, as reached through the listener on which this request came."""
        found: list[Broker] = []
        for gateway in self.routes.gateways:
            endpoint = gateway.endpoints.get(self.connection.listener)
            if endpoint is not None:
                host, _, port = endpoint.rpartition(":")
                found.append(Broker(gateway.index, self._advertised(host.strip("[]")), int(port)))
        return found

    def _advertised(self, host: str) -> str:
        """Where clients reach a gateway that listens there; who listens everywhere is where it was met."""
        if self.options.advertised_host:
            return self.options.advertised_host
        return self.connection.reached or host if host in EVERYWHERE else host

    @property
    def controller_id(self) -> int:
        """Every gateway takes the requests of a controller; one must be named. -1 where none serves."""
        return min((broker.node_id for broker in self.brokers), default=-1)

    def broker_for(self, key: str) -> Broker | None:
        """The gateway that is named for a group or a partition: any would do, each key has its own."""
        brokers = self.brokers
        return brokers[partition_for_key(key.encode(), len(brokers))] if brokers else None

    @staticmethod
    def leader(brokers: Sequence[Broker], topic: str, partition: int) -> int:
        """The node that is named as a partition's leader; -1 where none serves."""
        if not brokers:
            return -1
        return brokers[(partition_for_key(topic.encode(), len(brokers)) + partition) % len(brokers)].node_id

    def authorize(self, operation: Operation, resource_type: ResourceType, name: str = CLUSTER_NAME) -> bool:
        """Whether this client may do that."""
        connection = self.connection
        return self.authorizer.allows(
            connection.principal, connection.client_host, operation, resource_type, name
        )

    def allowed(
        self, operation: Operation, resource_type: ResourceType, names: Iterable[str]
    ) -> frozenset[str]:
        """Those of the names with which the client may do that."""
        return frozenset(name for name in names if self.authorize(operation, resource_type, name))


Handler = Callable[[Any, Context], Steps]


def ask_one(ask: Ask) -> Generator[Sequence[Ask] | Wait, Sequence[Outcome], Outcome]:
    """``outcome = yield from ask_one(Ask(...))``"""
    (outcome,) = yield (ask,)
    return outcome


def answer(body: Body | None) -> Steps:
    """The steps of a handler that asks nobody: ``return answer({...})``."""
    yield from ()
    return body


def milliseconds(time: timedelta) -> int:
    """A time of a request as a number."""
    return round(time.total_seconds() * 1000)

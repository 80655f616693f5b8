"""The gateway actor: Kafka's requests, each served by the handler of its API over the broker's own actors.

It keeps nothing that must outlive it. What a request means stands in ``actors/kafka``, one generator for
each request under way; here are the asks that these are waiting for, and the connections that they came on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from traceback import format_exception

import msgspec

from actors.acls import AclTable
from actors.actor import Answer, Envelope, KafkaClosed, KafkaEnvelope, Lost, Message, Moment, Undeliverable
from actors.effects import Effect, Forward, KafkaReply, Log, Sender
from actors.kafka.handling import (
    Ask,
    Body,
    Connection,
    Context,
    GatewayOptions,
    Handler,
    Outcome,
    Steps,
    Wait,
)
from actors.kafka.sasl import Logins, decoy_secret_of
from actors.kafka.watches import Watches
from actors.messages import COORDINATOR, Access, Routes
from actors.pending import PendingTable, Waiter
from actors.routing import RoutingTable
from odradek.protocol.errors import CoordinatorNotAvailable, OdradekError, error_from_wire
from odradek.protocol.messages import DeleteRecords, GroupDelete, OffsetCommit, Produce

REQUESTS_PENDING_MAX = 100_000
FAILURES_TOLD_EVERY_S = 1.0
"""Failed log-ins are told to the log together, this far apart."""
SASL_AUTHENTICATE = 36
BEFORE_LOG_IN = frozenset({17, 18, SASL_AUTHENTICATE})
"""SaslHandshake, ApiVersions, SaslAuthenticate: what a client may ask before it has said who it is."""
_NO_OUTCOME = Outcome()
_WRITES = frozenset({Produce, OffsetCommit, DeleteRecords, GroupDelete})


@dataclass(slots=True)
class _Client:
    """One connection, and its requests that wait for something."""

    connection: Connection
    under_way: set[Conversation] = field(default_factory=set)


class Conversation(msgspec.Struct, eq=False):
    """One Kafka request under way: its handler, and what the handler waits for."""

    sender: Sender
    client: _Client
    context: Context
    steps: Steps
    outcomes: list[Outcome] = []
    missing: int = 0
    is_over: bool = False


class _Asked(msgspec.Struct, frozen=True, eq=False):
    """The waiter of one ask."""

    gateway: GatewayActor
    conversation: Conversation
    number: int

    def answered(self, answer: Answer) -> Sequence[Effect]:
        """The other actor replied."""
        reply = answer.reply
        error = None if reply.error is None else error_from_wire(reply.error)
        return self.gateway.ended(self.conversation, self.number, Outcome(reply, answer.payload, error))

    def failed(self, error: OdradekError) -> Sequence[Effect]:
        """No reply will come."""
        return self.gateway.ended(self.conversation, self.number, Outcome(error=error))


class GatewayActor:
    """Turns Kafka's requests into asks, and what comes of these into Kafka's answers."""

    def __init__(
        self, options: GatewayOptions, handlers: Mapping[int, Handler], pending: PendingTable | None = None
    ) -> None:
        self._options = options
        self._handlers = handlers
        self._table = RoutingTable(options.index)
        self._pending = pending if pending is not None else PendingTable(REQUESTS_PENDING_MAX)
        self._authorizer = AclTable(enforced=options.is_access_enforced)
        self._logins = Logins(
            options.sasl_mechanisms, None, options.new_nonce, decoy_secret_of(options.new_nonce())
        )
        self._clients: dict[bytes, _Client] = {}
        self._watches = Watches(self._forward, self._wake)
        self._failures = 0  # of log-ins, since they were last told of
        self._failures_told_s = -FAILURES_TOLD_EVERY_S
        self._now = Moment(0.0, 0)

    # -- Actor -----------------------------------------------------------------------------------------

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        """A request of a client, the end of one, an answer of an actor, or news of the supervisor."""
        self._now = now
        match message:
            case KafkaEnvelope():
                return self._begin(message)
            case Answer() | Undeliverable():
                return self._pending.deliver(message)
            case KafkaClosed(identity=identity):
                self._forget(identity)
                return ()
            case Envelope(request=Routes() as routes):
                effects, lost = self._table.replace(routes)
                return [*effects, *self._pending.lose(lost)]
            case Envelope(request=Access() as access):
                self.take_access(access)
                return ()
            case Lost(address=address):
                return self._pending.lose({address})
        raise TypeError(f"a gateway has no use for {message!r}")

    def take_access(self, access: Access) -> None:
        """Who may log in and who may do what, from now on."""
        enforced = access.enforced or self._options.is_access_enforced
        self._authorizer = AclTable(access.acls, access.super_users, enforced=enforced)
        self._logins = replace(self._logins, users={user.name: user for user in access.users})

    def settle(self, now: Moment) -> Sequence[Effect]:
        """End what has waited too long."""
        self._now = now
        return self._pending.expire(now.monotonic_s) + self._watches.due(now)

    def deadline(self) -> float | None:
        """When the next ask or wait is over."""
        asks_s, waits_s = self._pending.deadline(), self._watches.deadline()
        if asks_s is None or waits_s is None:
            return waits_s if asks_s is None else asks_s
        return min(asks_s, waits_s)

    def stop(self, now: Moment) -> Sequence[Effect]:
        """Nothing is kept here; clients see their connections end and go on elsewhere."""
        self._pending.clear()
        for identity in list(self._clients):
            self._forget(identity)
        return ()

    # -- conversations ---------------------------------------------------------------------------------

    def _begin(self, envelope: KafkaEnvelope) -> Sequence[Effect]:
        identity = envelope.sender.identity
        client = self._clients.get(identity)
        if client is None:
            client = self._clients[identity] = _Client(self._connect(envelope))
        connection = client.connection
        context = Context(
            envelope.api_key,
            envelope.version,
            envelope.client_id,
            connection,
            self._table,
            self._options,
            self._now,
            self._authorizer,
            self._watches,
            self._logins,
        )
        if not (connection.authenticated or envelope.api_key in BEFORE_LOG_IN) or connection.closing:
            return [KafkaReply(envelope.sender, envelope.api_key, envelope.version, None, closes=True)]
        steps = self._handlers[envelope.api_key](envelope.request, context)
        conversation = Conversation(envelope.sender, client, context, steps)
        client.under_way.add(conversation)
        return self._advance(conversation, None)

    def _connect(self, envelope: KafkaEnvelope) -> Connection:
        peer = envelope.peer
        must_log_in = bool(self._options.sasl_mechanisms)
        return Connection(
            peer.host, peer.listener, peer.principal, authenticated=not must_log_in, reached=peer.reached
        )

    def _advance(self, conversation: Conversation, outcomes: Sequence[Outcome] | None) -> list[Effect]:
        """Let the handler go on until it waits for something, or has answered."""
        conversation.context.now = self._now
        effects: list[Effect] = []
        while True:
            try:
                # The first of all: a generator that has not begun takes nothing.
                step = next(conversation.steps) if outcomes is None else conversation.steps.send(outcomes)
            except StopIteration as stopped:
                if conversation.context.api_key == SASL_AUTHENTICATE:
                    effects += self._failed_log_in(conversation, stopped.value)
                effects.append(self._answer(conversation, stopped.value))
                return effects
            except Exception as error:
                # Whatever a stranger's request brought to light: it ends one connection, and no other.
                return [*effects, *self._fail(conversation, error)]
            if isinstance(step, Wait):
                return [*effects, *self._watches.add(conversation, step)]
            effects += self._ask(conversation, step)
            if conversation.missing:
                return effects
            outcomes = conversation.outcomes

    def _ask(self, conversation: Conversation, asks: Sequence[Ask]) -> list[Effect]:
        conversation.outcomes = [_NO_OUTCOME] * len(asks)
        conversation.missing = 0
        effects: list[Effect] = []
        for index, ask in enumerate(asks):
            try:
                effects.append(self._forward(ask, _Asked(self, conversation, index)))
                conversation.missing += 1
            except OdradekError as error:
                conversation.outcomes[index] = Outcome(error=error)
        return effects

    def _forward(self, ask: Ask, waiter: Waiter) -> Forward:
        if ask.address == COORDINATOR and not self._table.coordinator_serves:
            raise CoordinatorNotAvailable("the coordinator is starting; try again")
        token = self._pending.add(
            waiter,
            ask.address,
            self._now.monotonic_s + ask.timeout_s,
            writes=type(ask.request) in _WRITES,
            size_bytes=sum(map(len, ask.payload)),
        )
        return Forward(ask.address, ask.request, token, ask.payload)

    def ended(self, conversation: Conversation, index: int, outcome: Outcome) -> Sequence[Effect]:
        """One ask of a conversation came to its end."""
        if conversation.is_over:
            return ()
        conversation.outcomes[index] = outcome
        conversation.missing -= 1
        return () if conversation.missing else self._advance(conversation, conversation.outcomes)

    def _wake(self, conversation: Conversation) -> Sequence[Effect]:
        """What a conversation watched has changed, or its time is over."""
        return self._advance(conversation, ()) if not conversation.is_over else ()

    # -- how a conversation ends -----------------------------------------------------------------------

    def _answer(self, conversation: Conversation, body: Body | None) -> Effect:
        self._end(conversation)
        context = conversation.context
        return KafkaReply(
            conversation.sender, context.api_key, context.version, body, context.connection.closing
        )

    def _failed_log_in(self, conversation: Conversation, body: Body | None) -> list[Effect]:
        """A line for those who watch the log; no more than one in a while, however many guess."""
        context = conversation.context
        if body is None or not body["error_code"]:
            return []
        self._failures += 1
        if self._now.monotonic_s < self._failures_told_s + FAILURES_TOLD_EVERY_S:
            return []
        fields: dict[str, object] = {
            "level": "warning",
            "client": context.client_host,
            "client_id": context.client_id,
            "error": body["error_message"],
            "failures": self._failures,
        }
        self._failures, self._failures_told_s = 0, self._now.monotonic_s
        return [Log("a Kafka client could not log in", fields)]

    def _fail(self, conversation: Conversation, error: Exception) -> list[Effect]:
        self._end(conversation)
        context = conversation.context
        fields: dict[str, object] = {
            "level": "warning",
            "api_key": context.api_key,
            "version": context.version,
            "client_id": context.client_id,
            "error": str(error),
        }
        if not isinstance(error, OdradekError):
            fields |= {"level": "error", "error": repr(error), "trace": "".join(format_exception(error))}
        refused = KafkaReply(conversation.sender, context.api_key, context.version, None, closes=True)
        return [Log("a Kafka request cannot be answered", fields), refused]

    def _end(self, conversation: Conversation) -> None:
        conversation.is_over = True
        conversation.client.under_way.discard(conversation)

    def _forget(self, identity: bytes) -> None:
        client = self._clients.pop(identity, None)
        for conversation in client.under_way if client is not None else ():
            conversation.is_over = True
            self._watches.remove(conversation)
            conversation.steps.close()

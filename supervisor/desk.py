"""The desk: requests about topics, from the catalogue to the answer.

A request changes the catalogue (durably), then the tree of processes, and is answered when every
process it concerns serves, has been given up or is gone, or when its time is over. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from actors.effects import Sender
from actors.messages import partition_address
from odradek.protocol.errors import (
    InvalidRequest,
    KafkaStorageError,
    LeaderNotAvailable,
    OdradekError,
    RequestTimedOut,
    ThrottlingQuotaExceeded,
    UnknownTopicOrPartition,
    WireError,
)
from odradek.protocol.messages import (
    TIMEOUT_MS_DEFAULT,
    AlterConfigs,
    CreatedTopic,
    CreatePartitions,
    CreatePartitionsReply,
    CreateTopics,
    CreateTopicsReply,
    DeletedTopic,
    DeleteTopics,
    DeleteTopicsReply,
    DescribeConfigs,
    Reply,
    Request,
    api_name,
    failure,
)
from supervisor.catalog import Topic
from supervisor.children import SETTLED, Child, State
from supervisor.effects import Effect, Note, Respond
from supervisor.gatekeeper import ACCESS_REQUESTS, AccessRequest, Gatekeeper
from supervisor.topics import Topics

WAITS_MAX = 1_000
"""Requests that may wait for processes at one time."""


class Tree(Protocol):
    """What the desk asks of the overseer."""

    def add_partitions(self, topic: Topic, first: int) -> None:
        """Want a process for each partition from ``first`` on."""

    def remove_partitions(self, topic: Topic, now_s: float) -> None:
        """Want none of the topic's processes any more."""

    def reconfigure(self, topic: Topic) -> None:
        """The topic's settings have changed."""

    def tell_access(self) -> None:
        """Access rules or users have changed."""

    def publish(self, now_s: float) -> None:
        """Tell routers and gateways of every change now."""

    def emit(self, effect: Effect) -> None:
        """Something is to be done."""

    def wake_at(self, at_s: float) -> None:
        """``settle`` must be called then."""


@dataclass(slots=True)
class _Wait:
    """A request that is answered when every named child is settled (or gone), or at the deadline."""

    to: Sender
    deadline_s: float
    children: set[str]
    until_gone: bool
    reply: Callable[[], Reply]


class Desk:
    """Serves the requests about topics; ``children`` is the overseer's, and only looked at."""

    def __init__(
        self, topics: Topics, gatekeeper: Gatekeeper, tree: Tree, children: Mapping[str, Child]
    ) -> None:
        self._topics = topics
        self._gatekeeper = gatekeeper
        self._tree = tree
        self._children = children
        self._waits: list[_Wait] = []
        self.changed = False
        """A child or a deadline has changed since the last ``settle``."""

    def serve(self, to: Sender, request: Request, now_s: float) -> None:
        """One request. Raises OdradekError where it fails as a whole."""
        match request:
            case CreateTopics():
                self._create_topics(to, request, now_s)
            case DeleteTopics():
                self._delete_topics(to, request, now_s)
            case CreatePartitions():
                self._create_partitions(to, request, now_s)
            case DescribeConfigs():
                self._respond(to, self._topics.describe(request.topic))
            case AlterConfigs():
                self._alter_configs(to, request, now_s)
            case _ if isinstance(request, ACCESS_REQUESTS):
                self._alter_access(to, request, now_s)
            case _:
                raise InvalidRequest(f"the supervisor does not serve {api_name(type(request))}")

    def settle(self, now_s: float) -> None:
        """Answers the requests that wait for nothing any more."""
        if not self.changed:
            return
        self.changed = False
        left: list[_Wait] = []
        over: list[_Wait] = []
        for wait in self._waits:
            (over if self._is_over(wait, now_s) else left).append(wait)
        self._waits = left
        if over:
            # Who is answered may ask a router at once, and it must know.
            self._tree.publish(now_s)
        for wait in over:
            self._respond(wait.to, wait.reply())

    def refuse_all(self) -> None:
        """The broker stops: nothing that waits will come true here."""
        for wait in self._waits:
            self._respond(wait.to, failure(LeaderNotAvailable("the broker is stopping")))
        self._waits.clear()

    # -- one method for each request -----------------------------------------------------------------------

    def _create_topics(self, to: Sender, request: CreateTopics, now_s: float) -> None:
        self._refuse_crowd()
        results, created = self._topics.create(request.topics, validate_only=request.validate_only)
        for topic in created:
            self._tree.emit(
                Note("info", "topic created", {"topic": topic.name, "partitions": topic.partitions})
            )
            self._tree.add_partitions(topic, 0)

        def reply() -> Reply:
            return CreateTopicsReply(topics=[self._created(result) for result in results])

        self._wait(to, request, [name for topic in created for name in addresses(topic)], False, reply, now_s)

    def _created(self, result: CreatedTopic) -> CreatedTopic:
        if result.error is not None or result.topic_id is None:
            return result
        error = self._why_not_serving(result.name, result.topic_id)
        return CreatedTopic(name=result.name, topic_id=result.topic_id, error=error.wire() if error else None)

    def _why_not_serving(self, name: str, topic_id: str) -> OdradekError | None:
        topic = self._topics.catalog.find(name)
        if topic is None or topic.topic_id != topic_id:
            return UnknownTopicOrPartition(f"topic {name!r} was deleted again before all of it served")
        children = [self._children[address] for address in addresses(topic)]
        for child in children:
            if child.state is State.FAILED:
                return KafkaStorageError(
                    f"topic {name!r} exists, but {child.name} cannot serve: {child.reason}"
                )
        serving = sum(child.state is State.SERVING for child in children)
        if serving < len(children):
            return RequestTimedOut(
                f"topic {name!r} exists; {serving} of its {len(children)} partitions serve so far, "
                "the others are starting"
            )
        return None

    def _delete_topics(self, to: Sender, request: DeleteTopics, now_s: float) -> None:
        self._refuse_crowd()
        errors: dict[str, WireError] = {}
        awaited: list[str] = []
        for name in dict.fromkeys(request.names):
            try:
                topic = self._topics.delete(name)
            except OdradekError as error:
                errors[name] = error.wire()
                continue
            self._tree.emit(Note("info", "topic deleted", {"topic": name}))
            awaited.extend(addresses(topic))
            self._tree.remove_partitions(topic, now_s)

        def reply() -> Reply:
            return DeleteTopicsReply(topics=[self._deleted(name, errors.get(name)) for name in request.names])

        self._wait(to, request, awaited, True, reply, now_s)

    def _deleted(self, name: str, error: WireError | None) -> DeletedTopic:
        if error is None and any(topic.name == name for topic in self._topics.catalog.deleting):
            left = sum(child.topic == name for child in self._children.values())
            error = (
                RequestTimedOut(
                    f"topic {name!r} is deleted; {left} of its processes have not ended yet"
                ).wire()
                if left
                else KafkaStorageError(
                    f"topic {name!r} is deleted, but its directories could not be renamed (see the log); "
                    "delete it again to try again"
                ).wire()
            )
        return DeletedTopic(name=name, error=error)

    def _create_partitions(self, to: Sender, request: CreatePartitions, now_s: float) -> None:
        self._refuse_crowd()
        before, after = self._topics.grow(request.topic, request.partitions)
        self._tree.emit(
            Note("info", "partitions added", {"topic": after.name, "partitions": after.partitions})
        )
        self._tree.add_partitions(after, before.partitions)

        def reply() -> Reply:
            error = self._why_not_serving(after.name, after.topic_id)
            return failure(error) if error is not None else CreatePartitionsReply()

        self._wait(to, request, addresses(after)[before.partitions :], False, reply, now_s)

    def _alter_configs(self, to: Sender, request: AlterConfigs, now_s: float) -> None:
        self._refuse_crowd()
        topic = self._topics.alter(request.topic, request.config)
        self._tree.emit(Note("info", "topic settings changed", {"topic": topic.name, "config": topic.config}))
        self._tree.reconfigure(topic)
        described = self._topics.describe(topic.name)
        # Answered by ``settle``, which comes after routers and partitions were told.
        self._wait(to, request, [], False, lambda: described, now_s)

    def _alter_access(self, to: Sender, request: AccessRequest, now_s: float) -> None:
        self._refuse_crowd()
        version = self._gatekeeper.version
        reply = self._gatekeeper.serve(request)
        if self._gatekeeper.version != version:
            noted = {"acls": len(self._gatekeeper.access.acls), "users": len(self._gatekeeper.access.users)}
            self._tree.emit(Note("info", "access changed", dict(noted, by=api_name(type(request)))))
            self._tree.tell_access()
        # Answered by ``settle``, which comes after routers and gateways were told.
        self._wait(to, request, [], False, lambda: reply, now_s)

    # -- waiting for children ----------------------------------------------------------------------------

    def _refuse_crowd(self) -> None:
        if len(self._waits) >= WAITS_MAX:
            raise ThrottlingQuotaExceeded(f"{WAITS_MAX} requests for topics are under way already; try again")

    def _wait(
        self,
        to: Sender,
        request: Request,
        names: list[str],
        until_gone: bool,
        reply: Callable[[], Reply],
        now_s: float,
    ) -> None:
        timeout_ms = request.timeout_ms if request.timeout_ms is not None else TIMEOUT_MS_DEFAULT
        deadline_s = now_s + timeout_ms / 1000
        self._waits.append(_Wait(to, deadline_s, set(names), until_gone, reply))
        self._tree.wake_at(deadline_s)
        self.changed = True

    def _is_over(self, wait: _Wait, now_s: float) -> bool:
        """Whether there is nothing to wait for any more."""
        wait.children = {name for name in wait.children if self._keeps_waiting(name, wait.until_gone)}
        if wait.children and now_s < wait.deadline_s:
            self._tree.wake_at(wait.deadline_s)
            return False
        return True

    def _keeps_waiting(self, name: str, until_gone: bool) -> bool:
        child = self._children.get(name)
        if child is None or (not until_gone and not child.wanted):
            return False
        return until_gone or child.state not in SETTLED

    def _respond(self, to: Sender, reply: Reply) -> None:
        self._tree.emit(Respond(to, reply))


def addresses(topic: Topic) -> list[str]:
    """The names of the topic's partitions, in order."""
    return [partition_address(topic.name, partition) for partition in range(topic.partitions)]
